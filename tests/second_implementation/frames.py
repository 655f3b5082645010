"""Sections "Header", "Messages" and "HANDSHAKE" of sts-protocol(7): the layouts.

Every function here builds or takes apart one layout, and keeps no state.
"""
import struct

from primitives import Invalid

INITREQ, INITACK, AUTHREQ, AUTHACK, RDYREQ, RDYACK, ENC, KILL, WILL = range(0x21, 0x2A)
NAMES = {INITREQ: "INITREQ", INITACK: "INITACK", AUTHREQ: "AUTHREQ", AUTHACK: "AUTHACK",
         RDYREQ: "RDYREQ", RDYACK: "RDYACK", ENC: "ENC", KILL: "KILL", WILL: "WILL"}
STEP = 49
QUESTION = 65
REFUSAL = 50


def later_version(frame):
    """Whether a frame hints at a peer with a later version."""
    return bool(frame) and 3 <= frame[0] >> 4 <= 15 and 1 <= frame[0] & 15 <= 9


class Reader:
    """Takes a layout apart; whatever is too short, or left over, is invalid."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise Invalid("too short")
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, n):
        return int.from_bytes(self.take(n), "big")

    def counted(self):
        return self.take(self.number(2))

    def rest(self):
        return self.take(len(self.data) - self.at)

    def end(self):
        if self.at != len(self.data):
            raise Invalid("too long")


def counted(data):
    return struct.pack(">H", len(data)) + data


# Step 1

def initreq(random, suite, x25519_public, ek, share=b""):
    return bytes([INITREQ]) + random + bytes([suite]) + x25519_public + ek + share


class Initreq:
    def __init__(self, frame):
        if len(frame) not in (1234, 1266) or frame[0] != INITREQ:
            raise Invalid("INITREQ")
        self.frame = frame
        r = Reader(frame[1:])
        self.random, self.suite, self.x25519 = r.take(16), r.number(1), r.take(32)
        self.ek, self.share = r.take(1184), r.rest()


# Step 2

def initack(initreq_hash, cookie, x25519_public, ciphertext, share=b""):
    return bytes([INITACK]) + initreq_hash + cookie + x25519_public + ciphertext + share


class Initack:
    def __init__(self, frame):
        if len(frame) not in (1153, 1185) or frame[0] != INITACK:
            raise Invalid("INITACK")
        self.frame = frame
        r = Reader(frame[1:])
        self.initreq_hash, self.cookie, self.x25519 = r.take(16), r.take(16), r.take(32)
        self.ciphertext, self.share = r.take(1088), r.rest()


# Step 3

def authreq_head(th1, cookie, initreq_frame):
    """Everything before the sealed part, which is its associated data."""
    return bytes([AUTHREQ]) + th1[:16] + cookie + counted(initreq_frame)


def authreq_plain(features, hashes, name, spki, signature):
    return (features + bytes([len(hashes)]) + b"".join(hashes)
            + counted(name) + counted(spki) + counted(signature))


class Authreq:
    """The open part of AUTHREQ; `sealed` is what remains to be opened."""

    def __init__(self, frame):
        if not frame or frame[0] != AUTHREQ:
            raise Invalid("AUTHREQ")
        self.frame = frame
        r = Reader(frame[1:])
        self.th1, self.cookie, self.initreq = r.take(16), r.take(16), r.counted()
        self.head, self.sealed = frame[:1 + r.at], r.rest()
        if len(self.initreq) not in (1234, 1266):
            raise Invalid("AUTHREQ")


class Proof:
    """What both sealed parts have: features, hashes, name, key, signature."""

    def __init__(self, reader):
        self.features = reader.take(4)
        count = reader.number(1)
        if count > 16:
            raise Invalid("more than 16 hashes")
        self.hashes = [reader.take(32) for _ in range(count)]
        self.name, self.spki, self.signature = (reader.counted() for _ in range(3))
        reader.end()
        try:
            self.name.decode()
        except UnicodeDecodeError:
            raise Invalid("the name is no text")


# Step 4

def authack_head(th1):
    return bytes([AUTHACK]) + th1[:16]


def authack_plain(verdict, suite, features, hashes, name, spki, signature):
    return bytes([verdict, suite]) + authreq_plain(features, hashes, name, spki, signature)


def refusal_head(th1, reason):
    return bytes([AUTHACK]) + th1[:16] + bytes([reason])


# Steps 5 to 8

def step(frame_type, th1, mac):
    return bytes([frame_type]) + th1[:16] + mac
