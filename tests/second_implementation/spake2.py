"""Section "Primitives" of sts-protocol(7): SPAKE2 over the curve of Ed25519.

Plain integer arithmetic on extended coordinates; nothing here runs in
constant time, so use it for tests only.
"""
from primitives import Invalid, expand, extract, sha256

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def decode(data):
    """RFC 8032, 5.1.3."""
    if len(data) != 32:
        raise Invalid("point: length")
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= P:
        raise Invalid("point: not reduced")
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P == -u % P:
        x = x * ROOT % P
    if v * x * x % P != u or (x == 0 and sign):
        raise Invalid("point: not on the curve")
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def encode(point):
    x, y, z, _ = point
    z = pow(z, P - 2, P)
    x, y = x * z % P, y * z % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def add(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def has_the_order_of_base(point):
    """Whether the point is in the group of B, and not its neutral element."""
    return encode(times(L, point)) == encode(ZERO) != encode(point)


def decode_share(data):
    """A share is the encoding of a point that has the order of B."""
    point = decode(data)
    if not has_the_order_of_base(point):
        raise Invalid("point: of another order than B")
    return point


def negate(p):
    return -p[0] % P, p[1], p[2], -p[3] % P


ZERO = (0, 1, 1, 0)


def times(n, point):
    out = ZERO
    while n:
        if n & 1:
            out = add(out, point)
        point = add(point, point)
        n >>= 1
    return out


BASE = decode(bytes.fromhex("58" + "66" * 31))
M = decode(bytes.fromhex("15cfd18e385952982b6a8f8c7854963b58e34388c8e6dae891db756481a02312"))
N = decode(bytes.fromhex("f04f2e7eb734b2a8f8b472eaf9c3c632576ac64aea650b496a8a20ff00e583c3"))


def password_number(code):
    """w, from the nine symbols of the code as ASCII."""
    return int.from_bytes(expand(extract(None, code), "SPAKE2 pw", 48), "big") % L


def share(secret, code, master):
    """xB + wM of the master, yB + wN of the slave."""
    mask = times(password_number(code), M if master else N)
    return encode(add(times(secret % L, BASE), mask))


def key(secret, code, master, master_share, slave_share):
    """The SPAKE2 key of either side, from its own secret number and both shares."""
    other = decode_share(slave_share if master else master_share)
    mask = times(password_number(code), N if master else M)
    point = times(secret % L, add(other, negate(mask)))
    return sha256(sha256(code) + sha256(b"sts2 master") + sha256(b"sts2 slave")
                  + master_share + slave_share + encode(point))
