"""Run a congestion control of your own over a simulated path of 20 Mbit/s and 170 ms."""

from typing import ClassVar

from iperfpy.protocols.congestion.congestion_control import UNLIMITED, Ack, CongestionControl, Loss
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_options import EngineOptions
from iperfpy.protocols.kcp.loss_recovery.rack import Rack
from iperfpy.protocols.simulator import Bulk, Path, Simulation, bdp_bytes

RATE, RTT_US, SECONDS = 20e6, 170_000, 10


class Aimd:
    """Slow start, then one segment more per round trip, and half the window per loss (RFC 5681)."""

    name: ClassVar[str] = "aimd"
    pacing_rate = UNLIMITED  # segments per second
    burst = 64  # segments

    def __init__(self) -> None:
        self._window = 10.0  # segments
        self._threshold = float("inf")
        self._halved_us = -1

    @property
    def window(self) -> int:
        return int(self._window)

    def on_sent(self, now_us: int, segments: int, in_flight: int) -> None: ...

    def on_ack(self, ack: Ack) -> None:
        slow_start = self._window < self._threshold
        self._window += ack.acked if slow_start else ack.acked / self._window

    def on_loss(self, loss: Loss) -> None:
        # Losses among segments that left before the last reduction belong to the same congestion event.
        if loss.flight is not None and loss.flight.stamp_us > self._halved_us:
            self._window = self._threshold = max(2.0, self._window / 2)
            self._halved_us = loss.now_us

    def on_timeout(self, now_us: int) -> None:
        self._window = 1.0

    def on_idle(self, now_us: int) -> None: ...

    def state(self) -> dict[str, float | int | str | None]:
        return {"window_segments": self.window}


def run(control: CongestionControl, loss: float) -> str:
    options = EngineOptions(send_window=4096, receive_window=4096)
    sender, receiver = Engine(1, options, Rack, control), Engine(1, options, Rack)

    simulation = Simulation(seed=1)
    buffer_bytes = bdp_bytes(RATE, RTT_US)
    forward = Path(rate_bits_per_s=RATE, buffer_bytes=buffer_bytes, delay_us=RTT_US / 2, loss=loss)
    there, back = simulation.link(forward), simulation.link(Path(delay_us=RTT_US / 2))
    flow = simulation.flow(sender, receiver, there, back, Bulk(sender))
    simulation.run(until_us=SECONDS * 1_000_000)

    goodput = receiver.receiving.bytes * 8 / SECONDS
    truth = flow.forward.truth
    queue_ms = truth.mean_queue_us / 1000
    return f"{goodput / 1e6:.1f} Mbit/s, {truth.dropped_share:.2%} dropped, {queue_ms:.0f} ms in the queue"


for loss in (0.0, 0.01):
    print(f"random loss {loss:.0%}: {run(Aimd(), loss)}")
