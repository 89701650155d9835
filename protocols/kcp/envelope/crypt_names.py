"""The ciphers of KCP's envelope, by the names that kcptun gave them; imports no cipher before a test.

A cipher's key is the beginning of PBKDF2-HMAC-SHA1(secret, "kcp-go", 4096 rounds, 32 bytes), as in kcptun.
"""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from iperfpy.protocols.errors import SettingsError

CHECKSUM_BYTES = 20
"""A nonce of 16 bytes and a CRC-32."""
AEAD_BYTES = 28
"""A nonce of 12 bytes, and a tag of 16 behind the data."""
LEAST_SECRET = 8
"""Bytes of the shortest secret."""


class Feature(NamedTuple):
    """A name that older versions of a package lack.

    package : words for the package, and its least version that has the name
    """

    module: str
    name: str
    package: str

    @property
    def is_present(self) -> bool:
        """True if the installed package has it."""
        try:
            found: object = import_module(self.module)
            for part in self.name.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError):
            return False
        return True


class CryptKind(NamedTuple):
    """One cipher.

    key_bytes : 0: it needs no key
    added_bytes : bytes that it adds to each datagram
    feature : of another package, that it needs; None: it needs none
    """

    key_bytes: int
    added_bytes: int
    feature: Feature | None = None

    @property
    def resists_change(self) -> bool:
        """True if a datagram cannot be altered in a chosen way without the key.

        A checksum of 32 bits is linear, so that changes which cancel out in it go unnoticed. With salsa20 and
        xor a changed byte is one of the data. A changed block of CFB makes the next one random, but the last
        block has no next one, and in an acknowledgement it is most of the header.
        """
        return self.feature is _GCM


_GCM = Feature(
    "cryptography.hazmat.primitives.ciphers.aead", "AESGCM.encrypt_into", "cryptography 47 or later"
)
_CFB = Feature("cryptography.hazmat.decrepit.ciphers.modes", "CFB", "cryptography 47 or later")
_SALSA = Feature("Crypto.Cipher.Salsa20", "new", "pycryptodome")
KINDS = {
    "aes-128-gcm": CryptKind(16, AEAD_BYTES, _GCM),
    "aes": CryptKind(32, CHECKSUM_BYTES, _CFB),
    "aes-192": CryptKind(24, CHECKSUM_BYTES, _CFB),
    "aes-128": CryptKind(16, CHECKSUM_BYTES, _CFB),
    "salsa20": CryptKind(32, CHECKSUM_BYTES, _SALSA),
    "xor": CryptKind(32, CHECKSUM_BYTES),
    "none": CryptKind(0, CHECKSUM_BYTES),
    "null": CryptKind(0, 0),
}
LEFT_OUT = ("blowfish", "twofish", "cast5", "3des", "tea", "xtea", "sm4")
"""kcptun's other ciphers."""


def check_secret(crypt: str, secret: bytes | None) -> None:
    """Raise `SettingsError` if this end lacks the cipher's package, or a usable secret."""
    kind = KINDS[crypt]
    if kind.feature is not None and not kind.feature.is_present:
        raise SettingsError(
            f"--kcp-crypt {crypt} needs the extra 'crypt' ({kind.feature.package}):"
            " pip install 'iperfpy[crypt]'"
        )
    if not kind.key_bytes:
        return
    if secret is None:
        ways = "--kcp-key-file FILE, the environment variable IPERFPY_KCP_KEY, or --kcp-key TEXT"
        raise SettingsError(f"--kcp-crypt {crypt} needs the key that both ends share: {ways}")
    if len(secret) < LEAST_SECRET:
        raise SettingsError(f"the key (--kcp-key) is too short: at least {LEAST_SECRET} bytes are needed")
