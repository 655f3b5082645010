"""Odd and hostile frames, one command per line on standard input, for tests of a real tool.

    stream [N]               begin a stream (with number N)
    flags confirm continues  flags of the following frames (none: no flag)
    item continues SID N SALT POS, item ended SID N SALT COUNT [SID N SALT POS], item kept,
    item sent MICROSECONDS, item raw TYPE HEX
                             add to the preamble of the next frame
    data TEXT | end TEXT     TEXT and a newline (without TEXT: nothing)
    continued SID N | kill N | settled
    kind K HEX               any kind with any content
    plain HEX                a whole plaintext
    will TEXT [SEQ]          publish a WILL as if the broker had
    side KIND HEX            a frame of a new side stream (confirm: kind 4, refused: kind 8)
    seq N                    go to this seq
    pad N
    version V                the previous frame, as one of version V
    again | flip             the previous frame again, or with one bit altered
    keep                     do not publish the next frame; `give` publishes all that are kept, last first
    hex HEX                  any payload
    retained                 the next frame is published with retain
    sleep SECONDS
    expect confirm NEXT | expect sack FIRST NEXT | expect refused SEQ | expect silence SECONDS
    done                     the run of this stream is over: the state gets its count
    print                    session id, stream and salt on standard output

`SID` may be `this`, `N` may be `this`.
"""
import time

import keytree
import sealed
import sessions
import suites
from frames import ENC, KILL
from sender import Stream, open_side


class Script:
    def __init__(self, store, link, say):
        self.store, self.link, self.say = store, link, say
        self.session = sessions.current(store.load())
        self.stream = None
        self.flags, self.items, self.pad = 0, b"", 0
        self.last, self.keep, self.kept, self.retain = b"", False, [], False
        self.side = None

    def sid(self, text):
        return bytes.fromhex(self.session["id"] if text == "this" else text)

    def number(self, text):
        return self.stream.number if text == "this" else int(text, 0)

    def publish(self, frame):
        self.last = frame
        if self.keep:
            self.keep = False
            self.kept.append(frame)
        else:
            self.link.send(frame, retain=self.retain)
        self.retain = False

    def seal(self, kind, content=b"", frame_type=ENC, plain=None):
        items = None
        if self.items:
            items, self.items = self.items, b""
        self.publish(self.stream.seal(kind, content, self.flags, items, frame_type, self.pad, plain))

    def do_stream(self, n=None):
        self.stream = Stream(self.store, self.session, None if n is None else int(n, 0))
        self.items = b""

    def do_flags(self, *names):
        bits = {"confirm": sealed.ASKS, "continues": sealed.CONTINUES, "preamble": sealed.PREAMBLE,
                "padding": sealed.PADDING, "none": 0}
        self.flags = 0
        for name in names:
            self.flags |= bits[name]

    def do_item(self, what, *a):
        if what == "continues":
            self.items += sealed.item_continues(
                self.sid(a[0]), self.number(a[1]), bytes.fromhex(a[2]), int(a[3]))
        elif what == "ended" and a[4:]:
            self.items += sealed.item_ended_continuing(
                self.sid(a[0]), int(a[1]), bytes.fromhex(a[2]), int(a[3], 0),
                (self.sid(a[4]), self.number(a[5]), bytes.fromhex(a[6]), int(a[7])))
        elif what == "ended":
            self.items += sealed.item_ended(
                self.sid(a[0]), [(int(a[1]), bytes.fromhex(a[2]), int(a[3], 0))])
        elif what == "kept":
            self.items += sealed.item_kept()
        elif what == "sent":
            self.items += sealed.item_sent(int(a[0]))
        else:
            self.items += sealed.item(int(a[0]), bytes.fromhex("".join(a[1:])))

    def text(self, words):
        return " ".join(words).encode() + b"\n" if words else b""

    def do_data(self, *words):
        self.seal(sealed.DATA, self.text(words))

    def do_end(self, *words):
        self.seal(sealed.END, self.text(words))

    def do_continued(self, sid, n):
        self.seal(sealed.CONTINUED, self.sid(sid) + self.number(n).to_bytes(4, "big"))

    def do_kill(self, n):
        self.seal(sealed.KILL_KIND, self.number(n).to_bytes(4, "big"), KILL)

    def do_settled(self):
        self.seal(sealed.SETTLED)

    def do_kind(self, k, content=""):
        self.seal(int(k), bytes.fromhex(content))

    def do_plain(self, data):
        self.seal(0, plain=bytes.fromhex(data))

    def do_will(self, text, seq="0"):
        self.publish(self.stream.seal_will(text.encode() + b"\n", int(seq)))

    def do_side(self, kind, content=""):
        if not self.side:
            n, side, salt = sessions.take_side(self.store, self.sid("this"))
            self.side = [n, keytree.side_key(side, n, salt), salt, 0]
        n, key, salt, seq = self.side
        self.side[3] += 1
        head = sealed.header(ENC, self.sid("this"), n, salt, seq)
        suite = self.session["suite"]
        key = sealed.sealing_key(suite, sealed.StreamKey(key).at(seq))
        self.publish(head + suites.seal(suite, key, head, seq,
                                        sealed.plaintext(int(kind), bytes.fromhex(content))))

    def do_seq(self, n):
        self.stream.seq = int(n, 0)

    def do_pad(self, n):
        self.pad = int(n)

    def do_version(self, v):
        self.link.send(bytes([int(v) << 4 | self.last[0] & 15]) + self.last[1:])

    def do_again(self):
        self.publish(self.last)

    def do_flip(self):
        self.link.send(self.last[:-1] + bytes([self.last[-1] ^ 1]))

    def do_keep(self):
        self.keep = True

    def do_give(self):
        for frame in reversed(self.kept):
            self.link.send(frame)
        self.kept = []

    def do_hex(self, data=""):
        self.link.send(bytes.fromhex(data))

    def do_retained(self):
        self.retain = True

    def do_sleep(self, seconds):
        time.sleep(float(seconds))

    def do_print(self):
        print(self.session["id"], self.stream.number, self.stream.salt.hex(), flush=True)

    def do_done(self):
        sessions.stream_done(self.store, self.stream.sid, self.stream.number, self.stream.seq, False)

    def do_expect(self, what, n="3", after="0"):
        wait = float(n) if what == "silence" else 60
        end = time.monotonic() + wait
        while time.monotonic() < end:
            m = self.link.get(0.05)
            got = m and open_side(self.store.load(), m[1])
            if not got or not got[2] or got[2].problem:
                continue
            if got[2].kind == sealed.SACK:
                stream, salt, ranges = sealed.read_sack(got[2].content)
                self.say("side", kind=got[2].kind, stream=stream, ranges=ranges)
                if what == "silence":
                    return False
                if what == "sack" and (stream, salt) == (self.stream.number, self.stream.salt) \
                        and ranges == [(int(n), int(after))]:
                    return True
                continue
            for stream, salt, seq in sealed.read_confirmed(got[2].content):
                self.say("side", kind=got[2].kind, stream=stream, seq=seq)
                if what == "silence":
                    return False
                kind = {"confirm": sealed.CONFIRM, "refused": sealed.REFUSED}.get(what)
                if got[2].kind == kind and (stream, salt) == (self.stream.number, self.stream.salt) \
                        and seq == int(n):
                    return True
        return what == "silence"


def run(lines, store, link, say):
    """Exit status 0, or 1 at the first expectation that was not met."""
    s = Script(store, link, say)
    for line in lines:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        result = getattr(s, "do_" + words[0])(*words[1:])
        if result is False:
            say("not met", line=line.strip())
            return 1
    return 0
