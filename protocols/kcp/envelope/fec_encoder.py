"""Forward error correction at the sender: data datagrams leave at once, parity after the last of a set.

With consecutive numbers, the order, the numbers and every byte are those of kcp-go. Its receivers adapt to
the geometry by the types of contiguous sequence numbers, which therefore are never reused. Sets may have less
parity than their geometry allows: the numbers of the others are skipped.
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
)
from iperfpy.protocols.kcp.envelope.fec_numbers import Consecutive, Numbering
from iperfpy.protocols.kcp.envelope.fec_reports import SentLog
from iperfpy.protocols.kcp.envelope.layer import Arena, batch_of, uniform_parts
from iperfpy.protocols.kcp.envelope.shard_codec import Geometry, encoded
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
    geometry : of the first set
    first : the first sequence number, a multiple of the shards of a set; kcp-go begins with 0
    numbering : of all sets; kcp-go's if None
    log : takes note of what was sent, for reports of the peer

    Attributes
    ----------
    wanted : the geometry from the next set on. With consecutive numbers, the data shards are those of the
        first geometry, and the parity shards are no more
    """

    __slots__ = (
        "_arena", "_counts", "_geometry", "_held", "_last_us", "_lengths", "_log", "_number", "_numbering",
        "_scratch", "_total", "wanted",
    )  # fmt: skip

    def __init__(
        self,
        geometry: Geometry,
        counts: FecCounts,
        first: int = 0,
        numbering: Numbering | None = None,
        log: SentLog | None = None,
    ) -> None:
        self._geometry = self.wanted = geometry
        self._counts, self._log = counts, log
        self._numbering = numbering if numbering is not None else Consecutive(geometry)
        self._number = first // geometry.shards  # of the set begun, ascending without end
        self._total = 0  # datagrams that left
        self._last_us: int | None = None
        self._arena = Arena()
        self._scratch = np.empty(0, np.uint8)
        self._held = np.zeros((geometry.data, 0), np.uint8)  # shards of the set that is not complete
        self._lengths: list[int] = []  # of those
        self._note_sets()

    @property
    def number(self) -> int:
        """The number of the set that is under way, ascending without end."""
        return self._number

    def _note_sets(self) -> None:
        """Note that sets have this geometry from the one that begins now."""
        if self._log is not None:
            self._log.note(self._number, self._total, self._geometry.shards)

    def _adopt(self) -> None:
        """Take the geometry that is wanted. No set is under way."""
        if self.wanted == self._geometry:
            return
        if self.wanted.data != self._geometry.data:
            self._held = np.zeros((self.wanted.data, 0), np.uint8)
        self._geometry = self.wanted
        self._note_sets()

    def seal(self, batches: list[DatagramBatch], now_us: int) -> list[DatagramBatch]:
        """The batches with headers, and the parity of the sets that they complete, in order."""
        self._arena.reset()
        out: list[DatagramBatch] = []
        for batch in batches:
            for rows in uniform_parts(batch):
                self._seal_rows(rows, now_us, out)
                self._counts.data_sent += len(rows)
                self._counts.data_bytes += rows.size
        data_bytes = sum(batch.size for batch in batches)
        self._counts.add(sum(batch.size for batch in out) - data_bytes)
        return out

    def _seal_rows(self, rows: Bytes, now_us: int, out: list[DatagramBatch]) -> None:
        """Seal datagrams of one length, (count, size)."""
        count, shard_bytes = len(rows), rows.shape[1] + _SIZE_BYTES
        if not self._lengths:
            self._adopt()
        wanted = self._geometry.data - len(self._lengths)
        # Only the first datagram of a call can come after a gap.
        late = wanted == 1 and (self._last_us is None or now_us - self._last_us >= LONGEST_GAP_US)
        self._last_us = now_us
        longer = bool(self._lengths) and max(self._lengths) > shard_bytes
        changes = self.wanted != self._geometry
        if late or longer or changes or count <= wanted:
            taken = min(count, wanted)
            self._append(rows[:taken], out, parity=not late)
            rows = rows[taken:]
            if changes and not self._lengths:
                self._adopt()
        if len(rows):
            self._seal_run(rows, out)

    def _append(self, rows: Bytes, out: list[DatagramBatch], *, parity: bool) -> None:
        """Seal datagrams of one length that belong to the set begun; with the last one, its parity."""
        count, size = rows.shape
        sealed = self._arena.rows(count, HEADER_BYTES + size)
        sealed[:, HEADER_BYTES:] = rows
        for seqid, row in zip(self._seqids(count), sealed, strict=True):
            HEADER.pack_into(row, 0, seqid, DATA, size + _SIZE_BYTES)
        out.append(batch_of(sealed))
        self._hold(sealed)
        self._total += count
        if len(self._lengths) < self._geometry.data:
            return
        if not parity and self._log is not None:
            self._log.note(self._number, self._total - self._geometry.data, self._geometry.data)
        if parity and self._geometry.parity:
            self._add_parity(out)
        self._lengths.clear()
        self._number += 1
        if not parity:
            self._note_sets()

    def _seqids(self, count: int) -> range:
        """The next sequence numbers of the set begun."""
        numbering = self._numbering
        first = numbering.first(self._number % numbering.sets, self._geometry.data)
        first += len(self._lengths) * numbering.step
        return range(first, first + count * numbering.step, numbering.step)

    def _hold(self, sealed: Bytes) -> None:
        """Keep the shards of sealed datagrams (count, HEADER_BYTES + size) until their set is complete."""
        count, shard_bytes = len(sealed), sealed.shape[1] - SHARD_OFFSET
        if shard_bytes > self._held.shape[1]:
            wider = np.zeros((self._geometry.data, shard_bytes), np.uint8)
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
        parities = encoded(self._geometry, self._held[:, :longest])
        sealed = self._arena.rows(self._geometry.parity, SHARD_OFFSET + longest)
        fields = np.ndarray((len(sealed),), FIELDS, sealed, 0, (sealed.shape[1],))
        fields["seqid"], fields["type"] = self._seqids(len(sealed)), PARITY
        sealed[:, SHARD_OFFSET:] = parities
        out.append(batch_of(sealed))
        self._counts.parity_sent += len(sealed)
        self._total += len(sealed)

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
        if held and parity:
            shards = self._held[:, : size + _SIZE_BYTES]
            sealed[head:body_at, SHARD_OFFSET:] = encoded(self._geometry, shards)
        if whole and parity:
            self._fill_parity(body[:, :, SHARD_OFFSET:])
        out.append(batch_of(sealed))
        self._counts.parity_sent += sets * parity
        self._lengths.clear()
        self._hold(rest)
        self._number += sets
        self._total += len(sealed)

    def _fill_parity(self, sets: Bytes) -> None:
        """Compute the parity of whole sets, (sets, data + parity, shard bytes), in their places."""
        data, (count, _, shard_bytes) = self._geometry.data, sets.shape
        most = max(1, _STEP_BYTES // (data * shard_bytes))
        for first in range(0, count, most):
            some = sets[first : first + most]
            length = len(some) * shard_bytes
            if self._scratch.size < data * length:
                self._scratch = np.empty(data * length, np.uint8)
            # The shards of one index lie side by side.
            shards = self._scratch[: data * length].reshape(data, length)
            shards.reshape(data, -1, shard_bytes)[:] = some[:, :data].transpose(1, 0, 2)
            parities = encoded(self._geometry, shards)
            some[:, data:] = parities.reshape(-1, len(some), shard_bytes).transpose(1, 0, 2)

    def _write_headers(self, sealed: Bytes, shard_bytes: int) -> None:
        """Number the datagrams, (count, width), from the next one of the set begun on."""
        count, width = sealed.shape
        numbering, geometry = self._numbering, self._geometry
        places = np.arange(len(self._lengths), len(self._lengths) + count)
        sets, indices = np.divmod(places, geometry.shards)
        firsts = numbering.first((self._number + sets) % numbering.sets, geometry.data)
        fields = np.ndarray((count,), FIELDS, sealed, 0, (width,))
        fields["seqid"] = firsts + indices * numbering.step
        fields["type"] = np.where(indices < geometry.data, DATA, PARITY)
        np.ndarray((count,), SIZE, sealed, SHARD_OFFSET, (width,))[:] = shard_bytes
