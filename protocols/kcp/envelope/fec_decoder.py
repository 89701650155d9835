"""Forward error correction at the receiver: data goes on at once, and missing data is computed from parity.

Usually a set arrives in one batch. If nothing of it is missing, it costs no copy; else it is restored from
the batch. The shards of other sets are kept until the set is complete, or until newer sets need the memory.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.envelope.fec_header import (
    DATA,
    HEADER_BYTES,
    OUT_OF_BAND,
    PARITY,
    SHARD_OFFSET,
    SIZE,
    FecCounts,
)
from iperfpy.protocols.kcp.envelope.fec_numbers import Bools, Consecutive, Numbering
from iperfpy.protocols.kcp.envelope.fec_reports import Arrivals, Report, read_report
from iperfpy.protocols.kcp.envelope.geometry_search import GeometrySearch
from iperfpy.protocols.kcp.envelope.layer import Arena, Opened, batch_of, uniform_parts
from iperfpy.protocols.kcp.envelope.shard_codec import MOST_SHARDS, Geometry, restored, restoring_bytes
from iperfpy.protocols.kcp.wire import Bytes, Int64s

MOST_SETS, MOST_BYTES = 1_024, 8 << 20
"""Most sets that are remembered, and most bytes of shards that are kept, or that one call restores. The
missing shards of the largest set fit."""
_MOST_WORKED_BYTES = 5 << 28
"""Most work of one call, about 2 s, in bytes as `restoring_bytes` has them. The largest set fits."""
_SIZE_BYTES = HEADER_BYTES - SHARD_OFFSET

_WORD_BITS = 64
_BITS = np.array([1 << index for index in range(MOST_SHARDS)], object)  # of a shard, by index in the set
_WORDS = _BITS[:_WORD_BITS].astype(np.uint64)  # the same for sets whose bits fit in a word

Pattern = tuple[Geometry, tuple[int, ...], int]
"""(geometry, parity shards used, bytes of a shard): sets with one pattern are restored together."""


class _Need(NamedTuple):
    """Data shards of a set that are missing, and as many of its parity shards that arrived, from 0 each."""

    missing: tuple[int, ...]
    parities: tuple[int, ...]


class _Incoming(NamedTuple):
    """Data and parity datagrams that are being opened, of one length.

    Attributes
    ----------
    rows : uint8 (count, width)
    sets : key of a set -> its row of `where`
    where : int64 (sets, shards), the row of each shard in `rows`, or -1
    """

    rows: Bytes
    sets: dict[int, int]
    where: Int64s


class _Incomplete(NamedTuple):
    """A set to restore.

    Attributes
    ----------
    kept : shards that earlier calls brought, by index
    at : its row of `_Incoming.where`
    missing : data shards
    """

    kept: dict[int, bytes]
    at: int
    missing: tuple[int, ...]


@dataclass(slots=True)
class _Set:
    """The shards of one set, as far as they have arrived.

    Attributes
    ----------
    data : data shards of the set
    have : a bit per shard that arrived
    shards : bytes of those that earlier calls brought, by index; empty once the set is settled
    settled : True if all its data is there, or was computed
    """

    data: int
    have: int = 0
    shards: dict[int, bytes] = field(default_factory=dict)
    settled: bool = False

    @property
    def missing(self) -> int:
        """Data shards that have not arrived."""
        return self.data - (self.have & (1 << self.data) - 1).bit_count()

    @property
    def parities(self) -> int:
        """A bit per parity shard that arrived."""
        return self.have >> self.data


class FecDecoder:
    """Takes headers and parity off the datagrams of one direction, and restores missing ones.

    Parameters
    ----------
    geometry : of the sets
    numbering : of the peer's datagrams, if it is not kcp-go's
    arrivals : counts what arrives, for reports to the peer
    follows : True if the geometry of the peer is not agreed on. Once its datagrams contradict ours, nothing
        is restored until all recent ones agree with one geometry. kcp-go 5.6.1 goes on meanwhile: it delivers
        wrong bytes, because a datagram that is restored from another set's shards keeps what all have in
        common

    Attributes
    ----------
    held_bytes : of the shards kept, at most `MOST_BYTES`
    found : the geometry of the peer that was found, which holds; None if none was, or datagrams contradict it
    report : the newest report of the peer, not taken yet
    """

    __slots__ = (
        "_arena", "_arrivals", "_counts", "_follows", "_newest", "_numbering", "_ready", "_recovered",
        "_restored_bytes", "_search", "_sets", "_skipped", "_worked_bytes", "found", "held_bytes", "report",
    )  # fmt: skip

    def __init__(
        self,
        geometry: Geometry,
        counts: FecCounts,
        numbering: Numbering | None = None,
        arrivals: Arrivals | None = None,
        *,
        follows: bool = False,
    ) -> None:
        self._counts, self._arrivals, self._follows = counts, arrivals, follows
        self._numbering = numbering if numbering is not None else Consecutive(geometry)
        self._search: GeometrySearch | None = None
        self._arena = Arena()
        self._sets: dict[int, _Set] = {}  # key of the set -> set, the oldest first
        self._ready: dict[int, _Set] = {}  # those that can be restored
        self._newest: int | None = None  # key of the newest set
        self._skipped = 0  # data datagrams of sets of which nothing has arrived
        self._recovered: dict[int, list[Bytes]] = defaultdict(list)  # size of the shard -> payloads
        self._restored_bytes = 0  # of the shards that `open` restored
        self._worked_bytes = 0  # work of `open` for them, in bytes that take as long to open
        self.held_bytes = 0
        self.found: Geometry | None = None
        self.report: Report | None = None

    @property
    def lost(self) -> int:
        """Data datagrams that neither arrived nor were restored, by their numbers. Falls if some come late.

        Those of the newest set may be on their way, and are left out.
        """
        sets = self._sets.items()
        waiting = sum(one.missing for key, one in sets if not one.settled and key != self._newest)
        return self._counts.lost + self._skipped + waiting

    def open(self, batch: DatagramBatch, now_us: int) -> Opened:
        """The KCP datagrams in a batch, and those that it completes. A datagram of another type is passed on:
        it may be plain KCP."""
        self._arena.reset()
        self._restored_bytes = self._worked_bytes = 0
        arrived: list[DatagramBatch] = []
        for rows in uniform_parts(batch):
            if rows.shape[1] > HEADER_BYTES:
                arrived += self._open_rows(rows)
            else:
                arrived.append(batch_of(rows))
        return Opened(arrived, self._take_recovered(), self._worked_bytes)

    def _open_rows(self, rows: Bytes) -> list[DatagramBatch]:
        """Open datagrams of one length, (count, width)."""
        count, width = rows.shape
        types = np.ndarray((count,), "<u2", rows, 4, (width,))
        is_data, is_parity = types == DATA, types == PARITY
        data, parity = int(np.count_nonzero(is_data)), int(np.count_nonzero(is_parity))
        self._counts.data_received += data
        self._counts.parity_received += parity
        arrived = []
        if data:
            inner = self._arena.rows(data, width - HEADER_BYTES)
            copied = 0
            for start, stop in _runs(is_data):
                inner[copied : copied + stop - start] = rows[start:stop, HEADER_BYTES:]
                copied += stop - start
            arrived.append(batch_of(inner))
        if data + parity < count:
            others = ~(is_data | is_parity)
            plain = rows[others & (types != OUT_OF_BAND)]
            self._counts.out_of_band += int(np.count_nonzero(others)) - len(plain)
            if len(plain) < np.count_nonzero(others) and self._arrivals is not None:
                self.report = read_report(rows[types == OUT_OF_BAND][-1]) or self.report
            if len(plain):
                arrived.append(batch_of(plain))
            rows, is_data = rows[~others], is_data[~others]
        if len(rows):
            self._note(rows, is_data)
        return arrived

    # -- sets

    def _note(self, rows: Bytes, is_data: Bools) -> None:
        """Take note of data and parity datagrams, (count, width), in order of arrival."""
        seqids = np.ndarray((len(rows),), "<u4", rows, 0, (rows.shape[1],)).astype(np.int64)
        fits, keys, indices = self._numbering.places(seqids, is_data)
        if self._search is not None or not fits.all():
            self._counts.unusable += len(rows) - int(np.count_nonzero(fits))
            if self._follow(seqids, is_data):
                fits, keys, indices = self._numbering.places(seqids, is_data)
            rows, seqids, keys, indices = rows[fits], seqids[fits], keys[fits], indices[fits]
            if not len(rows):
                return
        if self._arrivals is not None:
            self._arrivals.note(seqids)
        if (keys[1:] < keys[:-1]).any():
            # Datagrams of one set may be apart: bring them together, at the place of the first one.
            _, firsts, sets = np.unique(keys, return_index=True, return_inverse=True)
            order = np.argsort(firsts[sets], kind="stable")
            keys, indices = keys[order], indices[order]
        else:
            order = np.arange(len(keys))
        begins = np.ones(len(keys), np.bool_)
        np.not_equal(keys[1:], keys[:-1], begins[1:])
        starts = np.flatnonzero(begins)
        numbers = keys[starts].tolist()
        shards = self._numbering.geometry(numbers[0]).shards
        bits = np.bitwise_or.reduceat((_WORDS if shards <= _WORD_BITS else _BITS)[indices], starts)
        waiting = [one for one, have in zip(numbers, bits.tolist(), strict=True) if self._add(one, have)]
        if not waiting:
            return
        where = np.full((len(numbers), shards), -1)
        # Of a shard that comes twice, the first one counts, and is put last here: the other has the same
        # content, or it is garbage.
        where.put(((begins.cumsum() - 1) * shards + indices)[::-1], order[::-1])
        incoming = _Incoming(rows, {number: at for at, number in enumerate(numbers)}, where)
        if self._ready and self._search is None:
            self._restore(incoming)
        self._keep(incoming, waiting)

    def _follow(self, seqids: Int64s, is_data: Bools) -> bool:
        """Search for the geometry of the peer: its datagrams contradict the expected one. Returns True when
        another is proven, which holds from now on."""
        if not self._follows or not isinstance(self._numbering, Consecutive):
            return False  # it was agreed on, or the numbers tell it: whatever contradicts it is garbage
        self._search = self._search or GeometrySearch()
        self.found = found = self._search.add(seqids, is_data)
        if found is None:
            return False
        self._search = None
        lost = self._counts.lost
        while self._sets:
            self._forget_oldest()  # their shards may be of two geometries
        # Nothing is known of the losses of sets that were none.
        self._counts.lost, self._skipped, self._newest = lost, 0, None
        self._numbering = Consecutive(found)
        return True

    def _add(self, number: int, bits: int) -> bool:
        """Take note of the shards of a set that arrived together, a bit each. Returns True if the set needs
        them: part of its data is missing."""
        known = self._sets.get(number)
        if known is None:
            known = self._sets[number] = _Set(self._numbering.geometry(number).data)
            self._skip_to(number, known.data)
            if len(self._sets) > MOST_SETS:
                self._forget_oldest()
        if known.settled:
            self._counts.parity_wasted += (bits >> known.data).bit_count()
            return False
        known.have |= bits
        if not known.missing:
            self._counts.parity_wasted += known.parities.bit_count()
            self._settle(number, known)
            return False
        if known.have.bit_count() >= known.data:
            self._ready[number] = known
        return True

    def _keep(self, incoming: _Incoming, numbers: list[int]) -> None:
        """Copy the shards of those sets that still need them."""
        for number in numbers:
            known = self._sets.get(number)
            if known is None or known.settled:
                continue  # forgotten, or restored
            shards = known.shards
            for index, row in enumerate(incoming.where[incoming.sets[number]].tolist()):
                if row >= 0 and index not in shards:
                    shards[index] = shard = incoming.rows[row, SHARD_OFFSET:].tobytes()
                    self.held_bytes += len(shard)
        while self.held_bytes > MOST_BYTES:
            self._forget_oldest()

    def _skip_to(self, number: int, data: int) -> None:
        """Count the sets between the newest one and a new one: nothing of them has arrived. Numbers that tell
        the geometry come from an iperfpy, whose own counters are known."""
        if not isinstance(self._numbering, Consecutive):
            self._newest = number
            return
        ahead = number - self._newest if self._newest is not None else 1
        if -MOST_SETS <= ahead < 0:
            self._skipped = max(0, self._skipped - data)  # late: it was taken for skipped
            return
        # A greater distance is that of a forged number, or of the first one after numbers began anew.
        if 0 < ahead <= MOST_SETS:
            self._skipped += (ahead - 1) * data
        self._newest = number

    def _settle(self, number: int, known: _Set) -> None:
        """Free the shards of a set that needs no more; the set itself is remembered for those that follow."""
        known.settled = True
        self._ready.pop(number, None)
        if known.shards:
            self.held_bytes -= sum(map(len, known.shards.values()))
            known.shards.clear()

    def _forget_oldest(self) -> None:
        """Give up the set that began first."""
        number = next(iter(self._sets))
        known = self._sets.pop(number)
        if not known.settled:
            self._counts.lost += known.missing
            self._counts.parity_wasted += known.parities.bit_count()
            self._settle(number, known)

    # -- restoring

    def _restore(self, incoming: _Incoming) -> None:
        """Compute the missing data of all sets that are ready, from incoming and kept shards. Sets beyond the
        bounds of a call are given up: a peer can make them a hundred times as large as what it sends."""
        groups: dict[Pattern, list[_Incomplete]] = defaultdict(list)
        width = incoming.rows.shape[1] - SHARD_OFFSET
        for number, known in self._ready.items():
            geometry = self._numbering.geometry(number)
            missing, parities = _need(geometry.data, known.have)
            self._counts.parity_wasted += known.parities.bit_count() - len(parities)
            shard_bytes = max(width, *map(len, known.shards.values())) if known.shards else width
            one = _Incomplete(known.shards, incoming.sets[number], missing)
            groups[geometry, parities, shard_bytes].append(one)
        for (geometry, parities, shard_bytes), sets in groups.items():
            # Every shard is padded to the longest of its set, which the peer chooses: one long shard among
            # short ones makes a set a hundred times as large as the shards that are kept of it.
            set_bytes = geometry.shards * shard_bytes
            step = max(1, MOST_BYTES // set_bytes)
            for first in range(0, len(sets), step):
                some = sets[first : first + step]
                if not self._allows(geometry, len(parities), shard_bytes, len(some)):
                    self._counts.lost += len(some) * len(parities)  # as many as are missing
                    self._counts.parity_wasted += len(some) * len(parities)
                    continue
                shards = _side_by_side(incoming, geometry, parities, shard_bytes, some)
                self._take(restored(geometry, parities, [one.missing for one in some], shards))
        for number, known in list(self._ready.items()):
            self._settle(number, known)

    def _allows(self, geometry: Geometry, missing: int, shard_bytes: int, sets: int) -> bool:
        """Add up the memory and the work of sets that miss so many shards each, if both stay in bounds."""
        restored_bytes = self._restored_bytes + sets * missing * shard_bytes
        worked_bytes = self._worked_bytes + sets * geometry.shards * shard_bytes
        worked_bytes += restoring_bytes(geometry, missing, shard_bytes, sets)
        if restored_bytes > MOST_BYTES or worked_bytes > _MOST_WORKED_BYTES:
            return False
        self._restored_bytes, self._worked_bytes = restored_bytes, worked_bytes
        return True

    def _take(self, restored_shards: Bytes) -> None:
        """Take data shards that were computed, (m, sets, SHARD_OFFSET + shard bytes)."""
        rows = restored_shards.reshape(-1, restored_shards.shape[2])
        sizes = np.ndarray((len(rows),), SIZE, rows, SHARD_OFFSET, rows.strides[:1])
        for size in set(sizes.tolist()):
            chosen = rows[sizes == size]
            # A shard that contradicts itself was computed from garbage.
            if _SIZE_BYTES < size <= rows.shape[1] - SHARD_OFFSET:
                self._recovered[size].append(chosen[:, HEADER_BYTES : SHARD_OFFSET + size])
            else:
                self._counts.unusable += len(chosen)

    def _take_recovered(self) -> list[DatagramBatch]:
        """The payloads that were restored since the last call, a batch for each length."""
        if not self._recovered:
            return []
        batches = [batch_of(np.concatenate(payloads)) for payloads in self._recovered.values()]
        self._counts.recovered += sum(batch.count for batch in batches)
        self._recovered.clear()
        return batches


@lru_cache(maxsize=4096)
def _need(data: int, have: int) -> _Need:
    """The data that a set of `data` data shards misses, if the shards of the bits `have` arrived, and the
    parity to restore it."""
    missing = tuple(index for index in range(data) if not have >> index & 1)
    parities = [index for index in range((have >> data).bit_length()) if have >> data + index & 1]
    return _Need(missing, tuple(parities[: len(missing)]))


def _side_by_side(
    incoming: _Incoming,
    geometry: Geometry,
    parities: tuple[int, ...],
    shard_bytes: int,
    sets: list[_Incomplete],
) -> Bytes:
    """The data shards, then the parity shards used, of all sets, as `restored` takes them. The header before
    each shard comes along, because whole rows are cheaper to gather."""
    used = [*range(geometry.data), *(geometry.data + parity for parity in parities)]
    rows, width = incoming.rows, incoming.rows.shape[1]
    shards = np.empty((len(used), len(sets), SHARD_OFFSET + shard_bytes), np.uint8)
    flat = shards.reshape(-1, shards.shape[2])
    # Where a shard is not among the rows, -1 is clipped to the first row, and overwritten below.
    sources = incoming.where[[one.at for one in sets]][:, used].T.reshape(-1)
    np.take(rows, sources, axis=0, out=flat[:, :width], mode="clip")
    flat[:, width:] = 0
    shards[np.array([one.missing for one in sets]), np.arange(len(sets))[:, None]] = 0
    for at, one in enumerate(sets):
        for place, index in enumerate(used if one.kept else ()):
            shard = one.kept.get(index)
            if shard is not None:
                shards[place, at, SHARD_OFFSET : SHARD_OFFSET + len(shard)] = np.frombuffer(shard, np.uint8)
                shards[place, at, SHARD_OFFSET + len(shard) :] = 0
    return shards


def _runs(chosen: Bools) -> list[tuple[int, int]]:
    """The runs [start, stop) of True in an array that has at least one."""
    edges = [0, *(np.flatnonzero(chosen[1:] != chosen[:-1]) + 1).tolist(), len(chosen)]
    first = 0 if chosen[0] else 1
    return list(zip(edges[first::2], edges[first + 1 :: 2], strict=False))
