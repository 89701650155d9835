"""The paths and the transports of the study."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from iperfpy.protocols.simulator import Path
from iperfpy.protocols.simulator.path_language import parse

PER_S, SIZE_BYTES = 100, 100
"""Messages per second, and bytes of each."""
TRANSPORTS = ("udp", "kcp:normal", "kcp:fast", "kcp-bbr")
"""As `iperfpy latency --proto` has them. The simulator has no TCP."""
RTT_MS = 100.0


@dataclass(frozen=True, slots=True)
class MessagePath:
    """A path of `RTT_MS` with random loss.

    loss : share of round trips that lose a datagram; both ways lose alike
    """

    loss: float

    @property
    def name(self) -> str:
        return f"loss {100 * self.loss:g} %"

    @property
    def each_way(self) -> float:
        """The share of datagrams that each way loses."""
        return 1.0 - sqrt(1.0 - self.loss)

    @property
    def text(self) -> str:
        """The path for the lab."""
        loss = f",loss={100 * self.each_way:.6g}" if self.loss else ""
        return f"both:delay={RTT_MS / 2:g}ms{loss}"

    @property
    def ways(self) -> tuple[Path, Path]:
        """The path for the simulator."""
        return parse(self.text)


PATHS = tuple(MessagePath(loss) for loss in (0.0, 0.02, 0.10))
