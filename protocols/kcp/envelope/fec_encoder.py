"""Forward error correction at the sender: data datagrams leave at once, parity after the last of a set.

The order, the sequence numbers and every byte are those of kcp-go. Its receivers adapt to the geometry by the
types of contiguous sequence numbers, which therefore are never reused or left out within a set.
"""

from __future__ import annotations

import numpy as np

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.envelope.fec_header import (
    DATA,
    FIELDS,
    HEADER,
    HEADER_BYTES,
    PARITY,
    SHARD_OFFSET,
    SIZE,
    FecCounts,
    paws,
)
from iperfpy.protocols.kcp.envelope.layer import Arena, batch_of, uniform_parts
from iperfpy.protocols.kcp.envelope.shard_codec import Geometry, encoded, padded
from iperfpy.protocols.kcp.wire import Bytes

LONGEST_GAP_US = 500_000
"""kcp-go's maxFECEncodeLatency: if the last datagram of a set leaves later than this after the one before,
the set has no parity, which would come too late to help."""
_SIZE_BYTES = HEADER_BYTES - SHARD_OFFSET
_STEP_BYTES = 1 << 20
"""Data of which parity is computed at once: it stays in the cache from the copy to the last pass."""


class FecEncoder:
    """Adds headers and parity to the datagrams of one direction.

    Parameters
    ----------
    first : the first sequence number, a multiple of the shards of a set; kcp-go begins with 0
    """

    __slots__ = (
        "_arena", "_counts", "_geometry", "_held", "_last_us", "_lengths", "_next", "_paws", "_scratch",
    )  # fmt: skip

    def __init__(self, geometry: Geometry, counts: FecCounts, first: int = 0) -> None:
        self._geometry, self._counts = geometry, counts
        self._next, self._paws = first, paws(geometry)
        self._last_us: int | None = None
        self._arena = Arena()
        self._scratch = np.empty(0, np.uint8)
        self._held = np.zeros((geometry.data, 0), np.uint8)  # shards of the set that is not complete
        self._lengths: list[int] = []  # of those

    def seal(self, batches: list[DatagramBatch], now_us: int) -> list[DatagramBatch]:
        """The batches with headers, and the parity of the sets that they complete, in order."""
        self._arena.reset()
        out: list[DatagramBatch] = []
        for batch in batches:
            for rows in uniform_parts(batch):
                self._seal_rows(rows, now_us, out)
                self._counts.data_sent += len(rows)
                self._counts.data_bytes += rows.size
        sent_bytes = sum(batch.size for batch in out)
        self._counts.added_bytes += sent_bytes - sum(batch.size for batch in batches)
        return out

    def _seal_rows(self, rows: Bytes, now_us: int, out: list[DatagramBatch]) -> None:
        """Seal datagrams of one length, (count, size)."""
        count, shard_bytes = len(rows), rows.shape[1] + _SIZE_BYTES
        wanted = self._geometry.data - len(self._lengths)
        # Only the first datagram of a call can come after a gap.
        late = wanted == 1 and (self._last_us is None or now_us - self._last_us >= LONGEST_GAP_US)
        self._last_us = now_us
        longer = bool(self._lengths) and max(self._lengths) > shard_bytes
        if late or longer or count <= wanted:
            taken = min(count, wanted)
            self._append(rows[:taken], out, parity=not late)
            rows = rows[taken:]
        if len(rows):
            self._seal_run(rows, out)

    def _append(self, rows: Bytes, out: list[DatagramBatch], *, parity: bool) -> None:
        """Seal datagrams of one length that belong to the set begun; with the last one, its parity."""
        count, size = rows.shape
        sealed = self._arena.rows(count, HEADER_BYTES + size)
        sealed[:, HEADER_BYTES:] = rows
        for number, row in enumerate(sealed, self._next):
            HEADER.pack_into(row, 0, number, DATA, size + _SIZE_BYTES)
        out.append(batch_of(sealed))
        self._hold(sealed)
        self._next += count
        if len(self._lengths) < self._geometry.data:
            return
        if parity:
            self._add_parity(out)
        self._lengths.clear()
        self._next = (self._next + self._geometry.parity) % self._paws

    def _hold(self, sealed: Bytes) -> None:
        """Keep the shards of sealed datagrams (count, HEADER_BYTES + size) until their set is complete."""
        count, shard_bytes = len(sealed), sealed.shape[1] - SHARD_OFFSET
        if shard_bytes > self._held.shape[1]:
            wider = np.zeros((self._geometry.data, padded(shard_bytes)), np.uint8)
            wider[:, : self._held.shape[1]] = self._held
            self._held = wider
        first = len(self._lengths)
        held = self._held[first : first + count]
        held[:, :shard_bytes] = sealed[:, SHARD_OFFSET:]
        held[:, shard_bytes:] = 0
        self._lengths += [shard_bytes] * count

    def _add_parity(self, out: list[DatagramBatch]) -> None:
        """Append the parity of the shards held, from the sequence number that is next."""
        longest = max(self._lengths)
        parities = encoded(self._geometry, np.ascontiguousarray(self._held[:, : padded(longest)]))
        sealed = self._arena.rows(self._geometry.parity, SHARD_OFFSET + longest)
        fields = np.ndarray((len(sealed),), FIELDS, sealed, 0, (sealed.shape[1],))
        fields["seqid"], fields["type"] = np.arange(self._next, self._next + len(sealed)), PARITY
        sealed[:, SHARD_OFFSET:] = parities[:, :longest]
        out.append(batch_of(sealed))
        self._counts.parity_sent += len(sealed)

    def _seal_run(self, rows: Bytes, out: list[DatagramBatch]) -> None:
        """Seal datagrams of one length, (count, size), of which at least one completes a set, as one batch.
        No shard of the set begun is longer."""
        (data, parity), held = self._geometry, len(self._lengths)
        count, size = rows.shape
        sets = (held + count) // data
        sealed = self._arena.rows(count + sets * parity, HEADER_BYTES + size)
        self._write_headers(sealed, size + _SIZE_BYTES)
        # The set begun before is completed by the first rows; then whole sets follow, then a rest.
        head = (data - held) % data
        whole = sets - bool(held)
        body_at = head + bool(held) * parity
        rest_at = body_at + whole * (data + parity)
        body = sealed[body_at:rest_at].reshape(whole, data + parity, HEADER_BYTES + size)
        rest = sealed[rest_at:]
        sealed[:head, HEADER_BYTES:] = rows[:head]
        body[:, :data, HEADER_BYTES:] = rows[head : head + whole * data].reshape(whole, data, size)
        rest[:, HEADER_BYTES:] = rows[head + whole * data :]

        if held:
            self._hold(sealed[:head])
            shards = np.ascontiguousarray(self._held[:, : padded(size + _SIZE_BYTES)])
            sealed[head:body_at, SHARD_OFFSET:] = encoded(self._geometry, shards)[:, : size + _SIZE_BYTES]
        if whole:
            self._fill_parity(body[:, :, SHARD_OFFSET:])
        out.append(batch_of(sealed))
        self._counts.parity_sent += sets * parity
        self._lengths.clear()
        self._hold(rest)
        self._next = (self._next + len(sealed)) % self._paws

    def _fill_parity(self, sets: Bytes) -> None:
        """Compute the parity of whole sets, (sets, data + parity, shard bytes), in their places."""
        data, (count, _, shard_bytes) = self._geometry.data, sets.shape
        most = max(1, _STEP_BYTES // (data * shard_bytes))
        for first in range(0, count, most):
            some = sets[first : first + most]
            length = padded(len(some) * shard_bytes)
            if self._scratch.size < data * length:
                self._scratch = np.empty(data * length, np.uint8)
            # The shards of one index lie side by side.
            shards = self._scratch[: data * length].reshape(data, length)
            shape, strides = (data, len(some), shard_bytes), (length, shard_bytes, 1)
            np.ndarray(shape, np.uint8, shards, 0, strides)[:] = some[:, :data].transpose(1, 0, 2)
            parities = encoded(self._geometry, shards)[:, : len(some) * shard_bytes]
            some[:, data:] = parities.reshape(-1, len(some), shard_bytes).transpose(1, 0, 2)

    def _write_headers(self, sealed: Bytes, shard_bytes: int) -> None:
        """Number the datagrams, (count, width), from `_next` on; every set begins with its data."""
        count, width = sealed.shape
        numbers = np.arange(self._next, self._next + count)
        is_data = numbers % self._geometry.shards < self._geometry.data
        fields = np.ndarray((count,), FIELDS, sealed, 0, (width,))
        fields["seqid"] = numbers % self._paws
        fields["type"] = np.where(is_data, DATA, PARITY)
        np.ndarray((count,), SIZE, sealed, SHARD_OFFSET, (width,))[:] = shard_bytes
