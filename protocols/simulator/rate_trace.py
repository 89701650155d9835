"""A trace of opportunities, the form in which mahimahi describes a link with a rate that varies.

Each opportunity carries 1,504 bytes, which is a packet of 1,500 and the header of 4 that mahimahi counts.
The times of the opportunities are whole milliseconds; the trace repeats, shifted by its last time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor

import numpy as np
from numpy.typing import NDArray

OPPORTUNITY_BYTES = 1_504
TRACE_HEADER_BYTES = 4
"""Bytes that a packet takes of an opportunity beside those of IP: the header of a TUN device."""
_FEW = 8
"""So many times are faster one by one than as an array."""
_CARRIED_BITS = 8 * (OPPORTUNITY_BYTES - TRACE_HEADER_BYTES)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RateTrace:
    """Times of opportunities.

    name : value of the key `trace` in the language of paths: a file, or the parameters of a generated trace
    stamps_ms : (n,) int32, ascending, the last one above 0
    period_us : time after which the trace repeats, microseconds
    """

    name: str
    stamps_ms: NDArray[np.int32]
    period_us: float = field(init=False)

    def __post_init__(self) -> None:
        stamps = self.stamps_ms
        if not len(stamps) or stamps[0] < 0 or stamps[-1] <= 0 or (np.diff(stamps) < 0).any():
            raise ValueError("stamps_ms must ascend from 0 or more to more than 0")
        object.__setattr__(self, "period_us", 1_000.0 * int(stamps[-1]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RateTrace):
            return NotImplemented
        if self.stamps_ms is other.stamps_ms:
            return self.name == other.name
        return self.name == other.name and np.array_equal(self.stamps_ms, other.stamps_ms)

    def __hash__(self) -> int:
        return hash((self.name, len(self.stamps_ms), self.period_us))

    @property
    def mean_interval_us(self) -> float:
        """Mean distance of opportunities, microseconds."""
        return self.period_us / len(self.stamps_ms)

    @property
    def mean_bits_per_s(self) -> float:
        """Mean rate, counting 1,500 bytes per opportunity."""
        return _CARRIED_BITS * 1e6 / self.mean_interval_us

    def count(self, time_us: float) -> int:
        """Number of opportunities up to a time, inclusive; microseconds from the beginning of the trace."""
        if time_us < 0:
            return 0
        stamps = self.stamps_ms
        # An opportunity at the end of a cycle has the time at which the next cycle begins.
        cycle = floor(time_us / self.period_us)
        rest_ms = floor((time_us - cycle * self.period_us) / 1_000)
        # A key of another type would make numpy convert the whole array.
        return cycle * len(stamps) + int(stamps.searchsorted(np.int32(rest_ms), "right"))

    def counts(self, times_us: Floats) -> Floats:
        """Numbers of opportunities up to each of the times, as `count`."""
        cycles = np.maximum(0.0, times_us) // self.period_us
        rest_ms = ((times_us - cycles * self.period_us) // 1_000).astype(np.int32)
        found = cycles * len(self.stamps_ms) + self.stamps_ms.searchsorted(rest_ms, "right")
        return np.where(times_us < 0, 0.0, found)

    def time_us(self, number: int) -> float:
        """Time of an opportunity by its number, which counts from 0 and goes on in later cycles."""
        cycle, within = divmod(number, len(self.stamps_ms))
        return cycle * self.period_us + 1_000.0 * int(self.stamps_ms[within])

    def times_us(self, numbers: Floats) -> Floats:
        """Times of opportunities, as `time_us`."""
        if len(numbers) <= _FEW:
            return np.array([self.time_us(int(number)) for number in numbers.tolist()])
        cycles, within = np.divmod(numbers, len(self.stamps_ms))
        return cycles * self.period_us + 1_000.0 * self.stamps_ms[within.astype(np.int64)]
