"""Section "The receiver" of sts-protocol(7), with "Sequences", "Lost ends", "Later
versions", "Wills", "Confirms" and "The end of a session" as a receiver sees them.

`Receiver.frame` takes one payload, `Receiver.poll` does what is due. Both call
`write(bytes)` and `send(bytes)`; `event(name, fields)` reports what happened.

Simplifications: lines of different streams are not held back, and the time
limits of the page are kept without the allowances for an absent broker.
"""
import time

import keytree
import sealed
import sessions
import still_there
import suites
from frames import ENC, RDYREQ, WILL, later_version
from keytree import PARTS_AHEAD, Tree
from primitives import Invalid

UNKNOWN = 2**32 - 1


def sequence_of(sid, number, salt):
    """The key of a sequence: the stream in which it began, and its salt."""
    return "%s/%d/%s" % (sid, number, salt.hex())

OPEN_STREAMS = 1024   # of a session, at once


class Receiver:
    def __init__(self, store, write, send, event, hold=10.0, answer=True, pad=0):
        self.store, self.write, self.send, self.event = store, write, send, event
        self.hold_time, self.answering, self.pad = hold, answer, pad
        self.held = {}            # (session id, stream) -> {seq: (header, plain, mark)}
        self.held_since = {}
        self.confirms = {}        # session id -> {stream: next seq}
        self.confirm_due = None
        self.side = {}            # session id -> [number, key, salt, seq]
        self.closing = []         # (due, session id, stream, count): lost ends
        self.announced = {}       # (session id, stream) -> origin and position, or None: what a continued named
        self.over_keys = {}       # (session id, stream) -> what still opens a stream that is over
        self.refusals = []
        self.refused_at = 0.0
        self.ended = 0            # streams that ended in this run
        self.settled = 0
        self.lost = False
        self.killed = False
        self.finished = False

    # Open

    def frame(self, data, marked=False, now=None):
        now = time.time() if now is None else now
        if not data or not 0x21 <= data[0] <= 0x29:
            self.event("later version" if later_version(data) else "foreign")
            return
        with self.store.edit() as state:
            if data[0] == RDYREQ:
                if self.answering:
                    answer = still_there.answer(state, data, now)
                    if answer:
                        self.event("asked", about=data[25:33].hex())
                        self.send(answer)
                return
            try:
                h = sealed.Header(data)
            except Invalid:
                return
            for s in list(state["sessions"]):
                if bytes.fromhex(s["id"])[:3] != h.tag:
                    continue
                plain = self.open(state, s, h)
                if plain:
                    self.opened(state, s, h, plain, marked, now)
                    return
            for s in list(state["sessions"]):
                if bytes.fromhex(s["id"])[:3] == h.tag:
                    self.not_opened(s, h)
                    return
            self.event("dropped", stream=h.stream, seq=h.seq)

    def open(self, state, s, h):
        """The plaintext, if the frame opens under this session."""
        suite = s["suite"]
        try:
            side = h.stream >= keytree.FIRST_SIDE
            if side:
                k = sealed.StreamKey(keytree.side_key(bytes.fromhex(s["recv_side"]), h.stream, h.salt))
                key = sealed.sealing_key(suite, k.at(h.seq, PARTS_AHEAD))
            elif h.type == WILL:
                key = keytree.will_sealing_key(self.will_key(s, h), h.salt, suites.KEY_LENGTH[suite])
            else:
                key = sealed.sealing_key(suite, self.stream_key(s, h).at(h.seq, PARTS_AHEAD))
            data = suites.unseal(suite, key, h.bytes, h.seq, h.body)
        except Invalid:
            return None
        return sealed.Plain(data, h.type, side, h.seq, (bytes.fromhex(s["id"]), h.stream))

    def stream_key(self, s, h):
        st = s["streams"].get(str(h.stream)) or self.over_keys.get((s["id"], h.stream)) \
            or s["kept"].get(str(h.stream))
        if st:
            if bytes.fromhex(st["salt"]) != h.salt:
                raise Invalid("another salt")
            return sealed.StreamKey(bytes.fromhex(st["key"]), st["part"])
        if h.stream > keytree.LAST_STREAM:
            raise Invalid("stream")
        if not keytree.may_begin(h.stream, h.seq):
            raise Invalid("too many steps")
        leaf = Tree(s["recv_nodes"]).peek(h.stream)
        return sealed.StreamKey(keytree.first_key(leaf, h.salt))

    def will_key(self, s, h):
        st = s["streams"].get(str(h.stream))
        if st:
            if bytes.fromhex(st["salt"]) != h.salt:
                raise Invalid("another salt")
            return bytes.fromhex(st["will"])
        return keytree.will_key(Tree(s["recv_nodes"]).peek(h.stream))

    def not_opened(self, s, h):
        """A frame of the tag that does not open: a hint, or one of which the key is erased.

        The page does not say how such a frame of a stream that asks for confirms is
        answered. It is answered with a confirm, which is true for any sender of the frame.
        """
        st = s["streams"].get(str(h.stream))
        if st and bytes.fromhex(st["salt"]) != h.salt:
            self.event("hint: another salt", stream=h.stream)
        elif st and st["asks"] and h.seq // keytree.PART < st["part"]:
            self.confirm(s, h.stream, st["salt"], st["next"], soon=True)
        for e in s["ended"]:
            if e["stream"] == h.stream:
                if bytes.fromhex(e["salt"]) != h.salt:
                    self.event("hint: another salt", stream=h.stream)
                elif e["asks"]:
                    self.confirm(s, h.stream, e["salt"], e["count"], soon=True)
        self.event("dropped", stream=h.stream, seq=h.seq)

    # Accept

    def opened(self, state, s, h, plain, marked, now):
        if h.stream >= keytree.FIRST_SIDE:
            return                # confirms and refused are for the process that sends
        if h.type == WILL:
            return self.will(state, s, h, plain, now)
        st = s["streams"].get(str(h.stream))
        over = self.over_keys.get((s["id"], h.stream))
        if marked and not (st and h.seq == st["next"]):
            self.event("marked", stream=h.stream, seq=h.seq)
            return
        if plain.kind == sealed.SETTLED and not plain.problem:
            if over and h.seq == over["next"]:
                self.settled += 1
                self.event("settled", stream=h.stream)
                self.over_keys.pop((s["id"], h.stream))
            return
        if over or (not st and str(h.stream) in s["kept"]):
            self.event("duplicate", stream=h.stream, seq=h.seq)
            if over and over["asks"]:
                self.confirm(s, h.stream, over["salt"], over["next"], soon=True)
            return
        if s["killed"] is not None and h.stream >= s["killed"]:
            return
        if not st:
            st = self.begin(state, s, h, plain, now)
            if not st:
                return
        self.accept(state, s, st, h, plain, now)
        self.release(state, now)

    def hold(self, s, h, plain, now):
        key = (s["id"], h.stream)
        self.held.setdefault(key, {})[h.seq] = (h, plain)
        self.held_since.setdefault(key, now)
        self.event("held", stream=h.stream, seq=h.seq)

    def begin(self, state, s, h, plain, now, force=False):
        """The first frame that arrives of a stream: its state, or None if it is held or dropped."""
        origin, base, two, first = sequence_of(s["id"], h.stream, h.salt), 0, False, plain.preamble
        if plain.asks and h.seq and not plain.problem:
            if s["received"]:
                self.confirm(s, h.stream, h.salt.hex(), 0, soon=True)
            self.event("dropped above", stream=h.stream, seq=h.seq)
            return None
        if first and not plain.problem:
            two = self.told(state, s, h, first, now)
        if plain.continues and not plain.problem:
            if h.seq and not force:
                self.hold(s, h, plain, now)
                return None
            placed = force and h.seq and self.announced.get((s["id"], h.stream))
            if placed:
                origin, base = placed
            if first and first.continues and not two:
                sid, number, salt, base = first.continues
                origin = sequence_of(sid.hex(), number, salt)
                q = state["sequences"].get(origin)
                if q and q["next"] < base and not force:
                    self.hold(s, h, plain, now)
                    return None
                if not q:
                    if base:
                        self.event("unknown sequence", origin=origin, position=base)
                    state["sequences"][origin] = {"next": base, "carrier": None}
                elif q["next"] < base:
                    self.gap(state, s, origin, q["next"], base - 1, "positions")
                    q["next"] = base
                self.reported(state, origin)
        q = state["sequences"].setdefault(origin, {"next": 0, "carrier": None})
        me = "%s/%d" % (s["id"], h.stream)
        if q["carrier"] and q["carrier"] != me:
            sid, n = q["carrier"].split("/")
            old = sessions.find(state, sid)
            if old and n in old["streams"]:
                self.close(old, int(n), False)
        q["carrier"] = me
        return self.open_stream(state, s, h, plain, origin, base, now)

    def open_stream(self, state, s, h, plain, origin, base, now):
        tree = Tree(s["recv_nodes"])
        leaf = tree.take(h.stream)
        s["recv_nodes"] = tree.dump()
        st = {"salt": h.salt.hex(), "key": keytree.first_key(leaf, h.salt).hex(), "part": 0,
              "will": keytree.will_key(leaf).hex(), "next": 0, "next_will": 0, "origin": origin,
              "base": base, "asks": plain.asks, "kept": False, "since": now}
        s["streams"][str(h.stream)] = st
        s["received"] = True
        if s["standing"] == "pending":
            sessions.make_current(state, s, now)
        s["proven"] = True
        self.event("stream", stream=h.stream, origin=origin, position=base)
        return st

    def accept(self, state, s, st, h, plain, now):
        if h.seq < st["next"]:
            self.event("duplicate", stream=h.stream, seq=h.seq)
            if st["asks"]:
                self.confirm(s, h.stream, st["salt"], st["next"], soon=True)
            return
        if h.seq > st["next"] and st["asks"]:
            self.event("dropped above", stream=h.stream, seq=h.seq)
            self.confirm(s, h.stream, st["salt"], st["next"], soon=True)
            return
        if plain.problem and st["asks"]:
            if now - self.refused_at >= 1:
                self.refused_at = now
                self.refusals.append((s["id"], h.stream, h.salt, h.seq))
            self.event("refused", stream=h.stream, seq=h.seq, why=plain.problem)
            return
        if h.seq > st["next"]:
            self.gap(state, s, h.stream, st["next"], h.seq - 1)
        key = sealed.StreamKey(bytes.fromhex(st["key"]), st["part"])
        # The key of a part is erased with the last frame of it.
        key.go(h.seq if h.seq % keytree.PART < keytree.PART - 1 else h.seq + 1)
        st["key"], st["part"] = key.key.hex(), key.part
        st["next"], st["since"] = h.seq + 1, now
        q = state["sequences"].setdefault(st["origin"], {"next": 0, "carrier": None})
        position = st["base"] + h.seq
        known = position < q["next"]
        if plain.preamble and plain.preamble.kept:
            st["kept"] = True
        if plain.problem:
            self.event("refused", stream=h.stream, seq=h.seq, why=plain.problem)
            self.gap(state, s, h.stream, h.seq, h.seq)
        elif plain.skip:
            self.event("skipped", stream=h.stream, seq=h.seq, kind=plain.kind)
        else:
            self.ACTS[plain.kind](self, state, s, h, plain, now, None if known else position)
        if plain.kind != sealed.CONTINUED:
            q["next"] = max(q["next"], position + 1)
        closes = plain.kind in sealed.CLOSING and not plain.problem
        if st["asks"]:
            self.confirm(s, h.stream, st["salt"], st["next"], soon=closes)
        if closes:
            self.close(s, h.stream, True, end=plain.kind == sealed.END)
        elif len(s["streams"]) > OPEN_STREAMS:
            others = [n for n in s["streams"] if int(n) != h.stream]
            self.close_early(s, int(min(others, key=lambda n: s["streams"][n]["since"])))
            self.event("closed for room")
            self.lost = True

    def take_data(self, state, s, h, plain, now, position):
        """Bytes to write, unless another stream of the sequence carried them: then there is no `position`."""
        if position is None:
            self.event("have position", stream=h.stream, seq=h.seq)
            return
        self.write(plain.content)
        sent = {} if plain.sent is None else {"sent": plain.sent}
        self.event("data", stream=h.stream, seq=h.seq, bytes=len(plain.content), **sent)

    def take_continued(self, state, s, h, plain, now, position):
        by = int.from_bytes(plain.content[8:], "big")
        self.event("continued", stream=h.stream, session=plain.content[:8].hex(), by=by)
        st = s["streams"][str(h.stream)]
        own = sequence_of(s["id"], h.stream, h.salt)
        place = None if plain.continues and st["origin"] == own else (st["origin"], st["base"] + h.seq)
        self.announced[(plain.content[:8].hex(), by)] = place

    def take_kill(self, state, s, h, plain, now, position):
        self.kill(state, s, int.from_bytes(plain.content, "big"), now)

    # What a frame does in a stream of data, by its kind. The others of "Kinds" do not come here: a settled is not
    # accepted, and any other is refused there. One that is missing here is a KeyError, and does not pass in silence.
    ACTS = {sealed.DATA: take_data, sealed.END: take_data, sealed.CONTINUED: take_continued,
            sealed.KILL_KIND: take_kill}

    def close_early(self, s, n):
        """A stream is closed before its end: what it lacks is reported when its count is told."""
        base = s["streams"][str(n)]["base"]
        self.close(s, n, False)
        s["ended"][-1]["cut"] = base

    def close(self, s, n, in_order, end=False):
        """A stream is over: only the memory of this run still has its key, for its settled."""
        st = s["streams"].pop(str(n))
        s["ended"] = (s["ended"] + [{"stream": n, "salt": st["salt"], "count": st["next"],
                                     "origin": st["origin"], "asks": st["asks"]}])[-16:]
        if st["asks"] and in_order:
            self.over_keys[(s["id"], n)] = st
        if st["kept"]:
            s["kept"] = {str(n): {k: st[k] for k in ("salt", "key", "part", "next", "asks")}}
        self.ended += end
        self.event("closed", stream=n, frames=st["next"])

    def close_for_order(self, state, s, n):
        """A stream begins without its first frame, and nothing says what it continues."""
        older = state["sessions"][state["sessions"].index(s):]
        for other in older:
            if other["peer_key"] != s["peer_key"]:
                continue
            for number, st in list(other["streams"].items()):
                if (other is not s or int(number) < n) and not st["asks"]:
                    self.close_early(other, int(number))
                    self.event("closed for order", stream=int(number))

    def reported(self, state, origin):
        """What was missing of closed streams of a sequence is of the stream that continues it, or was reported."""
        for s in state["sessions"]:
            for e in s["ended"]:
                if e["origin"] == origin:
                    e.pop("cut", None)

    def gap(self, state, s, where, first, last, what="frames"):
        self.lost = True
        state["gaps"] = (state["gaps"] + [{"session": s["id"], "stream": where, "first": first,
                                           "last": last, "what": what}])[-16:]
        self.event("gap", stream=where, first=first, last=last, what=what)

    def release(self, state, now, late=False):
        """Accept what was held, if what it waits for is there (or is given up)."""
        again = True
        while again:
            again = False
            for (sid, n), frames_ in list(self.held.items()):
                s = sessions.find(state, sid)
                if not s:
                    self.held.pop((sid, n))
                    continue
                expired = late or now - self.held_since[(sid, n)] >= self.hold_time
                st = s["streams"].get(str(n))
                h, plain = frames_[min(frames_)]
                if not st and not expired:
                    origin = plain.preamble and plain.preamble.continues
                    if not origin:
                        continue
                    sid_, number, salt, position = origin
                    q = state["sequences"].get(sequence_of(sid_.hex(), number, salt))
                    if q and q["next"] < position:
                        continue
                self.held.pop((sid, n))
                self.held_since.pop((sid, n))
                if not st and expired and h.seq and (sid, n) not in self.announced:
                    self.close_for_order(state, s, n)
                for seq in sorted(frames_):
                    h, plain = frames_[seq]
                    st = s["streams"].get(str(n)) or self.begin(state, s, h, plain, now, expired)
                    if st:
                        self.accept(state, s, st, h, plain, now)
                again = True

    # Lost ends

    def told(self, state, s, h, preamble, now):
        """What a preamble tells of earlier streams. True if two devices use this session."""
        two = False
        for sid, n, salt, count, continues in preamble.ended:
            about = sessions.find(state, sid)
            if not about or n > keytree.LAST_STREAM:
                continue
            st = about["streams"].get(str(n))
            over = [e for e in about["ended"] if e["stream"] == n]
            known = st or (over and over[0])
            if known:
                if bytes.fromhex(known["salt"]) != salt:
                    two = self.lost = True
                    self.event("two devices use this session", stream=n)
                elif (st or "cut" in known) and count != UNKNOWN:
                    self.closing.append((now + 1, about["id"], n, salt, count, continues))
            elif count != UNKNOWN and Tree(about["recv_nodes"]).has(n):
                self.closing.append((now + 1, about["id"], n, salt, count, continues))
        return two

    def close_lost(self, state, now):
        for entry in list(self.closing):
            due, sid, n, salt, count, continues = entry
            if now < due:
                continue
            self.closing.remove(entry)
            s = sessions.find(state, sid)
            if not s:
                continue
            st = s["streams"].get(str(n))
            cut = [e for e in s["ended"] if e["stream"] == n and "cut" in e]
            if cut:
                if cut[0]["count"] < count:
                    self.gap(state, s, n, cut[0]["count"], count - 1)
                    q = state["sequences"][cut[0]["origin"]]
                    q["next"] = max(q["next"], cut[0].pop("cut") + count)
            elif st:
                if st["next"] > count or (st["next"] == count and st["asks"]):
                    continue
                if st["next"] < count:
                    self.gap(state, s, n, st["next"], count - 1)
                    q = state["sequences"][st["origin"]]
                    q["next"] = max(q["next"], st["base"] + count)
                    st["next"] = count
                self.close(s, n, False)
            elif Tree(s["recv_nodes"]).has(n):
                tree = Tree(s["recv_nodes"])
                tree.take(n)
                s["recv_nodes"] = tree.dump()
                self.lost_whole(state, s, n, salt, count, continues)

    def lost_whole(self, state, s, n, salt, count, continues):
        """A stream of which nothing came has ended: it begins and ends now, in its sequence."""
        origin, base = sequence_of(s["id"], n, salt), 0
        if continues:
            sid, number, of, base = continues
            origin = sequence_of(sid.hex(), number, of)
        q = state["sequences"].setdefault(origin, {"next": base, "carrier": None})
        if q["carrier"]:
            old_sid, old_n = q["carrier"].split("/")
            old = sessions.find(state, old_sid)
            if old and old_n in old["streams"]:
                self.close(old, int(old_n), False)
            q["carrier"] = None
        if q["next"] < base:
            self.gap(state, s, origin, q["next"], base - 1, "positions")
            q["next"] = base
        if q["next"] < base + count:
            self.gap(state, s, n, q["next"] - base, count - 1)
            q["next"] = base + count

    # Wills

    def will(self, state, s, h, plain, now):
        if plain.problem or plain.skip:
            self.event("dropped will", stream=h.stream, why=plain.problem)
            return
        st = s["streams"].get(str(h.stream))
        if not st:
            origin = sequence_of(s["id"], h.stream, h.salt)
            st = self.open_stream(state, s, h, plain, origin, 0, now)
        if h.seq < st["next_will"]:
            self.event("duplicate will", stream=h.stream, seq=h.seq)
            return
        st["next_will"] = h.seq + 1
        self.write(plain.content)
        self.event("will", stream=h.stream, seq=h.seq, bytes=len(plain.content))

    # Confirms

    def confirm(self, s, stream, salt, next_seq, soon=False):
        self.confirms.setdefault(s["id"], {})[stream, bytes.fromhex(salt)] = next_seq
        now = time.time()
        due = now if soon else now + 0.05
        self.confirm_due = min(self.confirm_due or due, due)

    def send_side(self, s, kind, content):
        if s["id"] not in self.side:
            n, side, salt = sessions.take_side(self.store, bytes.fromhex(s["id"]))
            self.side[s["id"]] = [n, keytree.side_key(side, n, salt), salt, 0]
        side = self.side[s["id"]]
        number, key, salt, seq = side
        side[3] += 1
        head = sealed.header(ENC, bytes.fromhex(s["id"]), number, salt, seq)
        k = sealed.sealing_key(s["suite"], sealed.StreamKey(key).at(seq))
        self.send(head + suites.seal(s["suite"], k, head, seq,
                                     sealed.plaintext(kind, content, pad=self.pad)))

    def send_confirms(self):
        self.confirm_due = None
        state = self.store.load()
        for sid, entries in self.confirms.items():
            s = sessions.find(state, sid)
            if s:
                self.send_side(s, sealed.CONFIRM, sealed.confirm_content(
                    (n, salt, q) for (n, salt), q in sorted(entries.items())))
                self.event("confirmed", **{str(n): q for (n, _), q in entries.items()})
        self.confirms = {}

    # The end of a session

    def kill(self, state, s, limit, now):
        self.killed = True
        for i, other in enumerate(state["sessions"]):
            if other["peer_key"] == s["peer_key"] and i >= state["sessions"].index(s):
                other["killed"] = limit if other is s else keytree.LAST_STREAM + 1
                other["kill_at"] = now
        self.event("kill", next_stream=limit)

    def finish_kill(self, state, now):
        dead = [s for s in state["sessions"] if s["killed"] is not None]
        if not dead:
            return
        waiting = [s for s in dead if s["streams"]]
        first = [s for s in dead if s["killed"] <= keytree.LAST_STREAM]
        below = any(Tree(s["recv_nodes"]).has(n) for s in first for n in range(min(s["killed"], 1000)))
        if (waiting or below) and now - dead[0]["kill_at"] < 60:
            return
        for s in dead:
            for n, st in s["streams"].items():
                self.lost = True
                self.event("incomplete", stream=int(n), frames=st["next"])
            if s in first:
                for n in range(min(s["killed"], 1000)):
                    if Tree(s["recv_nodes"]).has(n):
                        self.lost = True
                        self.event("missing stream", stream=n)
            sessions.delete(state, s)
            self.event("session deleted", session=s["id"])
        self.finished = not state["sessions"]

    def poll(self, now=None, late=False):
        now = time.time() if now is None else now
        if self.held or self.closing or self.killed:
            with self.store.edit() as state:
                self.release(state, now, late)
                if late:
                    self.closing = [(now,) + e[1:] for e in self.closing]
                self.close_lost(state, now)
                if not self.confirms:
                    self.finish_kill(state, now)
        for sid, stream, salt, seq in self.refusals:
            s = sessions.find(self.store.load(), sid)
            if s:
                self.send_side(s, sealed.REFUSED, sealed.confirm_content([(stream, salt, seq)]))
        self.refusals = []
        if self.confirms and (late or now >= self.confirm_due):
            self.send_confirms()


def newest_kept(state, frames_):
    """sts-recv --last: the newest marked frame with data, per session; nothing is changed."""
    best = None
    look = Receiver(None, None, None, lambda *a, **k: None)
    for data in frames_:
        try:
            h = sealed.Header(data)
        except Invalid:
            continue
        for i, s in enumerate(state["sessions"]):
            if bytes.fromhex(s["id"])[:3] != h.tag or h.type != ENC:
                continue
            plain = look.open(state, s, h)
            if plain and not plain.problem and plain.kind in (sealed.DATA, sealed.END):
                rank = (-i, h.stream, h.seq)
                st = s["streams"].get(str(h.stream))
                later = [int(n) for n in s["streams"]] + [e["stream"] for e in s["ended"]]
                stale = any(n > h.stream for n in later) or (st and st["next"] - 1 > h.seq) or \
                    any(e["stream"] == h.stream and e["count"] - 2 > h.seq for e in s["ended"]) or \
                    any(x["received"] for x in state["sessions"][:i])
                if not stale and (best is None or rank > best[0]):
                    best = rank, plain.content
    return best and best[1]
