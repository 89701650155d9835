"""TCP of the operating system: the yardstick for all other transports.

This module only declares; sockets and threads come with the first stream (channel.py, tuning.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from iperfpy.protocols.contract import Channel, ClientPort, Iperf3Mapping, ServerPort, Stream, Transport
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.metrics import Kind, Meaning, Metric, Side, Unit
from iperfpy.protocols.operating_system import HAS_TCP_INFO
from iperfpy.protocols.settings import Settings, option

if TYPE_CHECKING:
    from socket import socket

BULK_BYTES = 1 << 20
"""Bytes per `send` or `recv`. Measured on loopback: a block of 128 KiB is a quarter slower, 4 MiB is no
faster."""


@dataclass(frozen=True, slots=True)
class TcpSettings(Settings):
    """The user's choices for TCP streams; wire keys are iperf3's."""

    window: int | None = option(
        None,
        help="send and receive socket buffer",
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
    zerocopy: bool = option(
        False, help="send with sendfile instead of copying", flags=("-Z", "--zerocopy"), wire_as_number=True
    )
    skip_rx_copy: bool = option(
        False, help="discard received data without copying it", flags=("--skip-rx-copy",), wire_as_number=True
    )
    repeating_payload: bool = option(
        False, help="send 0123456789, not random bytes", flags=("--repeating-payload",), wire_as_number=True
    )
    mptcp: bool = option(
        False, help="use Multipath TCP, if both systems have it", flags=("-m", "--mptcp"), at_server=True
    )

    def check_file(self) -> None:
        if self.zerocopy:
            raise SettingsError("-F and -Z exclude each other: -Z sends one block again and again")


_US, _BYTES, _GAUGE = Unit.MICROSECONDS, Unit.BYTES, Kind.GAUGE


class Tcp(Transport):
    """Bulk TCP; every figure but `bytes` is the kernel's TCP_INFO, empty where there is none."""

    name = "tcp"
    summary = "TCP of the operating system"
    prefix = "tcp"
    settings = TcpSettings
    variant = "congestion"
    iperf3 = Iperf3Mapping("tcp", socket_buffer="window", mss="mss")
    window_settings = ("window", "window")
    both_ways = True
    bulk_bytes = BULK_BYTES if HAS_TCP_INFO else 0
    metrics = (
        Metric(
            "rtt_us",
            "Smoothed round-trip time",
            _US,
            _GAUGE,
            title="RTT",
            spread=True,
            iperf3="rtt",
            priority=5,
        ),
        Metric("retransmits", "Segments retransmitted", title="Retrans", iperf3="retransmits", priority=2),
        Metric(
            "retrans_percent",
            "Retransmissions, as a share of all data segments transmitted",
            Unit.PERCENT,
            Kind.RATIO,
            title="Retrans(%)",
            priority=4,
            numerator="retransmits",
            denominator="segments_sent",
            meaning=Meaning.RESENT,
        ),
        Metric(
            "snd_cwnd_bytes",
            "Congestion window",
            _BYTES,
            _GAUGE,
            title="Cwnd",
            priority=1,
            spread=True,
            iperf3="snd_cwnd",
            meaning=Meaning.WINDOW,
            label="congestion window",
        ),
        Metric("segments_sent", "Data segments transmitted, retransmissions included"),
        Metric("retransmitted_bytes", "Payload retransmitted", _BYTES),
        Metric("lost_segments", "Segments in flight that the kernel considers lost", kind=_GAUGE),
        Metric("reorder", "Reordering events seen", iperf3="reorder"),
        Metric("rttvar_us", "Variation of the round-trip time", _US, _GAUGE, iperf3="rttvar"),
        Metric("min_rtt_us", "Shortest round-trip time in the kernel's window", _US, _GAUGE),
        Metric(
            "snd_wnd_bytes", "Window that the peer advertises", _BYTES, _GAUGE, spread=True, iperf3="snd_wnd"
        ),
        Metric("pmtu_bytes", "Path MTU", _BYTES, _GAUGE, iperf3="pmtu", whole=True),
        Metric(
            "delivery_bits_per_second",
            "Latest rate at which data was acknowledged",
            Unit.BITS_PER_SECOND,
            _GAUGE,
        ),
        Metric("notsent_bytes", "Bytes in the send queue, not transmitted yet", _BYTES, _GAUGE),
        Metric(
            "queue_us",
            "Waiting time of the last byte in the send queue, at the latest delivery rate",
            _US,
            _GAUGE,
            spread=True,
        ),
        Metric("busy_us", "Time with data to send", _US, meaning=Meaning.SENDER_BUSY),
        Metric(
            "rwnd_limited_us",
            "Time limited by the peer's window",
            _US,
            meaning=Meaning.SENDER_LIMIT,
            label="receive window",
        ),
        Metric(
            "sndbuf_limited_us",
            "Time limited by the send buffer",
            _US,
            meaning=Meaning.SENDER_LIMIT,
            label="send buffer",
        ),
        Metric("congestion", "Congestion control algorithm", Unit.TEXT, _GAUGE),
        Metric("rcv_rtt_us", "Round-trip time as estimated by the receiver", _US, _GAUGE, Side.RECEIVER),
        Metric("segments_received", "Data segments received", side=Side.RECEIVER),
        Metric("out_of_order", "Segments received ahead of a gap", side=Side.RECEIVER),
    )

    def block_bytes(self, settings: Settings) -> int:
        return 128 * 1024

    def payload(self, settings: Settings, size_bytes: int) -> bytes:
        if _own(settings).repeating_payload:
            return (b"0123456789" * (size_bytes // 10 + 1))[:size_bytes]
        return super().payload(settings, size_bytes)

    def for_messages(self, settings: Settings) -> Settings:
        return replace(_own(settings), nodelay=True)

    def check(self, settings: Settings, *, sends: bool) -> None:
        from iperfpy.protocols.tcp.tuning import check_system

        check_system(_own(settings), sends=sends)

    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        from iperfpy.protocols.operating_system import IPPROTO_MPTCP
        from iperfpy.protocols.tcp.channel import TcpChannel
        from iperfpy.protocols.tcp.tuning import before_connect

        chosen = _own(settings)
        sock = await port.connection(
            stream,
            lambda made: before_connect(made, chosen, sends=stream.sends),
            IPPROTO_MPTCP if chosen.mptcp else 0,
        )
        with _closed_on_error(sock):
            return TcpChannel(sock, chosen, sends=stream.sends, both_ways=stream.both_ways)

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        from iperfpy.protocols.tcp.channel import TcpChannel
        from iperfpy.protocols.tcp.tuning import after_accept

        chosen = _own(settings)
        sock = await port.connection()
        with _closed_on_error(sock):
            after_accept(sock, chosen)
            return TcpChannel(sock, chosen, sends=stream.sends, both_ways=stream.both_ways)


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
