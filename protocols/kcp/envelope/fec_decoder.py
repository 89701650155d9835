"""Forward error correction at the receiver: data goes on at once, and missing data is computed from parity.

Usually all data of a set arrives in one batch, and costs no copy. The shards of other sets are kept until the
set is complete, or until newer sets need the memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.envelope.fec_header import (
    DATA,
    HEADER_BYTES,
    OUT_OF_BAND,
    PARITY,
    SHARD_OFFSET,
    FecCounts,
)
from iperfpy.protocols.kcp.envelope.fec_numbers import Bools, Consecutive, Numbering
from iperfpy.protocols.kcp.envelope.fec_reports import Arrivals, Report, read_report
from iperfpy.protocols.kcp.envelope.geometry_search import GeometrySearch
from iperfpy.protocols.kcp.envelope.layer import Arena, Opened, batch_of, uniform_parts
from iperfpy.protocols.kcp.envelope.shard_codec import Geometry, restored
from iperfpy.protocols.kcp.wire import Bytes, Int64s

MOST_SETS, MOST_BYTES = 1_024, 8 << 20
"""Most sets that are remembered, and most bytes of shards that are kept."""
_SIZE_BYTES = HEADER_BYTES - SHARD_OFFSET

Pattern = tuple[Geometry, tuple[int, ...], int]
"""(geometry, parity shards used, bytes of a shard): sets with one pattern are restored together."""


@dataclass(slots=True)
class _Set:
    """The shards of one set, as far as they have arrived.

    Attributes
    ----------
    data : data shards of the set
    have : a bit per shard that arrived
    shards : their bytes, by index; empty once the set is settled
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
        is restored until all of late agree with one geometry. kcp-go 5.6.1 goes on meanwhile: it delivers
        wrong bytes, because a datagram that is restored from another set's shards keeps what all have in
        common

    Attributes
    ----------
    held_bytes : of the shards kept, at most `MOST_BYTES`
    found : the geometry of the peer that was found, which holds; None if none was, or datagrams contradict it
    report : the newest report of the peer, not taken yet
    """

    __slots__ = (
        "_arena", "_arrivals", "_counts", "_follows", "_newest", "_numbering", "_ready", "_search", "_sets",
        "_skipped", "_worked_bytes", "found", "held_bytes", "report",
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
        self._worked_bytes = 0  # of the shards from which `open` restored others
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
        arrived: list[DatagramBatch] = []
        for rows in uniform_parts(batch):
            if rows.shape[1] > HEADER_BYTES:
                arrived += self._open_rows(rows)
            else:
                arrived.append(batch_of(rows))
        self._worked_bytes = 0
        recovered = self._restore() if self._ready and self._search is None else []
        return Opened(arrived, recovered, self._worked_bytes)

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
        places = indices.tolist()
        starts = [0, *(np.flatnonzero(keys[1:] != keys[:-1]) + 1).tolist()]
        for key, start, stop in zip(keys[starts].tolist(), starts, [*starts[1:], len(rows)], strict=True):
            self._add(key, places[start:stop], rows[start:stop])

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

    def _add(self, number: int, indices: list[int], rows: Bytes) -> None:
        """Add shards that arrived together to their set."""
        counts = self._counts
        bits = 0
        for index in indices:
            bits |= 1 << index
        once = bits.bit_count() == len(indices)
        known = self._sets.get(number)
        if known is None:
            known = self._sets[number] = _Set(self._numbering.geometry(number).data)
            self._skip_to(number, known.data)
            if len(self._sets) > MOST_SETS:
                self._forget_oldest()
        if known.settled:
            counts.parity_wasted += (bits >> known.data).bit_count()
            return
        fresh = bits & ~known.have
        known.have |= bits
        if not known.missing:
            counts.parity_wasted += known.parities.bit_count()
            self._settle(number, known)
            return
        # One copy of all, because slices of bytes are cheaper than those of an array.
        content, width, shards = rows.tobytes(), rows.shape[1], known.shards
        size, held = width - SHARD_OFFSET, len(shards)
        parts = [content[start : start + size] for start in range(SHARD_OFFSET, len(content), width)]
        if once and fresh == bits:
            shards.update(zip(indices, parts, strict=True))
        else:
            # A shard that comes again has the content of the first, or it is garbage: the first one stays.
            for index, part in zip(indices, parts, strict=True):
                if fresh >> index & 1:
                    shards.setdefault(index, part)
        self.held_bytes += (len(shards) - held) * size
        if known.have.bit_count() >= known.data:
            self._ready[number] = known
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
        self.held_bytes -= sum(map(len, known.shards.values()))
        known.shards.clear()
        known.settled = True
        self._ready.pop(number, None)

    def _forget_oldest(self) -> None:
        """Give up the set that began first."""
        number = next(iter(self._sets))
        known = self._sets.pop(number)
        if not known.settled:
            self._counts.lost += known.missing
            self._counts.parity_wasted += known.parities.bit_count()
            self._settle(number, known)

    # -- restoring

    def _restore(self) -> list[DatagramBatch]:
        """Compute the missing data of all sets that are ready."""
        by_size: dict[int, list[bytes]] = defaultdict(list)
        for shard in self._missing_shards():
            size = shard[0] | shard[1] << 8
            # A shard that contradicts itself was computed from garbage.
            if _SIZE_BYTES < size <= len(shard):
                by_size[size].append(shard[_SIZE_BYTES:size])
            else:
                self._counts.unusable += 1
        for number, known in list(self._ready.items()):
            self._settle(number, known)
        recovered = []
        for size, payloads in by_size.items():
            self._counts.recovered += len(payloads)
            rows = np.frombuffer(b"".join(payloads), np.uint8).reshape(-1, size - _SIZE_BYTES)
            recovered.append(batch_of(rows))
        return recovered

    def _missing_shards(self) -> Iterator[bytes]:
        """The missing data shards of all sets that are ready."""
        groups: dict[Pattern, list[_Set]] = defaultdict(list)
        for key, known in self._ready.items():
            groups[self._pattern(self._numbering.geometry(key), known)].append(known)
        for (geometry, parities, shard_bytes), sets in groups.items():
            # Every shard is padded to the longest of its set, which the peer chooses: one long shard among
            # short ones makes a set a hundred times as large as the shards that are kept of it.
            set_bytes = geometry.shards * shard_bytes
            self._worked_bytes += len(sets) * set_bytes
            step = max(1, MOST_BYTES // set_bytes)
            for first in range(0, len(sets), step):
                some = [known.shards for known in sets[first : first + step]]
                for found in restored(geometry, parities, some, shard_bytes):
                    yield from found.values()

    def _pattern(self, geometry: Geometry, known: _Set) -> Pattern:
        """The parity by which a set is restored."""
        parities = [index for index in range(geometry.parity) if known.parities >> index & 1]
        self._counts.parity_wasted += len(parities) - known.missing
        return geometry, tuple(parities[: known.missing]), max(map(len, known.shards.values()))


def _runs(chosen: Bools) -> list[tuple[int, int]]:
    """The runs [start, stop) of True in an array that has at least one."""
    edges = np.flatnonzero(np.diff(chosen.view(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
