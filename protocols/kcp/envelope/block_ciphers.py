"""Ciphers that encrypt a whole datagram from its nonce on, for all datagrams of a batch at once.

Datagrams lie in *slots*: rows of equal length, a multiple of 16 bytes, of which the first `width` are the
datagram. `encrypt` and `decrypt` work in place. The first 16 bytes are a random nonce, which a receiver
throws away: after `decrypt` they are undefined.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np

from iperfpy.protocols.kcp.wire import Bytes

BLOCK_BYTES = 16
XOR_SALT, XOR_ROUNDS = b"sH3CIVoF#rWLtJo6", 32
_IV = bytes.fromhex("a7734f9c12ac1b01a415f2c1fc78e66b")
"""kcp-go's fixed initialization vector. The random nonce makes it as good as any other."""
_MANY = 64
"""Datagrams from which on encryption goes block by block through all of them: a call per block of a datagram
costs as much as 64 datagrams one after the other."""
_SALSA_NONCE_BYTES = 8


class SlotCipher(Protocol):
    """A cipher for slots, (count, length)."""

    def encrypt(self, slots: Bytes, width: int) -> None: ...

    def decrypt(self, slots: Bytes, width: int) -> None: ...


class NoCipher:
    """kcptun's `none`: datagrams have the header, and nothing is encrypted."""

    def encrypt(self, slots: Bytes, width: int) -> None:
        return

    def decrypt(self, slots: Bytes, width: int) -> None:
        return


class XorTable:
    """kcp-go's `xor`: each datagram XOR one table, from its first byte on. Two datagrams give away
    their difference, and known data of one gives away the data of all: it hides nothing from an attacker."""

    def __init__(self, key: bytes) -> None:
        self._key, self._table = key, np.empty(0, np.uint8)

    def encrypt(self, slots: Bytes, width: int) -> None:
        if len(self._table) < slots.shape[1]:
            # A longer table begins with the shorter one. It doubles: the peer chooses the lengths, and each
            # table is computed from its beginning.
            size = max(1_504, 2 * len(self._table), slots.shape[1])
            table = hashlib.pbkdf2_hmac("sha1", self._key, XOR_SALT, XOR_ROUNDS, size)
            self._table = np.frombuffer(table, np.uint8)
        slots ^= self._table[: slots.shape[1]]

    decrypt = encrypt


class Salsa20:
    """Salsa20; its nonce is the first 8 bytes of the datagram, which stay clear."""

    def __init__(self, key: bytes) -> None:
        from Crypto.Cipher import Salsa20 as Cipher

        self._key, self._new = key, Cipher.new

    def encrypt(self, slots: Bytes, width: int) -> None:
        for slot in slots:
            nonce, rest = slot[:_SALSA_NONCE_BYTES].tobytes(), slot[_SALSA_NONCE_BYTES:width]
            rest[:] = np.frombuffer(self._new(key=self._key, nonce=nonce).encrypt(rest.tobytes()), np.uint8)

    decrypt = encrypt


class AesCfb:
    """AES in cipher feedback mode (CFB-128): block C[j] = P[j] XOR E(C[j - 1]), C[-1] being a fixed vector.

    A receiver throws the decrypted nonce away, so that the first block of a datagram may be any 16 random
    bytes. Therefore no datagram depends on the vector:

    - few datagrams are encrypted in one call, as if they were one: the first block of each then depends on
      the datagram before it, which only changes the nonce that is thrown away;
    - of many, block j of all is encrypted in one call, for each j in turn: the processor works on several
      blocks at once, where CFB alone makes it wait for the block before;
    - decryption needs E of the ciphertext only, which is one call.
    """

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.decrepit.ciphers.modes import CFB
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        self._blocks = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # E alone, no mode of use
        self._chain = Cipher(algorithms.AES(key), CFB(_IV)).encryptor()
        self._memory = np.empty(0, np.uint8)

    def encrypt(self, slots: Bytes, width: int) -> None:
        if len(slots) < _MANY:
            made = self._scratch(slots.size + BLOCK_BYTES)
            self._chain.update_into(slots.data.cast("B"), made.data)
            slots.reshape(-1)[:] = made[: slots.size]
            return
        count, blocks = len(slots), slots.shape[1] // BLOCK_BYTES
        # Any type of 16 bytes: numpy then moves a block at a time.
        by_datagram = slots.view(np.complex128)
        columns = np.empty((blocks, count), np.complex128)
        columns[:] = by_datagram.T
        flat, words = columns.view(np.uint8), columns.view(np.uint64)
        stream = self._scratch((count + 1) * BLOCK_BYTES)
        stream_words, into = stream[: count * BLOCK_BYTES].view(np.uint64), stream.data
        for block in range(1, blocks):
            self._blocks.update_into(flat[block - 1].data, into)
            np.bitwise_xor(words[block], stream_words, out=words[block])
        by_datagram[:] = columns.T

    def decrypt(self, slots: Bytes, width: int) -> None:
        stream = self._scratch(slots.size + BLOCK_BYTES)
        self._blocks.update_into(slots.data.cast("B"), stream.data)
        words, keys = slots.reshape(-1).view(np.uint64), stream[: slots.size].view(np.uint64)
        np.bitwise_xor(words[2:], keys[:-2], out=words[2:])

    def _scratch(self, size: int) -> Bytes:
        if len(self._memory) < size:
            self._memory = np.empty(size, np.uint8)
        return self._memory[:size]
