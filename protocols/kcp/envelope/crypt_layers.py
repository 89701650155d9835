"""The layers of encryption: kcp-go's header with a checksum, and authenticated encryption (AEAD).

    | nonce 16 | CRC-32 of the rest, u32 little endian | rest |      encrypted from the first byte on
    | nonce 12 | encrypted rest | tag 16 |                           AES-GCM

A datagram that does not decrypt to a right checksum or tag is dropped and counted, and so is a copy of one
that was accepted before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.envelope.block_ciphers import BLOCK_BYTES, SlotCipher
from iperfpy.protocols.kcp.envelope.crypt_names import AEAD_BYTES, CHECKSUM_BYTES
from iperfpy.protocols.kcp.envelope.layer import Opened, SlicedRows, batch_of, uniform_parts
from iperfpy.protocols.kcp.envelope.replays import Replays
from iperfpy.protocols.kcp.wire import Bytes
from iperfpy.protocols.metrics import Value

try:
    from isal.isal_zlib import crc32  # a third of zlib's time
except ImportError:  # kcp-go's header without a cipher needs no extra
    from zlib import crc32

RandomBytes = Callable[[int], bytes]
NONCE_BYTES, AEAD_NONCE_BYTES, TAG_BYTES = 16, 12, 16
_NONCE = np.dtype([("count", "<u8"), ("fixed", "<u4")])
"""A nonce of AES-GCM as this end makes it; a peer's may be any bytes."""
_WHOLE, _NONCE_AND_REST = slice(None), (slice(AEAD_NONCE_BYTES), slice(AEAD_NONCE_BYTES, None))
"""Parts of a row."""


class CryptLayer(ABC):
    """Common part of the layers: batches in rows, counters, copies.

    Parameters
    ----------
    finds_copies : the nonces differ at every sender, so that an equal one means a copy

    Attributes
    ----------
    accepted : datagrams that decrypted
    rejected : datagrams that did not: of another key, tampered with, cut off, or no datagrams of the stream
    replayed : copies of datagrams that had been accepted
    """

    def __init__(self, header_bytes: int, random_bytes: RandomBytes, *, finds_copies: bool) -> None:
        self.header_bytes = header_bytes
        self.accepted = self.rejected = self.replayed = 0
        self._random_bytes = random_bytes
        self._replays = Replays() if finds_copies else None
        # Memory of datagrams before and after the cipher, for each direction.
        self._seal_from, self._seal_to = SlicedRows(), SlicedRows()
        self._open_from, self._open_to = SlicedRows(), SlicedRows()

    def seal(self, batches: list[DatagramBatch], now_us: int) -> list[DatagramBatch]:
        """The datagrams of the batches, encrypted."""
        self._seal_from.reset()
        self._seal_to.reset()
        return [batch_of(self._seal_rows(rows)) for batch in batches for rows in uniform_parts(batch)]

    def open(self, batch: DatagramBatch, now_us: int) -> Opened:
        """The datagrams of the batch that decrypt, and are no copies."""
        self._open_from.reset()
        self._open_to.reset()
        arrived = []
        for rows in uniform_parts(batch):
            if rows.shape[1] <= self.header_bytes:
                self.rejected += len(rows)
                continue
            inner, is_valid = self._open_rows(rows)
            valid = len(rows) if is_valid is None else int(np.count_nonzero(is_valid))
            if is_valid is not None and valid < len(rows):
                self.rejected += len(rows) - valid
                rows, inner = rows[is_valid], inner[is_valid]
            self.accepted += valid
            if self._replays is not None and valid:
                fresh = self._replays.fresh(rows)
                if fresh is not None:
                    self.replayed += fresh.count(False)
                    inner = inner[fresh]
            if len(inner):
                arrived.append(batch_of(inner))
        return Opened(arrived, [])

    def figures(self) -> dict[str, Value]:
        """The counters by metric key."""
        return {"crypt_rejected": self.rejected, "crypt_replayed": self.replayed}

    @abstractmethod
    def _seal_rows(self, rows: Bytes) -> Bytes:
        """Encrypt datagrams, (count, size); (count, size + header_bytes)."""

    @abstractmethod
    def _open_rows(self, rows: Bytes) -> tuple[Bytes, NDArray[np.bool_] | None]:
        """Decrypt datagrams, (count, width): (count, width - header_bytes), and (count,), True if valid; None
        if all are."""


class ChecksumLayer(CryptLayer):
    """A random nonce and a checksum before each datagram, then a cipher over all of it. The checksum finds
    damage and another key; it is no authentication."""

    def __init__(self, cipher: SlotCipher, random_bytes: RandomBytes, *, finds_copies: bool) -> None:
        super().__init__(CHECKSUM_BYTES, random_bytes, finds_copies=finds_copies)
        self._cipher = cipher

    def _seal_rows(self, rows: Bytes) -> Bytes:
        count, size = rows.shape
        width = size + CHECKSUM_BYTES
        slots, (contents,) = self._seal_from.take(count, _slot_bytes(width), slice(CHECKSUM_BYTES, width))
        nonces = np.frombuffer(self._random_bytes(NONCE_BYTES * count), np.uint8)
        slots[:, :NONCE_BYTES] = nonces.reshape(count, NONCE_BYTES)
        slots[:, CHECKSUM_BYTES:width] = rows
        slots[:, NONCE_BYTES:CHECKSUM_BYTES] = _checksums(contents).view(np.uint8).reshape(count, 4)
        slots[:, width:] = 0
        self._cipher.encrypt(slots, width)
        if slots.shape[1] == width:
            return slots
        sealed, _ = self._seal_to.take(count, width)
        sealed[:] = slots[:, :width]
        return sealed

    def _open_rows(self, rows: Bytes) -> tuple[Bytes, NDArray[np.bool_]]:
        count, width = rows.shape
        slots, (contents,) = self._open_from.take(count, _slot_bytes(width), slice(CHECKSUM_BYTES, width))
        slots[:, :width] = rows
        slots[:, width:] = 0
        self._cipher.decrypt(slots, width)
        stored = np.ascontiguousarray(slots[:, NONCE_BYTES:CHECKSUM_BYTES]).view("<u4").ravel()
        inner, _ = self._open_to.take(count, width - CHECKSUM_BYTES)
        inner[:] = slots[:, CHECKSUM_BYTES:width]
        return inner, stored == _checksums(contents)


class AeadLayer(CryptLayer):
    """AES-GCM: a datagram that decrypts was sent by the owner of the key.

    No nonce may come twice under a key (NIST SP 800-38D, 8), which streams, directions and tests share. It
    counts up from a random beginning in 2^96: two layers meet less often than random nonces would.
    """

    def __init__(self, key: bytes, random_bytes: RandomBytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        super().__init__(AEAD_BYTES, random_bytes, finds_copies=True)
        cipher = AESGCM(key)
        self._encrypt, self._decrypt, self._wrong = cipher.encrypt_into, cipher.decrypt_into, InvalidTag
        self._next_nonce = int.from_bytes(random_bytes(AEAD_NONCE_BYTES), "little")

    def _seal_rows(self, rows: Bytes) -> Bytes:
        (count, size), encrypt = rows.shape, self._encrypt
        plain, (contents,) = self._seal_from.take(count, size, _WHOLE)
        sealed, (nonces, rests) = self._seal_to.take(count, size + AEAD_BYTES, *_NONCE_AND_REST)
        plain[:] = rows
        sealed[:, :AEAD_NONCE_BYTES] = self._nonces(count)
        _each(encrypt, nonces, contents, rests)
        return sealed

    def _nonces(self, count: int) -> Bytes:
        """The next nonces, (count, AEAD_NONCE_BYTES): numbers of 12 bytes, of which the first 8 count."""
        high, low = divmod(self._next_nonce, 1 << 64)
        self._next_nonce = high << 64 | (low + count) % (1 << 64)
        nonces = np.empty(count, _NONCE)
        nonces["count"] = np.arange(count, dtype=np.uint64) + np.uint64(low)
        nonces["fixed"] = high
        return nonces.view(np.uint8).reshape(count, AEAD_NONCE_BYTES)

    def _open_rows(self, rows: Bytes) -> tuple[Bytes, NDArray[np.bool_] | None]:
        (count, width), decrypt = rows.shape, self._decrypt
        arrived, (nonces, rests) = self._open_from.take(count, width, *_NONCE_AND_REST)
        inner, (contents,) = self._open_to.take(count, width - AEAD_BYTES, _WHOLE)
        arrived[:] = rows
        try:
            _each(decrypt, nonces, rests, contents)
        except self._wrong:
            return inner, np.array(list(map(self._opens, nonces, rests, contents)))
        return inner, None

    def _opens(self, nonce: memoryview, rest: memoryview, content: memoryview) -> bool:
        """Decrypt one datagram; True if it is valid."""
        try:
            self._decrypt(nonce, rest, None, content)
        except self._wrong:
            return False
        return True


def _each(
    crypt: Callable[[memoryview, memoryview, None, memoryview], int],
    nonces: list[memoryview],
    sources: list[memoryview],
    targets: list[memoryview],
) -> None:
    """Encrypt or decrypt each datagram: without a turn of the interpreter for each."""
    deque(map(crypt, nonces, sources, repeat(None), targets), maxlen=0)


def _slot_bytes(width: int) -> int:
    """The length of a slot for datagrams of `width` bytes."""
    return -(-width // BLOCK_BYTES) * BLOCK_BYTES


def _checksums(contents: list[memoryview]) -> NDArray[np.uint32]:
    """CRC-32 of each of the contents, (count,)."""
    return np.array(list(map(crc32, contents)), "<u4")
