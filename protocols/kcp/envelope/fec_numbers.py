"""Sequence numbers of forward error correction: the set of a datagram, and its place in the set.

Within a set, numbers ascend by a fixed step, data first. A sender may leave out the last parity datagrams of
a set, or all of them: to the peer they are like lost ones, and the types of all others still agree with their
numbers. Parity datagram i is the same, whatever parity the set has beside it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from iperfpy.protocols.kcp.envelope.shard_codec import Geometry
from iperfpy.protocols.kcp.wire import Int64s

Numbers = TypeVar("Numbers", int, Int64s)
Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]

_SET_BITS, _INDEX_BITS = 20, 6
_INDEX_MASK = (1 << _INDEX_BITS) - 1
MOST_OWN_SHARDS = 1 << _INDEX_BITS
"""Most shards of a set with self-describing numbers; 63 of them are data at most."""


class Places(NamedTuple):
    """The places of datagrams, (n,) each.

    Attributes
    ----------
    fits : False if number and type contradict each other
    sets : int64, a key of the set, unique among those that are under way
    indices : int64, in the set, data first
    """

    fits: Bools
    sets: Int64s
    indices: Int64s


class Numbering(Protocol):
    """One way to number datagrams.

    Attributes
    ----------
    step : difference of two successive numbers of a set
    sets : sets before the numbers begin anew
    """

    step: int
    sets: int

    def first(self, number: Numbers, data: int) -> Numbers:
        """The first sequence number of set `number`, which is below `sets` and has `data` data shards. Takes
        one number or int64 (n,)."""

    def places(self, seqids: Int64s, is_data: Bools) -> Places:
        """The places of datagrams with these numbers, (n,), and types."""

    def geometry(self, key: int) -> Geometry:
        """The geometry of the set with this key, with the most parity that it may have."""


class Consecutive:
    """kcp-go's numbering: all shards of all sets, left-out parity included, one after the other.

    Parameters
    ----------
    geometry : of all sets
    """

    step = 1

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.sets = 0xFFFF_FFFF // geometry.shards  # kcp-go's `paws`, in sets

    def first(self, number: Numbers, data: int) -> Numbers:
        return number * self._geometry.shards

    def places(self, seqids: Int64s, is_data: Bools) -> Places:
        shards = self._geometry.shards
        sets, indices = seqids // shards, seqids % shards
        fits = ((indices < self._geometry.data) == is_data) & (sets < self.sets)
        return Places(fits, sets, indices)

    def geometry(self, key: int) -> Geometry:
        return self._geometry


class SelfDescribing:
    """Numbers that tell the geometry, so that it may change with any set: for two iperfpy that agree on it.

    bits 31 to 26: data shards of the set; 25 to 20: place in the set; 19 to 0: number of the set
    """

    step = 1 << _SET_BITS
    sets = 1 << _SET_BITS

    def first(self, number: Numbers, data: int) -> Numbers:
        return number | data << _SET_BITS + _INDEX_BITS

    def places(self, seqids: Int64s, is_data: Bools) -> Places:
        indices = seqids >> _SET_BITS & _INDEX_MASK
        data = seqids >> _SET_BITS + _INDEX_BITS
        fits = ((indices < data) == is_data) & (data > 0)
        return Places(fits, seqids - indices * self.step, indices)

    def geometry(self, key: int) -> Geometry:
        data = key >> _SET_BITS + _INDEX_BITS
        return Geometry(data, MOST_OWN_SHARDS - data)

    def order(self, seqid: int) -> tuple[int, int]:
        """Number of the set, and place in it."""
        return seqid & self.sets - 1, seqid >> _SET_BITS & _INDEX_MASK
