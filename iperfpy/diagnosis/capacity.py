"""The rate of a path from stretches of datagrams, and those of them that exceeded it.

A stretch is overloaded if it loses more than the calm ones, or if its delay grew. Its datagrams then
arrive at the rate of the path, less the loss behind the bottleneck. Arrivals are a line over time, fitted
by least squares: variation of the delay moves single arrivals, and hardly the slope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iperfpy.diagnosis import chance_losses, held_sender, random_loss
from iperfpy.diagnosis.random_loss import RandomLoss
from iperfpy.diagnosis.stretches import Stretch, bin_times, lost_packets, mean_delay
from iperfpy.protocols.path_evidence import FlightBins

Floats = NDArray[np.float64]

_EXCESS, _EXCESS_SIGMA = 0.015, 4.0
_RISE_US, _RISE_RTTS, _RISE_SIGMA, _RISE_PACKETS = 1.5e3, 0.04, 5.0, 3.0
_CALM = 0.97
"""Stretches up to this share of the rate count as calm."""
_CARRIED = 0.97
"""Share of the highest arrival rate that an overloaded stretch offers, at least."""
_BURST_SIGMA = 3.0
"""Losses in bursts of the sender, beyond the share of its other packets, that are chance: standard errors."""
_BURST_PACKETS, _BURST_US = 3, 2e3
"""Backlog from which on a loss is that of the sender's own burst: packets, and time at the path's rate."""
_LEAST_ERROR = 0.003
_COUNTED_ERROR = 0.05
"""Standard error of a rate by sums alone."""
_FEWEST_DELAYS = 20
_DENSE = 0.6, 0.93
"""Shares of the rate between which calm stretches give the delay without a queue."""
_SPREAD_SHARE = 0.5
"""A queue's delay must exceed this share of the variation without load: jitter adds up to half of it."""
_SLOWEST_SHARE = 0.6
"""Stretches up to this share of the highest arrival rate give the delay without load."""


@dataclass(frozen=True, slots=True, eq=False)
class Overloaded:
    """One stretch beyond the path's rate.

    Parameters
    ----------
    onset_us : time from which on more is lost than the path's own loss
    loses : True if more is lost than the path's own loss
    rise_us, rise_error_us : mean delay after the onset less that without load
    arriving : bits per second that arrived after the onset; while the bottleneck was busy, if the sender was
        held up
    least : True if the sender was held up and its losses do not tell how long the bottleneck was busy: then
        `arriving` is a lower bound
    """

    stretch: Stretch
    onset_us: float
    loses: bool
    rise_us: float
    rise_error_us: float
    arriving: float
    least: bool = False


@dataclass(frozen=True, slots=True)
class Capacity:
    """The rate of the path.

    Parameters
    ----------
    rate, error : bits per second of IP packets and standard error; `rate` is None if nothing exceeded it
    most_arrived : highest rate at which datagrams arrived
    overloaded : stretches beyond the rate
    disturbed : stretches that lost or waited though others carried more: a rate that varies, or other traffic
    least : True if `rate` is a lower bound, because the sender was held up
    calm_delay_us : mean delay of calm stretches above the least one of each
    """

    rate: float | None
    error: float | None
    most_arrived: float
    overloaded: tuple[Overloaded, ...]
    loss: RandomLoss
    calm: tuple[Stretch, ...]
    calm_delay_us: float
    disturbed: tuple[Overloaded, ...] = ()
    least: bool = False


def _by_counts(stretches: Sequence[Stretch]) -> Capacity:
    """The rate by sums alone, from a receiver that does not tell when datagrams arrived.

    Its sums have the content of the queue, which arrives after the stretch; round-trip times tell its size.
    """
    if not stretches:
        return Capacity(None, None, 0.0, (), RandomLoss(), (), 0.0)
    most = max(one.offered * (1 - one.loss) for one in stretches)
    slow = [one for one in stretches if one.offered <= _SLOWEST_SHARE * most] or list(stretches[:1])
    loss = random_loss.measure(slow)
    losing = [one for one in stretches if one not in slow and one.loss - loss.share > _lost_more(one, loss)]
    if not losing:
        return Capacity(None, None, most, (), random_loss.measure(stretches), tuple(stretches), 0.0)
    calm = [one for one in stretches if one.offered < losing[0].offered]
    loss = random_loss.measure(calm)
    usual_us = min((one.rtt_us["p50"] for one in slow if "p50" in one.rtt_us), default=float("inf"))
    rates = []
    for one in losing[-2:]:
        waits_us = max(0.0, one.rtt_us.get("p95", 0.0) - usual_us)
        rates.append(one.offered * (1 - one.loss) / (1 + waits_us / 1e6 / one.seconds))
    rate = float(np.median(rates)) / (1 - loss.share)
    return Capacity(rate, _COUNTED_ERROR * rate, most, (), loss, tuple(calm), 0.0)


def _lost_more(one: Stretch, loss: RandomLoss) -> float:
    """Share above the path's own loss from which on a stretch is said to lose more."""
    spread = random_loss.scatter(loss.mean_run)
    share_error = sqrt(max(loss.share, 1 / one.sent) * spread / one.sent + loss.error**2)
    return max(_EXCESS, _EXCESS_SIGMA * share_error)


class _Delay(NamedTuple):
    """Delay without a queue: mean, its error, and the change of it that does not yet show a queue."""

    calm_us: float
    error_us: float
    usual_us: float


def measure(stretches: Sequence[Stretch], base_rtt_us: float) -> Capacity:
    """Find the overloaded stretches, the loss of the others, and the rate; `stretches`: slowest first."""
    usable = [one for one in stretches if one.sent and one.flight is not None]
    if not usable:
        return _by_counts([one for one in stretches if one.sent])
    most = max(one.offered * (1 - one.loss) for one in usable)
    slow = [one for one in usable if one.offered <= _SLOWEST_SHARE * most] or usable[:1]
    calm_delay_us, calm_error_us = _calm_delay(slow)
    slow_us, spread_us = calm_delay_us, _spread(slow)
    loss = random_loss.measure(slow)
    overloaded: list[Overloaded] = []
    found: list[Overloaded] = []
    rate: float | None = None
    # The loss of the calm stretches decides which are overloaded, and these which are calm.
    for _ in range(3):
        delay = _Delay(calm_delay_us, calm_error_us, max(_RISE_RTTS * base_rtt_us, _SPREAD_SHARE * spread_us))
        tried = [_overload(one, loss, delay) for one in usable if one not in slow]
        found = [one for one in tried if one is not None]
        carried = _CARRIED * max((one.arriving for one in found), default=0.0)
        overloaded = [one for one in found if one.stretch.offered >= carried]
        # Stretches that give a lower bound tell nothing beside one that gives the rate.
        overloaded = [one for one in overloaded if not one.least] or overloaded
        rates = [one.arriving / (1 - loss.share) for one in overloaded]
        rate = _combined(overloaded, rates)
        beyond = [one.stretch for one in found]
        limit = _CALM * (rate if rate is not None else float("inf"))
        calm = [one for one in usable if one not in beyond and one.offered <= limit] or slow
        loss = random_loss.measure(_without_overflow(calm, rate or most))
        # Jitter that keeps the order delays dense packets more: nearly as dense ones compare best.
        # One with a longer delay had a queue: the rate was lower for a while.
        most_us = slow_us + max(_RISE_US, _SPREAD_SHARE * spread_us)
        dense = [
            one
            for one in calm
            if rate is not None
            and _DENSE[0] <= one.offered / rate <= _DENSE[1]
            and _calm_delay([one])[0] <= most_us
        ]
        calm_delay_us, calm_error_us = _calm_delay(dense or slow)
    # A sender that was held up overflows a queue with its bursts: a constant share, which is not chance.
    if found and not any(_waited(one) or one.least for one in found) and chance_losses.are_chance(usable):
        return Capacity(None, None, most, (), random_loss.measure(usable), tuple(usable), calm_delay_us)
    error = None
    if rate is not None:
        rates = [one.arriving / (1 - loss.share) for one in overloaded]
        spread = float(np.std(rates)) / sqrt(len(rates)) if len(rates) > 1 else 0.0
        error = max(_LEAST_ERROR * rate, spread, rate * loss.error)
    disturbed = tuple(one for one in found if one not in overloaded)
    least = bool(overloaded) and all(one.least for one in overloaded)
    return Capacity(rate, error, most, tuple(overloaded), loss, tuple(calm), calm_delay_us, disturbed, least)


def _waited(one: Overloaded) -> bool:
    """True if a queue delayed the packets of this stretch."""
    return one.rise_us > max(_RISE_US, _RISE_SIGMA * one.rise_error_us)


def _calm_delay(slow: Sequence[Stretch]) -> tuple[float, float]:
    """Mean delay without load, over its least value, and the deviation between stretches."""
    means = [mean_delay(one.flight)[0] for one in slow if one.flight is not None]
    means = [mean for mean in means if mean == mean]
    if not means:
        return 0.0, 0.0
    return float(np.mean(means)), float(np.std(means) / sqrt(len(means)))


def _spread(slow: Sequence[Stretch]) -> float:
    """Variation of the delay without load, 5th to 95th percentile: the median of the stretches."""
    spreads = []
    for one in slow:
        if one.flight is not None:
            known = one.flight.delay_us[~np.isnan(one.flight.delay_us)]
            if len(known) >= _FEWEST_DELAYS:
                spreads.append(float(np.subtract(*np.percentile(known, (95, 5)))))
    return float(np.median(spreads)) if spreads else 0.0


def _overload(one: Stretch, loss: RandomLoss, delay: _Delay) -> Overloaded | None:
    """Give the overload of a stretch; None if it has no more loss and no more delay than calm ones."""
    flight = one.flight
    assert flight is not None
    half = bin_times(flight) > one.seconds * 0.5e6
    late_us, error_us, count = mean_delay(flight, half)
    rise_us = late_us - delay.calm_us if count else 0.0
    error_us = sqrt(error_us**2 + delay.error_us**2) if count else float("inf")
    packet_us = one.packet_bytes * 8e6 / max(one.offered, 1.0)
    least_us = max(_RISE_US, delay.usual_us, _RISE_PACKETS * packet_us, _RISE_SIGMA * error_us)
    loses = one.loss - loss.share > _lost_more(one, loss)
    if not loses and not rise_us > least_us:
        return None
    onset_us = onset(flight, loss.share) if loses else 0.1e6 * one.seconds
    after = bin_times(flight) > onset_us
    delay_us, error_us, count = mean_delay(flight, after)
    arriving = arrival_rate(flight, onset_us)
    if arriving is None or not count:
        return None
    error_us = sqrt(error_us**2 + delay.error_us**2)
    least = False
    if loses and held_sender.held_up(flight):
        busy = held_sender.rate_while_busy(flight, arriving)
        if busy is not None and busy > one.offered:
            return None  # only its bursts exceeded the path
        arriving, least = busy or arriving, busy is None
    return Overloaded(one, onset_us, loses, delay_us - delay.calm_us, error_us, arriving, least)


def _without_overflow(calm: Sequence[Stretch], rate: float) -> Sequence[Stretch]:
    """The stretches without the bursts of their senders, if those lose more than the other packets do.

    Bursts that lose the same share overflowed nothing. Leaving them out would only hide the runs of losses.
    """
    others = [without_bursts(one, rate) for one in calm]
    lost, sent = (sum(getattr(one, name) for one in others) for name in ("lost", "sent"))
    hidden = sum(one.lost for one in calm) - lost
    expected = lost / max(1, sent) * (sum(one.sent for one in calm) - sent)
    spread = random_loss.scatter(random_loss.mean_run_of(calm))
    return others if hidden > expected + _BURST_SIGMA * sqrt(expected * spread) else calm


def without_bursts(one: Stretch, rate: float) -> Stretch:
    """The stretch without the packets that its own sender sent in a burst.

    A sender that was held up catches up: for some milliseconds it exceeds the rate of the path, and a short
    queue overflows. The backlog of a bottleneck of that rate, by the times of departure, tells when.
    """
    flight = one.flight
    if flight is None or not rate:
        return one
    walk = np.cumsum(flight.sent_bytes - rate * flight.width_us / 8e6)
    # The backlog is the distance from the least value so far, which may be that before the first packet.
    backlog = walk - np.minimum.accumulate(np.minimum(walk, 0.0))
    burst = backlog > max(_BURST_PACKETS * one.packet_bytes, rate * _BURST_US / 8e6)
    lost = lost_packets(flight)
    hidden = int(lost[burst].sum())
    if not hidden:
        return one
    left = max(0, one.lost - hidden)
    sent = one.sent - int(flight.sent_packets[burst].sum())
    runs = (0, 0) if not left else (None, None)  # the receiver does not tell which runs were these
    return replace(one, sent=max(1, sent), lost=left, runs=runs[0], in_runs=runs[1])


def onset(flight: FlightBins, share: float) -> float:
    """Time from which on the loss exceeds `share`: the least of the cumulative sum of lost less expected
    packets, at the share halfway between the loss before and that of the last third (Page's test)."""
    lost, sent = lost_packets(flight), np.asarray(flight.sent_packets, np.float64)
    third = len(sent) * 2 // 3
    late = float(lost[third:].sum() / max(1.0, sent[third:].sum()))
    between = (share + max(late, share + 0.01)) / 2
    walk = np.cumsum(lost - between * sent)
    at = int(walk.argmin())
    # Before the first packet, the sum is 0.
    return float(flight.start_us + (at + 1 if walk[at] < 0 else 0) * flight.width_us)


def arrival_rate(flight: FlightBins, from_us: float) -> float | None:
    """Bits per second at which the packets that left after `from_us` arrived; None for fewer than 10 bins."""
    chosen = (flight.arrived_packets > 0) & (bin_times(flight) >= from_us) & ~np.isnan(flight.delay_us)
    if np.count_nonzero(chosen) < 10:
        return None
    times = bin_times(flight)[chosen] + flight.delay_us[chosen]
    sizes = np.asarray(flight.arrived_bytes[chosen], np.float64)
    order = times.argsort(kind="stable")
    times, sizes = times[order], sizes[order]
    # The middle of each bin's bytes belongs to its time.
    total = sizes.cumsum() - sizes / 2
    centred = times - times.mean()
    spread = float((centred**2).sum())
    return float((centred * (total - total.mean())).sum() / spread * 8e6) if spread else None


def _combined(overloaded: Sequence[Overloaded], rates: Sequence[float]) -> float | None:
    """Mean of the rates, weighted by the time that each saw."""
    if not overloaded:
        return None
    weights = [max(1.0, one.stretch.seconds * 1e6 - one.onset_us) for one in overloaded]
    return float(np.average(rates, weights=weights))
