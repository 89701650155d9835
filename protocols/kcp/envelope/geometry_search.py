"""Finds the geometry of a peer that has another one than expected, as kcp-go's receivers do.

Within consecutive sequence numbers, a run of data and the run of parity that follows it are the shards of a
set. A lossy path leaves such stretches now and then. One is only believed if it begins where a set of that
geometry begins, and if all other datagrams of late agree: a forged or garbled one changes nothing.
"""

from __future__ import annotations

import numpy as np

from iperfpy.protocols.kcp.envelope.fec_numbers import Bools, Consecutive
from iperfpy.protocols.kcp.envelope.shard_codec import MOST_SHARDS, Geometry
from iperfpy.protocols.kcp.wire import Int64s

MOST_SAMPLES = 3 * MOST_SHARDS
"""Sequence numbers that are remembered: two sets of the widest geometry, and a part of the next."""
LEAST_SETS = 2
"""Sets' worth of samples that must agree."""
_SAMPLES_PER_LOOK, _RUNS_PER_LOOK = 32, 64
"""A look costs up to a millisecond: a flood of garbage must not ask for one with every datagram."""


class GeometrySearch:
    """Remembers the numbers and types of the datagrams that arrived last."""

    __slots__ = ("_fresh", "_is_data", "_seqids")

    def __init__(self) -> None:
        self._seqids: Int64s = np.empty(0, np.int64)
        self._is_data: Bools = np.empty(0, np.bool_)
        self._fresh = 0  # samples since the last look

    def add(self, seqids: Int64s, is_data: Bools) -> Geometry | None:
        """Take datagrams, (n,), in order of arrival; returns the geometry once it is proven."""
        self._seqids = np.concatenate((self._seqids, seqids))[-MOST_SAMPLES:]
        self._is_data = np.concatenate((self._is_data, is_data))[-MOST_SAMPLES:]
        self._fresh += len(seqids)
        if self._fresh < _SAMPLES_PER_LOOK:
            return None
        self._fresh = 0
        found = self._found()
        return found if found is not None and self._is_proven(found) else None

    def _found(self) -> Geometry | None:
        """The lengths of the newest run of data between parity, and of the run of parity after it."""
        seqids, first = np.unique(self._seqids, return_index=True)
        is_data = self._is_data[first]
        if len(seqids) < 3:
            return None
        follows = np.diff(seqids) == 1
        # Places at which a run begins, and those at which the numbers have a gap, which ends it unseen.
        begins = 1 + np.flatnonzero((is_data[1:] != is_data[:-1]) | ~follows)
        for at in range(len(begins) - 3, max(-1, len(begins) - 3 - _RUNS_PER_LOOK), -1):
            data, parity, end = begins[at : at + 3].tolist()
            whole = follows[data - 1 : end].all()
            if whole and is_data[data] and not is_data[data - 1] and is_data[end]:
                geometry = Geometry(parity - data, end - parity)
                if geometry.shards <= MOST_SHARDS and int(seqids[data]) % geometry.shards == 0:
                    return geometry
        return None

    def _is_proven(self, geometry: Geometry) -> bool:
        """True if enough samples are there, and all of them agree."""
        if len(self._seqids) < LEAST_SETS * geometry.shards:
            return False
        return bool(Consecutive(geometry).places(self._seqids, self._is_data).fits.all())
