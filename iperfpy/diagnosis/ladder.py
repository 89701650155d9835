"""The rates of the ladder: eight from an estimate of the path's rate, and more where they decide nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from iperfpy.diagnosis.evidence import RunEvidence, Rung

SHARES = (0.10, 0.25, 0.50, 0.75, 0.90, 1.00, 1.10, 1.25)
MOST_RUNGS = 13
FILL_S = 1.0
"""Time without load in which a bucket fills: the bursts of most policers last less than a second."""
_UP = 1.6
"""Factor to the next rung while the path carries all that is sent."""
_FILL = 1.6
"""Factor of the rung that fills a queue that 125 % of the rate did not fill in its time."""
_CARRIED = 0.97
_RISE_US, _RISE_SHARE = 5e3, 0.2


def estimate(rounds: Sequence[Sequence[RunEvidence]]) -> float:
    """Estimate the rate of IP packets that the path carries, bits per second, from the tests before."""
    best = 0.0
    for run in (run for tests in rounds for run in tests):
        # The last half of a test: a token bucket's burst, or a start, is over by then.
        for path in run.path:
            if path.flight is not None and len(path.flight.sent_bytes) > 10:
                half = path.flight.arrived_bytes[len(path.flight.arrived_bytes) // 2 :]
                best = max(best, float(half.sum()) * 8e6 / (len(half) * path.flight.width_us))
        best = max(best, run.bits_per_second)
    return best


def rates(estimated_bits_per_s: float, seed: int) -> tuple[float, ...]:
    """Rates of IP packets of the eight rungs, bits per second, in an order that the seed shuffles."""
    order = list(SHARES)
    random.Random(seed).shuffle(order)
    return tuple(share * estimated_bits_per_s for share in order)


def pause_s(rate_bits_per_s: float, estimated_bits_per_s: float) -> float:
    """Seconds without load before a rung: a token bucket must be full before it overflows again."""
    return FILL_S if rate_bits_per_s > 0.95 * estimated_bits_per_s else 0.0


def further(rungs: Sequence[Rung]) -> tuple[float, ...]:
    """Rates of the rungs that are still missing; none if the highest one decides.

    The highest rung decides if less arrives than was sent, by more than the loss of the lower rungs explains,
    and if it shows where the rest is: dropped, and not only queued.
    """
    if len(rungs) >= MOST_RUNGS or len(rungs) < 2:
        return ()
    ordered = sorted(rungs, key=lambda rung: rung.offered_bits_per_s)
    top, lower = ordered[-1], ordered[:-1]
    shares = [rung.arrived / rung.sent for rung in lower if rung.sent]
    usual = float(np.median(shares)) if shares else 1.0
    if top.arrived / top.sent < _CARRIED * usual:
        return ()
    # All arrived, though later: a deep queue took the excess. A longer excess fills it.
    if rises(top, ordered[0]):
        return (_FILL * top.offered_bits_per_s,) if _tries(ordered) < 2 else ()
    return (_UP * top.offered_bits_per_s,)


def rises(rung: Rung, calm: Rung) -> bool:
    """True if the round-trip times of a rung are above those of a calm one."""
    if "p95" not in rung.rtt_us or "p95" not in calm.rtt_us:
        return False
    rise = rung.rtt_us["p95"] - calm.rtt_us["p95"]
    return rise > max(_RISE_US, _RISE_SHARE * calm.rtt_us["p50"])


def _tries(ordered: Sequence[Rung]) -> int:
    """Rungs in which a queue grew."""
    return sum(rises(rung, ordered[0]) for rung in ordered[len(SHARES) :])
