"""Section "Primitives" of sts-protocol(7).

SHA-256, HMAC, HKDF, X25519, ML-KEM-768, RSASSA-PSS and the joined hash H.
Everything random is an argument, so that test vectors can fix it.
"""
import base64
import hashlib
import hmac as _hmac
import os
import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from kyber_py.ml_kem import ML_KEM_768


class Invalid(Exception):
    """Something that the peer sent is not acceptable."""


def sha256(data):
    return hashlib.sha256(data).digest()


def H(*parts):
    """SHA-256 over the parts, each preceded by its length as 8 bytes."""
    h = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            part = part.encode()
        h.update(struct.pack(">Q", len(part)) + part)
    return h.digest()


def hmac(key, message):
    """HMAC-SHA-256."""
    return _hmac.new(key, message, hashlib.sha256).digest()


def same(a, b):
    return _hmac.compare_digest(a, b)


def extract(salt, ikm):
    """HKDF-SHA-256 Extract; the salt None is 32 zero bytes (RFC 5869)."""
    return hmac(salt if salt is not None else bytes(32), ikm)


def expand(prk, info, length=32):
    """HKDF-SHA-256 Expand."""
    if isinstance(info, str):
        info = info.encode()
    out, block, i = b"", b"", 1
    while len(out) < length:
        block = hmac(prk, block + info + bytes([i]))
        out += block
        i += 1
    return out[:length]


# Key exchange

def x25519_public(private):
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def x25519(private, public):
    """The shared secret; an all-zero one is refused."""
    try:
        secret = X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(public))
    except ValueError as e:
        raise Invalid("X25519: " + str(e))
    if secret == bytes(32):
        raise Invalid("all-zero X25519 result")
    return secret


def mlkem_keygen(d, z):
    """FIPS 203, ML-KEM.KeyGen_internal: (encapsulation key, decapsulation key)."""
    return ML_KEM_768._keygen_internal(d, z)


def mlkem_check(ek):
    """FIPS 203, 7.2: the modulus check of an encapsulation key."""
    if len(ek) != 1184:
        raise Invalid("length of the encapsulation key")
    for i in range(0, 1152, 3):
        a = ek[i] | (ek[i + 1] & 15) << 8
        b = ek[i + 1] >> 4 | ek[i + 2] << 4
        if a >= 3329 or b >= 3329:
            raise Invalid("encapsulation key is not reduced")


def mlkem_encaps(ek, m):
    """FIPS 203, ML-KEM.Encaps_internal: (secret, ciphertext)."""
    mlkem_check(ek)
    return ML_KEM_768._encaps_internal(ek, m)


def mlkem_decaps(dk, ciphertext):
    return ML_KEM_768.decaps(dk, ciphertext)


# Signatures

def _mgf1(seed, length):
    out = b""
    i = 0
    while len(out) < length:
        out += sha256(seed + struct.pack(">I", i))
        i += 1
    return out[:length]


def pss_encode(message, bits, salt):
    """EMSA-PSS-ENCODE of RFC 8017, 9.1.1, with the salt given."""
    size = (bits + 7) // 8
    h = sha256(bytes(8) + sha256(message) + salt)
    db = bytes(size - len(salt) - 32 - 2) + b"\x01" + salt
    masked = bytearray(a ^ b for a, b in zip(db, _mgf1(h, len(db))))
    masked[0] &= 0xFF >> (8 * size - bits)
    return bytes(masked) + h + b"\xbc"


class Identity:
    """The RSA key pair of a device. This test peer does not blind."""

    def __init__(self, key):
        self.key = key
        n = key.private_numbers()
        self.n, self.e, self.d = n.public_numbers.n, n.public_numbers.e, n.d
        self.p, self.q, self.dp, self.dq, self.qinv = n.p, n.q, n.dmp1, n.dmq1, n.iqmp
        self.spki = spki_of(key.public_key())

    @classmethod
    def generate(cls):
        return cls(rsa.generate_private_key(65537, 3072))

    @classmethod
    def load(cls, path):
        with open(path, "rb") as f:
            return cls(serialization.load_pem_private_key(f.read(), None))

    def pem(self):
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption())

    def sign(self, message, salt=None):
        salt = os.urandom(32) if salt is None else salt
        bits = self.n.bit_length()
        m = int.from_bytes(pss_encode(message, bits - 1, salt), "big")
        a, b = pow(m, self.dp, self.p), pow(m, self.dq, self.q)
        s = b + self.q * ((a - b) * self.qinv % self.p)
        return s.to_bytes((bits + 7) // 8, "big")


def spki_of(public):
    return public.public_bytes(serialization.Encoding.DER,
                               serialization.PublicFormat.SubjectPublicKeyInfo)


def load_public(spki):
    """A key is accepted in its only encoding, within the limits of the page."""
    try:
        key = serialization.load_der_public_key(spki)
    except Exception as e:
        raise Invalid("public key: " + str(e))
    if not isinstance(key, rsa.RSAPublicKey) or spki_of(key) != spki:
        raise Invalid("public key: not RSA, or another encoding")
    n = key.public_numbers()
    if n.n % 2 == 0 or not 2048 <= n.n.bit_length() <= 8192:
        raise Invalid("public key: modulus")
    if n.e % 2 == 0 or not 65537 <= n.e <= 2**32:
        raise Invalid("public key: exponent")
    return key


def verify(spki, message, signature):
    try:
        load_public(spki).verify(signature, message,
                                 padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    except InvalidSignature:
        raise Invalid("signature")


def fingerprint(spki):
    """The text that is shown for a key."""
    return "SHA256:" + base64.b64encode(sha256(spki)).decode().rstrip("=")
