"""The token bucket that explains the losses of one stream best.

Rate and depth of a bucket are fitted to the record: a bucket drops exactly what exceeds its tokens, so its
drops are predicted, one stretch of time after the other, and compared with the losses. Losses by chance
differ from every prediction by as much as chance does; those of a bucket do not.

A queue that drops when it is full is the same bucket as far as losses go: its rate is that of the bottleneck,
its depth is its size, and its tokens are the room that is left. Delay alone tells the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iperfpy.diagnosis.stretches import bin_times, lost_packets
from iperfpy.protocols.path_evidence import FlightBins

Floats = NDArray[np.float64]

_RATES = np.concatenate((np.linspace(0.94, 1.06, 25), np.geomspace(1.075, 3.2, 24)))
"""Rates that are tried, over the one at which packets passed between the first loss and the last. A sender
that left the bucket full for a while passed less than its rate."""
_WAITS_US = np.geomspace(2e3, 2e6, 25)
"""Depths that are tried, as time at that rate."""
_FINE_RATES, _FINE_DEPTHS = np.linspace(0.985, 1.015, 9), np.geomspace(0.7, 1.4, 11)
"""The same around the best ones, as factors."""
_PART_OF_FULL = np.linspace(0.45, 1.1, 9)
"""Mean delay beside losses, over that of a full queue: a burst that fills it waits for half of that."""
_PER_STRETCH, _MOST_STRETCHES = 4.0, 200
"""Losses in a stretch of time, at least, and number of stretches."""
_BLURS = 2.0
"""Length of a stretch, at least, in times by which the record may misplace a loss."""
_NEAR = 1.5
"""Squared differences over the least ones up to which a bucket explains the losses about as well."""
_FAR = 0.25
"""Share of the packets that count as far from losses."""
_MOST_BINS = 1_024
"""Bins that are simulated at most; neighbours are merged."""


@dataclass(frozen=True, slots=True)
class BucketFit:
    """The best bucket.

    Parameters
    ----------
    rate_bits_per_s, depth_bytes : of the bucket
    least_depth_bytes : least depth of a bucket that explains the losses about as well
    stretches : number of stretches of time that were compared
    error : squared differences of losses and predictions, over those of losses by chance (binomial)
    unexplained : the same over those of a constant share of losses
    bounded : True if a rate beyond the ones that are tried might explain the losses better
    """

    rate_bits_per_s: float
    depth_bytes: float
    least_depth_bytes: float
    stretches: int
    error: float
    unexplained: float
    bounded: bool


class _Record(NamedTuple):
    """A record in bins that are wide enough, (n,) each, and its stretches."""

    width_us: int
    sent: Floats
    arrived: Floats
    packets: Floats
    lost: Floats
    starts: NDArray[np.int64]

    def squares(self, gains: Floats, depths: Floats) -> Floats:
        """Squared differences of losses and predictions for each bucket, (m,)."""
        size = float(self.sent.sum() / self.packets.sum())
        drops = np.add.reduceat(_drops(self.sent, gains, depths), self.starts, axis=0) / size
        found = np.add.reduceat(self.lost, self.starts)
        total: Floats = ((found[:, None] - drops) ** 2).sum(axis=0)
        return total

    @property
    def chance(self) -> float:
        """Squared differences of losses by chance."""
        share = float(self.lost.sum() / self.packets.sum())
        return float(self.packets.sum()) * share * (1 - share)


def fit(flight: FlightBins, blur_us: float) -> BucketFit | None:
    """Fit a bucket to a record; None if it has too few losses for one.

    blur_us : time by which the record may misplace a loss
    """
    record = _record(flight, blur_us)
    at = np.flatnonzero(record.lost)
    if len(at) < 2 or len(record.starts) < 2:
        return None
    width_us, size = record.width_us, float(record.sent.sum() / record.packets.sum())
    gain = float(record.arrived[at[0] : at[-1]].sum()) / (at[-1] - at[0])
    if not gain:
        return None
    gains = np.repeat(gain * _RATES, len(_WAITS_US))
    depths = np.maximum(size, np.tile(gain * _WAITS_US / width_us, len(_RATES)))
    squares = record.squares(gains, depths)
    best = int(squares.argmin())
    near = squares <= _NEAR * squares[best] + record.chance / len(record.starts)
    fine_gains = np.repeat(gains[best] * _FINE_RATES, len(_FINE_DEPTHS))
    fine_depths = np.tile(depths[best] * _FINE_DEPTHS, len(_FINE_RATES))
    fine = record.squares(fine_gains, fine_depths)
    at_best = int(fine.argmin())
    found, total = np.add.reduceat(record.lost, record.starts), np.add.reduceat(record.packets, record.starts)
    constant = float(((found - total * found.sum() / total.sum()) ** 2).sum())
    return BucketFit(
        float(fine_gains[at_best]) * 8e6 / width_us,
        float(fine_depths[at_best]),
        float(depths[near].min()),
        len(record.starts),
        float(fine[at_best]) / max(record.chance, 1.0),
        float(fine[at_best]) / max(constant, 1.0),
        bool(gains[best] > gain * _RATES[-3]),
    )


def queue_explains_as_well(flight: FlightBins, blur_us: float, bucket: BucketFit, rise_us: float) -> bool:
    """True if a queue that adds this delay explains the losses about as well as the bucket does.

    Its bottleneck is faster than the rate of the bucket, and stands idle between the bursts of the sender.

    rise_us : mean delay of the packets beside lost ones: between a half and all of that of a full queue
    """
    record = _record(flight, blur_us)
    rates = bucket.depth_bytes / rise_us * _PART_OF_FULL
    gains = np.repeat(rates * record.width_us, len(_FINE_DEPTHS))
    depths = np.tile(bucket.depth_bytes * _FINE_DEPTHS, len(rates))
    least = float(record.squares(gains, depths).min())
    return least <= _NEAR * bucket.error * record.chance + record.chance / len(record.starts)


def delays_at_losses(flight: FlightBins) -> Floats:
    """(n,) delay of the packets beside the lost ones, or beside a bin without any. The record must have
    delays."""
    known = ~np.isnan(flight.delay_us)
    times = bin_times(flight)
    return np.asarray(np.interp(times, times[known], flight.delay_us[known]))


def rank_at_losses(flight: FlightBins) -> float:
    """Mean share of the packets far from any loss that waited less than those beside losses: a half if losses
    do not depend on the delay, 1 if they come at longer delays only. The record must have delays, and losses.

    Far are the quarter of the packets that are the farthest. Between the losses of a full queue, it is full.
    """
    delays, lost, times = delays_at_losses(flight), lost_packets(flight), bin_times(flight)
    at_losses = np.concatenate(([-np.inf], times[lost > 0], [np.inf]))
    after = at_losses.searchsorted(times)
    distance = np.minimum(at_losses[after] - times, times - at_losses[after - 1])
    farthest = (-distance).argsort(kind="stable")
    packets = np.asarray(flight.arrived_packets, np.float64)
    count = packets[farthest].cumsum().searchsorted(_FAR * packets.sum()) + 1
    far = farthest[:count]
    order = far[delays[far].argsort()]
    total = np.concatenate(([0.0], packets[order].cumsum()))
    # Of equal delays, one half counts as less.
    less, up_to = (total[delays[order].searchsorted(delays, side)] for side in ("left", "right"))
    return float((lost * (less + up_to)).sum() / (2 * lost.sum() * total[-1]))


def rise_at_losses_us(flight: FlightBins, share: float = 0.75) -> float:
    """Delay of the packets beside lost ones above the least of all delays: the `share` quantile over the
    losses. The record must have delays, and losses."""
    known = ~np.isnan(flight.delay_us)
    delays, lost = delays_at_losses(flight), lost_packets(flight)
    order = delays.argsort()
    total = lost[order].cumsum()
    at = int(np.searchsorted(total, share * total[-1]))
    # A queue that stands all the time raises every percentile, but not the least delay.
    return float(delays[order][at] - flight.delay_us[known].min())


def _record(flight: FlightBins, blur_us: float) -> _Record:
    factor = -(-len(flight.sent_packets) // _MOST_BINS)
    starts = np.arange(0, len(flight.sent_packets), factor)

    def merged(values: NDArray[np.int64] | Floats) -> Floats:
        return np.add.reduceat(np.asarray(values, np.float64), starts)

    lost, width_us = merged(lost_packets(flight)), flight.width_us * factor
    return _Record(
        width_us,
        merged(flight.sent_bytes),
        merged(flight.arrived_bytes),
        merged(flight.sent_packets),
        lost,
        _stretches(lost, blur_us / width_us),
    )


def _stretches(lost: Floats, blur: float) -> NDArray[np.int64]:
    """First bins of stretches, (k,), each with losses to compare, and longer than `blur` bins."""
    wanted = max(_PER_STRETCH, float(lost.sum()) / _MOST_STRETCHES)
    starts, count, begin = [0], 0.0, 0
    for at, value in enumerate(lost.tolist()):
        count += value
        if count >= wanted and at + 1 - begin >= _BLURS * blur:
            starts.append(at + 1)
            count, begin = 0.0, at + 1
    # A rest without enough losses belongs to the last stretch.
    return np.array(starts[:-1] if len(starts) > 1 else starts)


def _drops(sent: Floats, gains: Floats, depths: Floats) -> Floats:
    """Bytes that each bucket, (m,), drops of each bin, (n,): (n, m)."""
    tokens, drops = depths.copy(), np.empty((len(sent), len(gains)))
    for at, leaving in enumerate(sent.tolist()):
        # Packets leave all over the bin, so that its tokens are used even if the bucket is full.
        rest = tokens + gains - leaving
        np.maximum(0.0, -rest, out=drops[at])
        tokens = np.clip(rest, 0.0, depths)
    return drops
