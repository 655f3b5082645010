"""Sections "SEALED MESSAGES", "Kinds" and "Preamble" of sts-protocol(7): the bytes.

No state is kept here, except the key of a stream in `StreamKey`.
"""
import struct

import keytree
import suites
from frames import ENC, KILL, WILL, Reader
from primitives import Invalid

HEADER = 20
KINDS = DATA, END, CONTINUED, CONFIRM, KILL_KIND, SETTLED, WILL_KIND, REFUSED, SACK = range(1, 10)
CLOSING = END, CONTINUED, KILL_KIND  # the last frame of a stream
FIRST_FREE = len(KINDS) + 1  # kinds of later versions, to 15
PADDING, ASKS, PREAMBLE, CONTINUES = 0x80, 0x40, 0x20, 0x10
I_CONTINUES, I_ENDED, I_KEPT, I_ENDED_CONTINUING, I_ENDED_BEFORE, I_SENT = 1, 2, 3, 4, 5, 6
UNKNOWN_COUNT = 2**32 - 1
HIGHEST_SEQ = 2**32 - 3


class Refused(Exception):
    """An authentic frame that section "Later versions" says is refused."""


def header(frame_type, sid, stream, salt, seq):
    return bytes([frame_type]) + sid[:3] + struct.pack(">I", stream) + salt + struct.pack(">I", seq)


class Header:
    def __init__(self, frame):
        if len(frame) < HEADER + 16 or frame[0] not in (ENC, KILL, WILL):
            raise Invalid("not a sealed frame")
        self.type, self.tag = frame[0], frame[1:4]
        self.stream, self.salt, self.seq = struct.unpack(">I8sI", frame[4:20])
        self.bytes, self.body = frame[:20], frame[20:]
        if self.stream in (2**31 - 1, 2**32 - 1) or self.seq == 2**32 - 1:
            raise Invalid("stream or seq")
        if self.type != ENC and self.stream > keytree.LAST_STREAM:
            raise Invalid("a KILL or WILL in a side stream")


class StreamKey:
    """The key of a part of a stream; it only goes forward."""

    def __init__(self, key, part=0):
        self.key, self.part = key, part

    def at(self, seq, ahead=2**12):
        """The key of the part that seq is in, at most so many parts ahead, with nothing changed."""
        part = seq // keytree.PART
        if part < self.part:
            raise Invalid("the key of this part is erased")
        if part - self.part > ahead:
            raise Invalid("too far ahead")
        key = self.key
        for _ in range(part - self.part):
            key = keytree.next_key(key)
        return key

    def go(self, seq):
        self.key, self.part = self.at(seq), seq // keytree.PART


def sealing_key(suite, stream_key):
    return keytree.sealing_key(stream_key, suites.KEY_LENGTH[suite])


# Plaintext

def item(item_type, value=b""):
    return bytes([item_type]) + struct.pack(">H", len(value)) + value


def item_continues(sid, stream, salt, position):
    return item(I_CONTINUES, sid + struct.pack(">I8sQ", stream, salt, position))


def item_ended(sid, entries):
    return item(I_ENDED, sid + b"".join(struct.pack(">I8sI", n, salt, c) for n, salt, c in entries))


def item_ended_before(number, entries):
    """In the stream with this number, of streams of the same session."""
    return item(I_ENDED_BEFORE, b"".join(
        short(number - n) + salt + short(0 if c == UNKNOWN_COUNT else c + 1) for n, salt, c in entries))


def short(n):
    """A number in base 128, the lowest digit first, each but the last with 0x80."""
    return bytes([n]) if n < 128 else bytes([n % 128 | 0x80]) + short(n // 128)


def read_short(r):
    n = 0
    for at in range(5):
        byte = r.number(1)
        n += (byte & 0x7F) << 7 * at
        if byte < 0x80:
            break
    else:
        raise Refused("a number of more than five bytes")
    if n >= 2**32:
        raise Refused("a number of more than 32 bits")
    return n


def item_ended_continuing(sid, stream, salt, count, continues):
    """`continues` is what an item 1 of that stream says: (session id, stream, salt, position)."""
    return item(I_ENDED_CONTINUING, sid + struct.pack(">I8sI", stream, salt, count)
                + continues[0] + struct.pack(">I8sQ", *continues[1:]))


def item_kept():
    return item(I_KEPT)


def item_sent(microseconds):
    return item(I_SENT, struct.pack(">Q", microseconds))


def plaintext(kind, content=b"", flags=0, items=None, pad=0):
    """Kind byte, preamble, content, padding; `pad` N pads to a multiple of N bytes."""
    body = content
    if items is not None:
        flags |= PREAMBLE
        body = struct.pack(">H", len(items)) + items + content
    if pad:
        flags |= PADDING
        body += b"\x80"
        body += bytes(-(len(body) + 1) % pad)
    return bytes([kind | flags]) + body


class Preamble:
    def __init__(self):
        self.continues, self.ended, self.kept, self.unknown = None, [], False, []


class Plain:
    """A plaintext of stream `of`, which is session id and number, taken apart. `problem` says why it is refused, `skip`
    that it is skipped."""

    def __init__(self, data, frame_type, side, seq, of):
        self.of = of
        self.problem, self.skip, self.preamble, self.content = None, False, None, b""
        self.sent = None          # microseconds since 1970, as item 6 says
        first = data[0] if data else 0
        self.kind, self.flags = first & 15, first & 0xF0
        self.asks, self.continues = bool(self.flags & ASKS), bool(self.flags & CONTINUES)
        try:
            self._parse(data[1:], frame_type, side, seq)
        except (Refused, Invalid) as e:
            self.problem = str(e)
        self.skip = self.kind >= FIRST_FREE and self.problem is None

    def _parse(self, body, frame_type, side, seq):
        if self.flags & PADDING:
            body = body.rstrip(b"\0")
            if not body.endswith(b"\x80"):
                raise Refused("padding")
            body = body[:-1]
        if self.flags & PREAMBLE:
            if side or frame_type == WILL:
                raise Refused("a preamble where it must not be")
            r = Reader(body)
            preamble = self._items(r.counted(), seq == 0)
            # In a later frame it says nothing of the stream.
            self.preamble = preamble if seq == 0 else None
            body = r.rest()
        names = self.preamble is not None and self.preamble.continues is not None
        if seq == 0 and not side and frame_type != WILL and names != self.continues:
            raise Refused("a stream that continues another names it in its first frame")
        if (side or frame_type == WILL) and self.flags & ~PADDING:
            raise Refused("a flag where it must not be")
        if self.kind == 0 or (self.kind >= FIRST_FREE and frame_type != ENC):
            raise Refused("kind %d" % self.kind)
        self.content = body
        if self.kind >= FIRST_FREE:
            return
        place = {CONFIRM: side, REFUSED: side, SACK: side, KILL_KIND: frame_type == KILL,
                 WILL_KIND: frame_type == WILL}
        if self.kind in place:
            if not place[self.kind]:
                raise Refused("kind %d where it must not be" % self.kind)
        elif side or frame_type != ENC:
            raise Refused("kind %d where it must not be" % self.kind)
        length = len(body)
        good = {CONTINUED: length == 12, CONFIRM: length % 16 == 0, KILL_KIND: length == 4,
                SETTLED: length == 0, REFUSED: length == 16,
                SACK: length >= 20 and length % 8 == 4}
        if not good.get(self.kind, True):
            raise Refused("content of kind %d" % self.kind)

    def _items(self, data, first):
        out, r = Preamble(), Reader(data)
        while r.at < len(data):
            t, value = r.number(1), r.counted()
            v = Reader(value)
            if t <= I_ENDED_BEFORE and not first:
                raise Refused("item %d in a frame that is not the first" % t)
            if t == I_CONTINUES and len(value) == 28 and out.continues is None:
                out.continues = v.take(8), v.number(4), v.take(8), v.number(8)
            elif t == I_ENDED and len(value) >= 8 and len(value) % 16 == 8:
                sid = v.take(8)
                while v.at < len(value):
                    out.ended.append((sid, v.number(4), v.take(8), v.number(4), None))
            elif t == I_ENDED_BEFORE:
                while v.at < len(value):
                    distance, salt, count = read_short(v), v.take(8), read_short(v)
                    if not 1 <= distance <= self.of[1]:
                        raise Refused("a stream that is not before its own")
                    count = count - 1 if count else UNKNOWN_COUNT
                    out.ended.append((self.of[0], self.of[1] - distance, salt, count, None))
            elif t == I_ENDED_CONTINUING and len(value) == 52:
                about = v.take(8), v.number(4), v.take(8), v.number(4)
                if about[3] == 2**32 - 1:
                    raise Refused("what a stream continued whose count is not known")
                out.ended.append(about + ((v.take(8), v.number(4), v.take(8), v.number(8)),))
            elif t == I_KEPT and not value:
                out.kept = True
            elif t == I_SENT and len(value) == 8 and self.sent is None:
                self.sent = v.number(8)
            elif t >= 128:
                out.unknown.append(t)
            else:
                raise Refused("item %d of the preamble" % t)
        if len(out.ended) > 16:
            raise Refused("more than 16 streams")
        return out


def confirm_content(entries):
    """Of a confirm or a refused: (stream, salt, seq) for each stream."""
    return b"".join(struct.pack(">I8sI", *e) for e in entries)


def sack_content(stream, salt, ranges):
    """Of a sack: the frames from each first to below each next seq."""
    return struct.pack(">I8s", stream, salt) + b"".join(struct.pack(">II", *r) for r in ranges)


def read_sack(content):
    stream, salt = struct.unpack(">I8s", content[:12])
    return stream, salt, [struct.unpack(">II", content[i:i + 8]) for i in range(12, len(content), 8)]


def read_confirmed(content):
    return [struct.unpack(">I8sI", content[i:i + 16]) for i in range(0, len(content), 16)]
