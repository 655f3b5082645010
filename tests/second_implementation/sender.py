"""Sections "Streams", "Sequences", "Confirms" and "Wills" of sts-protocol(7), as a sender
sees them.

`Stream` seals the frames of one stream. `Sender` sends lines in order, with or
without confirms, continues in a newer session, and closes its streams.
"""
import os
import time

import keytree
import sealed
import sessions
import still_there
import suites
from frames import ENC, KILL, RDYACK, RDYREQ, WILL
from primitives import Invalid


class Stream:
    def __init__(self, store, session, number=None, salt=None, pad=0):
        self.sid, self.suite = bytes.fromhex(session["id"]), session["suite"]
        self.number, leaf, self.salt = sessions.take_stream(store, self.sid, number, salt)
        self.store, self.pad, self.seq = store, pad, 0
        self.key = sealed.StreamKey(keytree.first_key(leaf, self.salt))
        self.will = keytree.will_key(leaf)
        self.length = suites.KEY_LENGTH[self.suite]

    def seal(self, kind, content=b"", flags=0, items=None, frame_type=ENC, pad=None, plain=None):
        """The next frame. `plain` is a whole plaintext, for tests."""
        self.key.go(self.seq)
        head = sealed.header(frame_type, self.sid, self.number, self.salt, self.seq)
        if plain is None:
            plain = sealed.plaintext(kind, content, flags, items, self.pad if pad is None else pad)
        body = suites.seal(self.suite, sealed.sealing_key(self.suite, self.key.key), head,
                           self.seq, plain)
        self.seq += 1
        return head + body

    def seal_will(self, content, seq=0, kind=sealed.WILL_KIND, flags=0):
        key = keytree.will_sealing_key(self.will, self.salt, self.length)
        head = sealed.header(WILL, self.sid, self.number, self.salt, seq)
        return head + suites.seal(self.suite, key, head, seq,
                                  sealed.plaintext(kind, content, flags, pad=self.pad))


def open_side(state, data):
    """(session, stream of the side stream, plain) of a frame of a side stream, or None."""
    try:
        h = sealed.Header(data)
    except Invalid:
        return None
    if h.type != ENC or h.stream < keytree.FIRST_SIDE:
        return None
    for s in state["sessions"]:
        if bytes.fromhex(s["id"])[:3] == h.tag:
            try:
                k = sealed.StreamKey(keytree.side_key(bytes.fromhex(s["recv_side"]), h.stream, h.salt))
                data = suites.unseal(s["suite"], sealed.sealing_key(s["suite"], k.at(h.seq)),
                                     h.bytes, h.seq, h.body)
            except Invalid:
                continue
            return s, h, sealed.Plain(data, h.type, True, h.seq, (bytes.fromhex(s["id"]), h.stream))
    return None


class Sender:
    def __init__(self, store, make_link, event, confirm=False, retain=False, pad=0, will=None,
                 timeout=30, answer=True, stamp=False):
        self.store, self.make_link, self.event = store, make_link, event
        self.confirm, self.retain, self.pad, self.timeout = confirm, retain, pad, timeout
        self.answering, self.will_text, self.stamp = answer, will, stamp
        self.link = None
        self.origin, self.position = None, 0
        self.connections = 0
        self.status = None
        self.asked = None
        self.taken = None         # a stream whose number is taken, but that is not begun
        self.begin(sessions.current(self.store.load()))

    # A stream begins

    def begin(self, session, first=0, stream=None):
        """A new stream; `first` is its position if it continues."""
        self.session = session
        self.stream = stream or Stream(self.store, session, pad=self.pad)
        self.continues = self.origin is not None
        self.base = first
        self.items = b""
        if self.continues:
            self.items += sealed.item_continues(*self.origin, first)
        else:
            self.origin = self.stream.sid, self.stream.number, self.stream.salt
        ended = sessions.ended_items(self.store, self.stream.sid, self.stream.number)
        alone = [e for e in ended if not e[4]]
        for sid in dict.fromkeys(e[0] for e in alone):
            entries = [e[1:4] for e in alone if e[0] == sid]
            if sid == self.stream.sid:
                self.items += sealed.item_ended_before(self.stream.number, entries)
            else:
                self.items += sealed.item_ended(sid, entries)
        for e in ended:
            self.items += sealed.item_ended_continuing(*e) if e[4] else b""
        if self.retain:
            self.items += sealed.item_kept()
        self.frames, self.contents = {}, {}     # what is not confirmed: seq -> frame, (kind, content, sent)
        self.next_confirmed, self.closed = 0, False
        self.resent_at, self.progress_at, self.pause = 0.0, time.time(), 1.0
        if self.link is None or self.will_text is not None:
            self.connect()
        self.event("stream", session=session["id"], stream=self.stream.number, position=first)

    def connect(self):
        if self.link:
            self.link.close()
        will = None
        if self.will_text is not None:
            will = self.stream.seal_will(self.will_text, 0)
        self.link = self.make_link(will)

    def seal_and_send(self, kind, content=b"", frame_type=ENC, keep=False, sent=None):
        flags = (sealed.ASKS if self.confirm else 0) | (sealed.CONTINUES if self.continues else 0)
        seq = self.stream.seq
        items = self.items if seq == 0 and self.items else None
        if sent is not None:
            items = (items or b"") + sealed.item_sent(sent)
        frame = self.stream.seal(kind, content, flags, items, frame_type)
        if self.confirm:
            self.frames[seq], self.contents[seq] = frame, (kind, content, sent)
        self.link.send(frame, qos=max(self.link.qos, 1) if frame_type == KILL else None, retain=keep)

    # Data

    def data(self, content, kind=sealed.DATA):
        self.rotate()
        self.check()
        self.seal_and_send(kind, content, keep=self.retain and kind == sealed.DATA,
                           sent=self.time_of(kind, content))

    def time_of(self, kind, content):
        """What item 6 says of data that were just read."""
        carries_data = content and kind in (sealed.DATA, sealed.END)
        return time.time_ns() // 1000 if self.stamp and carries_data else None

    def rotate(self):
        """If the session is no longer the current one, continue in a stream of that one."""
        new = sessions.current(self.store.load())
        if not new or new["id"] == self.session["id"]:
            return
        # The continued names the new stream, so its number is taken before.
        stream = Stream(self.store, new, pad=self.pad)
        self.taken, old = stream, self.stream
        first = self.base + self.stream.seq
        self.close(sealed.CONTINUED, stream.sid + stream.number.to_bytes(4, "big"))
        if self.status is None and self.stream is old:
            self.begin(new, first, stream)
        self.taken = None

    def close(self, kind=sealed.END, content=b"", frame_type=ENC):
        """Close the stream in order; with confirms, wait for the last of them."""
        stream = self.stream
        self.seal_and_send(kind, content, frame_type, sent=self.time_of(kind, content))
        self.closed = True
        positions = self.stream.seq - (kind == sealed.CONTINUED)
        if self.confirm:
            self.wait_confirmed()
            if kind == sealed.CONTINUED and self.stream is not stream:
                return            # the receiver has lost the session that this was to close
            if self.status is None:
                self.link.send(self.stream.seal(sealed.SETTLED, b"", sealed.ASKS | (
                    sealed.CONTINUES if self.continues else 0)))
        confirmed = self.confirm and not self.frames
        continues = self.continues and (*self.origin, self.base)
        sessions.stream_done(self.store, self.stream.sid, self.stream.number,
                             positions, confirmed, continues or None)

    def kill(self):
        """KILL, in a stream of its own or at the end of this one."""
        state = self.store.load()
        number = sessions.find(state, self.session["id"])["next_stream"]
        self.close(sealed.KILL_KIND, number.to_bytes(4, "big"), KILL)

    # Confirms

    def check(self, wait=0.0):
        """Take what has arrived, and do what is due."""
        end = time.time() + wait
        while True:
            m = self.link.get(max(0, min(end - time.time(), 0.05)))
            if m:
                self.arrived(m[1])
            elif time.time() >= end:
                break
            self.due()
        self.due()

    def arrived(self, data):
        if not data:
            return
        if data[0] == RDYREQ and self.answering:
            with self.store.edit() as state:
                answer = still_there.answer(state, data, time.time())
            if answer:
                self.link.send(answer)
            return
        if data[0] == RDYACK and self.asked:
            session, fresh, asked = self.asked
            word = still_there.read_answer(session, data, fresh, asked)
            if word:
                self.event("answer", word=word)
                self.asked = None
                if word == "lost":
                    self.lost_session(session)
                elif word == "deleted":
                    self.status = 65
            return
        got = open_side(self.store.load(), data)
        if not got or not got[2] or got[2].problem or got[0]["id"] != self.session["id"]:
            return
        plain = got[2]
        if plain.kind == sealed.SACK:
            self.sack(*sealed.read_sack(plain.content))
            return
        for stream, salt, seq in sealed.read_confirmed(plain.content):
            if stream != self.stream.number:
                continue
            if salt != self.stream.salt:
                self.event("two devices use this session", stream=stream)
                self.lost_session(self.session)
                return
            if plain.kind == sealed.REFUSED:
                self.event("refused", seq=seq)
                self.status = 76
            elif plain.kind == sealed.CONFIRM:
                self.confirmed(min(seq, self.stream.seq))

    def confirmed(self, seq):
        now = time.time()
        if seq > self.next_confirmed:
            for n in range(self.next_confirmed, seq):
                self.frames.pop(n, None)
                self.contents.pop(n, None)
            self.next_confirmed, self.progress_at, self.pause = seq, now, 1.0
            self.event("confirm", next=seq)
        elif self.frames and now - self.resent_at >= 0.3:
            self.resent_at = now
            self.event("resend", first=min(self.frames))
            for n in sorted(self.frames):
                self.link.send(self.frames[n])

    def sack(self, stream, salt, ranges):
        """The receiver has these frames: what is missing below them is sent again, once in 0.3 seconds."""
        now = time.time()
        if (stream, salt) != (self.stream.number, self.stream.salt) or now - self.resent_at < 0.3:
            return
        self.resent_at = now
        has = {n for first, end in ranges for n in range(first, min(end, self.stream.seq))}
        missing = [n for n in sorted(self.frames) if n not in has and n < ranges[-1][1]]
        self.event("sack", ranges=len(ranges), missing=len(missing))
        for n in missing:
            self.link.send(self.frames[n])

    def due(self):
        now = time.time()
        if self.frames and now - self.progress_at >= self.pause and self.status is None:
            self.progress_at, self.pause = now, min(self.pause * 2, 30)
            self.link.send(self.frames[min(self.frames)])
            self.event("again", seq=min(self.frames))
            new = sessions.current(self.store.load())
            if new and new["id"] != self.session["id"] and self.pause > 4:
                fresh = os.urandom(16)
                self.asked = new, fresh, self.stream.sid
                self.link.send(still_there.question(new, fresh, self.stream.sid), qos=0)

    def wait_confirmed(self):
        end = time.time() + self.timeout
        stream = self.stream
        while self.frames and self.status is None and self.stream is stream:
            if time.time() > end:
                self.status = 65
                return
            self.check(0.05)

    def lost_session(self, new):
        """The receiver has lost the session: what is not confirmed continues in the current one."""
        rest = [self.contents[n] for n in sorted(self.contents)]
        first = self.base + self.next_confirmed
        closed = self.closed
        self.event("continues after a loss", unconfirmed=len(rest))
        self.begin(new, first, self.taken)
        for kind, content, sent in rest:
            if kind != sealed.CONTINUED:
                self.seal_and_send(kind, content, sent=sent)
        self.closed = closed
        self.wait_confirmed()

    def finish(self):
        self.link.close()
        return self.status or 0
