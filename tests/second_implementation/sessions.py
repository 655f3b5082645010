"""Section "SESSIONS" of sts-protocol(7): what a device keeps of its sessions.

This peer has a state file of its own, one JSON object, replaced as a whole
under a lock. What the page keeps in LINK@PEER and in LINK@recv is together here.
"""
import base64
import contextlib
import fcntl
import json
import os
import time

import keytree
from primitives import sha256


class Store:
    def __init__(self, path):
        self.path = path

    def load(self):
        try:
            with open(self.path) as f:
                return json.load(f)
        except FileNotFoundError:
            return {"pins": {}, "sessions": [], "deleted": [], "sequences": {}, "gaps": []}

    @contextlib.contextmanager
    def edit(self):
        """The state under the lock; it is on disk when the block ends."""
        with open(self.path + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self.load()
            yield state
            with open(self.path + ".new", "w") as f:
                os.chmod(self.path + ".new", 0o600)
                json.dump(state, f, indent=1)
                f.flush()
                os.fsync(f.fileno())
            os.rename(self.path + ".new", self.path)


def new_session(schedule, role, suite, peer, peer_key, own_key, m2s, s2m, now):
    out, inn = ("m2s", "s2m") if role == "master" else ("s2m", "m2s")
    get = lambda name: getattr(schedule, name).hex()
    return {
        "id": schedule.id.hex(), "standing": None, "role": role, "suite": suite, "peer": peer,
        "peer_key": sha256(peer_key).hex(), "own_key": sha256(own_key).hex(),
        "m2s": m2s, "s2m": s2m, "agreed": now, "retired": None, "proven": False,
        "received": False, "next_stream": 0, "next_side": keytree.FIRST_SIDE,
        "send_nodes": {"": get("tree_" + out)}, "recv_nodes": {"": get("tree_" + inn)},
        "send_side": get("side_" + out), "recv_side": get("side_" + inn),
        "confirm": get("confirm"), "sent": [], "streams": {}, "ended": [], "kept": {},
        "killed": None}


def find(state, sid):
    sid = sid.hex() if isinstance(sid, bytes) else sid
    for s in state["sessions"]:
        if s["id"] == sid:
            return s
    return None


def current(state):
    for s in state["sessions"]:
        if s["standing"] == "current":
            return s
    return None


def delete(state, session):
    state["sessions"].remove(session)
    if session["received"]:
        state["deleted"] = ([session["id"]] + state["deleted"])[:128]


def tidy(state, now):
    """The rules by which sessions that are not current are deleted."""
    for s in list(state["sessions"]):
        if s["standing"] == "retired" and now - s["retired"] >= 7 * 86400:
            delete(state, s)
    for proven in (True, False):
        count = 0
        for s in list(state["sessions"]):
            if s["proven"] != proven:
                continue
            fresh = proven and s["retired"] and now - s["retired"] < 60
            if s["standing"] != "current" and count >= (256 if fresh else 16):
                delete(state, s)
            count += 1


def make_current(state, session, now, proven=True):
    place = state["sessions"].index(session)
    for i, s in enumerate(state["sessions"]):
        if s["peer_key"] == session["peer_key"] and s is not session:
            if s["standing"] == "current" or (s["standing"] == "pending" and i > place):
                s["standing"], s["retired"] = "retired", now
    session["standing"] = "current"
    session["proven"] = session["proven"] or proven
    tidy(state, now)


def store(state, session, standing, proven, now):
    """Store a session that was just agreed, or raise the standing of a stored one."""
    known = find(state, session["id"])
    if not known:
        state["sessions"].insert(0, session)
        known = session
        known["standing"] = "pending"
    if standing == "current":
        make_current(state, known, now, proven)
    tidy(state, now)


# Streams of this device

def take_stream(store_, sid, number=None, salt=None):
    """The next stream number of a session, taken on disk, with the leaf and a random salt."""
    with store_.edit() as state:
        s = find(state, sid)
        n = s["next_stream"] if number is None else number
        tree = keytree.Tree(s["send_nodes"])
        leaf = tree.take_sent(n)
        s["send_nodes"], s["next_stream"] = tree.dump(), max(n + 1, s["next_stream"])
        salt = os.urandom(8) if salt is None else salt
        s["sent"] = (s["sent"] + [{"stream": n, "salt": salt.hex(), "count": None, "told": 0, "continues": None}])[-64:]
        return n, leaf, salt


def take_side(store_, sid):
    with store_.edit() as state:
        s = find(state, sid)
        n = s["next_side"]
        s["next_side"] += 1
        return n, bytes.fromhex(s["send_side"]), os.urandom(8)


# A stream with a count is told by those that follow it at these distances, then doubled.
DISTANCES = (1, 2, 6)


def ended_items(store_, own_sid, own_number):
    """Section "Lost ends": what the preamble of a new stream tells, noted as told once more."""
    out = []
    with store_.edit() as state:
        distance = 1 + sum((s["id"], e["stream"]) != (own_sid.hex(), own_number)
                           for s in state["sessions"] for e in s["sent"])
        for s in reversed(state["sessions"]):
            for e in list(s["sent"]):
                if (s["id"], e["stream"]) == (own_sid.hex(), own_number):
                    continue
                distance -= 1
                due = DISTANCES[e["told"]] if e["told"] < len(DISTANCES) else 6 << (e["told"] - 2)
                if len(out) == 16 or (e["count"] is not None and distance < due):
                    continue
                of = e["continues"]
                of = of and (bytes.fromhex(of[0]), of[1], bytes.fromhex(of[2]), of[3])
                out.append((bytes.fromhex(s["id"]), e["stream"], bytes.fromhex(e["salt"]),
                            2**32 - 1 if e["count"] is None else e["count"], of))
                e["told"] += 1
                if e["count"] is None and e["told"] >= 8:
                    s["sent"].remove(e)
    return out


def stream_done(store_, sid, number, count, confirmed, continues=None):
    """The run that sent a stream is over: note its count and what it continued, or forget it if
    all was confirmed."""
    with store_.edit() as state:
        s = find(state, sid)
        if not s:
            return
        for e in list(s["sent"]):
            if e["stream"] == number:
                if confirmed:
                    s["sent"].remove(e)
                else:
                    e["count"], e["told"] = count, 0
                    e["continues"] = continues and [continues[0].hex(), continues[1],
                                                    continues[2].hex(), continues[3]]


def pins(state):
    return {name: base64.b64decode(key) for name, key in state["pins"].items()}


def age(session, now=None):
    """The age of a session; one of the future is too old in every respect."""
    a = (time.time() if now is None else now) - session["agreed"]
    return a if a >= 0 else float("inf")
