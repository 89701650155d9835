"""The layers of a stream's envelope, as its settings want them."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.kcp.envelope.block_ciphers import AesCfb, NoCipher, Salsa20, SlotCipher, XorTable
from iperfpy.protocols.kcp.envelope.crypt_layers import AeadLayer, ChecksumLayer, CryptLayer, RandomBytes
from iperfpy.protocols.kcp.envelope.crypt_names import KINDS, check_secret
from iperfpy.protocols.kcp.envelope.fec import AdaptiveFec, Fec
from iperfpy.protocols.kcp.envelope.layer import Layer
from iperfpy.protocols.kcp.envelope.shard_codec import Geometry
from iperfpy.protocols.kcp.settings import SharedSettings

SALT, ROUNDS, KEY_BYTES = b"kcp-go", 4096, 32
"""kcptun's derivation of keys."""


def layers_of(
    settings: SharedSettings, secret: bytes | None, random_bytes: RandomBytes, *, agreed: bool = False
) -> list[Layer]:
    """Make the layers of one stream, the innermost first.

    Parameters
    ----------
    secret : that both ends share; None: the user gave none
    random_bytes : makes nonces, which must never repeat
    agreed : the peer is an iperfpy with the same settings

    Raises
    ------
    SettingsError
        When the cipher's package or its key is missing, or the key is too short; or `auto` is to suit a peer
        with unknown sets.
    """
    layers: list[Layer] = []
    geometry = Geometry(*settings.geometry) if settings.geometry is not None else None
    if settings.adapts_fec:
        if geometry is None and not agreed:
            raise SettingsError(
                "--kcp-fec auto needs iperfpy at the other end: for any other peer, give its own sets"
                " as well, as in --kcp-fec auto:10:3"
            )
        layers.append(AdaptiveFec(geometry, follows=not agreed))
    elif geometry is not None:
        layers.append(Fec(geometry, follows=not agreed))
    if settings.crypt is not None:
        check_secret(settings.crypt, secret)
        layers.append(crypt_layer(settings.crypt, secret or b"", random_bytes))
    return layers


def crypt_layer(crypt: str, secret: bytes, random_bytes: RandomBytes) -> CryptLayer:
    """The layer of a cipher that adds bytes; `secret` need not be of any length."""
    size = KINDS[crypt].key_bytes
    key = derived(secret)[:size] if size else b""
    if crypt == "aes-128-gcm":
        return AeadLayer(key, random_bytes)
    if crypt == "none":
        # Some implementations leave the nonce of datagrams that are not encrypted at zero.
        return ChecksumLayer(NoCipher(), random_bytes, finds_copies=False)
    cipher: SlotCipher
    if crypt == "xor":
        cipher = XorTable(key)
    elif crypt == "salsa20":
        cipher = Salsa20(key)
    else:
        cipher = AesCfb(key)
    return ChecksumLayer(cipher, random_bytes, finds_copies=True)


@lru_cache(maxsize=8)
def derived(secret: bytes) -> bytes:
    """The key of 32 bytes that kcptun derives from a secret: some milliseconds, so once per secret."""
    return hashlib.pbkdf2_hmac("sha1", secret, SALT, ROUNDS, KEY_BYTES)
