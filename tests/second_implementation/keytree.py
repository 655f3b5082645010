"""Section "Stream keys" of sts-protocol(7): the tree of nodes and what follows a leaf."""
import struct

from primitives import Invalid, expand

LAST_STREAM = 2**31 - 2
FIRST_SIDE = 2**31
LAST_SIDE = 2**32 - 2
PART = 2**20
PARTS_AHEAD = 64      # a frame that is further ahead of the key that is kept does not open
STEPS = 80            # most bits of the path and parts, of the first frame of a stream
NOWHERE = "1" * 31    # the one node that leads to no number


def path(n):
    """The path to number n as a text of '0' and '1'."""
    k = (n + 1).bit_length() - 1
    low = n + 1 - (1 << k)
    return "1" * k + "0" + (format(low, "b").zfill(k) if k else "")


def may_begin(n, seq):
    """Whether a frame opens if nothing of its stream of data was received."""
    return len(path(n)) + seq // PART <= STEPS


def child(node, bit):
    return expand(node, b"sts2 child" + bytes([int(bit)]))


def descend(node, bits):
    for bit in bits:
        node = child(node, bit)
    return node


def first_key(leaf, salt):
    return expand(leaf, b"sts2 stream" + salt)


def side_key(side, stream, salt):
    return expand(side, b"sts2 stream" + struct.pack(">I", stream) + salt)


def next_key(key):
    return expand(key, "sts2 next")


def sealing_key(key, length):
    return expand(key, "sts2 seal", length)


def will_key(leaf):
    return expand(leaf, "sts2 will")


def will_sealing_key(will, salt, length):
    return expand(will, b"sts2 seal" + salt, length)


class Tree:
    """The nodes that a device stores: those that lead to numbers still to come."""

    def __init__(self, nodes):
        self.nodes = {p: bytes.fromhex(v) for p, v in nodes.items()}

    def dump(self):
        return {p: v.hex() for p, v in self.nodes.items()}

    def _cover(self, n):
        bits = path(n)
        for i in range(len(bits) + 1):
            if bits[:i] in self.nodes:
                return bits, i
        raise Invalid("the number is over")

    def peek(self, n):
        """Leaf n, with nothing changed."""
        bits, i = self._cover(n)
        return descend(self.nodes[bits[:i]], bits[i:])

    def take(self, n):
        """Leaf n; afterwards, no stored node leads to it."""
        bits, i = self._cover(n)
        node = self.nodes.pop(bits[:i])
        for j in range(i, len(bits)):
            other = "1" if bits[j] == "0" else "0"
            if bits[:j] + other != NOWHERE:
                self.nodes[bits[:j] + other] = child(node, other)
            node = child(node, bits[j])
        return node

    def has(self, n):
        try:
            self._cover(n)
            return True
        except Invalid:
            return False

    def take_sent(self, n):
        """For a sender: leaf n, and no stored node leads to a lower number either."""
        leaf = self.take(n)
        bits = path(n)
        self.nodes = {p: v for p, v in self.nodes.items() if p > bits}
        return leaf
