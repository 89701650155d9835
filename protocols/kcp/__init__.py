"""KCP as a transport: stock, and with BBR.

This module only declares; numpy and sockets come with the first stream.
"""

from __future__ import annotations

from iperfpy.protocols.contract import Channel, ClientPort, Iperf3Mapping, ServerPort, Stream, Transport
from iperfpy.protocols.kcp.kcp_metrics import BBR_METRICS, METRICS
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings, SharedSettings
from iperfpy.protocols.settings import Settings


class _KcpTransport(Transport):
    prefix = "kcp"
    iperf3 = Iperf3Mapping(socket_buffer="socket_buffer")

    def block_bytes(self, settings: Settings) -> int:
        """Two runs of full segments: a block that ends within a segment costs the next one a copy."""
        assert isinstance(settings, SharedSettings)
        run = min(64, 65_507 // settings.mtu)
        return 2 * run * (settings.mtu - 24)

    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        from iperfpy.protocols.kcp import channel

        return await channel.connect(stream, settings, port)

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        from iperfpy.protocols.kcp import channel

        return await channel.accept(stream, settings, port)


class Kcp(_KcpTransport):
    """Stock KCP, as kcptun and kcp-go deploy it."""

    name = "kcp"
    summary = "KCP as deployed: fixed windows, counted ACKs, no pacing"
    settings = KcpSettings
    metrics = METRICS


class KcpBbr(_KcpTransport):
    """KCP with time-ordered loss recovery, BBR and pacing."""

    name = "kcp-bbr"
    summary = "KCP with BBR: pacing, time-ordered recovery, automatic windows"
    settings = KcpBbrSettings
    metrics = (*METRICS, *BBR_METRICS)
