"""Detection of a token-bucket policer in the record of one stream. token_bucket.py fits its rate and depth.

A policer drops a packet if and only if its bucket is empty, and nothing waits for it. So the record shows one
if a bucket predicts the losses, if the bucket is deeper than a short queue, and if packets beside the lost
ones waited for much less than they would in a queue of that depth. The idea, the numbers of losses and
passes, and the delays at losses are those of Flach et al., "An Internet-Wide Analysis of Traffic
Policing", SIGCOMM 2016. Their detector takes the rate between the first and the last loss for that of the
bucket; here both parameters are fitted (token_bucket.py), so that it also works for a sender that is slower
for most of the time, or much faster all the time.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iperfpy.diagnosis import token_bucket
from iperfpy.diagnosis.stretches import bin_times, lost_packets
from iperfpy.diagnosis.token_bucket import BucketFit
from iperfpy.protocols.path_evidence import FlightBins
from iperfpy.protocols.units import format_percent

FEWEST_SAMPLES, FEWEST_SLICES, FEWEST_STRETCHES = 15, 3, 6
"""Losses, and passes, that a conclusion needs; round trips with losses; stretches that are compared."""
_AS_CHANCE, _UNEXPLAINED = 0.4, 0.1
"""Squared differences of losses and predictions, over those of chance, and of a constant share, at most: one
of the two must hold. A sender at a constant rate loses a constant share; one with coarse records differs."""
_SHORTEST_US = 6e3
"""Shortest time in which the bucket's rate fills it: a shorter one looks like a queue of some packets."""
_FEWEST_PACKETS = 8
"""Packets that a bucket holds, at least. One of a few packets drops a constant share of a constant rate, as
chance does: of the best fits to random losses, none held more than seven."""
_WAITS_LESS = 0.4
"""A bucket: packets waited less than this share of the time that a queue of its depth takes."""
_RISE_US, _RISE_RTTS, _AT_THE_TOP = 5e3, 0.2, 0.9
"""A queue: packets beside lost ones waited longer than in a short queue, and longer than this share of those
far from losses. A rate that varies, or falls, loses as a bucket does that is much deeper than its queue."""


class Code(enum.StrEnum):
    """Result of the detection: the check that failed, or `POLICED`. In the order of the checks."""

    FEW_LOSSES = "few-losses"
    NO_DELAY = "delay-not-known"
    RANDOM = "not-as-predicted"
    SHALLOW = "shallow"
    INFLATED = "inflated-delay"
    QUEUE = "as-a-queue"
    POLICED = "policed"


CHECKS = len(Code) - 1


@dataclass(frozen=True, slots=True)
class PolicerTest:
    """Result for one stream.

    Parameters
    ----------
    losses, passes : packets counted; `FEWEST_SAMPLES` of each are needed
    rate_bits_per_s, burst_bytes : of the bucket, if the code is POLICED
    first_loss_us : time of the first loss
    explained : share of the variation of the losses that the bucket predicts
    exact : True if the predictions differ from the losses by less than chance
    """

    code: Code
    losses: int
    passes: int = 0
    rate_bits_per_s: float = 0.0
    burst_bytes: float = 0.0
    first_loss_us: float = 0.0
    explained: float = 0.0
    exact: bool = False

    @property
    def policed(self) -> bool:
        """True if all checks passed."""
        return self.code is Code.POLICED

    @property
    def passed(self) -> int:
        """Number of checks passed, of `CHECKS`."""
        return list(Code).index(self.code)


def detect(flight: FlightBins, min_rtt_us: float | None = None, *, sampled: bool = False) -> PolicerTest:
    """Look for a policer.

    Parameters
    ----------
    min_rtt_us : shortest round-trip time, needed if the record has one-way delays
    sampled : True if the record is one of counters, which date a loss by a round trip at best
    """
    lost = lost_packets(flight)
    losses, passes = int(lost.sum()), int(flight.arrived_packets.sum())
    if losses < FEWEST_SAMPLES or passes < FEWEST_SAMPLES:
        return PolicerTest(Code.FEW_LOSSES, losses, passes)
    if np.isnan(flight.delay_us).all() or (flight.one_way and not min_rtt_us):
        return PolicerTest(Code.NO_DELAY, losses, passes)
    # Losses of one moment are one event, however many stretches they fill.
    blur_us = flight.width_us + (min_rtt_us or 0.0) * sampled
    bucket = token_bucket.fit(flight, blur_us) if _slices(flight, lost) >= FEWEST_SLICES else None
    if bucket is None or bucket.stretches < FEWEST_STRETCHES:
        return PolicerTest(Code.FEW_LOSSES, losses, passes)
    first_us = float((bin_times(flight) - bin_times(flight)[0])[lost > 0][0])
    return PolicerTest(
        _code(flight, blur_us, bucket, min_rtt_us),
        losses,
        passes,
        bucket.rate_bits_per_s,
        bucket.depth_bytes,
        first_us,
        max(0.0, 1 - min(bucket.error, bucket.unexplained)),
        bucket.error <= _AS_CHANCE,
    )


def _code(flight: FlightBins, blur_us: float, bucket: BucketFit, min_rtt_us: float | None) -> Code:
    """Apply the checks to the best bucket; return the first that fails, or `POLICED`."""
    if bucket.error > _AS_CHANCE and bucket.unexplained > _UNEXPLAINED:
        return Code.RANDOM
    wait_us = bucket.least_depth_bytes * 8e6 / bucket.rate_bits_per_s
    packet = float(flight.sent_bytes.sum() / flight.sent_packets.sum())
    if wait_us < _SHORTEST_US or bucket.depth_bytes < _FEWEST_PACKETS * packet:
        return Code.SHALLOW
    rise_us = token_bucket.rise_at_losses_us(flight)
    base_us = min_rtt_us or float(np.nanmin(flight.delay_us))
    rises = rise_us > max(_RISE_US, _RISE_RTTS * base_us)
    if rise_us > _WAITS_LESS * wait_us or (rises and token_bucket.rank_at_losses(flight) > _AT_THE_TOP):
        return Code.INFLATED
    if rise_us > 0 and token_bucket.queue_explains_as_well(flight, blur_us, bucket, rise_us):
        return Code.QUEUE
    return Code.POLICED


def _slices(flight: FlightBins, lost: NDArray[np.float64]) -> int:
    """Number of round trips that had a loss."""
    times, usual_us = bin_times(flight), float(np.nanmedian(flight.delay_us))
    return len(np.unique(times[lost > 0] // max(usual_us, flight.width_us)))


def sentence(test: PolicerTest) -> str:
    """Say in words which check failed, or that none did."""
    if test.policed:
        return f"a token bucket explains {format_percent(test.explained)} of when packets were lost"
    if test.code is Code.FEW_LOSSES:
        if test.losses >= FEWEST_SAMPLES and test.passes >= FEWEST_SAMPLES:
            return f"{test.losses} losses: they came in too few periods to tell a policer"
        return f"{test.losses} losses: too few to tell a policer ({FEWEST_SAMPLES} needed)"
    if test.code is Code.NO_DELAY:
        return f"{test.losses} losses: without round-trip times, a policer cannot be told from a queue"
    words = {
        Code.RANDOM: "they come at other times than those of a policer",
        Code.SHALLOW: "hardly a burst passes before them, as with a short queue",
        Code.INFLATED: "round-trip times are longer before them",
        Code.QUEUE: "a short queue of a faster path explains them as well",
    }
    return f"{test.losses} losses, no sign of a policer: {words[test.code]}"
