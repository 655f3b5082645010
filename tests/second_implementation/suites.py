"""Section "Suites" of sts-protocol(7)."""
import hashlib
import hmac
import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from primitives import Invalid, same

NUMBER = {"gcm": 1, "cbc": 2, "ecb": 3}
NAME = {v: k for k, v in NUMBER.items()}
KEY_LENGTH = {"gcm": 32, "cbc": 64, "ecb": 64}


def _pad(data):
    n = 16 - len(data) % 16
    return data + bytes([n]) * n


def _unpad(data):
    n = data[-1] if data else 0
    if not 1 <= n <= 16 or data[-n:] != bytes([n]) * n:
        raise Invalid("PKCS #7 padding")
    return data[:-n]


def _tag(key, *parts):
    return hmac.new(key[:32], b"".join(parts), hashlib.sha512).digest()[:32]


def _bits(header):
    return struct.pack(">Q", 8 * len(header))


def gcm_nonce(seq):
    return bytes(8) + struct.pack(">I", seq)


def seal(suite, key, header, seq, plaintext, iv=None):
    """The sealed body. The IV is for cbc only; None means random."""
    if suite == "gcm":
        return AESGCM(key).encrypt(gcm_nonce(seq), plaintext, header)
    if suite == "cbc":
        iv = os.urandom(16) if iv is None else iv
        e = Cipher(algorithms.AES(key[32:]), modes.CBC(iv)).encryptor()
        text = iv + e.update(_pad(plaintext)) + e.finalize()
    else:
        e = Cipher(algorithms.AES(key[32:]), modes.ECB()).encryptor()
        text = e.update(_pad(plaintext)) + e.finalize()
    return text + _tag(key, header, text, _bits(header))


def possible(suite, length):
    """Whether a sealed body can have this length."""
    if suite == "gcm":
        return length >= 16
    rest = length - (48 if suite == "cbc" else 32)
    return rest >= 16 and rest % 16 == 0


def unseal(suite, key, header, seq, body):
    if not possible(suite, len(body)):
        raise Invalid("length")
    if suite == "gcm":
        try:
            return AESGCM(key).decrypt(gcm_nonce(seq), body, header)
        except InvalidTag:
            raise Invalid("tag")
    text, tag = body[:-32], body[-32:]
    if not same(tag, _tag(key, header, text, _bits(header))):
        raise Invalid("tag")
    if suite == "cbc":
        mode, text = modes.CBC(text[:16]), text[16:]
    else:
        mode = modes.ECB()
    d = Cipher(algorithms.AES(key[32:]), mode).decryptor()
    return _unpad(d.update(text) + d.finalize())
