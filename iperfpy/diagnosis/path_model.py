"""The model of one direction of a path, fitted to the ladder, in the order of README.md."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from iperfpy.diagnosis import capacity as capacities
from iperfpy.diagnosis import delay_variation, overload, random_loss, rate_variation
from iperfpy.diagnosis.capacity import Capacity
from iperfpy.diagnosis.delay_variation import DelayVariation
from iperfpy.diagnosis.evidence import DirectionEvidence
from iperfpy.diagnosis.overload import Bucket, Queue
from iperfpy.diagnosis.random_loss import RandomLoss
from iperfpy.diagnosis.rate_variation import RateVariation
from iperfpy.diagnosis.stretches import Stretch, stretches

FAIR_QUEUE_US, FAIR_QUEUE_RTTS = 5e3, 0.2
"""A full queue that adds no more than the larger of the two is a line's."""
_LATE_SHARE, _FEWEST_LATE = 1e-3, 5
_FAR_BELOW, _FAR_BELOW_MEAN = 0.7, 0.5
"""Shares of the rate up to which stretches have no queue, if it is constant, and if it varies."""
_NOT_FULL = 0.3
"""Share of the mean delay of a full queue up to which a queue in front of a rate that varies is not full."""


@dataclass(frozen=True, slots=True)
class PathModel:
    """Parameters of the path; None: no sign of that part.

    Parameters
    ----------
    base_rtt_us : least usual round-trip time without load; 0.0: not known
    mtu_bytes, mtu_hint_bytes : longest IP packet that passes, and the one that was announced
    late, late_share : datagrams that arrived after later ones
    """

    base_rtt_us: float
    mtu_bytes: int | None
    mtu_hint_bytes: int | None
    capacity: Capacity
    bucket: Bucket | None
    queue: Queue | None
    rate: RateVariation
    delay: DelayVariation
    late: int
    late_share: float

    @property
    def loss(self) -> RandomLoss:
        """The path's own loss."""
        return self.capacity.loss

    @property
    def reorders(self) -> bool:
        """True if more datagrams were overtaken than chance findings."""
        return self.late >= _FEWEST_LATE and self.late_share > _LATE_SHARE

    @property
    def fair_queue_us(self) -> float:
        """Delay up to which a full queue is a line's."""
        return max(FAIR_QUEUE_US, FAIR_QUEUE_RTTS * self.base_rtt_us)

    @property
    def rate_bits_per_s(self) -> float | None:
        """Rate of IP packets that the path carries; the mean of one that varies."""
        return self.rate.mean if self.rate.present else self.capacity.rate

    @property
    def least(self) -> bool:
        """True if the path carries at least that rate, and may carry more."""
        return self.capacity.least and not self.rate.present

    @property
    def rate_error(self) -> float | None:
        """Standard error of that rate."""
        return self.rate.error if self.rate.present else self.capacity.error

    @property
    def bdp_bytes(self) -> float | None:
        """Bandwidth-delay product in bytes of IP packets."""
        rate = self.rate_bits_per_s
        return None if rate is None or not self.base_rtt_us else rate * self.base_rtt_us / 8e6


def fit(evidence: DirectionEvidence) -> PathModel:
    """Fit the model to the ladder, the tests of bare datagrams, and the idle path."""
    idle, found = evidence.idle, stretches(evidence)
    base_us = min((us for us in (idle.rtt_us.get("p5"), _least_rtt(found)) if us), default=0.0)
    capacity = capacities.measure(found, base_us)
    rate = capacity.rate
    far_below = [one for one in capacity.calm if rate is None or one.offered < _FAR_BELOW * rate]
    delay = delay_variation.measure(idle, far_below)
    bucket = overload.bucket(capacity, max(0.1 * base_us, 0.3 * delay.spread_us))
    variation = RateVariation()
    queue = None
    if capacity.least:
        # The bursts of the sender overflowed, at a rate that is not known: their losses measure nothing.
        bucket = None
    elif bucket is None:
        variation = rate_variation.measure(capacity, delay.spread_us, delay.lump_us)
        if variation.present:
            # A queue near the mean rate overflows while the rate is low: that is no random loss.
            slow = [one for one in capacity.calm if _never_full(one, capacity, variation.mean)]
            slow = [capacities.without_bursts(one, variation.mean) for one in slow]
            capacity = replace(capacity, loss=random_loss.measure(slow))
        queue = overload.queue(capacity, delay.spread_us, varies=variation.present)
    if queue is None and rate is not None and not capacity.overloaded:
        queue = overload.queue_by_round_trips(found, rate, base_us)
    late = sum(one.late for one in found)
    arrived = sum(one.sent - one.lost for one in found)
    return PathModel(
        base_us,
        idle.mtu_bytes,
        idle.mtu_hint_bytes,
        capacity,
        bucket,
        queue,
        variation,
        delay,
        late,
        late / arrived if arrived else 0.0,
    )


def _never_full(one: Stretch, capacity: Capacity, mean: float) -> bool:
    """True if the queue of a rate that varies did not overflow: by the rate of the stretch, or by its delays.

    A full queue delays less while the rate is high: a third of its mean delay at three times the mean rate.
    """
    if one.offered < _FAR_BELOW_MEAN * mean:
        return True
    full_us = max((other.rise_us for other in capacity.overloaded if other.loses), default=0.0)
    if one.flight is None or np.isnan(one.flight.delay_us).all():
        return False
    return float(np.nanmax(one.flight.delay_us)) - capacity.calm_delay_us < _NOT_FULL * full_us


def _least_rtt(found: list[Stretch]) -> float:
    return min((one.rtt_us["p5"] for one in found if "p5" in one.rtt_us), default=0.0)
