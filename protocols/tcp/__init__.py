"""TCP as the operating system has it: the yardstick for everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from protocols.contract import (
    Channel,
    ClientPort,
    Kind,
    Metric,
    ServerPort,
    Side,
    Stream,
    Transport,
    Unit,
)
from protocols.errors import SettingsError
from protocols.settings import Settings, option

if TYPE_CHECKING:
    from socket import socket

_NUMBERS = ("zerocopy", "skip_rx_copy")  # iperf3 sends these two flags as the number 1, others as true


@dataclass(frozen=True, slots=True)
class TcpSettings(Settings):
    """What a user may say about a TCP stream; wire keys are iperf3's."""

    window: int | None = option(
        None,
        help="send and receive socket buffer (the kernel sizes them when not given)",
        flags=("-w", "--window"),
        minimum=1,
        maximum=512 * 1024 * 1024,
        unit="bytes",
    )
    mss: int | None = option(
        None,
        help="maximum segment size",
        flags=("-M", "--set-mss"),
        minimum=88,
        maximum=32767,
        wire="MSS",
    )
    nodelay: bool = option(False, help="send small segments at once (no Nagle)", flags=("-N", "--no-delay"))
    congestion: str | None = option(
        None,
        help="congestion control algorithm, e.g. cubic or bbr",
        flags=("-C", "--congestion"),
        aliases=("--linux-congestion",),
    )
    zerocopy: bool = option(False, help="send with sendfile instead of copying", flags=("-Z", "--zerocopy"))
    skip_rx_copy: bool = option(
        False, help="let the kernel discard what is received instead of copying it", flags=("--skip-rx-copy",)
    )

    def to_wire(self) -> dict[str, Any]:
        wire = Settings.to_wire(self)
        return {key: 1 if key in _NUMBERS else value for key, value in wire.items()}

    @classmethod
    def from_wire(cls, received: Mapping[str, Any]) -> Self:
        flags = {key: bool(received[key]) for key in _NUMBERS if received.get(key) in (0, 1)}
        # `super` without arguments has no class cell in a dataclass with slots.
        return super(TcpSettings, cls).from_wire({**received, **flags})


class Tcp(Transport):
    """Bulk TCP; every figure but `bytes` is the kernel's TCP_INFO, empty where there is none."""

    name = "tcp"
    summary = "TCP of the operating system"
    prefix = "tcp"
    settings = TcpSettings
    iperf3 = "tcp"
    metrics = (
        Metric(
            "rtt_us",
            "smoothed round-trip time",
            Unit.MICROSECONDS,
            Kind.GAUGE,
            title="RTT",
            spread=True,
            iperf3="rtt",
        ),
        Metric("rttvar_us", "mean deviation of the RTT", Unit.MICROSECONDS, Kind.GAUGE, iperf3="rttvar"),
        Metric("min_rtt_us", "smallest RTT within the kernel's window", Unit.MICROSECONDS, Kind.GAUGE),
        Metric("retransmits", "segments transmitted again", title="Retrans", iperf3="retransmits"),
        Metric("segments_out", "data segments transmitted, first and again"),
        Metric(
            "retrans_percent",
            "share of transmitted data segments that were transmitted before",
            Unit.PERCENT,
            Kind.RATIO,
            title="Retrans(%)",
            numerator="retransmits",
            denominator="segments_out",
        ),
        Metric(
            "snd_cwnd_bytes", "congestion window", Unit.BYTES, Kind.GAUGE, title="Cwnd", iperf3="snd_cwnd"
        ),
        Metric("snd_wnd_bytes", "window offered by the peer", Unit.BYTES, Kind.GAUGE, iperf3="snd_wnd"),
        Metric("pmtu_bytes", "path MTU", Unit.BYTES, Kind.GAUGE, iperf3="pmtu"),
        Metric("reorder", "reordering events seen", iperf3="reorder"),
        Metric("lost_segments", "segments in flight that the kernel holds for lost", kind=Kind.GAUGE),
        Metric("bytes_retrans", "payload transmitted again", Unit.BYTES),
        Metric(
            "delivery_rate_bps",
            "latest rate at which data was acknowledged",
            Unit.BITS_PER_SECOND,
            Kind.GAUGE,
        ),
        Metric("notsent_bytes", "data in the send queue, not transmitted yet", Unit.BYTES, Kind.GAUGE),
        Metric(
            "queue_us",
            "time the data in the send queue will wait: notsent_bytes at delivery_rate_bps",
            Unit.MICROSECONDS,
            Kind.GAUGE,
            spread=True,
        ),
        Metric("busy_us", "time with data to send", Unit.MICROSECONDS),
        Metric("rwnd_limited_us", "time held up by the peer's window", Unit.MICROSECONDS),
        Metric("sndbuf_limited_us", "time held up by the send buffer", Unit.MICROSECONDS),
        Metric("congestion", "congestion control algorithm", Unit.TEXT, Kind.GAUGE),
        Metric(
            "rcv_rtt_us",
            "round-trip time as the receiver estimates it",
            Unit.MICROSECONDS,
            Kind.GAUGE,
            Side.RECEIVER,
        ),
        Metric("segments_in", "data segments received", side=Side.RECEIVER),
        Metric("out_of_order", "segments received ahead of a gap", side=Side.RECEIVER),
    )

    def block_bytes(self, settings: Settings) -> int:
        return 128 * 1024

    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        from protocols.tcp.options import before_connect
        from protocols.tcp.transport import TcpChannel

        chosen = _own(settings)
        sock = await port.connection(stream, lambda made: before_connect(made, chosen))
        with _closed_on_error(sock):
            return TcpChannel(sock, chosen, sends=stream.sends)

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        from protocols.tcp.options import after_accept
        from protocols.tcp.transport import TcpChannel

        chosen = _own(settings)
        sock = await port.connection()
        with _closed_on_error(sock):
            after_accept(sock, chosen)
            return TcpChannel(sock, chosen, sends=stream.sends)


def _own(settings: Settings) -> TcpSettings:
    if not isinstance(settings, TcpSettings):
        raise SettingsError(f"TCP needs TcpSettings, not {type(settings).__name__}")
    return settings


@contextmanager
def _closed_on_error(sock: socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise
