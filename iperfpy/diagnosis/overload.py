"""The bytes that a path takes beyond its rate, and their place: a queue delays them, a bucket does not.

From both, `volume` bytes beyond the rate pass before more is lost than usual. Its most likely value follows
from the times of the losses alone, over all overloaded stretches together. If the volume were a queue, the
packets behind it would wait volume / rate; the delay that was measured decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iperfpy.diagnosis import random_loss
from iperfpy.diagnosis.capacity import Capacity, Overloaded
from iperfpy.diagnosis.stretches import Stretch, bin_times, lost_packets

Floats = NDArray[np.float64]

FEWEST_LOSSES = 15
"""Losses beyond the path's own that a policer's bucket is derived from (Flach et al. 2016)."""
_LEAST_LOSS = 1e-3
_VOLUMES_US = np.geomspace(0.3e3, 4e6, 800)
"""Volumes that are tried, as time at the path's rate."""
_LIKELY = 2.0
"""Decrease of the logarithm of the likelihood that bounds the volume: 2 standard errors."""
_OVER = 1.04
"""Stretches above the rate by this factor date the loss well enough."""
_WAITS_LESS = 0.4
"""A bucket: packets waited less than this share of the time that a queue of its volume takes."""
_SHORTEST_BUCKET_US = 6e3
_RISE_US, _RISE_ERRORS = 5e3, 3.0
_EARLY, _EARLY_SIGMA, _EARLY_LOSSES = 0.75, 4.0, 10
_STANDING = 0.05
_MANAGED_SHARE = 0.005
"""Share of packets that active management drops while the queue grows, about."""
_TAIL = 0.05
"""Share of the losses that come early, at most, for tail drop."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token-bucket policer.

    Parameters
    ----------
    burst_bytes, most_bytes : depth of the bucket, and its upper bound
    losses : losses beyond the path's own in the stretches that exceeded it
    rise_us : delay that they added
    """

    burst_bytes: float
    most_bytes: float
    losses: int
    rise_us: float


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue of the bottleneck.

    Parameters
    ----------
    queue_bytes : bytes that waited when it was full, or, if it was not, the most that were seen
    delay_us : time that they waited
    full : True if it was seen to overflow
    early : losses beyond the path's own while it was far from full
    managed : True if these show active management; None if jitter, or a rate that varies, hides it
    """

    queue_bytes: float
    delay_us: float
    full: bool
    early: int
    managed: bool | None


def bucket(capacity: Capacity, usual_us: float) -> Bucket | None:
    """Find a policer; None if there is no sign of one.

    usual_us : delay up to which no queue is assumed
    """
    rate, losing = capacity.rate, _losing(capacity)
    if rate is None or not losing:
        return None
    losses = sum(_excess(one, capacity) for one in losing)
    if losses < FEWEST_LOSSES:
        return None
    best, least, most = _volume(losing, capacity, rate)
    weights = [1 / max(one.rise_error_us, 50.0) ** 2 for one in losing]
    rise_us = float(np.average([one.rise_us for one in losing], weights=weights))
    error_us = float(1 / np.sqrt(sum(weights)))
    wait_us = least * 8e6 / rate
    if wait_us < _SHORTEST_BUCKET_US or rise_us + 2 * error_us > _WAITS_LESS * wait_us:
        return None
    # Active management drops before its queue is full: the packets wait all the same. It keeps a queue short
    # at a small overload, and not at a large one, so a single stretch is enough.
    most_us = max(one.rise_us - _RISE_ERRORS * one.rise_error_us for one in losing)
    if max(rise_us, most_us) > max(usual_us, _RISE_US):
        return None
    return Bucket(best, most, losses, rise_us)


def queue(capacity: Capacity, jitter_us: float, *, varies: bool) -> Queue | None:
    """Measure the queue of the bottleneck; None if no stretch made one.

    jitter_us : variation of the delay without load, 5th to 95th percentile
    varies : True if the rate of the path varies
    """
    rate = capacity.rate
    standing = [one for one in capacity.overloaded if one.rise_us > 3 * one.rise_error_us]
    if rate is None or not standing:
        return None
    fullest = max(standing, key=lambda one: (one.loses, one.rise_us))
    losing = [one for one in standing if one.loses and one.stretch.offered > _OVER * rate]
    if not losing:
        size = _waiting(fullest, capacity, varies=True)
        return Queue(size, fullest.rise_us, full=False, early=0, managed=None)
    sizes = [_waiting(one, capacity, varies=varies) for one in losing]
    size = float(np.max(sizes) if varies else np.median(sizes))
    rise_us = max(one.rise_us for one in losing)
    early, managed = _early(standing, capacity, jitter_us)
    if varies:
        managed = None
    # With active management the delay still grows while it drops, and the fullest stretch says how far.
    return Queue(
        size if not managed else float(np.max(sizes)), rise_us, full=True, early=early, managed=managed
    )


def queue_by_round_trips(found: Sequence[Stretch], rate: float, base_rtt_us: float) -> Queue | None:
    """Measure the queue by round-trip times alone: 95th percentile of the fastest stretch that has them."""
    timed = [one for one in found if "p95" in one.rtt_us]
    if not timed or not base_rtt_us or timed[-1].offered < _OVER * rate:
        return None
    rise_us = timed[-1].rtt_us["p95"] - base_rtt_us
    # It lost something, so the queue was full.
    full = timed[-1].lost >= FEWEST_LOSSES
    return Queue(rise_us * rate / 8e6, rise_us, full, early=0, managed=None) if rise_us > 0 else None


def _losing(capacity: Capacity) -> list[Overloaded]:
    rate = capacity.rate or 0.0
    return [one for one in capacity.overloaded if one.loses and one.stretch.offered > _OVER * rate]


def _excess(one: Overloaded, capacity: Capacity) -> int:
    return max(0, round(one.stretch.lost - capacity.loss.share * one.stretch.sent))


def _volume(losing: Sequence[Overloaded], capacity: Capacity, rate: float) -> tuple[float, float, float]:
    """Most likely volume in bytes, and its bounds.

    A bucket that was not full yet when a stretch began passes less. So if one stretch alone shows a volume
    beyond the bounds of all together, its own counts. The path's own losses, if they come in bursts, must not
    be the reason: they scatter more than independent ones, and put the onset of a small overload anywhere.
    """
    curves = [_likelihood(one, capacity, rate) for one in losing]
    together = _bounds(np.sum(curves, axis=0), rate)
    scatter = random_loss.scatter(capacity.loss.mean_run)
    largest = max((_bounds(curve / scatter, rate) for curve in curves), key=lambda bounds: bounds[1])
    return largest if largest[1] > together[2] else together


def _likelihood(one: Overloaded, capacity: Capacity, rate: float) -> Floats:
    """Logarithm of the likelihood of each of the volumes, from the times of the losses of one stretch."""
    flight = one.stretch.flight
    assert flight is not None
    before, offered = max(capacity.loss.share, _LEAST_LOSS), one.stretch.offered
    after = min(0.999, max(before * 1.01, 1 - (1 - before) * rate / offered))
    lost, sent = lost_packets(flight), np.asarray(flight.sent_packets, np.float64)
    lost_by, sent_by = (np.concatenate(([0.0], values.cumsum())) for values in (lost, sent))
    # Losses up to bin k have the probability `before`, those from k on `after`.
    early = lost_by * np.log(before) + (sent_by - lost_by) * np.log1p(-before)
    lost_after, sent_after = lost_by[-1] - lost_by, sent_by[-1] - sent_by
    late = lost_after * np.log(after) + (sent_after - lost_after) * np.log1p(-after)
    at = _VOLUMES_US * rate / (offered - rate) / flight.width_us
    curve: Floats = np.interp(at, np.arange(len(lost_by)), early + late)
    return curve


def _bounds(curve: Floats, rate: float) -> tuple[float, float, float]:
    """The volume with the largest likelihood in bytes, and the least and the most likely ones."""
    volumes = _VOLUMES_US * rate / 8e6
    likely = np.flatnonzero(curve > curve.max() - _LIKELY)
    return float(volumes[curve.argmax()]), float(volumes[likely[0]]), float(volumes[likely[-1]])


def _waiting(one: Overloaded, capacity: Capacity, *, varies: bool) -> float:
    """Bytes that waited before a packet, for the packets after the onset: those that arrived within the time
    that it took longer than without load. That is independent of the rate, constant or not."""
    flight = one.stretch.flight
    assert flight is not None
    known = (flight.arrived_packets > 0) & ~np.isnan(flight.delay_us)
    sent_us, delay_us = bin_times(flight)[known], flight.delay_us[known]
    arrived_us = sent_us + delay_us
    order = arrived_us.argsort(kind="stable")
    times, sizes = arrived_us[order], np.asarray(flight.arrived_bytes[known][order], np.float64)
    total = sizes.cumsum()
    after = sent_us > one.onset_us
    if not after.any():
        return 0.0
    waiting = np.interp(arrived_us[after], times, total) - np.interp(
        sent_us[after] + capacity.calm_delay_us, times, total, left=0.0
    )
    chosen = np.percentile(waiting, 95) if varies else np.mean(waiting)
    # Its own packet was in the queue, too.
    return float(chosen) / (1 - capacity.loss.share) + one.stretch.packet_bytes


def _early(standing: Sequence[Overloaded], capacity: Capacity, jitter_us: float) -> tuple[int, bool | None]:
    """Losses beyond the path's own while the queue was below three quarters of its largest delay."""
    full_us = max(one.rise_us for one in standing)
    if jitter_us > 0.3 * full_us:
        return 0, None
    lost = sent = 0.0
    for one in standing:
        flight = one.stretch.flight
        assert flight is not None
        known = ~np.isnan(flight.delay_us)
        if not known.any():
            continue
        times = bin_times(flight)
        delays = np.interp(times, times[known], flight.delay_us[known]) - capacity.calm_delay_us
        # Full is also the largest delay of this stretch's own, once it loses all that exceeds the rate.
        early = (delays > _STANDING * full_us) & (delays < _EARLY * full_us)
        lost += float(lost_packets(flight)[early].sum())
        sent += float(flight.sent_packets[early].sum())
    expected = capacity.loss.share * sent
    excess = lost - expected
    chance = (max(expected, 1.0) * random_loss.scatter(capacity.loss.mean_run)) ** 0.5
    all_losses = sum(_excess(one, capacity) for one in standing)
    managed: bool | None = None
    if excess >= _EARLY_LOSSES and excess > _EARLY_SIGMA * chance:
        managed = True
    elif _EARLY_SIGMA * chance > max(_EARLY_LOSSES, _MANAGED_SHARE * sent):
        managed = None  # random loss hides the drops of active management
    elif all_losses >= FEWEST_LOSSES and excess < max(2.0, _TAIL * all_losses, 2 * chance):
        managed = False
    return max(0, round(excess)), managed
