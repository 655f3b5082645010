"""An attacker on the broker, for tests: nothing that it does may change anything.

It reads both topics. For each frame that it sees, it publishes altered copies,
copies of other versions and lengths, a copy on the other topic and a late
repeat; it answers each INITREQ with INITACKs of its own, and each AUTHREQ with a
forged refusal. It has no key and no code.
"""
import hashlib
import os
import random
import time

import frames
import handshake as hs
from frames import AUTHACK, AUTHREQ, INITACK, INITREQ
from primitives import H

SEED = random.Random(1)


def altered(frame):
    """Copies with one bit altered in the head, in the middle and at the end."""
    for at in {0, 1, 2, 4, 8, 17, len(frame) // 2, len(frame) - 1}:
        if at < len(frame):
            yield frame[:at] + bytes([frame[at] ^ 1 << SEED.randrange(8)]) + frame[at + 1:]
    yield frame[:-1]
    yield frame + b"\0"
    yield bytes([0x30 | frame[0] & 15]) + frame[1:]


def own_answers(frame, topic, other, code_too):
    """What an attacker can make itself of a frame: (topic, frame)."""
    if frame[0] == INITREQ and len(frame) == 1234:
        for _ in range(3):
            key = os.urandom(32)
            yield other, hs.answer_initreq(frame, key, topic, other, hs.SlaveSecrets(key, frame))[0]
        yield topic, frame[:1 + 16] + b"\x02" + frame[18:]
        yield topic, frame[:50] + b"\xff" * 1184
    if frame[0] == INITREQ and len(frame) == 1266 and code_too:
        yield other, frames.initack(H(frame)[:16], bytes(16), os.urandom(32), os.urandom(1088),
                                    os.urandom(32))
    if frame[0] == AUTHREQ:
        for reason in (1, 2, 3):
            yield other, frames.refusal_head(frame[1:17], reason) + os.urandom(32)
        yield other, bytes([AUTHACK]) + frame[1:17] + os.urandom(900)


def run(link, topics, seconds, say, stopped=(), code_too=False):
    mine, late, count = set(), [], 0
    end = time.monotonic() + seconds

    def publish(topic, frame):
        mine.add(hashlib.sha256(topic.encode() + frame).digest())
        link.client.publish(topic, frame, 0)

    while time.monotonic() < end and not stopped:
        m = link.get(0.02)
        while late and late[0][0] < time.monotonic():
            publish(*late.pop(0)[1:])
        if not m or m[0] not in topics or not m[1]:
            continue
        topic, frame, _ = m
        if hashlib.sha256(topic.encode() + frame).digest() in mine:
            continue
        other = topics[1 - topics.index(topic)]
        count += 1
        code = frame[0] == INITACK and len(frame) == 1185 or frame[0] == AUTHREQ and \
            len(frame) > 1300 and frame[33:35] == b"\x04\xf2"
        if not code or code_too:
            for f in altered(frame):
                publish(topic, f)
        for t, f in own_answers(frame, topic, other, code_too):
            publish(t, f)
        publish(other, frame)
        late.append((time.monotonic() + 1, topic, frame))
    say("noise", frames=count)
