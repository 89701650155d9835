"""The seam between engine and congestion control: records in, a window and a pacing rate out.

The engine accounts for delivery once (delivered, lost, in flight, a rate sample per acknowledgement), and a
controller only decides. Windows, flights and losses are counted in segments, rates in segments per second,
time in microseconds. Every full data segment of a KCP stream fills a datagram, so a segment is the unit that
the path sees.

    engine.transmit -> controller.on_sent(now_us, segments, in_flight)
    engine.receive  -> controller.on_ack(Ack)           once per batch of acknowledgements
    recovery        -> controller.on_loss(Loss)         once per detection, before the next transmission
                       controller.on_timeout(now_us)    the retransmission timer expired
    before it sends, the engine reads                   controller.window, .pacing_rate, .burst

Treat the records as immutable. They are not frozen, because a frozen dataclass takes three times as long to
create, and there are several per batch of acknowledgements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

UNLIMITED = float("inf")
FOUND_LATE_RTTS = 0.125
"""Round trips by which a loss is found later than an acknowledgement would have come: recovery waits that
long for reordered segments (RFC 9002, 6.1.2). Lost segments count as in flight until then, and a controller
that fills the path makes room for them."""


@dataclass(slots=True)
class Flight:
    """The record of one transmitted batch: totals at that moment, for the rate sample of its acknowledgement
    (draft-cheng-iccrg-delivery-rate-estimation, section 3.2).

    Attributes
    ----------
    stamp_us : unique per flight; the peer echoes it
    first_sent_us : send time of the flight that was acknowledged last before this one left
    delivered, lost : totals when it left
    delivered_us : time of the last delivery before it left
    in_flight : segments in flight, this batch included
    app_limited, window_limited : True if the application's writes, or the send or receive window, limited
        the segments in flight: their delivery may be slower than the path allows
    sent : transmissions so far, this batch included
    newest_sent : the `sent` of the newest flight acknowledged when this one left, 0 before any. The
        difference `sent - newest_sent` is what left between two acknowledged transmissions: the load that the
        path carried, whatever it lost of it later
    """

    stamp_us: int
    first_sent_us: int
    delivered: int
    delivered_us: int
    lost: int
    in_flight: int
    app_limited: bool
    sent: int = 0
    newest_sent: int = 0
    window_limited: bool = False

    @property
    def limited(self) -> bool:
        """True if neither the path nor the controller limited the segments in flight."""
        return self.app_limited or self.window_limited


@dataclass(slots=True)
class Ack:
    """One batch of acknowledgements, with the totals after it.

    Attributes
    ----------
    acked : segments newly acknowledged by it
    delivered : segments acknowledged so far
    lost : transmissions marked lost so far; it may fall, since a loss found spurious is taken back
    in_flight : segments in flight
    rtt_us : RTT sample of the newest transmission acknowledged, None if it gave none. There is no minimum:
        how long to remember one is the controller's decision
    flight : of the newest transmission acknowledged, None if unknown
    interval_us : the longer of its send and ack stretches; 0: no rate sample
    delivery_rate : segments per second over that interval; 0.0: no rate sample
    lost_runs : runs of consecutive transmissions that were lost so far; as many as were marked lost if
        recovery does not follow runs
    advanced : segments by which the cumulative ACK moved
    rtt_min_us, rtt_mean_us, rtt_samples : smallest and mean RTT of the segments newly acknowledged, and the
        number of segments that gave one: it is known which transmission of them arrived. None if none did
    """

    now_us: int
    acked: int
    delivered: int
    lost: int
    in_flight: int
    rtt_us: int | None
    flight: Flight | None
    interval_us: int
    delivery_rate: float
    lost_runs: int
    advanced: int = 0
    rtt_min_us: int | None = None
    rtt_mean_us: float | None = None
    rtt_samples: int = 0


@dataclass(slots=True)
class Loss:
    """Transmissions just marked lost, `segments` of them.

    `flight` is that of the newest of them, None if recovery does not know it; `in_flight` and `delivered` are
    the totals after the detection. `heads` and `tails`: bursts found since the loss before that lost their
    first segment but not their last, and the reverse; 0 if recovery does not follow bursts.
    """

    now_us: int
    segments: int
    in_flight: int
    delivered: int
    flight: Flight | None
    heads: int = 0
    tails: int = 0


class CongestionControl(Protocol):
    """A controller. It reads no clock and no random source; one that needs chance takes a seed."""

    name: ClassVar[str]

    @property
    def window(self) -> int:
        """Most segments in flight now; at least 1."""

    @property
    def pacing_rate(self) -> float:
        """Segments per second; `UNLIMITED` for no pacing."""

    @property
    def burst(self) -> int:
        """Most segments to release back to back (the send quantum); at least 1."""

    def on_sent(self, now_us: int, segments: int, in_flight: int) -> None:
        """Data segments left; `in_flight` counts them in."""

    def on_ack(self, ack: Ack) -> None:
        """Segments were newly acknowledged."""

    def on_loss(self, loss: Loss) -> None:
        """Transmissions were marked lost. Comes before the `on_ack` of the acknowledgement that showed it."""

    def on_timeout(self, now_us: int) -> None:
        """Nothing was acknowledged for a whole retransmission timeout."""

    def on_idle(self, now_us: int) -> None:
        """Transmission resumes with nothing in flight, after the application had nothing to send."""

    def state(self) -> Mapping[str, float | int | str | None]:
        """Gauges for reports: at least phase, bandwidth_segments_per_s, min_rtt_us, noise_percent,
        pacing_segments_per_s, window_segments and inflight_bound_segments, each None if a controller has no
        such thing."""
