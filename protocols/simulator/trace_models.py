"""Generates traces of opportunities from a rate and a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.simulator.rate_trace import OPPORTUNITY_BYTES, TRACE_HEADER_BYTES

SLOWEST, FASTEST = 1e3, 1e9
"""Bits per second of a generated trace."""
MOST_NUMBER = 2**32 - 1
_OPPORTUNITY_BITS = 8 * (OPPORTUNITY_BYTES - TRACE_HEADER_BYTES)
_PERIOD_MS = 60_000
"""Length of a trace that no shorter one describes exactly; longer if it would have few opportunities."""
_LEAST = 1_000

Stamps = NDArray[np.int32]


def constant(rate: float, group: int) -> Stamps:
    """Opportunities at a constant rate, in groups of so many at one time.

    The trace is as short as the rate allows: 12 Mb/s is one opportunity after 1 ms.
    """
    per_ms = Fraction(rate) / (1_000 * _OPPORTUNITY_BITS)
    # The share of a group per millisecond is a ratio of whole groups and milliseconds.
    groups = (per_ms / group).limit_denominator(_PERIOD_MS)
    if not groups:
        groups = Fraction(1, round(group / per_ms))
    numbers = np.arange(1, groups.numerator + 1)
    return np.ceil(numbers * groups.denominator / groups.numerator).repeat(group).astype(np.int32)


def poisson(rate: float, seed: int) -> Stamps:
    """A Poisson process of opportunities, conditioned on its number: the mean rate is exact."""
    count, period_ms = _size(rate)
    times = np.random.default_rng(seed).uniform(0.0, period_ms, count)
    times.sort()
    times[-1] = period_ms
    return np.ceil(times).astype(np.int32)


def _size(rate: float) -> tuple[int, int]:
    """Number of opportunities of a trace that has this mean rate, and its length in milliseconds."""
    per_ms = rate / (1_000 * _OPPORTUNITY_BITS)
    count = max(_LEAST, round(per_ms * _PERIOD_MS))
    return count, round(count / per_ms)


MODELS: Mapping[str, Callable[[float, int], Stamps]] = {"constant": constant, "poisson": poisson}
"""Name -> generator of times, milliseconds, from the mean rate, bits per second, and a number: the size of a
group for `constant`, the seed for the others."""


@lru_cache(maxsize=16)
def generate(model: str, rate: float, number: int) -> Stamps:
    """The times of a model of `MODELS`; the same array for the same arguments."""
    stamps = MODELS[model](rate, number)
    stamps.setflags(write=False)
    return stamps
