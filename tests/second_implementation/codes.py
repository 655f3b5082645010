"""Section "Enrolment by code" of sts-protocol(7): the symbols of a code."""
import os

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def times_x(a):
    """Multiply by x in GF(32) modulo x^5 + x^2 + 1."""
    a <<= 1
    return a ^ 0b100101 if a & 32 else a


def check_sum(symbols):
    """x^8 times the first, x^7 times the second, ..., 1 times the ninth."""
    total = 0
    for s in symbols:
        total = times_x(total) ^ ALPHABET.index(s)
    return total


def complete(eight):
    """Append the check symbol to eight symbols."""
    return eight + ALPHABET[times_x(check_sum(eight))]


def generate(random=None):
    n = int.from_bytes(os.urandom(5) if random is None else random, "big")
    return complete("".join(ALPHABET[n >> 5 * i & 31] for i in range(7, -1, -1)))


def shown(code):
    return "-".join((code[:3], code[3:6], code[6:]))


def read(text):
    """The nine symbols that were meant, or ValueError."""
    text = "".join(c for c in text.upper() if c not in "- \t\r\n")
    text = text.replace("O", "0").replace("I", "1").replace("L", "1")
    if len(text) != 9 or any(c not in ALPHABET for c in text) or check_sum(text):
        raise ValueError("not a code")
    return text
