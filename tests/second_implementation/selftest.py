#!/usr/bin/env python3
"""Both state machines of the handshake against each other, in memory, also over a lossy path,
the test vectors made twice, and the limit of open streams. The rest is in selftest.sh."""
import contextlib
import filecmp
import os
import random
import subprocess
import sys
import tempfile
import types

import codes
import handshake as hs
import keytree
import sealed
import suites
from frames import ENC
from primitives import Identity
from receiver import Receiver

A, B, C = (Identity.generate() for _ in range(3))
failed = 0


def case(name, expected, master=None, slave=None, pins=(True, True), loss=0.0, limit=4, tamper=None):
    """Run one pairing of a clock that is not real; compare exit statuses and sessions."""
    global failed
    master, slave = {"suite": "gcm", **(master or {})}, {"suite": "gcm", **(slave or {})}
    got = {"m": {}, "s": {}}
    trust_m = hs.Trust({"slave": B.spki} if pins[0] else {})
    trust_s = hs.Trust({"master": A.spki} if pins[1] else {})
    quiet = lambda text: None
    m = hs.Master(A, "master", trust_m, b"up", b"down", log=quiet, **master)
    s = hs.Slave(B, "slave", trust_s, b"up", b"down", log=quiet, **slave)
    m.on_session = lambda sch, name, key, standing, proven: got["m"].update({sch.id: standing})
    s.on_session = lambda sch, name, key, standing, proven: got["s"].update({sch.id: standing})
    rng, now = random.Random(name), 0.0
    to_m, to_s = [], []
    while now < limit and (m.status is None or s.status is None):
        now += 0.01
        to_s += m.poll(now)
        to_m += s.poll(now)
        for _ in range(8):
            lose = lambda q: [f for f, _ in q if rng.random() >= loss]
            in_s, in_m, to_s, to_m = lose(to_s), lose(to_m), [], []
            if tamper:
                in_m = [tamper(f) for f in in_m]
            for f in in_s:
                to_m += s.receive(f, now)
            for f in in_m:
                to_s += m.receive(f, now)
    result = (m.status, s.status)
    same = set(k for k, v in got["m"].items() if v == "current") <= set(got["s"])
    ok = result == expected and same and (result != (0, 0) or got["m"])
    failed += not ok
    print("%s %s%s" % ("PASS" if ok else "FAIL", name, "" if ok else " %s %s" % (result, got)))


code, other = codes.generate().encode(), codes.generate().encode()
case("by key", (0, 0))
case("by key, batches", (0, 0), {"siblings": 2}, {"siblings": 9})
case("by key, 16 hashes, all features", (0, 0), {"hashes": 16, "features": b"\xff" * 4}, {"hashes": 16})
case("by key, 17 hashes", (None, None), {"hashes": 17})
case("by key, a lossy path", (0, 0), loss=0.3, limit=120)
case("by code", (0, 0), {"code": code}, {"code": code}, (False, False))
case("by code, pinned before", (0, 0), {"code": code}, {"code": code})
case("by code, batches of the slave", (0, 0), {"code": code}, {"code": code, "siblings": 2}, (False, False))
case("by code, a lossy path", (0, 0), {"code": code}, {"code": code}, (False, False), 0.3, 300)
case("wrong code", (77, None), {"code": code}, {"code": other}, (False, False))
case("code on one side", (None, None), {"code": code})
case("suites differ", (76, 76), {"suite": "cbc"})
case("the master is not pinned", (None, None), pins=(True, False))
case("the slave is not pinned", (None, None), pins=(False, True))
case("altered AUTHACKs", (None, None),
     tamper=lambda f: f[:-1] + bytes([f[-1] ^ 1]) if f[0] == 0x24 else f)
case("altered INITACKs", (None, None),
     tamper=lambda f: f[:60] + bytes([f[60] ^ 1]) + f[61:] if f[0] == 0x22 else f)

here = os.path.dirname(os.path.abspath(__file__))
with tempfile.TemporaryDirectory() as one:
    subprocess.run([sys.executable, os.path.join(here, "vectors.py"), one], check=True,
                   stdout=subprocess.DEVNULL)
    names = sorted(os.listdir(one))
    stored = os.path.join(here, os.pardir, "vectors")
    good = filecmp.cmpfiles(one, stored, names, shallow=False)[0] == names
    print("PASS vectors" if good else "FAIL vectors: the stored ones differ")
    failed += not good


def open_streams(count):
    """Which streams are open when so many have begun, of which number 0 went on last."""
    tree, session = bytes(32), bytes(range(8))
    s = {"id": session.hex(), "suite": "gcm", "recv_nodes": {"": tree.hex()}, "recv_side": tree.hex(), "streams": {},
         "kept": {}, "ended": [], "received": True, "standing": "current", "proven": True, "peer_key": "peer",
         "killed": None}
    state, events = {"sessions": [s], "sequences": {}}, []
    store = types.SimpleNamespace(edit=lambda: contextlib.nullcontext(state))
    receiver = Receiver(store, lambda data: None, lambda frame: None, lambda what, **more: events.append(what))

    def frame(n, seq, kind, now):
        head = sealed.header(ENC, session, n, bytes(8), seq)
        leaf = keytree.descend(tree, keytree.path(n))
        key = keytree.sealing_key(keytree.first_key(leaf, bytes(8)), suites.KEY_LENGTH["gcm"])
        body = suites.seal("gcm", key, head, seq, sealed.plaintext(kind, b"x", 0, None, 0), None)
        receiver.frame(head + body, now=now)

    for n in range(1024):
        frame(n, 0, sealed.DATA, n)
    frame(0, 1, sealed.DATA, 2000)
    for n in range(1024, count):
        frame(n, 0, sealed.DATA, n + 2000)
    frame(count, 0, sealed.END, count + 2000)
    return sorted(map(int, s["streams"])), events.count("closed for room")


good = open_streams(1024) == (list(range(1024)), 0) and open_streams(1026) == ([0, *range(3, 1026)], 2)
print("PASS 1024 open streams" if good else "FAIL 1024 open streams")
failed += not good
sys.exit(1 if failed else 0)
