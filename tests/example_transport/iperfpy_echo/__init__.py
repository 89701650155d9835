"""`--proto echo`: a TCP stream on which the receiver answers every read with its count of bytes.

The declaration of a transport: settings become flags (`--echo-chunk`), metrics become columns (Chunks), and
`connect` and `accept` open the channel of each end. The channel is imported when the first one is opened, so
that `iperfpy --help` stays quick.
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
    """A stream over the TCP connection that the program provides."""

    name = "echo"
    summary = "example plug-in: a TCP stream with echoed counts"
    prefix = "echo"
    settings = EchoSettings
    metrics = (
        Metric("chunks", "Chunks written", title="Chunks"),
        Metric("echoes", "Echoed counts received"),
        Metric("unechoed_bytes", "Bytes written and not echoed yet", Unit.BYTES, Kind.GAUGE),
        Metric("reads", "Reads that returned data", side=Side.RECEIVER),
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
