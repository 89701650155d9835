"""Axes of a picture: from values to positions, and the ticks between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

WIDE_RANGE = 30.0
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""


@dataclass(frozen=True, slots=True)
class AxisScale:
    """A mapping of values to positions.

    Parameters
    ----------
    low, high : values at the ends; above 0 if `logarithmic`
    start, end : their positions; `end` may be the smaller one
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The position of a value; a value outside of the ends keeps to the nearer one."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            share = log10(value / self.low) / log10(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values between the ends, about so many."""
        return (
            _log_ticks(self.low, self.high) if self.logarithmic else round_ticks(self.low, self.high, about)
        )


def scale_for(
    values: Iterable[float], start: float, end: float, *, from_zero: bool = False, may_be_log: bool = False
) -> AxisScale:
    """A scale around the values, with a margin: linear, or logarithmic if their range is wide."""
    known = list(values) or [0.0, 1.0]
    low, high = min(known), max(known)
    if may_be_log and low > 0 and high / low > WIDE_RANGE:
        return AxisScale(low / 1.15, high * 1.15, start, end, logarithmic=True)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    if from_zero:
        return AxisScale(0.0, high + margin if high > 0 else 1.0, start, end)
    # A margin does not make a delay negative.
    return AxisScale(max(0.0, low - margin) if low >= 0 else low - margin, high + margin, start, end)


def round_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from `low` to `high`."""
    rough = (high - low) / max(1, about)
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    factors: Sequence[int] = (1, 2, 5) if high / low < 1000 else (1,)
    return [
        factor * 10.0**power for power in decades for factor in factors if low <= factor * 10.0**power <= high
    ]


def short_number(value: float) -> str:
    """A tick: up to four significant digits, no exponent below a million: `0.05`, `12.5`, `1,250`."""
    if value == 0:
        return "0"
    size = floor(log10(abs(value)))
    text = f"{value:,.{max(0, 3 - size)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
