"""Generates traces of opportunities from a mean rate and a number.

`constant` and `poisson` are exact. The other models are synthetic: each imitates the statistics that have
been published about a kind of access network, and claims nothing else (docs/simulator.md names the sources).

`lte` and `wifi` are fading processes. x is a stationary Gaussian process with the autocorrelation

    rho(t) = slow_share exp(-t / slow_s) + (1 - slow_share) exp(-t / fast_s)

and P is the mean of the squares of some independent copies of x, the power that several antennas receive over
Rayleigh channels: it has a gamma distribution of mean 1 and the autocorrelation rho(t)^2. The rate is
proportional to P, or to the part of the best rate that a fade of depth P leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
"""Length of a Poisson trace; longer if it would have few opportunities."""
_LEAST, _MOST = 1_000, 10_000_000
"""Opportunities of a random trace."""
_LONG_MS = 300_000
"""Length of the synthetic traces, so that a slow variation shows its statistics; shorter if they would have
more than `_MOST` opportunities."""
_STEP_MS = 10
"""Rates of the synthetic traces are constant for so long."""
_SLOT_MS, _GAP_MS = 15_000, (60, 140)
"""Starlink's distance of reconfigurations, and the silence at each of them."""

Stamps = NDArray[np.int32]
Floats = NDArray[np.float64]


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
    count, period_ms = _size(rate, _PERIOD_MS)
    times = np.random.default_rng(seed).uniform(0.0, period_ms, count)
    times.sort()
    times[-1] = period_ms
    return np.ceil(times).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Fading:
    """A fading process.

    copies : number of Gaussian processes behind the power; its coefficient of variation is sqrt(2 / copies)
    slow_share, slow_s, fast_s : their autocorrelation, times in seconds
    depth : None for a rate proportional to the power; otherwise the mean depth of a fade as a multiple of the
        mean rate, and the best rate is 1 + depth
    """

    copies: int
    slow_share: float
    slow_s: float
    fast_s: float
    depth: float | None = None

    def rates(self, count: int, rng: np.random.Generator) -> Floats:
        """(count,) float64: rates of mean 1 or nearly so, one per `_STEP_MS`; the end joins the beginning."""
        lags_s = np.minimum(np.arange(count), count - np.arange(count)) * _STEP_MS / 1_000
        covariance = self.slow_share * np.exp(-lags_s / self.slow_s)
        covariance += (1.0 - self.slow_share) * np.exp(-lags_s / self.fast_s)
        # White noise, filtered in the frequency domain, is a stationary process on a circle.
        spectrum = np.sqrt(np.maximum(0.0, np.fft.rfft(covariance).real))
        power = np.zeros(count)
        for _ in range(self.copies):
            power += np.fft.irfft(spectrum * np.fft.rfft(rng.standard_normal(count)), count) ** 2
        power /= self.copies
        return power if self.depth is None else np.maximum(0.0, 1.0 + self.depth * (1.0 - power))


LTE = Fading(copies=4, slow_share=0.917, slow_s=10.0, fast_s=0.083)
WIFI = Fading(copies=2, slow_share=0.97, slow_s=16.0, fast_s=0.05, depth=0.28)


def _fading(kind: Fading) -> Callable[[float, int], Stamps]:
    def generated(rate: float, seed: int) -> Stamps:
        count, period_ms = _size(rate, _LONG_MS)
        steps = -(-period_ms // _STEP_MS)
        return _opportunities(kind.rates(steps, np.random.default_rng(seed)), count, steps * _STEP_MS)

    return generated


def starlink(rate: float, seed: int) -> Stamps:
    """A rate that changes every 15 s, with a short silence at each change, and varies a little meanwhile."""
    rng = np.random.default_rng(seed)
    per_slot, (count, period_ms) = _SLOT_MS // _STEP_MS, _size(rate, _LONG_MS)
    slots = max(1, round(period_ms / _SLOT_MS))
    # Gamma distributions of mean 1, with coefficients of variation of 0.3 and 0.15.
    rates = rng.gamma(11.0, 1 / 11.0, slots).repeat(per_slot)
    rates *= rng.gamma(44.0, 1 / 44.0, slots * _SLOT_MS // 1_000).repeat(1_000 // _STEP_MS)
    for slot, gap_ms in enumerate(rng.integers(*_GAP_MS, slots, endpoint=True).tolist()):
        rates[slot * per_slot : slot * per_slot + gap_ms // _STEP_MS] = 0.0
    length_ms = slots * _SLOT_MS
    return _opportunities(rates, max(1, round(count * length_ms / period_ms)), length_ms)


def _size(rate: float, period_ms: int) -> tuple[int, int]:
    """Number of opportunities of a trace that has this mean rate, and its length in milliseconds."""
    per_ms = rate / (1_000 * _OPPORTUNITY_BITS)
    count = min(_MOST, max(_LEAST, round(per_ms * period_ms)))
    return count, round(count / per_ms)


def _opportunities(rates: Floats, count: int, period_ms: int) -> Stamps:
    """Times of so many opportunities in one period, at the rates of its steps."""
    served = np.concatenate(([0.0], rates.cumsum()))
    served *= count / served[-1]
    times_ms = np.interp(np.arange(1, count + 1), served, np.linspace(0.0, period_ms, len(served)))
    stamps = np.ceil(times_ms - 1e-6).astype(np.int32)
    stamps[-1] = period_ms
    return stamps


MODELS: Mapping[str, Callable[[float, int], Stamps]] = {
    "constant": constant,
    "poisson": poisson,
    "lte": _fading(LTE),
    "wifi": _fading(WIFI),
    "starlink": starlink,
}
"""Name -> generator of times, milliseconds, from the mean rate, bits per second, and a number: the size of a
group for `constant`, the seed for the others."""


@lru_cache(maxsize=16)
def generate(model: str, rate: float, number: int) -> Stamps:
    """The times of a model of `MODELS`; the same array for the same arguments."""
    stamps = MODELS[model](rate, number)
    stamps.setflags(write=False)
    return stamps
