"""KCP as a transport: stock, and with BBR.

This module only declares; numpy and sockets come with the first stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from iperfpy.protocols.contract import Channel, ClientPort, Iperf3Mapping, ServerPort, Stream, Transport
from iperfpy.protocols.kcp.engine_options import ACK_RANGES
from iperfpy.protocols.kcp.envelope.crypt_names import KINDS, LEAST_SECRET, check_secret
from iperfpy.protocols.kcp.fec_remark import fec_remark
from iperfpy.protocols.kcp.kcp_metrics import BBR_METRICS, ENVELOPE_METRICS, METRICS
from iperfpy.protocols.kcp.oversized_window import oversized_window
from iperfpy.protocols.kcp.settings import CRYPT, FEC, FEC_AUTO, KcpBbrSettings, KcpSettings, SharedSettings
from iperfpy.protocols.kcp.snappy_stream import check_package
from iperfpy.protocols.metrics import Value, number
from iperfpy.protocols.settings import Settings


def path_size_notice(sender: Mapping[str, Value]) -> tuple[str, ...]:
    """The sentence about datagrams that are too long for the path, if there are any."""
    began, now = number(sender.get("mtu_start_bytes")), number(sender.get("mtu_bytes"))
    if began is None or now is None or now >= began:
        return ()
    if number(sender.get("rtt_us")) is None:  # no ACK has come: nothing says that shorter ones pass
        return (f"none of the datagrams of {now:,} bytes or more was acknowledged",)
    return (f"the path does not carry datagrams of {began:,} bytes: {now:,} bytes are used",)


class _KcpTransport(Transport):
    prefix = "kcp"
    iperf3 = Iperf3Mapping(socket_buffer="socket_buffer")
    header_bytes = 24
    over_udp = True
    fills_files = False
    window_settings = ("sndwnd", "rcvwnd")
    both_ways = True
    features: ClassVar[tuple[str, ...]] = (FEC, FEC_AUTO, CRYPT)
    secret = "key of --kcp-crypt"
    least_secret_bytes = LEAST_SECRET
    bare_peer = "KCP peer"
    smux_versions = (1, 2)

    def block_bytes(self, settings: Settings) -> int:
        """Two runs of full segments: a block that ends within a segment costs the next one a copy."""
        assert isinstance(settings, SharedSettings)
        mtu = settings.datagram_bytes
        run = min(64, 65_507 // mtu)
        return 2 * run * (mtu - self.header_bytes)

    def for_messages(self, settings: Settings) -> Settings:
        assert isinstance(settings, SharedSettings)
        return replace(settings, push=True)

    def remarks(self, sender: Mapping[str, Value]) -> tuple[str, ...]:
        """Name the gain of forward error correction that adapts."""
        return fec_remark(sender)

    def notices(self, sender: Mapping[str, Value]) -> tuple[str, ...]:
        """Name datagrams that are too long for the path."""
        return path_size_notice(sender)

    def needed_features(self, settings: Settings) -> Mapping[str, str]:
        assert isinstance(settings, SharedSettings)
        needed = {}
        if settings.adapts_fec:
            needed[FEC_AUTO] = "forward error correction that adapts (--kcp-fec auto)"
        elif settings.fec is not None:
            needed[FEC] = "forward error correction (--kcp-fec)"
        if settings.crypt is not None:
            needed[CRYPT] = "encryption (--kcp-crypt)"
        return needed

    def bare_settings(self, settings: Settings) -> str:
        assert isinstance(settings, SharedSettings)
        fec = "no forward error correction" if settings.fec is None else f"--kcp-fec {settings.fec}"
        if settings.crypt is None:
            return f"no encryption and {fec}"
        return f"--kcp-crypt {settings.crypt} and its key, and {fec}"

    def uses_secret(self, settings: Settings) -> bool:
        assert isinstance(settings, SharedSettings)
        return settings.crypt is not None and KINDS[settings.crypt].key_bytes > 0

    def check_secret(self, settings: Settings, secret: bytes | None) -> None:
        assert isinstance(settings, SharedSettings)
        if settings.crypt is not None:
            check_secret(settings.crypt, secret)

    def check_compression(self) -> None:
        check_package()

    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        from iperfpy.protocols.kcp import channel, smux_channel, two_way_channel

        if stream.smux:
            return await smux_channel.connect(stream, settings, port)

        make = two_way_channel.TwoWayChannel if stream.both_ways else channel.KcpChannel
        return await channel.connect(stream, settings, port, make)

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        from iperfpy.protocols.kcp import bare_listener, channel, two_way_channel

        if stream.bare:
            return await bare_listener.accept_bare(stream, settings, port)

        make = two_way_channel.TwoWayChannel if stream.both_ways else channel.KcpChannel
        return await channel.accept(stream, settings, port, make)


class Kcp(_KcpTransport):
    """Stock KCP, as kcptun and kcp-go deploy it."""

    def remarks(self, sender: Mapping[str, Value]) -> tuple[str, ...]:
        return (*super().remarks(sender), *oversized_window(sender, self.metrics))

    name = "kcp"
    summary = "KCP as deployed: fixed windows, counted ACKs, no pacing"
    settings = KcpSettings
    variant = "mode"
    metrics = (*METRICS, *ENVELOPE_METRICS)


class KcpBbr(_KcpTransport):
    """KCP with time-ordered loss recovery, BBR and pacing."""

    name = "kcp-bbr"
    summary = "KCP with BBR: pacing, time-ordered recovery, automatic windows"
    settings = KcpBbrSettings
    metrics = (*METRICS, *BBR_METRICS, *ENVELOPE_METRICS)
    features = (ACK_RANGES, FEC, FEC_AUTO, CRYPT)
