"""The time that a flow needs after a lasting change of its path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.studies.odd_paths.drawing import OddPath
from tests.studies.odd_paths.limits import Limit

REACHED, KEPT = 0.9, 0.85
"""Shares of the limit: of the rate that counts as settled, and of the mean rate from then until the next
change. A rate that falls some seconds after the change is not settled before."""
SOON_S, SOON_RTTS = 3.0, 15.0
"""Allowed after a change of loss, of delay, or a fall of the rate: the longer of the two."""
RISE, RISE_S = 1.5, 6.0
"""A rise of the limit above this factor has more time."""
WINDOW_S, WINDOW_RTTS = 0.5, 4.0
"""The rate is a mean over the longer of the two."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The time from a change until the flow's rate reached 90 % of the new limit, and the time allowed; if
    it never did, `after_s` is the time until the next change."""

    at_s: float
    after_s: float
    allowed_s: float
    reached: bool

    @property
    def in_time(self) -> bool:
        return self.reached and self.after_s <= self.allowed_s


Series = Sequence[tuple[float, float]]
"""Times in seconds and the bits that had arrived by then."""


def settle(
    series: Series, limit_bits: Callable[[float, float], float], at_s: float, end_s: float, window_s: float
) -> float | None:
    """Find the first window between the change at `at_s` and the next at `end_s` with arrivals of 90 % of the
    limit, and of 85 % from its start to `end_s`; give the time from the change to its start, or None."""
    within = [one for one in series if at_s <= one[0] <= end_s]
    last = 0  # index of the end of the window, which only moves on
    for first_s, bits in within:
        while last < len(within) and within[last][0] < first_s + window_s - 1e-9:
            last += 1
        if last == len(within):
            return None
        until_s, later_bits = within[last]
        reached = later_bits - bits >= REACHED * limit_bits(first_s, until_s)
        if reached and within[-1][1] - bits >= KEPT * limit_bits(first_s, within[-1][0]):
            return first_s - at_s
    return None


def settlings(path: OddPath, limit: Limit, series: Series) -> list[Settled]:
    """Judge every change that lasts long enough: for the time allowed, and a window more."""
    rtt_s = path.mean_rtt_us / 1e6
    window_s = max(WINDOW_S, WINDOW_RTTS * rtt_s)
    found = []
    for at_s, end_s in pairwise((*path.events_s, path.seconds)):
        # Before the change the limit is that of the second before any outage.
        before = limit.mean(max(0.0, at_s - 2.0), at_s - 1.0)
        rise = limit.mean(at_s, end_s) > RISE * before
        allowed_s = max(RISE_S if rise else SOON_S, SOON_RTTS * rtt_s)
        if end_s - at_s < allowed_s + window_s:
            continue
        after_s = settle(series, limit.bits, at_s, end_s, window_s)
        found.append(
            Settled(at_s, end_s - at_s if after_s is None else after_s, allowed_s, after_s is not None)
        )
    return found
