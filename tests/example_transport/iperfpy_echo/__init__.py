"""`--proto echo`: an asyncio stream whose receiver answers every chunk with the count so far.

All that a transport needs, in the smallest form: settings that become flags (`--echo-chunk`), metrics that
become columns (Chunks), and a channel at each end. This module only declares; `channel` does the work.
"""

from __future__ import annotations

from dataclasses import dataclass

from iperfpy.protocols.contract import Channel, ClientPort, ServerPort, Stream, Transport
from iperfpy.protocols.metrics import Kind, Metric, Side, Unit
from iperfpy.protocols.settings import Settings, option


@dataclass(frozen=True, slots=True)
class EchoSettings(Settings):
    chunk: int = option(
        16 * 1024, help="bytes per write and per echo", minimum=1, maximum=1024 * 1024, unit="bytes"
    )


class Echo(Transport):
    """A stream over the program's own TCP connection."""

    name = "echo"
    summary = "example plug-in: an asyncio stream with echoed counts"
    prefix = "echo"
    settings = EchoSettings
    metrics = (
        Metric("chunks", "Chunks written", title="Chunks"),
        Metric("echoes", "Counts that came back"),
        Metric("unechoed_bytes", "Written and not echoed yet", Unit.BYTES, Kind.GAUGE),
        Metric("reads", "Reads that gave something", side=Side.RECEIVER),
    )

    def block_bytes(self, settings: Settings) -> int:
        return 64 * 1024

    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        from .channel import EchoChannel

        assert isinstance(settings, EchoSettings)
        return await EchoChannel.over(await port.connection(stream), settings.chunk, sends=stream.sends)

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        from .channel import EchoChannel

        assert isinstance(settings, EchoSettings)
        return await EchoChannel.over(await port.connection(), settings.chunk, sends=stream.sends)
