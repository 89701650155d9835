"""The settings of both KCP transports, under the names that KCP's users know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from iperfpy.protocols.kcp.engine_options import MAX_WINDOW
from iperfpy.protocols.settings import Settings, option


class Tuning(NamedTuple):
    """KCP's four: (nodelay, interval in ms, resend, nc)."""

    nodelay: int
    interval: int
    resend: int
    nc: int


MODES = {
    "normal": Tuning(0, 40, 2, 1),
    "fast": Tuning(0, 30, 2, 1),
    "fast2": Tuning(1, 20, 2, 1),
    "fast3": Tuning(1, 10, 2, 1),
}
"""The presets that kcptun made known."""


def _window(default: int, minimum: int, name: str, alias: str) -> Any:
    return option(
        default,
        help=f"{name} window, segments",
        aliases=(alias,),
        minimum=minimum,
        maximum=MAX_WINDOW,
        unit="segments",
    )


@dataclass(frozen=True, slots=True)
class SharedSettings(Settings):
    """The settings of both transports: stock KCP's windows unless a subclass has others."""

    sndwnd: int = _window(2048, 1, "send", "-sw")
    rcvwnd: int = _window(2048, 1, "receive", "-rw")
    mtu: int | None = option(
        None, help="UDP payload bytes per datagram [as the path carries]", minimum=64, maximum=65_507
    )
    socket_buffer: int | None = option(
        None,
        help="socket buffers, bytes",
        flags=("-w", "--window"),
        minimum=1,
        maximum=512 << 20,
        unit="bytes",
    )
    push: bool = option(False, help="send segments that are not full at once", flags=("-N", "--no-delay"))


@dataclass(frozen=True, slots=True)
class KcpSettings(SharedSettings):
    """Stock KCP. Those of the four tunings that are not given follow `mode`."""

    mode: str = option("fast3", help="preset for the four options below", choices=tuple(MODES))
    nodelay: int | None = option(None, help="1: shorter timeouts, slower backoff", minimum=0, maximum=1)
    interval: int | None = option(
        None, help="tick, ms", aliases=("-flush",), minimum=1, maximum=5000, unit="milliseconds"
    )
    resend: int | None = option(
        None,
        help="ACKs that pass a segment before it is resent; 0: never",
        aliases=("-fr",),
        minimum=0,
        maximum=255,
    )
    nc: int | None = option(None, help="1: no congestion control", aliases=("-nc",), minimum=0, maximum=1)
    ack_delay: bool = option(False, help="acknowledge at ticks only, as stock KCP does")
    write_delay: bool = option(False, help="send at ticks only, as stock KCP does")

    @property
    def tuning(self) -> Tuning:
        """The four values in force."""
        given = (self.nodelay, self.interval, self.resend, self.nc)
        return Tuning(
            *(
                value if value is not None else preset
                for value, preset in zip(given, MODES[self.mode], strict=True)
            )
        )


@dataclass(frozen=True, slots=True)
class KcpBbrSettings(SharedSettings):
    """KCP with time-ordered recovery and BBR. Windows grow as the path needs, as far as the format goes."""

    sndwnd: int = _window(MAX_WINDOW, 16, "send", "-sw")
    rcvwnd: int = _window(MAX_WINDOW, 16, "receive", "-rw")
