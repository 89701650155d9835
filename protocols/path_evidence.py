"""A sender's, or receiver's, record of the path: the evidence from which a diagnosis concludes.

Counters say how much was lost. They do not say when, at which rate, or beside which round-trip time, and
causes differ in exactly that. `FlightBins` keeps it in bounded memory: a row of short periods, each with the
packets that left in it, the part of them that arrived, and their delay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Int64s = NDArray[np.int64]
    Floats = NDArray[np.float64]

MOST_BINS = 4_096
"""Bins of one record. When a test lasts longer, neighbours are merged and the width doubles."""

HELD_UP = ("receiver_held_up_us", "sender_held_up_us")
"""Keys of `PathEvidence.extra`, of the receiver and of the sender."""


class EvidenceLimit(StrEnum):
    """A limit of a sender, as `PathEvidence.limited_us` names it."""

    APPLICATION = "application"
    CONGESTION_WINDOW = "congestion-window"
    RECEIVE_WINDOW = "receive-window"
    SEND_WINDOW = "send-window"
    SEND_BUFFER = "send-buffer"
    PACING = "pacing"
    PROCESSOR = "processor"


@dataclass(frozen=True, slots=True)
class FlightBins:
    """The fate of the packets of one stream by the time at which they left. All arrays have the shape (n,).

    Parameters
    ----------
    start_us : time of the first bin since the stream's first packet, the sender's clock
    width_us : width of a bin
    sent_bytes, arrived_bytes : bytes of IP packets that left in the bin, and of those that arrived. Each
        transmission counts by itself, so a retransmission is a packet of its own time
    sent_packets, arrived_packets : the same in packets
    delay_us : mean round-trip time of the packets of the bin that arrived, or, if `one_way`, mean one-way
        delay above the least one of the stream; NaN where nothing is known
    one_way : see `delay_us`
    least_us : that least one-way delay, by the receiver's clock less the sender's. Their offset is unknown,
        but constant: differences between streams of the same two ends are real. None: not known
    """

    start_us: int
    width_us: int
    sent_bytes: Int64s
    arrived_bytes: Int64s
    sent_packets: Int64s
    arrived_packets: Int64s
    delay_us: Floats
    one_way: bool = False
    least_us: float | None = None

    def fault(self) -> str:
        """The rule that this record breaks, as a phrase; empty if it breaks none."""
        columns = (
            self.sent_bytes,
            self.arrived_bytes,
            self.sent_packets,
            self.arrived_packets,
            self.delay_us,
        )
        if len({values.shape for values in columns}) > 1 or self.delay_us.ndim != 1:
            return "its arrays have different lengths"
        if len(self.delay_us) > MOST_BINS:
            return f"it has more than {MOST_BINS} bins"
        if self.width_us <= 0:
            return f"its bins are {self.width_us} us wide"
        if any((values < 0).any() for values in columns):
            return "a figure is negative"
        if (self.arrived_packets > self.sent_packets).any():
            return "more packets arrived than left"
        return ""


@dataclass(frozen=True, slots=True)
class PathEvidence:
    """What one end of a stream learned about the path. None: this transport, or this end, cannot know it.

    Parameters
    ----------
    flight : by time; the last round trip of the test is left out, since its fate is not known
    loss_runs : number of runs of consecutive packets that were lost
    lost_in_runs : packets in these runs
    min_rtt_us : shortest round-trip time
    rtt_us : {"p5": .., "p50": .., "p95": .., "max": ..} over all samples
    noise_share : loss that stays when less is sent, 0 to 1 (the path model of kcp-bbr)
    delay_spread_us : variation of the delay that stays when less is sent, mean of its upper half above the
        least one
    lump_us : distance of the moments at which acknowledgements arrive in lumps
    rate_bits_per_s : bandwidth of the path by its model, IP packets
    rate_deviation : standard deviation of the delivery rate over its mean, over periods of 100 ms or more in
        which the sender kept the path busy
    displaced_packets, displacement_us : packets that arrived after later ones, and the 95th percentile of the
        time by which they were late
    limited_us : microseconds by limit of the sender, the values of `EvidenceLimit`
    packet_bytes : IP packet bytes of a full packet
    extra : further numbers. `kernel_drops`: about how many datagrams arrived for which the socket had no
        room. `HELD_UP`: microseconds for which the program of the receiver, or of the sender, did not run.
        `peer_window_bytes`: largest window that the receiver announced
    """

    flight: FlightBins | None = None
    loss_runs: int | None = None
    lost_in_runs: int | None = None
    min_rtt_us: float | None = None
    rtt_us: Mapping[str, float] = field(default_factory=dict)
    noise_share: float | None = None
    delay_spread_us: float | None = None
    lump_us: float | None = None
    rate_bits_per_s: float | None = None
    rate_deviation: float | None = None
    displaced_packets: int | None = None
    displacement_us: float | None = None
    limited_us: Mapping[str, int] = field(default_factory=dict)
    packet_bytes: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def merged(one: PathEvidence | None, other: PathEvidence | None) -> PathEvidence | None:
    """The record of one stream by both its ends: each figure of `one`, else that of `other`."""
    if one is None or other is None:
        return one or other

    def chosen(name: str) -> Any:
        mine, theirs = getattr(one, name), getattr(other, name)
        if isinstance(mine, Mapping):
            return {**theirs, **mine}
        return theirs if mine is None else mine

    return PathEvidence(**{each.name: chosen(each.name) for each in fields(PathEvidence)})
