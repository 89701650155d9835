"""KCP as a transport: stock, and with BBR.

This module only declares; numpy and sockets come with the first stream.
"""

from __future__ import annotations

from iperfpy.protocols.contract import Channel, ClientPort, Iperf3Mapping, ServerPort, Stream, Transport
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings
from iperfpy.protocols.metrics import Kind, Metric, Side, Unit
from iperfpy.protocols.settings import Settings

_SENT = "segments_sent"
LIMITS = {
    "application": "the application, which had nothing to send",
    "cwnd": "the congestion window",
    "sndwnd": "its own send window",
    "rwnd": "the window that the peer advertises",
    "pacing": "pacing: it sends at its rate",
    "processor": "this machine: there is more, and nothing else holds it",
}
"""Names of what may hold a sender, and what they mean; `counters` has a time for each."""
_US, _BYTES, _PERCENT = Unit.MICROSECONDS, Unit.BYTES, Unit.PERCENT
_GAUGE, _RATIO = Kind.GAUGE, Kind.RATIO


def _share(key: str, title: str, of: str, doc: str) -> Metric:
    return Metric(key, doc, _PERCENT, _RATIO, title=title, numerator=of, denominator=_SENT)


METRICS = (
    Metric(
        "rtt_us", "Smoothed round-trip time (RFC 6298)", _US, _GAUGE, title="RTT", spread=True, iperf3="rtt"
    ),
    Metric("retransmits", "Data segments transmitted again", title="Retrans", iperf3="retransmits"),
    _share("retrans_percent", "Retrans(%)", "retransmits", "Of all data segments transmitted"),
    _share("lost_percent", "Lost(%)", "lost", "Resent by timeout, of all data segments transmitted"),
    _share("early_percent", "Early(%)", "early", "Resent early, of all data segments transmitted"),
    _share("fast_percent", "Fast(%)", "fast", "Resent fast, of all data segments transmitted"),
    Metric(_SENT, "Data segments transmitted, first transmissions and again"),
    Metric("lost", "Segments resent because their timer ran out"),
    Metric(
        "early",
        "Resent early: passed by an ACK with nothing new to send; a tail probe; the hole of a full window",
    ),
    Metric("fast", "Segments resent because enough ACKs, or an ACK sent late enough, passed them"),
    Metric("spurious", "Retransmissions whose original had arrived"),
    Metric(
        "spurious_percent",
        "Of all retransmissions",
        _PERCENT,
        _RATIO,
        numerator="spurious",
        denominator="retransmits",
    ),
    Metric("rttvar_us", "Variation of the round-trip time (RFC 6298)", _US, _GAUGE, iperf3="rttvar"),
    Metric("min_rtt_us", "Shortest round-trip time yet", _US, _GAUGE),
    Metric(
        "snd_cwnd_bytes",
        "Congestion window, or the send window where there is none",
        _BYTES,
        _GAUGE,
        iperf3="snd_cwnd",
    ),
    Metric("snd_wnd_bytes", "What the peer's window takes", _BYTES, _GAUGE, iperf3="snd_wnd"),
    Metric("in_flight_bytes", "Transmitted and neither acknowledged nor given up", _BYTES, _GAUGE),
    Metric("unacked_segments", "From the first unacknowledged segment to the next new one", kind=_GAUGE),
    Metric("queue_us_sum", "Time between write and first transmission, summed over segments", _US),
    Metric("queue_segments", "Segments transmitted for the first time"),
    Metric(
        "queue_us",
        "Mean time that data waited in the sender before its first transmission",
        _US,
        _RATIO,
        numerator="queue_us_sum",
        denominator="queue_segments",
    ),
    Metric("limited_by", "What held the sender when the interval ended", Unit.TEXT, _GAUGE),
    *(
        Metric(f"{key}_limited_us", f"Time for which the sender was held by {what}", _US)
        for key, what in LIMITS.items()
    ),
    Metric("datagrams_sent", "Datagrams handed to the network"),
    Metric(
        "wire_bytes_sent",
        "UDP payload handed to the network, KCP headers and acknowledgements included",
        _BYTES,
    ),
    Metric(
        "path_loss_percent",
        "Datagrams that the receiver did not get, of those sent, by the counters of both ends",
        _PERCENT,
        Kind.MISSING,
        numerator="datagrams_received",
        denominator="datagrams_sent",
    ),
    Metric(
        "duplicates_percent",
        "Data segments that arrived again, of all retransmissions: what spurious_percent estimates",
        _PERCENT,
        Kind.ACROSS,
        numerator="duplicates",
        denominator="retransmits",
    ),
    Metric("datagrams_received", "Datagrams from the network", side=Side.RECEIVER),
    Metric("wire_bytes_received", "UDP payload from the network", _BYTES, side=Side.RECEIVER),
    Metric("segments_received", "Data segments accepted, each once", side=Side.RECEIVER),
    Metric("duplicates", "Data segments that had arrived before", side=Side.RECEIVER),
    Metric("held_segments", "Data segments held for one that is missing", kind=_GAUGE, side=Side.RECEIVER),
    Metric("acks_sent", "ACK segments", side=Side.RECEIVER),
)


class _KcpTransport(Transport):
    prefix = "kcp"
    iperf3 = Iperf3Mapping(socket_buffer="socket_buffer")

    def block_bytes(self, settings: Settings) -> int:
        """Two runs of full segments: a block that ends within a segment costs the next one a copy."""
        assert isinstance(settings, (KcpSettings, KcpBbrSettings))
        run = min(64, 65_507 // settings.mtu)
        return 2 * run * (settings.mtu - 24)

    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        from iperfpy.protocols.kcp import channel

        return await channel.connect(stream, settings, port)

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        from iperfpy.protocols.kcp import channel

        return await channel.accept(stream, settings, port)


class Kcp(_KcpTransport):
    """Stock KCP: what kcptun and kcp-go put on the wire."""

    name = "kcp"
    summary = "KCP as deployed: fixed windows, counted ACKs, no pacing"
    settings = KcpSettings
    metrics = METRICS


class KcpBbr(_KcpTransport):
    """KCP with time-ordered loss recovery, BBR and pacing."""

    name = "kcp-bbr"
    summary = "KCP with BBR: pacing, time-ordered recovery, automatic windows"
    settings = KcpBbrSettings
    metrics = (
        *METRICS,
        Metric("bbr_phase", "Where BBR's state machine is", Unit.TEXT, _GAUGE),
        Metric(
            "bandwidth_bits_per_second",
            "BBR's estimate of the path, in datagram bytes",
            Unit.BITS_PER_SECOND,
            _GAUGE,
        ),
        Metric(
            "pacing_bits_per_second", "Rate of transmission, in datagram bytes", Unit.BITS_PER_SECOND, _GAUGE
        ),
        Metric(
            "inflight_bound_bytes",
            "Most in flight that BBR's experience of losses allows; none before there was any",
            _BYTES,
            _GAUGE,
        ),
        Metric("bbr_min_rtt_us", "BBR's windowed minimum of the round-trip time", _US, _GAUGE),
        Metric("noise_percent", "Loss that the path shows while it is not overdriven", _PERCENT, _GAUGE),
    )
