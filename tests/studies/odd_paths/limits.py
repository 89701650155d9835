"""The goodput that a path allows, exactly: rate x (1 - loss) x share of the payload, integrated over time."""

from __future__ import annotations

import numpy as np

from iperfpy.protocols.simulator.path import FULL_PACKET_BYTES, Path
from iperfpy.protocols.simulator.rate_trace import OPPORTUNITY_BYTES, TRACE_HEADER_BYTES, RateTrace
from iperfpy.protocols.simulator.simulation import Simulation
from tests.studies.odd_paths.drawing import DATAGRAM, OddPath
from tests.studies.paths.cases import window_share
from tests.studies.paths.watched import PAYLOAD_SHARE, SECOND

_TRACE_SHARE = OPPORTUNITY_BYTES / FULL_PACKET_BYTES * DATAGRAM / (DATAGRAM + TRACE_HEADER_BYTES)
"""Share of a trace's rate that remains for IP packets of our size, which take 4 bytes more there."""
_TICK_US = 100_000.0
"""Distance of the times at which a trace is looked up."""


class Limit:
    """The limit of one path as a function of time, bits per second of payload.

    An outage counts as rate 0, and a rate that walks, or follows a trace, as the simulator's link made it. A
    policer caps the rate. Company counts with the
    rate that it leaves over. KCP's window of 65,535 segments caps the rate (`window_share`), by the path's
    largest mean RTT without a queue.
    """

    def __init__(self, path: OddPath) -> None:
        pieces: dict[float, float] = {}
        way = path.forward
        for at_us, fields in ((0, {}), *((change.at_us, change.fields) for change in way.changes)):
            way = way.with_(**fields)
            pieces[float(at_us)] = _carried(way)
        if path.company_bits_per_s:
            pieces = _beside_company(path, pieces[0.0])
        # Between neighbours of these times neither the mean rate nor the walking rate changes.
        period_us = way.rate_walk.period_us if way.rate_walk else path.seconds * SECOND
        period_us = _TICK_US if way.trace else period_us
        ticks = np.arange(0.0, path.seconds * SECOND, period_us)
        times_us = np.unique([*pieces, *ticks, path.seconds * SECOND])
        starts, rates = np.array(list(pieces)), np.array(list(pieces.values()))
        held = rates[np.searchsorted(starts, times_us[:-1], "right") - 1]
        served_s = np.diff(Simulation(path.seed).link(path.forward).served_us(times_us)) / SECOND
        self._times = times_us / SECOND
        self._sums = np.append(0.0, np.cumsum(held * served_s * PAYLOAD_SHARE * _share_of_window(path)))

    def bits(self, from_s: float, to_s: float) -> float:
        """Payload that the path carries between two times, bits."""
        first, last = np.interp((from_s, to_s), self._times, self._sums)
        return float(last - first)

    def mean(self, from_s: float, to_s: float) -> float:
        """Mean limit between two times, bits per second."""
        return self.bits(from_s, to_s) / (to_s - from_s)


def _carried(way: Path) -> float:
    """Compute the mean rate behind policer, bottleneck and loss, bits per second."""
    if way.down:
        return 0.0
    rate = way.mean_bits_per_s or 0.0
    if way.trace is not None:
        rate *= _TRACE_SHARE * _queued_share(way, way.trace)
    rate *= (1 - way.loss) * (1 - (way.bursts.average if way.bursts else 0.0))
    return min(rate, way.police_bits_per_s or rate)


def _queued_share(way: Path, trace: RateTrace) -> float:
    """Compute the share of a trace that a queue of this size can use: the datagrams that wait at the time of
    several opportunities are at most those that the queue holds."""
    places = way.buffer_datagrams
    if way.buffer_bytes is not None:
        places = way.buffer_bytes // (DATAGRAM + TRACE_HEADER_BYTES)
    if places is None:
        return 1.0
    offered = np.unique(trace.stamps_ms, return_counts=True)[1] * OPPORTUNITY_BYTES
    usable = np.minimum(offered, places * (DATAGRAM + TRACE_HEADER_BYTES))
    return float(usable.sum() / offered.sum())


def _share_of_window(path: OddPath) -> float:
    """Compute the share of the path that KCP's window can use, by the largest loss and the mean rate."""
    losses = [path.forward.loss, *(change.fields.get("loss", 0.0) for change in path.forward.changes)]
    return window_share(path.forward.mean_bits_per_s or 0.0, path.mean_rtt_us, max(losses))


def _beside_company(path: OddPath, rate: float) -> dict[float, float]:
    """Give the times, microseconds, and the rates that are left over by company which is on for the first
    half of each period."""
    halves = int(2 * path.seconds / path.company_period_s)
    half_us = path.company_period_s / 2 * SECOND
    return {half_us * at: rate - path.company_bits_per_s * (1 - at % 2) for at in range(halves)}
