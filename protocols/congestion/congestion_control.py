"""What a congestion controller hears and says.

The engine does the accounting once (delivered, lost, in flight, a rate sample per acknowledgement)
and a controller only decides. Windows, flights and losses are counted in segments, rates in
segments per second, time in microseconds: every data segment of a KCP stream fills a datagram,
so a segment is the unit that the path sees.

    engine.transmit -> controller.on_sent(now_us, segments, in_flight)
    engine.receive  -> controller.on_ack(Ack)           once per batch of acknowledgements
    recovery        -> controller.on_loss(Loss)         once per detection, before the next transmit
                       controller.on_timeout(now_us)    the retransmission timer expired
    the engine asks -> controller.window, .pacing_rate, .burst    before it sends anything

Records are made once and changed by nobody; they are not frozen, for that makes them three times as dear, and
there are several to every batch of acknowledgements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

UNLIMITED = float("inf")
FOUND_LATE_RTTS = 0.125
"""How much longer than a round trip what the path lost counts as in flight: recovery waits so long for what
was overtaken (RFC 9002, 6.1.2), and a controller that fills the path makes room for it."""


@dataclass(slots=True)
class Flight:
    """What the estimator needs at acknowledgement time, written down at transmission time
    (draft-cheng-iccrg-delivery-rate-estimation, section 3.2). One per transmitted batch.

    `stamp_us` is unique per flight and is what the peer echoes. `delivered` and `lost` are the totals at
    that moment, `delivered_us` the time of the last delivery then, `first_sent_us` the send time of the
    flight that was most recently acknowledged then, `in_flight` the segments in flight including this batch.
    `app_limited`, `window_limited`: what was in flight was bounded by what the application wrote, or by the
    send or receive window, so that what it delivers may be less than the path could.

    `sent` counts the transmissions so far, this batch included; `newest_sent` is the `sent` of the newest
    flight acknowledged at that moment (0 before any). Their difference at acknowledgement time is what
    left between two acknowledged transmissions: what the path carried, whatever it lost of it later.
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
        """Did something else than the path and the controller bound what is in flight?"""
        return self.app_limited or self.window_limited


@dataclass(slots=True)
class Ack:
    """One batch of acknowledgements, after the engine's accounting.

    `acked`: segments newly acknowledged by it. `delivered`, `lost`: totals after it (`lost` counts every
    transmission marked lost; a mark found wrong is taken back, so it may fall). `lost_runs`: in how many runs
    of consecutive transmissions these were lost, in total (as many as `lost` where that is not followed).
    `in_flight`: after it. `rtt_us`: sample of the newest transmission acknowledged, None when it
    gave none. `min_rtt_us` is not given: how long to remember is the controller's decision.
    `flight`: of the newest transmission acknowledged, None when unknown; `interval_us`: the longer of its
    send and ack stretches (0: no rate sample); `delivery_rate`: segments per second over it (0.0: none);
    `advanced`: how far the
    cumulative acknowledgement moved, in segments.
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


@dataclass(slots=True)
class Loss:
    """Transmissions just marked lost. `flight`: of the newest of them."""

    now_us: int
    segments: int
    in_flight: int
    delivered: int
    flight: Flight | None


class CongestionControl(Protocol):
    """A controller. It reads no clock and no random source (`seed` is an argument where one is needed)."""

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
        """`in_flight` is after the transmission."""

    def on_ack(self, ack: Ack) -> None: ...
    def on_loss(self, loss: Loss) -> None: ...
    def on_timeout(self, now_us: int) -> None:
        """Nothing was acknowledged for a whole retransmission timeout."""

    def on_idle(self, now_us: int) -> None:
        """Transmission resumes with nothing in flight, after the application had nothing to send."""

    def state(self) -> Mapping[str, float | int | str | None]:
        """For reports: at least phase, bandwidth_segments_per_s, min_rtt_us, noise_percent,
        pacing_segments_per_s, window_segments, inflight_bound_segments; None where a controller has no
        such thing."""
