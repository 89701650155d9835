"""The ciphers of KCP's envelope, by the names that kcptun gave them; imports no cipher.

A cipher's key is the beginning of PBKDF2-HMAC-SHA1(secret, "kcp-go", 4096 rounds, 32 bytes), as in kcptun.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple

from iperfpy.protocols.errors import SettingsError

CHECKSUM_BYTES = 20
"""A nonce of 16 bytes and a CRC-32."""
AEAD_BYTES = 28
"""A nonce of 12 bytes, and a tag of 16 behind the data."""
LEAST_SECRET = 8
"""Characters of the shortest secret."""


class CryptKind(NamedTuple):
    """One cipher.

    key_bytes : 0: it needs no key
    added_bytes : bytes that it adds to each datagram
    package : the package that it needs, empty: none
    """

    key_bytes: int
    added_bytes: int
    package: str = ""


KINDS = {
    "aes-128-gcm": CryptKind(16, AEAD_BYTES, "cryptography"),
    "aes": CryptKind(32, CHECKSUM_BYTES, "cryptography"),
    "aes-192": CryptKind(24, CHECKSUM_BYTES, "cryptography"),
    "aes-128": CryptKind(16, CHECKSUM_BYTES, "cryptography"),
    "salsa20": CryptKind(32, CHECKSUM_BYTES, "Crypto"),
    "xor": CryptKind(32, CHECKSUM_BYTES),
    "none": CryptKind(0, CHECKSUM_BYTES),
    "null": CryptKind(0, 0),
}


def check_secret(crypt: str, secret: bytes | None) -> None:
    """Raise `SettingsError` if this end lacks the cipher's package, or a usable secret."""
    kind = KINDS[crypt]
    if kind.package and find_spec(kind.package) is None:
        raise SettingsError(f"--kcp-crypt {crypt} needs the extra 'crypt': pip install 'iperfpy[crypt]'")
    if not kind.key_bytes:
        return
    if secret is None:
        ways = "--kcp-key-file FILE, the environment variable IPERFPY_KCP_KEY, or --kcp-key TEXT"
        raise SettingsError(f"--kcp-crypt {crypt} needs the key that both ends share: {ways}")
    if len(secret) < LEAST_SECRET:
        raise SettingsError(
            f"the key (--kcp-key) has {len(secret)} bytes: at least {LEAST_SECRET} are needed"
        )
