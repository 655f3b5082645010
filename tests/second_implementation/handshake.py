"""Sections "HANDSHAKE", "Key schedule" and "Rules" of sts-protocol(7).

First the key schedule as pure functions (the test vectors use them), then the
two state machines, which know nothing of a network: `receive` takes a frame,
`poll` says what is due, and both return frames as (bytes, QoS).
"""
import os
import random as _random
import time

import frames
import spake2
import suites
from frames import AUTHACK, AUTHREQ, INITACK, INITREQ, RDYACK, RDYREQ
from primitives import (H, Invalid, expand, extract, hmac, load_public, mlkem_check, mlkem_decaps,
                        mlkem_encaps, mlkem_keygen, same, verify, x25519, x25519_public)

NO_FEATURES = bytes(4)


# Key schedule

class Schedule:
    """The key schedule of one attempt, filled in step by step."""

    def __init__(self, m2s, s2m, initreq, initack, shared, spake_key=b""):
        self.shared = shared
        self.th1 = H("sts2 th1", m2s, s2m, initreq, initack)
        self.prk = extract(self.th1, shared + spake_key)
        self.hs_m = expand(self.prk, "sts2 handshake master")

    def leaf_m(self, features, name, spki):
        return H("sts2 master leaf", self.th1, features, name, spki)

    def with_authreq(self, authreq):
        self.th2 = H("sts2 th2", self.th1, authreq)
        self.hs_s = expand(self.prk, b"sts2 handshake slave" + self.th2)
        self.refusal = expand(extract(self.th1, self.shared), b"sts2 refusal" + self.th2)

    def leaf_s(self, verdict, suite, features, name, spki):
        return H("sts2 slave leaf", self.th2, bytes([verdict, suite]), features, name, spki)

    def with_authack(self, authack):
        self.th3 = H("sts2 th3", self.th2, authack)
        self.prk2 = extract(self.th3, self.prk)
        self.id = expand(self.prk2, "sts2 session id", 8)
        for name in ("tree m2s", "tree s2m", "side m2s", "side s2m", "confirm"):
            setattr(self, name.replace(" ", "_"), expand(self.prk2, "sts2 " + name))

    def mac(self, label):
        """The MAC of steps 5 to 8."""
        return hmac(self.confirm, label.encode() + self.th3)

    def refuse(self, reason):
        head = frames.refusal_head(self.th1, reason)
        return head + hmac(self.refusal, head)


def node(a, b):
    return H("sts2 node", min(a, b), max(a, b))


def hash_tree(leaves):
    """The root, and for each leaf the hashes that lead from it to the root."""
    paths = [[] for _ in leaves]
    level = [(leaf, [i]) for i, leaf in enumerate(leaves)]
    while len(level) > 1:
        above = []
        for i in range(0, len(level) - 1, 2):
            (a, under_a), (b, under_b) = level[i], level[i + 1]
            for j in under_a:
                paths[j].append(b)
            for j in under_b:
                paths[j].append(a)
            above.append((node(a, b), under_a + under_b))
        if len(level) % 2:
            above.append(level[-1])
        level = above
    return level[0][0], paths


def root_from(leaf, hashes):
    for h in hashes:
        leaf = node(leaf, h)
    return leaf


def cookie(epoch_key, m2s, s2m, initreq):
    return hmac(epoch_key, b"sts2 cookie" + H(m2s, s2m, H(initreq)))[:16]


def seal_once(key, head, plain):
    """Only one frame is sealed under each of hs_m and hs_s: GCM, a nonce of zeros."""
    return head + suites.seal("gcm", key, head, 0, plain)


def open_once(key, head, sealed):
    return suites.unseal("gcm", key, head, 0, sealed)


def make_authreq(schedule, cookie_, initreq, features, hashes, name, spki, signature):
    head = frames.authreq_head(schedule.th1, cookie_, initreq)
    return seal_once(schedule.hs_m, head,
                     frames.authreq_plain(features, hashes, name, spki, signature))


def make_authack(schedule, verdict, suite, features, hashes, name, spki, signature):
    return seal_once(schedule.hs_s, frames.authack_head(schedule.th1),
                     frames.authack_plain(verdict, suite, features, hashes, name, spki, signature))


class SlaveSecrets:
    """The randomness of one INITACK. How it follows from the seed is the slave's own affair."""

    def __init__(self, epoch_key, initreq):
        seed = hmac(epoch_key, initreq)
        self.x25519 = expand(seed, "x25519")
        self.m = expand(seed, "ml-kem")
        self.spake = int.from_bytes(expand(seed, "spake2", 64), "big")


def answer_initreq(initreq, epoch_key, m2s, s2m, secrets, code=None):
    """INITACK and the schedule of the attempt, as the slave computes both."""
    parsed = frames.Initreq(initreq)
    kem_secret, ciphertext = mlkem_encaps(parsed.ek, secrets.m)
    shared = x25519(secrets.x25519, parsed.x25519) + kem_secret
    share = spake_key = b""
    if code:
        share = spake2.share(secrets.spake, code, False)
        spake_key = spake2.key(secrets.spake, code, False, parsed.share, share)
    initack = frames.initack(H(initreq)[:16], cookie(epoch_key, m2s, s2m, initreq),
                             x25519_public(secrets.x25519), ciphertext, share)
    return initack, Schedule(m2s, s2m, initreq, initack, shared, spake_key)


class MasterSecrets:
    """The randomness of one INITREQ."""

    def __init__(self, random=None, x25519_=None, d=None, z=None, spake=None):
        self.random = random or os.urandom(16)
        self.x25519 = x25519_ or os.urandom(32)
        self.ek, self.dk = mlkem_keygen(d or os.urandom(32), z or os.urandom(32))
        self.spake = spake if spake is not None else int.from_bytes(os.urandom(64), "big")

    def initreq(self, suite, code=None):
        self.share = spake2.share(self.spake, code, True) if code else b""
        return frames.initreq(self.random, suites.NUMBER[suite], x25519_public(self.x25519),
                              self.ek, self.share)

    def schedule(self, initreq, initack, m2s, s2m, code=None):
        parsed = frames.Initack(initack)
        shared = x25519(self.x25519, parsed.x25519) + mlkem_decaps(self.dk, parsed.ciphertext)
        spake_key = b""
        if code:
            spake_key = spake2.key(self.spake, code, True, self.share, parsed.share)
        return Schedule(m2s, s2m, initreq, initack, shared, spake_key)


# State machines

class Waits:
    """The waits of "Rules": the first one given, then twice as long, up to 8 seconds."""

    def __init__(self, first):
        self.wait = first
        self.due = 0.0
        self.sent = 0

    def ready(self, now):
        return now >= self.due

    def next(self, now):
        self.due = now + self.wait * (1 - 0.2 * _random.random())
        self.wait = min(2 * self.wait, 8)
        self.sent += 1


class Pairing:
    """What both state machines have in common."""

    def __init__(self, identity, name, trust, m2s, s2m, suite, code=None, siblings=0, log=print,
                 hashes=None, features=NO_FEATURES):
        self.identity, self.name, self.trust = identity, name.encode(), trust
        self.m2s, self.s2m, self.suite, self.code = m2s, s2m, suite, code
        self.siblings, self.log, self.hashes, self.features = siblings, log, hashes, features
        self.status = None        # exit status, once it is known
        self.session = None       # (schedule, peer's name, peer's key, standing)
        self.on_session = lambda *a: None

    def sign_leaf(self, label, leaf):
        """Sign the root over one leaf and, as a larger batch would, some siblings.

        With `hashes`, there are as many hashes as that, beside which anything may be.
        """
        if self.hashes is not None:
            hashes = [os.urandom(32) for _ in range(self.hashes)]
            return hashes, self.identity.sign(label + root_from(leaf, hashes))
        leaves = [leaf] + [os.urandom(32) for _ in range(self.siblings)]
        place = _random.randrange(len(leaves))
        leaves[0], leaves[place] = leaves[place], leaves[0]
        root, paths = hash_tree(leaves)
        return paths[place], self.identity.sign(label + root)

    def pin_problem(self, name, spki):
        """Why this key cannot be pinned under this name, or None."""
        return self.trust.problem(name, spki, self.identity.spki)

    def hint(self, frame):
        if frames.later_version(frame):
            self.log("hint, unverified: the peer speaks a later version")


class Master(Pairing):
    """Steps 1, 3, 5 and 7."""

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.guesses = 0
        self.begin()

    def begin(self):
        self.secrets = MasterSecrets()
        self.initreq = self.secrets.initreq(self.suite, self.code)
        self.waits = Waits(0.25)
        self.attempts = {}
        self.chosen = None        # th1[:16] of the attempt whose AUTHACK verified
        self.step6_at = None
        self.ask_code = False

    def poll(self, now):
        if self.status is not None:
            return []
        if self.step6_at is not None:
            if now > self.step6_at + 1.5:
                self.status = 0
            return []
        if not self.waits.ready(now):
            return []
        if self.chosen:
            if self.waits.sent == 3 and not self.code:
                self.log("no answer to step 5: beginning again")
                self.begin()
                return self.poll(now)
            self.waits.next(now)
            s = self.attempts[self.chosen]["schedule"]
            return [(frames.step(RDYREQ, s.th1, s.mac("sts2 rdyreq")), 0)]
        if self.code and self.attempts:
            if self.waits.sent == 6:
                self.failed_guess()
                return self.poll(now)
            self.waits.next(now)
            return [(next(iter(self.attempts.values()))["authreq"], 0)]
        self.waits.next(now)
        for a in self.attempts.values():
            a["repeat"] = True
        return [(self.initreq, 0)]

    def failed_guess(self):
        if self.guesses >= 3:
            self.status = 77
        else:
            self.begin()

    def receive(self, frame, now):
        try:
            if not frame:
                return []
            if frame[0] == INITACK:
                return self.step2(frame, now)
            if frame[0] == AUTHACK:
                return self.step4(frame, now)
            if frame[0] == RDYACK and len(frame) == frames.STEP:
                return self.step68(frame, now)
            if frame[0] == INITREQ:
                self.log("hint, unverified: another master")
            self.hint(frame)
        except Invalid as e:
            self.log("dropped %s: %s" % (frames.NAMES.get(frame[0], "?"), e))
        return []

    def step2(self, frame, now):
        parsed = frames.Initack(frame)
        if parsed.initreq_hash != H(self.initreq)[:16] or bool(parsed.share) != bool(self.code):
            return []
        if self.chosen or self.step6_at is not None:
            return []
        for a in self.attempts.values():
            if a["initack"] == frame:
                if self.code or not a["repeat"]:
                    return []
                a["repeat"] = False
                return [(a["authreq"], 0)]
        if self.code and self.attempts:
            return []
        s = self.secrets.schedule(self.initreq, frame, self.m2s, self.s2m, self.code)
        leaf = s.leaf_m(self.features, self.name, self.identity.spki)
        siblings, self.siblings = self.siblings, 0 if self.code else self.siblings
        hashes, signature = self.sign_leaf(b"sts2 auth master", leaf)
        self.siblings = siblings
        authreq = make_authreq(s, parsed.cookie, self.initreq, self.features, hashes, self.name,
                               self.identity.spki, signature)
        s.with_authreq(authreq)
        self.attempts[s.th1[:16]] = {"schedule": s, "initack": frame, "authreq": authreq,
                                     "bad": False, "repeat": False}
        if self.code:
            self.guesses += 1
            self.waits = Waits(1)
            self.waits.next(now)      # this one counts as the first of six
        return [(authreq, 0)]

    def step4(self, frame, now):
        attempt = self.attempts.get(frame[1:17])
        if not attempt or self.chosen or self.status is not None:
            return []
        s = attempt["schedule"]
        if len(frame) == frames.REFUSAL:
            if not same(hmac(s.refusal, frame[:18]), frame[18:]):
                raise Invalid("refusal")
            reason = frame[17]
            self.log("refused, reason %d" % reason)
            if self.code and reason == 2:
                self.ask_code = True
                self.failed_guess()
                self.status = 77      # this peer cannot ask for another code
            elif self.code and reason == 3:
                self.status = 77
            return []
        head = frame[:17]
        r = frames.Reader(open_once(s.hs_s, head, frame[17:]))
        verdict, suite = r.number(1), r.number(1)
        proof = frames.Proof(r)
        if attempt["bad"]:
            return []
        name = self.trust.name_of(proof.spki)
        if not self.code and name is None:
            self.log("the key of the slave is not pinned")
            return []
        leaf = s.leaf_s(verdict, suite, proof.features, proof.name, proof.spki)
        try:
            verify(proof.spki, b"sts2 auth slave" + root_from(leaf, proof.hashes), proof.signature)
        except Invalid:
            attempt["bad"] = True
            raise
        if verdict == 2 and self.code:
            self.log("the slave cannot pin this device")
            self.status = 77
            return []
        if verdict == 1:
            self.log("the suites differ: the slave wants %s" % suites.NAME.get(suite, suite))
            self.status = 76
            return []
        if verdict != 0 or suite != suites.NUMBER[self.suite]:
            raise Invalid("verdict")
        if self.code:
            name = proof.name.decode("utf-8", "replace")
            problem = self.pin_problem(name, proof.spki)
            if problem:
                self.log("cannot pin the slave: " + problem)
                self.status = 77
                return []
        s.with_authack(frame)
        attempt["peer"] = (name, proof.spki)
        self.chosen = frame[1:17]
        self.waits = Waits(1)
        return self.poll(now)

    def step68(self, frame, now):
        if frame[1:17] != self.chosen:
            return []
        s = self.attempts[self.chosen]["schedule"]
        if same(frame[17:], s.mac("sts2 slave ready")):
            if self.step6_at is None:
                name, spki = self.attempts[self.chosen]["peer"]
                if self.code:
                    self.trust.pin(name, spki)
                self.on_session(s, name, spki, "current", False)
            first = self.step6_at is None
            self.step6_at = now
            return [(frames.step(RDYACK, s.th1, s.mac("sts2 master ready")), 1 if first else 0)]
        if self.step6_at is not None and same(frame[17:], s.mac("sts2 slave done")):
            self.on_session(s, *self.attempts[self.chosen]["peer"], "current", True)
            self.status = 0
        return []


class Slave(Pairing):
    """Steps 2, 4, 6 and 8."""

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.epochs = []          # [(key, since)], the newest first
        self.attempts = {}        # th1[:16] -> attempt
        self.wrong = set()        # th1 of attempts that were wrong guesses
        self.pending = None
        self.used = False         # the code is used up

    def epoch(self, now):
        if not self.epochs or now - self.epochs[0][1] >= 60:
            self.epochs = [(os.urandom(32), now)] + self.epochs[:1]
        return [k for k, since in self.epochs if now - since < 120]

    def poll(self, now):
        self.epoch(now)
        if self.pending and self.status is None and self.pending["waits"].ready(now):
            self.pending["waits"].next(now)
            s = self.pending["schedule"]
            return [(frames.step(RDYACK, s.th1, s.mac("sts2 slave ready")), 0)]
        return []

    def receive(self, frame, now):
        try:
            if not frame or self.status is not None:
                return []
            if frame[0] == INITREQ:
                return self.step1(frame, now)
            if frame[0] == AUTHREQ:
                return self.step3(frame, now)
            if frame[0] == RDYREQ and len(frame) == frames.STEP:
                return self.step5(frame, now)
            if frame[0] == RDYACK and len(frame) == frames.STEP:
                return self.step7(frame, now)
            self.hint(frame)
        except Invalid as e:
            self.log("dropped %s: %s" % (frames.NAMES.get(frame[0], "?"), e))
        return []

    def step1(self, frame, now):
        parsed = frames.Initreq(frame)
        if bool(parsed.share) != bool(self.code) or self.used:
            self.log("hint, unverified: a master %s a code" % ("with" if parsed.share else "without"))
            return []
        mlkem_check(parsed.ek)
        key = self.epoch(now)[0]
        initack, _ = answer_initreq(frame, key, self.m2s, self.s2m,
                                    SlaveSecrets(key, frame), self.code)
        return [(initack, 0)]

    def step3(self, frame, now):
        parsed = frames.Authreq(frame)
        for key in self.epoch(now):
            if same(cookie(key, self.m2s, self.s2m, parsed.initreq), parsed.cookie):
                break
        else:
            raise Invalid("cookie")
        known = self.attempts.get(parsed.th1)
        if known:
            return [(known["authack"], 0)] if known["authreq"] == frame else []
        if self.used:
            return []
        initreq = frames.Initreq(parsed.initreq)
        if bool(initreq.share) != bool(self.code):
            return []
        _, s = answer_initreq(parsed.initreq, key, self.m2s, self.s2m,
                              SlaveSecrets(key, parsed.initreq), self.code)
        if s.th1[:16] != parsed.th1:
            raise Invalid("th1")
        s.with_authreq(frame)
        try:
            proof_bytes = open_once(s.hs_m, parsed.head, parsed.sealed)
        except Invalid:
            if not self.code:
                raise
            self.wrong.add(s.th1)
            last = len(self.wrong) >= 3
            self.log("a wrong code, %d of 3" % len(self.wrong))
            if last:
                self.code, self.status = None, 77
            return [(s.refuse(3 if last else 2), 0)]
        proof = frames.Proof(frames.Reader(proof_bytes))
        name = self.trust.name_of(proof.spki)
        if not self.code and name is None:
            self.log("hint, unverified: an unknown key")
            return [(s.refuse(1), 0)]
        leaf = s.leaf_m(proof.features, proof.name, proof.spki)
        verify(proof.spki, b"sts2 auth master" + root_from(leaf, proof.hashes), proof.signature)
        suite, verdict = suites.NUMBER[self.suite], 0
        if initreq.suite != suite:
            verdict = 1
        if self.code:
            name = proof.name.decode("utf-8", "replace")
            problem = self.pin_problem(name, proof.spki)
            if problem:
                self.log("cannot pin the master: " + problem)
                verdict = 2
        hashes, signature = self.sign_leaf(
            b"sts2 auth slave",
            s.leaf_s(verdict, suite, self.features, self.name, self.identity.spki))
        authack = make_authack(s, verdict, suite, self.features, hashes, self.name,
                               self.identity.spki, signature)
        s.with_authack(authack)
        self.attempts[parsed.th1] = {"schedule": s, "authreq": frame, "authack": authack,
                                     "verdict": verdict, "peer": (name, proof.spki)}
        if verdict:
            self.status = {1: 76, 2: 77}[verdict]
        return [(authack, 0)]

    def step5(self, frame, now):
        attempt = self.attempts.get(frame[1:17])
        if not attempt or attempt["verdict"]:
            return []
        s = attempt["schedule"]
        if not same(frame[17:], s.mac("sts2 rdyreq")):
            raise Invalid("confirmation")
        if self.pending is attempt:
            return [(frames.step(RDYACK, s.th1, s.mac("sts2 slave ready")), 0)]
        if self.code:
            if self.used:
                return []
            self.used = True
            self.trust.pin(*attempt["peer"])
        self.on_session(s, *attempt["peer"], "pending", False)
        attempt["waits"] = Waits(1)
        self.pending = attempt
        return self.poll(now)

    def step7(self, frame, now):
        attempt = self.attempts.get(frame[1:17])
        if not attempt or "waits" not in attempt:
            return []
        s = attempt["schedule"]
        if not same(frame[17:], s.mac("sts2 master ready")):
            raise Invalid("confirmation")
        self.on_session(s, *attempt["peer"], "current", True)
        self.status = 0
        return [(frames.step(RDYACK, s.th1, s.mac("sts2 slave done")), 0)]


class Trust:
    """Pinned keys: {name: SubjectPublicKeyInfo}. `accept` names who the link accepts, if not all."""

    def __init__(self, pins, on_pin=None, accept=None):
        self.pins, self.on_pin, self.accept = dict(pins), on_pin, accept

    def name_of(self, spki):
        for name, key in self.pins.items():
            if key == spki and (self.accept is None or name in self.accept):
                return name
        return None

    def problem(self, name, spki, own):
        ok = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
        if not 1 <= len(name) <= 64 or name[0] not in ok or any(c not in ok + "._-" for c in name):
            return "not a name"
        if spki == own:
            return "it is the own key"
        load_public(spki)
        for n, k in self.pins.items():
            if (n == name) != (k == spki):
                return "the name or the key is pinned already"
        if self.accept is not None and name not in self.accept:
            return "the link does not accept the name"
        return None

    def pin(self, name, spki):
        self.pins[name] = spki
        if self.on_pin:
            self.on_pin(name, spki)


def pump(master, slave, clock=time.monotonic, limit=60):
    """Run both state machines against each other in memory."""
    end = clock() + limit
    while clock() < end and (master.status is None or slave.status is None):
        to_slave, to_master = master.poll(clock()), slave.poll(clock())
        while to_slave or to_master:
            to_master = to_master + [o for f, _ in to_slave for o in slave.receive(f, clock())]
            to_slave = [o for f, _ in to_master for o in master.receive(f, clock())]
            to_master = []
        time.sleep(0.01)
    return master.status, slave.status
