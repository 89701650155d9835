"""The rates of the ladder: eight from an estimate of the path's rate, and more where they decide nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence

from iperfpy.diagnosis import path_model, rate_variation
from iperfpy.diagnosis.evidence import DirectionEvidence, RunEvidence, Rung
from iperfpy.diagnosis.stretches import settled_rate
from iperfpy.plan import Direction

SHARES = (0.10, 0.25, 0.50, 0.75, 0.90, 1.00, 1.10, 1.25)
SECONDS = 1.5
FEWEST_PACKETS, SHORTEST_PACKET = 400, 300
"""Packets of the shortest rungs at the path's rate, and the shortest packet."""
MOST_RUNGS = 14
FILL_S = 1.0
"""Time without load in which a bucket fills: the bursts of most policers last less than a second."""
_UP = 1.6
"""Factor to the next rung while the path carries all that is sent."""
_SATURATE, _SATURATED_S = 2.0, 4.5
"""Rate of the rungs that measure a rate that varies, over its mean, and seconds of them."""
_OVER = 1.08
"""Rate of the highest rung over the path's, at least: less excess dates its losses badly."""


def estimate(rounds: Sequence[Sequence[RunEvidence]]) -> float:
    """Estimate the rate of IP packets that the path carries, bits per second, from the tests before."""
    best = 0.0
    for run in (run for tests in rounds for run in tests):
        for path in run.path:
            if path.flight is not None and len(path.flight.sent_bytes) > 10:
                best = max(best, settled_rate(path.flight))
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


def packet_bytes(rate_bits_per_s: float, longest_bytes: int) -> int:
    """IP packet bytes of a rung: shorter packets at low rates, so that a share of them means something."""
    fitting = int(rate_bits_per_s * SECONDS / 8 / FEWEST_PACKETS)
    return min(longest_bytes, max(SHORTEST_PACKET, fitting))


def further(rungs: Sequence[Rung]) -> tuple[float, ...]:
    """Rates of the rungs that are still missing; none if the highest one decides.

    The highest rung decides if it loses more than the loss of the lower rungs explains.
    If all arrives, it was below the path's rate, or a deep queue took the excess: in both cases a higher one
    tells more. A rate that varies needs some seconds of overload until its mean is known.
    """
    if len(rungs) >= MOST_RUNGS or len(rungs) < 2:
        return ()
    top = max(rung.offered_bits_per_s for rung in rungs)
    model = path_model.fit(DirectionEvidence(Direction.FORWARD, rungs=tuple(rungs)))
    rate = model.rate_bits_per_s
    losing = [one.stretch.offered for one in model.capacity.overloaded if one.loses]
    if rate is None or top not in losing or top < _OVER * rate:
        return (_UP * top,)
    if not model.rate.present:
        return ()
    saturated = [rung.seconds for rung in rungs if rung.offered_bits_per_s > rate_variation.SATURATES * rate]
    return (_SATURATE * rate,) if sum(saturated) < _SATURATED_S else ()
