"""Stretches of datagrams at a constant rate: rungs of the ladder, and tests of bare datagrams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from iperfpy.diagnosis.evidence import DirectionEvidence, RunEvidence, Rung
from iperfpy.protocols.path_evidence import FlightBins

Floats = NDArray[np.float64]

CUT, FEWEST_CUT = 0.03, 30
"""Share, of the datagrams that reached the receiver, and number that its kernel drops at least if it is the
limit of a stretch."""
_JITTER_US, _JITTER_RTTS = 2e3, 0.05
"""Variation of the delay without load from which on the echoes align the stretches."""


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Datagrams of one size at one rate.

    Parameters
    ----------
    offered : bits per second of IP packets
    sent, lost : datagrams; those that the receiver's kernel dropped are no losses
    runs, in_runs : runs of consecutive losses and the losses in them, None: not known
    late : datagrams that arrived after later ones
    """

    offered: float
    packet_bytes: int
    seconds: float
    sent: int
    lost: int
    runs: int | None
    in_runs: int | None
    late: int
    rtt_us: Mapping[str, float]
    flight: FlightBins | None

    @property
    def loss(self) -> float:
        """Share of the datagrams that the path lost."""
        return self.lost / self.sent if self.sent else 0.0


def stretches(evidence: DirectionEvidence) -> list[Stretch]:
    """Collect all stretches of a direction, the slowest first; those that the receiver's kernel cut are left
    out, as they show its limit instead of the path's."""
    found = [_from_rung(rung) for rung in evidence.rungs if rung.sent and not cut(rung)]
    runs = (run for tests in evidence.rounds for run in tests)
    found += _from_runs(run for run in runs if not run.reliable)
    return sorted(_aligned(found, evidence.idle.rtt_us), key=lambda one: one.offered)


def dropped(sent: int, missing: int, kernel_drops: int | None) -> bool:
    """True if the receiver's kernel dropped so many of the datagrams that reached it that they arrived at its
    rate, not at that of the path."""
    drops = kernel_drops or 0
    return drops >= max(FEWEST_CUT, CUT * (sent - missing + drops))


def cut(rung: Rung) -> bool:
    """True if the rung shows the rate of the receiver's kernel."""
    return dropped(rung.sent, rung.sent - rung.arrived, rung.kernel_drops)


def _aligned(found: list[Stretch], idle_us: Mapping[str, float]) -> list[Stretch]:
    """Give all delays above the least one of all stretches, instead of above the least one of each.

    The least delay of a stretch is not the path's own if the path delays dense packets more than sparse ones,
    as jitter that keeps the order does. The clocks of the two ends tell the difference; without them, the
    echoes beside each stretch do, less exactly. Without jitter nothing needs to be moved.
    """
    least = [_least_us(one, idle_us) for one in found]
    known = [value for value in least if value is not None]
    if len(known) < len(found) or not known:
        return found
    first = min(known)
    return [
        replace(one, flight=replace(one.flight, delay_us=one.flight.delay_us + (value or 0.0) - first))
        if one.flight is not None
        else one
        for one, value in zip(found, least, strict=True)
    ]


def _least_us(one: Stretch, idle_us: Mapping[str, float]) -> float | None:
    """Least delay of a stretch, on a scale that all stretches share; None if it is not known."""
    if one.flight is None:
        return 0.0
    if one.flight.least_us is not None:
        return one.flight.least_us
    known = one.flight.delay_us[~np.isnan(one.flight.delay_us)]
    if not {"p5", "p95"} <= set(idle_us) or "p5" not in one.rtt_us or not len(known):
        return None
    if idle_us["p95"] - idle_us["p5"] < max(_JITTER_US, _JITTER_RTTS * idle_us["p5"]):
        return 0.0
    return one.rtt_us["p5"] - float(np.percentile(known, 5))


def _from_rung(rung: Rung) -> Stretch:
    return Stretch(
        rung.offered_bits_per_s,
        rung.packet_bytes,
        rung.seconds,
        rung.sent,
        max(0, rung.sent - rung.arrived - (rung.kernel_drops or 0)),
        rung.loss_runs,
        rung.lost_in_runs,
        rung.late,
        rung.rtt_us,
        rung.flight,
    )


def _from_runs(runs: Iterable[RunEvidence]) -> Iterable[Stretch]:
    for run in runs:
        for path in run.path:
            flight = path.flight
            if flight is None or not len(flight.sent_packets):
                continue
            sent, arrived = int(flight.sent_packets.sum()), int(flight.arrived_packets.sum())
            if dropped(sent, sent - arrived, run.kernel_drops):
                continue
            seconds = len(flight.sent_packets) * flight.width_us / 1e6
            yield Stretch(
                float(flight.sent_bytes.sum()) * 8 / seconds,
                path.packet_bytes or int(flight.sent_bytes.sum() // max(1, sent)),
                seconds,
                sent,
                max(0, sent - arrived - (run.kernel_drops or 0)),
                path.loss_runs,
                path.lost_in_runs,
                path.displaced_packets or 0,
                path.rtt_us,
                flight,
            )


def bin_times(flight: FlightBins) -> Floats:
    """Middle of each bin, (n,), microseconds since the stream's first packet."""
    count = len(flight.sent_packets)
    return np.asarray(flight.start_us + (np.arange(count) + 0.5) * flight.width_us)


def lost_packets(flight: FlightBins) -> Floats:
    """Lost packets of each bin, (n,)."""
    return np.asarray(flight.sent_packets - flight.arrived_packets, np.float64)


def settled_rate(flight: FlightBins) -> float:
    """Bits per second that arrived of the last half of the record: a start, or a token bucket's burst, is
    over by then."""
    half = flight.arrived_bytes[len(flight.arrived_bytes) // 2 :]
    return float(half.sum()) * 8e6 / (max(1, len(half)) * flight.width_us)


def drain_rate(flight: FlightBins) -> float:
    """Bits per second that left the path in the last half of the record.

    `settled_rate` counts by the time of departure. A queue that grows by a share of the time takes that much
    more than drains, so the rate is divided by 1 + that share: the slope of the delay, of a line through it.
    """
    half = flight.delay_us[len(flight.delay_us) // 2 :]
    at = np.flatnonzero(~np.isnan(half))
    slope = float(np.polyfit(at * flight.width_us, half[at], 1)[0]) if len(at) > 1 else 0.0
    return settled_rate(flight) / max(1.0 + slope, 0.5)


def mean_delay(flight: FlightBins, chosen: NDArray[np.bool_] | None = None) -> tuple[float, float, int]:
    """Mean delay of packets in microseconds, its standard error by the variation between bins, and the number
    of bins; NaN for none.

    Neighbouring delays resemble each other, so the error is that of blocks: bins in 20 groups.
    """
    known = ~np.isnan(flight.delay_us)
    if chosen is not None:
        known &= chosen
    delays = flight.delay_us[known]
    if not len(delays):
        return float("nan"), float("nan"), 0
    weights = np.asarray(flight.arrived_packets[known], np.float64)
    mean = float((delays * weights).sum() / weights.sum())
    groups = [block.mean() for block in np.array_split(delays, min(20, len(delays)))]
    error = float(np.std(groups) / np.sqrt(len(groups))) if len(groups) > 1 else float("inf")
    return mean, error, len(delays)
