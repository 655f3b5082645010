#!/usr/bin/env python3
"""Deterministic test vectors of sts-protocol(7), as JSON in a directory.

    python3 vectors.py [DIRECTORY]        # ../vectors without one

Everything random is derived from the label of its vector, so that two runs give
the same bytes. All byte strings are in hexadecimal. Each frame that is made here
is also opened again, by the other side's functions, before it is written.

    primitives.json   H, the hash tree, HKDF, PSS, fingerprints, SPAKE2, ML-KEM
    codes.json        codes with their check symbols, and texts that are no code
    keytree.json      paths, nodes, leaves, what is stored after a number is taken
    handshake_*.json  whole handshakes with all inputs and all intermediate values
    refusals.json     refusals of each reason
    still_there.json  questions and answers
    sealed_SUITE.json sealed frames; `expect` is accept, skip or refuse
"""
import json
import os
import struct
import sys

from cryptography.hazmat.primitives.asymmetric import rsa

import codes
import frames
import handshake as hs
import keytree
import sealed
import spake2
import still_there
import suites
from frames import ENC, KILL, RDYACK, RDYREQ, WILL
from primitives import (H, Identity, Invalid, expand, extract, fingerprint, hmac, mlkem_decaps, mlkem_encaps,
                        mlkem_keygen, verify, x25519, x25519_public)

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "vectors")


def rnd(label, length=32):
    """The bytes that stand for random ones."""
    return expand(extract(None, b"sts2 test vectors"), label, length)


def hexed(value):
    """A copy in which all bytes are hexadecimal."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {k: hexed(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [hexed(v) for v in value]
    return value


def save(name, value):
    with open(os.path.join(OUT, name), "w") as f:
        json.dump(hexed(value), f, indent=1)
        f.write("\n")
    print(name)


# RSA keys from a label

SMALL = [p for p in range(3, 2000, 2) if all(p % q for q in range(3, int(p ** .5) + 1, 2))]


def prime(label, bits):
    """The first prime from a number that the label gives; both highest bits are set."""
    n = int.from_bytes(rnd(label, bits // 8), "big") | 3 << (bits - 2) | 1
    while True:
        if all(n % p for p in SMALL) and (n - 1) % 65537 and all(
                miller_rabin(n, int.from_bytes(rnd("%s base %d" % (label, i)), "big"))
                for i in range(8)):
            return n
        n += 2


def miller_rabin(n, base):
    d, r = n - 1, 0
    while d % 2 == 0:
        d, r = d // 2, r + 1
    x = pow(base, d, n)
    if x in (1, n - 1):
        return True
    for _ in range(r - 1):
        x = x * x % n
        if x == n - 1:
            return True
    return False


_keys = {}


def rsa_key(label, bits=3072):
    if label not in _keys:
        p, q = prime(label + " p", bits // 2), prime(label + " q", bits // 2)
        d = pow(65537, -1, (p - 1) * (q - 1))
        _keys[label] = Identity(rsa.RSAPrivateNumbers(
            p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p),
            rsa.RSAPublicNumbers(65537, p * q)).private_key())
    return _keys[label]


def key_entry(identity):
    return {"pem": identity.pem().decode(), "spki": identity.spki,
            "fingerprint": fingerprint(identity.spki)}


# Whole handshakes

def master_secrets(label):
    return hs.MasterSecrets(rnd(label + " random", 16), rnd(label + " x25519"), rnd(label + " d"),
                            rnd(label + " z"), int.from_bytes(rnd(label + " spake2", 64), "big") % spake2.L)


class FixedSlave:
    def __init__(self, label):
        self.x25519, self.m = rnd(label + " x25519"), rnd(label + " m")
        self.spake = int.from_bytes(rnd(label + " spake2", 64), "big") % spake2.L


def make_attempt(label, master_label, m2s, s2m, suite, code):
    """Steps 1 and 2, and the part of the schedule that they give."""
    m, s = master_secrets(master_label), FixedSlave(label + " slave")
    epoch = rnd(label.split(" initack")[0] + " epoch key")    # one slave, one epoch
    initreq = m.initreq(suite, code)
    initack, schedule = hs.answer_initreq(initreq, epoch, m2s, s2m, s, code)
    again = m.schedule(initreq, initack, m2s, s2m, code)
    assert again.prk == schedule.prk and again.th1 == schedule.th1
    parsed = frames.Initack(initack)
    entry = {
        "master": {"random": m.random, "x25519_private": m.x25519, "mlkem_d": rnd(master_label + " d"),
                   "mlkem_z": rnd(master_label + " z")},
        "slave": {"epoch_key": epoch, "x25519_private": s.x25519, "mlkem_m": s.m},
        "initreq": initreq, "h_initreq": H(initreq), "cookie": parsed.cookie, "initack": initack,
        "x25519_shared": schedule.shared[:32], "mlkem_secret": schedule.shared[32:],
        "th1": schedule.th1, "prk": schedule.prk, "hs_m": schedule.hs_m}
    if code:
        share = frames.Initreq(initreq).share
        entry["master"]["spake2_x"] = m.spake.to_bytes(32, "big")
        entry["slave"]["spake2_y"] = s.spake.to_bytes(32, "big")
        entry["spake2_w"] = spake2.password_number(code).to_bytes(32, "big")
        entry["spake2_share_master"], entry["spake2_share_slave"] = share, parsed.share
        entry["spake2_key"] = spake2.key(m.spake, code, True, share, parsed.share)
        assert entry["spake2_key"] == spake2.key(s.spake, code, False, share, parsed.share)
    return {"entry": entry, "schedule": schedule, "initreq": initreq, "cookie": parsed.cookie}


def sign_batch(label, identity, prefix, leaves):
    root, paths = hs.hash_tree(leaves)
    salt = rnd(label + " pss salt")
    signature = identity.sign(prefix + root, salt)
    verify(identity.spki, prefix + root, signature)
    return root, paths, salt, signature


def do_authreqs(label, attempts, master, name):
    """One signature of the master over all these attempts; AUTHREQ of each."""
    leaves = [a["schedule"].leaf_m(hs.NO_FEATURES, name, master.spki) for a in attempts]
    root, paths, salt, signature = sign_batch(label + " master", master, b"sts2 auth master", leaves)
    for a, leaf, path in zip(attempts, leaves, paths):
        s = a["schedule"]
        assert hs.root_from(leaf, path) == root
        plain = frames.authreq_plain(hs.NO_FEATURES, path, name, master.spki, signature)
        authreq = hs.make_authreq(s, a["cookie"], a["initreq"], hs.NO_FEATURES, path, name,
                                  master.spki, signature)
        p = frames.Authreq(authreq)
        assert hs.open_once(s.hs_m, p.head, p.sealed) == plain
        s.with_authreq(authreq)
        a["entry"].update(leaf_m=leaf, hashes_m=path, root_m=root, pss_salt_m=salt,
                          signature_m=signature, authreq_plaintext=plain, authreq=authreq,
                          th2=s.th2, hs_s=s.hs_s, refusal_key=s.refusal)


def do_authacks(label, attempts, slave, name, suite, verdict):
    """One signature of the slave over all these answers; AUTHACK of each, and what follows."""
    number = suites.NUMBER[suite]
    leaves = [a["schedule"].leaf_s(verdict, number, hs.NO_FEATURES, name, slave.spki)
              for a in attempts]
    root, paths, salt, signature = sign_batch(label + " slave", slave, b"sts2 auth slave", leaves)
    for a, leaf, path in zip(attempts, leaves, paths):
        s, e = a["schedule"], a["entry"]
        plain = frames.authack_plain(verdict, number, hs.NO_FEATURES, path, name, slave.spki, signature)
        authack = hs.make_authack(s, verdict, number, hs.NO_FEATURES, path, name, slave.spki, signature)
        e.update(verdict=verdict, leaf_s=leaf, hashes_s=path, root_s=root, pss_salt_s=salt,
                 signature_s=signature, authack_plaintext=plain, authack=authack)
        if verdict:
            continue
        s.with_authack(authack)
        e.update(th3=s.th3, prk2=s.prk2, id=s.id, tree_m2s=s.tree_m2s, tree_s2m=s.tree_s2m,
                 side_m2s=s.side_m2s, side_s2m=s.side_s2m, confirm=s.confirm,
                 rdyreq=frames.step(RDYREQ, s.th1, s.mac("sts2 rdyreq")),
                 rdyack_slave_ready=frames.step(RDYACK, s.th1, s.mac("sts2 slave ready")),
                 rdyack_master_ready=frames.step(RDYACK, s.th1, s.mac("sts2 master ready")),
                 rdyack_slave_done=frames.step(RDYACK, s.th1, s.mac("sts2 slave done")))


def whole(name, suite="gcm", code=None, master_batch=1, slave_batch=1, verdict=0, slave_suite=None,
          topics=("plant/s7/up", "plant/s7/down"), bits=3072):
    """One file: a master batch is several INITACKs to one INITREQ; a slave batch is several
    INITREQs of that master, each with one INITACK."""
    m2s, s2m = (t.encode() for t in topics)
    size = "" if bits == 3072 else " %d" % bits
    master, slave = rsa_key("master" + size, bits), rsa_key("slave" + size, bits)
    masters = ["%s initreq %d" % (name, i) for i in range(slave_batch)]
    rows = []
    for i, label in enumerate(masters):
        rows.append([make_attempt("%s initack %d.%d" % (name, i, j), label, m2s, s2m, suite, code)
                     for j in range(master_batch if i == 0 else 1)])
        do_authreqs("%s batch %d" % (name, i), rows[-1], master, b"station")
    answered = [row[0] for row in rows]
    do_authacks(name, answered, slave, b"gateway", slave_suite or suite, verdict)
    save("handshake_%s.json" % name, {
        "topic_m2s": topics[0], "topic_s2m": topics[1], "suite": suite,
        "slave_suite": slave_suite or suite, "code": code.decode() if code else None,
        "master_key": key_entry(master), "slave_key": key_entry(slave),
        "master_name": "station", "slave_name": "gateway", "features": hs.NO_FEATURES,
        "note": "attempts with the same root_m share one signature of the master; those with the "
                "same root_s one of the slave; an attempt without authack was not answered",
        "attempts": [a["entry"] for row in rows for a in row]})
    return answered[0]["schedule"]


def refusals():
    out = []
    code = codes.complete("QP4SHQV8").encode()
    for reason, c in ((1, None), (2, code), (3, code)):
        label = "refusal %d %s" % (reason, bool(c))
        a = make_attempt(label, label + " master", b"up", b"down", "gcm", c)
        wrong = codes.complete("00000000").encode()
        if reason > 1:      # the master had another code, so its AUTHREQ does not open
            m = master_secrets(label + " master")
            initreq = m.initreq("gcm", wrong)
            initack, schedule = hs.answer_initreq(initreq, rnd(label + " epoch key"), b"up", b"down",
                                                  FixedSlave(label + " slave"), c)
            other = m.schedule(initreq, initack, b"up", b"down", wrong)
            assert other.th1 == schedule.th1 and other.prk != schedule.prk
            cookie = frames.Initack(initack).cookie
            a = {"entry": {"initreq": initreq, "initack": initack, "th1": other.th1,
                           "x25519_shared": other.shared[:32], "mlkem_secret": other.shared[32:],
                           "code_of_master": wrong.decode(), "code_of_slave": c.decode(),
                           "hs_m_of_master": other.hs_m, "hs_m_of_slave": schedule.hs_m},
                 "schedule": other, "initreq": initreq, "cookie": cookie}
        do_authreqs(label, [a], rsa_key("master"), b"station")
        s = a["schedule"]
        out.append({"reason": reason, "with_code": bool(c), "topic_m2s": "up", "topic_s2m": "down",
                    "refusal": s.refuse(reason), **a["entry"]})
    save("refusals.json", out)


# The other files

def refused_shares():
    """Encodings of no point, second encodings of a point, and points of another order than B."""
    eighth = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
    small = {spake2.encode(spake2.times(i, spake2.decode(eighth))) for i in range(8)}
    assert len(small) == 8
    numbers = [spake2.P + y for y in range(19)]
    out = sorted(small) + [(n | sign << 255).to_bytes(32, "little") for n in numbers for sign in (0, 1)]
    out += [(y | 1 << 255).to_bytes(32, "little") for y in (1, spake2.P - 1)]
    out += [s for s in (rnd("share %d" % i) for i in range(8)) if not decodes(spake2.decode, s)]
    # Good shares, each with a point of small order added.
    good = spake2.decode(spake2.share(5, b"QP4SHQV80", False))
    out += [spake2.encode(spake2.add(good, spake2.decode(s))) for s in sorted(small) if s != spake2.encode(spake2.ZERO)]
    for share in out:
        assert not decodes(spake2.decode_share, share)
    return out


def spake2_runs():
    """Whole runs, with numbers at the edges of their range and beyond the order, which 64 random bytes may be."""
    edges = [0, 1, 2, 8, spake2.L - 1, spake2.L, spake2.L + 1, 8 * spake2.L - 1, 2 ** 255 - 19, 2 ** 256 - 1, 2 ** 512 - 1]
    drawn = [(x, int.from_bytes(rnd("edge %d" % i, 64), "little")) for i, x in enumerate(edges)]
    drawn += [(y, x) for x, y in drawn]
    drawn += [tuple(int.from_bytes(rnd("run %d %s" % (i, t), 64), "little") for t in "xy") for i in range(100)]
    out = []
    for i, (x, y) in enumerate(drawn):
        code = codes.generate(rnd("code of run %d" % i, 5)).encode()
        shares = spake2.share(x, code, True), spake2.share(y, code, False)
        key = spake2.key(x, code, True, *shares)
        assert key == spake2.key(y, code, False, *shares)
        out.append({"code": code.decode(), "x": x.to_bytes(64, "little"), "y": y.to_bytes(64, "little"),
                    "share_master": shares[0], "share_slave": shares[1], "key": key})
    return out


def decodes(decode, share):
    """Whether this is decoded."""
    try:
        decode(share)
        return True
    except Invalid:
        return False


def primitives():
    m, n = rnd("leaf a"), rnd("leaf b")
    trees = []
    for count in (1, 2, 3, 4, 5, 7, 8, 256):
        leaves = [rnd("leaf %d of %d" % (i, count)) for i in range(count)]
        root, paths = hs.hash_tree(leaves)
        assert all(hs.root_from(a, b) == root for a, b in zip(leaves, paths))
        show = range(count) if count < 9 else (0, 1, 128, 255)
        trees.append({"leaves": leaves, "root": root, "paths": {str(i): paths[i] for i in show}})
    key = rsa_key("master")
    salt = rnd("pss salt")
    ek, dk = mlkem_keygen(rnd("d"), rnd("z"))
    secret, ciphertext = mlkem_encaps(ek, rnd("m"))
    assert mlkem_decaps(dk, ciphertext) == secret
    a, b = rnd("x25519 a"), rnd("x25519 b")
    spake = []
    for code in (b"QP4SHQV80", codes.complete("00000000").encode(), codes.complete("ZZZZZZZZ").encode()):
        x, y = (int.from_bytes(rnd(code + t, 64), "big") % spake2.L for t in (b" x", b" y"))
        sm, ss = spake2.share(x, code, True), spake2.share(y, code, False)
        k = spake2.key(x, code, True, sm, ss)
        assert k == spake2.key(y, code, False, sm, ss)
        spake.append({"code": code.decode(), "w_48_bytes": expand(extract(None, code), "SPAKE2 pw", 48),
                      "w_mod_order": spake2.password_number(code).to_bytes(32, "big"),
                      "x": x.to_bytes(32, "big"), "y": y.to_bytes(32, "big"), "share_master": sm,
                      "share_slave": ss, "key": k})
    save("primitives.json", {
        "H": [{"parts": p, "hash": H(*p)} for p in
              ([], [b""], [b"", b""], [b"a"], [b"ab", b"c"], [b"a", b"bc"], [rnd("long", 300), b"x"])],
        "hmac": {"key": m, "message": n, "mac": hmac(m, n)},
        "hkdf": [{"salt": sa, "ikm": m, "info": i, "length": le,
                  "prk": extract(sa, m), "okm": expand(extract(sa, m), i, le)}
                 for sa, i, le in ((None, b"info", 32), (n, b"", 8), (n, b"sts2 seal", 64))],
        "node": {"a": m, "b": n, "node": hs.node(m, n), "swapped": hs.node(n, m)},
        "hash_trees": trees,
        "pss": {"key": key_entry(key), "message": b"sts2 auth master" + m, "salt": salt,
                "signature": key.sign(b"sts2 auth master" + m, salt)},
        "x25519": {"a": a, "b": b, "public_a": x25519_public(a), "public_b": x25519_public(b),
                   "shared": x25519(a, x25519_public(b))},
        "mlkem768": {"d": rnd("d"), "z": rnd("z"), "ek": ek, "m": rnd("m"),
                     "ciphertext": ciphertext, "secret": secret},
        "spake2": spake,
        "spake2_runs": spake2_runs(),
        "spake2_refused": refused_shares(),
        "spake2_points": {"M": spake2.encode(spake2.M), "N": spake2.encode(spake2.N),
                          "order_of_both": "2^252 + 27742317777372353535851937790883648493"},
        "cookie": {"epoch_key": m, "topic_m2s": "up", "topic_s2m": "down",
                   "initreq": b"\x21" + bytes(1233),
                   "cookie": hs.cookie(m, b"up", b"down", b"\x21" + bytes(1233))}})


def code_vectors():
    good = ["QP4SHQV80"] + [codes.generate(rnd("code %d" % i, 5)) for i in range(20)]
    good += [codes.complete("0" * 8), codes.complete("Z" * 8), codes.complete("0" * 7 + "1")]
    bad = []
    for c in good[:4]:
        bad.append(c[:8] + codes.ALPHABET[(codes.ALPHABET.index(c[8]) + 1) % 32])
        if c[0] != c[1]:
            bad.append(c[1] + c[0] + c[2:])
    for i in range(9):      # each position, each other symbol: the check finds all of them
        for x in codes.ALPHABET:
            c = good[1][:i] + x + good[1][i + 1:]
            assert (c == good[1]) == (codes.check_sum(c) == 0)
    for i in range(9):      # each exchange of two symbols
        for j in range(i):
            c = list(good[1])
            c[i], c[j] = c[j], c[i]
            assert ("".join(c) == good[1]) == (codes.check_sum(c) == 0)
    bad += ["", "QP4SHQV8", "QP4SHQV800", "QP4SHQV8U", "QP4-SHQ-V8!"]
    texts = {"QP4-SHQ-V80": "QP4SHQV80", " qp4 shq v8o ": "QP4SHQV80", "qp4shqv80": "QP4SHQV80",
             "q-p-4-s-h-q-v-8-0": "QP4SHQV80", "ooooooooo": "000000000"}
    one = codes.complete("11111111")
    texts[one.replace("1", "l")] = one
    texts[one.replace("1", "I")] = one
    assert all(codes.read(t) == c for t, c in texts.items())
    for b in bad:
        try:
            codes.read(b)
            raise AssertionError(b)
        except ValueError:
            pass
    save("codes.json", {"valid": [{"code": c, "shown": codes.shown(c)} for c in good],
                        "invalid": bad, "texts": texts})


NUMBERS = (0, 1, 2, 3, 4, 5, 6, 7, 1000, 2**20 - 1, 2**20, 2**31 - 3, 2**31 - 2)


def key_tree():
    root, salt = rnd("tree root"), rnd("tree salt", 8)
    leaves = []
    for n in NUMBERS:
        leaf = keytree.descend(root, keytree.path(n))
        first = keytree.first_key(leaf, salt)
        leaves.append({
            "number": n, "path": keytree.path(n), "leaf": leaf, "first_key": first,
            "next_key": keytree.next_key(first), "will_key": keytree.will_key(leaf),
            "sealing_key_32": keytree.sealing_key(first, 32),
            "sealing_key_64": keytree.sealing_key(first, 64),
            "will_sealing_key_32": keytree.will_sealing_key(keytree.will_key(leaf), salt, 32),
            "will_sealing_key_64": keytree.will_sealing_key(keytree.will_key(leaf), salt, 64)})
    nodes = {p: keytree.descend(root, p) for p in ("", "0", "1", "10", "11", "100", "101", "1101")}
    sent, states = keytree.Tree({"": root.hex()}), []
    for n in range(10):
        sent.take_sent(n)
        states.append({"taken": n, "nodes": dict(sorted(sent.nodes.items()))})
    got, received = keytree.Tree({"": root.hex()}), []
    for n in (5, 0, 1000, 2, 2**31 - 2):
        got.take(n)
        received.append({"received": n, "nodes": dict(sorted(got.nodes.items()))})
    part, parts = keytree.first_key(keytree.descend(root, "0"), salt), []
    for i in range(4):
        parts.append({"first_seq": i << 20, "key": part})
        part = keytree.next_key(part)
    sides = [{"stream": n, "salt": salt, "first_key": keytree.side_key(root, n, salt)}
             for n in (2**31, 2**31 + 1, 2**32 - 2)]
    save("keytree.json", {"root": root, "salt": salt, "leaves": leaves, "nodes": nodes,
                          "after_taking": states, "after_receiving": received,
                          "parts_of_stream_0": parts, "side": root, "side_streams": sides})


def still():
    out = []
    for role in ("master", "slave"):
        for same in (True, False):
            label = "still %s %s" % (role, same)
            session = {"confirm": rnd(label + " confirm").hex(), "id": rnd(label + " id", 8).hex(),
                       "role": role}
            sid, fresh = bytes.fromhex(session["id"]), rnd(label + " fresh", 16)
            asked = sid if same else rnd(label + " asked", 8)
            answers = {}
            for word, text in (("here", still_there.HERE), ("lost", still_there.LOST),
                               ("deleted", still_there.DELETED)):
                a = still_there.frame(RDYACK, text, bytes.fromhex(session["confirm"]), sid, fresh,
                                      asked, role)
                assert still_there.read_answer(session, a, fresh, asked) == word
                answers[word] = a
            out.append({"role_of_asker": role, "confirm": rnd(label + " confirm"), "session_id": sid,
                        "fresh": fresh, "asked_id": asked,
                        "question": still_there.question(session, fresh, asked), **answers})
    save("still_there.json", out)


def sealed_frames(suite):
    length = suites.KEY_LENGTH[suite]
    sid, tree, side = rnd("sealed id", 8), rnd("sealed tree"), rnd("sealed side")
    out = []

    def frame(title, kind, content=b"", stream=0, seq=0, flags=0, items=None, pad=0,
              frame_type=ENC, expect="accept", plain=None, salt=None):
        label = "%s %s" % (suite, title)
        salt = rnd(label + " salt", 8) if salt is None else salt
        e = {"title": title, "type": frame_type, "stream": stream, "salt": salt, "seq": seq}
        if frame_type == WILL:
            e["leaf"] = keytree.descend(tree, keytree.path(stream))
            e["will_key"] = keytree.will_key(e["leaf"])
            key = keytree.will_sealing_key(e["will_key"], salt, length)
        else:
            if stream >= keytree.FIRST_SIDE:
                first = keytree.side_key(side, stream, salt)
            else:
                e["leaf"] = keytree.descend(tree, keytree.path(stream))
                first = keytree.first_key(e["leaf"], salt)
            e["first_key"], e["part_key"] = first, sealed.StreamKey(first).at(seq)
            key = keytree.sealing_key(e["part_key"], length)
        e["sealing_key"] = key
        if plain is None:
            plain = sealed.plaintext(kind, content, flags, items, pad)
            e.update(kind=kind, flags=plain[0] & 0xF0, items=items, content=content, pad=pad)
        iv = None
        if suite == "cbc":
            iv = e["iv"] = rnd(label + " iv", 16)
        head = sealed.header(frame_type, sid, stream, salt, seq)
        body = suites.seal(suite, key, head, seq, plain, iv)
        assert suites.unseal(suite, key, head, seq, body) == plain
        p = sealed.Plain(plain, frame_type, stream >= keytree.FIRST_SIDE, seq, (sid, stream))
        got = "refuse" if p.problem else "skip" if p.skip else "accept"
        assert got == expect, (title, got, p.problem)
        if p.sent is not None and got == "accept":
            e["sent"] = struct.pack(">Q", p.sent)
        e.update(plaintext=plain, header=head, frame=head + body, expect=expect)
        out.append(e)

    D, text = sealed.DATA, b"temperature=21.5\n"
    for n in (0, 1, 2, 5, 1000, 2**31 - 2):
        frame("stream %d" % n, D, text, n)
    for seq in (1, 2**20 - 1, 2**20, 2**20 + 1, 2**21 - 1, 2**21, 3 << 20):
        frame("seq %d" % seq, D, text, 5, seq, salt=rnd("salt of stream 5", 8))
    for n, part in ((254, 64), (255, 64), (2**31 - 2, 19), (2**31 - 2, 20)):
        frame("stream %d, part %d" % (n, part), D, text, n, part << 20)
    frame("the highest seq", sealed.END, b"", 5, 2**32 - 3, salt=rnd("salt of stream 5", 8))
    frame("settled after it", sealed.SETTLED, b"", 5, 2**32 - 2, sealed.ASKS,
          salt=rnd("salt of stream 5", 8))
    frame("empty data", D)
    frame("15 bytes", D, rnd("15", 15), seq=1)
    frame("16 bytes", D, rnd("16", 16), seq=1)
    frame("1000 bytes", D, rnd("1000", 1000), seq=1)
    frame("end", sealed.END, b"", 2, 7)
    frame("end with data", sealed.END, b"last", 2, 7)
    frame("continued", sealed.CONTINUED, rnd("new id", 8) + bytes([0, 0, 0, 9]), 2, 7)
    frame("kill", sealed.KILL_KIND, bytes([0, 0, 0, 3]), 2, 0, frame_type=KILL)
    frame("kill later in a stream", sealed.KILL_KIND, bytes([0, 0, 1, 0]), 2, 9, frame_type=KILL)
    frame("settled", sealed.SETTLED, b"", 2, 8, sealed.ASKS)
    for seq in (0, 1, 2**20):
        frame("will %d" % seq, sealed.WILL_KIND, b"offline\n", 2, seq, frame_type=WILL)
    frame("padded will", sealed.WILL_KIND, b"offline\n", 1000, 0, pad=64, frame_type=WILL)
    pairs = [(n, rnd("confirmed %d" % n, 8), q) for n, q in ((0, 1), (7, 2**20), (2**31 - 2, 2**32 - 2))]
    for count in (0, 1, 3):
        frame("confirm of %d" % count, sealed.CONFIRM, sealed.confirm_content(pairs[:count]), 2**31, count)
    frame("confirm, last side stream", sealed.CONFIRM, sealed.confirm_content(pairs), 2**32 - 2, 2**20)
    frame("padded confirm", sealed.CONFIRM, sealed.confirm_content(pairs), 2**31 + 5, 1, pad=32)
    frame("refused", sealed.REFUSED, sealed.confirm_content([(4, rnd("refused", 8), 17)]), 2**31 + 1, 0)
    ranges = [(3, 5), (9, 10), (2**20, 2**32 - 1)]
    for count in (1, 3):
        frame("sack, %d ranges" % count, sealed.SACK,
              sealed.sack_content(4, rnd("sack", 8), ranges[:count]), 2**31 + 1, count)
    for pad in (1, 2, 16, 64, 256):
        frame("pad %d" % pad, D, text, 1, 3, pad=pad)
    frame("pad that is full", D, rnd("14", 14), 1, 3, pad=16)
    frame("pad that just does not fit", D, rnd("15", 15), 1, 3, pad=16)
    frame("content that ends like padding", D, b"x\x80\0\0", 1, 3, pad=16)
    frame("padding of nothing", D, b"", 1, 3, pad=1)
    A, C = sealed.ASKS, sealed.CONTINUES
    frame("asks for confirms", D, text, 3, 1, A)
    frame("continues", D, text, 3, 1, C)
    frame("asks and continues, padded", D, text, 3, 1, A | C, pad=32)
    oid = rnd("origin id", 8)
    cont = sealed.item_continues(oid, 4, rnd("origin salt", 8), 2**33 + 7)
    sixteen = [(i, rnd("ended %d" % i, 8), 100 + i) for i in range(16)]
    frame("preamble: continues", D, text, 6, 0, C, cont)
    frame("preamble: ended one", D, text, 6, 0, 0, sealed.item_ended(oid, sixteen[:1]))
    frame("preamble: ended sixteen", D, text, 6, 0, 0, sealed.item_ended(oid, sixteen))
    frame("preamble: ended, of its session, in item 2", D, text, 6, 0, 0, sealed.item_ended(sid, sixteen[:2]))
    frame("preamble: ended before, one", D, text, 6, 0, 0, sealed.item_ended_before(6, sixteen[5:6]))
    frame("preamble: ended before, sixteen", D, text, 16, 0, 0, sealed.item_ended_before(16, sixteen))
    numbers = [(1000 - n, rnd("before %d" % n, 8), c) for n, c in (
        (1000, 2**32 - 2), (999, 2**32 - 1), (128, 0), (127, 126), (2, 127), (1, 16383))]
    frame("preamble: ended before, far and long", D, text, 1000, 0, 0, sealed.item_ended_before(1000, numbers))
    frame("preamble: ended before, the first by the last", D, text, 2**31 - 2, 0, 0,
          sealed.item_ended_before(2**31 - 2, sixteen[:1]))
    frame("preamble: ended before, item with a number in two bytes", D, text, 6, 0, 0,
          sealed.item(5, b"\x81\0" + bytes(8) + b"\x82\0"))
    frame("preamble: ended in two items, count not known", D, text, 6, 0, 0,
          sealed.item_ended(oid, [(9, rnd("e", 8), 2**32 - 1)]) + sealed.item_ended_before(6, sixteen[:3]))
    frame("preamble: ended, continuing", D, text, 6, 0, 0,
          sealed.item_ended_before(6, sixteen[:1]) + sealed.item_ended_continuing(
              sid, *sixteen[1], (oid, 4, rnd("origin", 8), 2**33)))
    frame("preamble: kept", D, text, 6, 0, 0, sealed.item_kept())
    frame("preamble: everything, padded", D, text, 6, 0, A | C,
          cont + sealed.item_ended_before(6, sixteen[:2]) + sealed.item_kept(), pad=128)
    frame("preamble: item 128", D, text, 6, 0, 0, sealed.item(128, b"later"))
    frame("preamble: item 255, empty", D, text, 6, 0, 0, sealed.item(255) + sealed.item_kept())
    at = sealed.item_sent(1795642707023456)
    frame("sent, in the first frame", D, text, 6, 0, A, at)
    frame("sent, the last of all", D, text, 6, 0, C, cont + sealed.item_ended_before(6, sixteen[:1]) + sealed.item_kept() + at)
    frame("sent, in a later frame", D, text, 6, 5, A, at)
    frame("sent in 1970, with the last bytes", sealed.END, b"last", 6, 7, 0, sealed.item_sent(0))
    frame("sent at the end of time, padded", D, text, 6, 7, A, sealed.item_sent(2**64 - 1), pad=64)
    frame("a preamble without items in a later frame", D, text, 6, 7, 0, b"")
    frame("item 128 in a later frame", D, text, 6, 7, 0, at + sealed.item(128, b"later"))
    frame("preamble and end", sealed.END, b"all\n", 6, 0, 0, sealed.item_kept())
    frame("preamble and kill", sealed.KILL_KIND, bytes([0, 0, 0, 7]), 6, 0, 0,
          sealed.item_ended_before(6, sixteen[:1]), frame_type=KILL)
    free = sealed.FIRST_FREE
    for k in range(free, 16):
        frame("kind %d" % k, k, b"later", 7, 1, expect="skip")
    frame("kind %d with a preamble" % free, free, b"later", 7, 0, C, cont, expect="skip")
    frame("kind %d with a time" % free, free, b"later", 7, 1, 0, at, expect="skip")
    refuse = dict(expect="refuse")
    frame("no kind byte", 0, stream=7, seq=1, plain=b"", **refuse)
    frame("kind 0", 0, b"x", 7, 1, **refuse)
    frame("item 4", D, text, 7, 0, 0, sealed.item(4, b"x"), **refuse)
    frame("item 127", D, text, 7, 0, 0, sealed.item(127), **refuse)
    frame("item 0", D, text, 7, 0, 0, sealed.item(0), **refuse)
    frame("continues of 20 bytes", D, text, 7, 0, C, sealed.item(1, bytes(20)), **refuse)
    frame("continues twice", D, text, 7, 0, C, cont + cont, **refuse)
    frame("flag 0x10 without item 1", D, text, 7, 0, C, **refuse)
    frame("item 1 without flag 0x10", D, text, 7, 0, 0, cont, **refuse)
    frame("confirms in a WILL", sealed.WILL_KIND, b"x", 7, 0, A, frame_type=WILL, **refuse)
    frame("confirms in a side stream", sealed.CONFIRM, b"", 2**31, 0, A, **refuse)
    frame("kind %d in KILL" % free, free, b"later", 7, 1, frame_type=KILL, **refuse)
    frame("ended of 25 bytes", D, text, 7, 0, 0, sealed.item(2, bytes(25)), **refuse)
    frame("ended, continuing, of 80 bytes", D, text, 7, 0, 0, sealed.item(4, bytes(80)), **refuse)
    frame("ended, continuing, count not known", D, text, 7, 0, 0, sealed.item_ended_continuing(
        sid, 1, bytes(8), 2**32 - 1, (oid, 4, bytes(8), 1)), **refuse)
    before = b"\x01" + bytes(8) + b"\x02"
    for name, value in (("its own number", b"\0" + before[1:]), ("a number below 0", b"\x08" + before[1:]),
                        ("seven bytes of salt", before[:8]), ("no count", before[:9]),
                        ("a count that is cut", before[:9] + b"\x80"),
                        ("a count of six bytes", before[:9] + b"\x80\x80\x80\x80\x80\0"),
                        ("a count of 33 bits", before[:9] + b"\x80\x80\x80\x80\x10"),
                        ("17 streams", 17 * before)):
        frame("ended before, %s" % name, D, text, 7, 0, 0, sealed.item(5, value), **refuse)
    frame("kept with a value", D, text, 7, 0, 0, sealed.item(3, b"x"), **refuse)
    frame("preamble at seq 1", D, text, 7, 1, 0, sealed.item_kept(), **refuse)
    frame("continues at seq 1", D, text, 7, 1, C, cont, **refuse)
    frame("ended, of no stream, at seq 1", D, text, 7, 1, 0, sealed.item_ended(sid, []), **refuse)
    frame("ended before, at seq 1", D, text, 7, 1, 0, sealed.item_ended_before(7, sixteen[:1]), **refuse)
    frame("ended before, of no stream, at seq 1", D, text, 7, 1, 0, sealed.item(5), **refuse)
    frame("item 7 at seq 1", D, text, 7, 1, 0, sealed.item(7), **refuse)
    frame("sent twice", D, text, 7, 1, 0, at + at, **refuse)
    frame("sent of 7 bytes", D, text, 7, 1, 0, sealed.item(6, bytes(7)), **refuse)
    frame("sent in a WILL", sealed.WILL_KIND, b"x", 7, 0, 0, at, frame_type=WILL, **refuse)
    frame("sent in a side stream", sealed.CONFIRM, b"", 2**31, 0, 0, at, **refuse)
    frame("preamble that is too long", 0, stream=7, plain=b"\x21\x00\x09\x03\x00\x00", **refuse)
    frame("padding flag without padding", 0, stream=7, seq=1, plain=b"\x81abc\0\0", **refuse)
    frame("padding flag, zeros only", 0, stream=7, seq=1, plain=b"\x81\0\0", **refuse)
    frame("continued of 11 bytes", sealed.CONTINUED, bytes(11), 7, 1, **refuse)
    frame("settled with content", sealed.SETTLED, b"x", 7, 1, **refuse)
    frame("confirm in a stream of data", sealed.CONFIRM, bytes(16), 7, 1, **refuse)
    frame("refused in a stream of data", sealed.REFUSED, bytes(16), 7, 1, **refuse)
    frame("confirm of 15 bytes", sealed.CONFIRM, bytes(15), 2**31, 1, **refuse)
    frame("refused of 8 bytes", sealed.REFUSED, bytes(8), 2**31, 1, **refuse)
    frame("sack in a stream of data", sealed.SACK, bytes(20), 7, 1, **refuse)
    frame("sack without a range", sealed.SACK, bytes(12), 2**31, 1, **refuse)
    frame("sack of 21 bytes", sealed.SACK, bytes(21), 2**31, 1, **refuse)
    frame("data in a side stream", D, text, 2**31, 1, **refuse)
    frame("data in KILL", D, text, 7, 1, frame_type=KILL, **refuse)
    frame("kill in ENC", sealed.KILL_KIND, bytes(4), 7, 1, **refuse)
    frame("kill of 3 bytes", sealed.KILL_KIND, bytes(3), 7, 1, frame_type=KILL, **refuse)
    frame("will in ENC", sealed.WILL_KIND, b"x", 7, 1, **refuse)
    frame("data in WILL", D, b"x", 7, 0, frame_type=WILL, **refuse)
    save("sealed_%s.json" % suite, {
        "suite": suite, "session_id": sid, "tree": tree, "side": side, "frames": out})


def main():
    global OUT
    if len(sys.argv) > 1:
        OUT = sys.argv[1]
    os.makedirs(OUT, exist_ok=True)
    primitives()
    code_vectors()
    key_tree()
    still()
    for suite in suites.NUMBER:
        sealed_frames(suite)
    code = codes.complete("QP4SHQV8").encode()
    whole("key_1_1")
    whole("key_3_1", master_batch=3)
    whole("key_1_3", slave_batch=3)
    whole("key_3_3", master_batch=3, slave_batch=3)
    whole("key_5_2", master_batch=5, slave_batch=2, suite="cbc")
    whole("key_ecb_2048", suite="ecb", bits=2048)
    whole("channel", topics=("plant link/m2s", "plant link/s2m"))
    whole("code_1_1", code=code)
    whole("code_1_3", code=code, slave_batch=3)
    whole("code_cbc", code=codes.complete("7ZK3M0WX").encode(), suite="cbc")
    whole("suites_differ", slave_suite="cbc", verdict=1)
    whole("cannot_pin", code=code, verdict=2)
    refusals()


if __name__ == "__main__":
    main()
