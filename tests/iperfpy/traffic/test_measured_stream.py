"""A stream of a message test is ready for its first message before its task has begun."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from iperfpy.plan import Plan
from iperfpy.protocols.contract import Stream
from iperfpy.protocols.registry import transport
from iperfpy.traffic.measured_stream import MeasuredStream
from iperfpy.traffic.messages import HEADER, MessageEcho
from iperfpy.traffic.open_stream import OpenStream


class Early:
    """A channel on which a message arrives before the event loop turns again."""

    def __init__(self) -> None:
        self.write: Callable[[memoryview], None] | None = None

    def keep(self, write: Callable[[memoryview], None]) -> None:
        self.write = write

    def counters(self) -> dict[str, int]:
        return {"bytes": 0}

    async def send(self, load: object) -> None:
        await asyncio.Event().wait()

    receive = send


async def test_a_message_that_comes_at_once_is_echoed() -> None:
    tcp = transport("tcp")
    plan = Plan("tcp", tcp.settings(), duration_us=1_000_000, block_bytes=100, messages_per_s=10)
    channel, stream = Early(), Stream(1, 0, 7, sends=False, both_ways=True)
    opened = OpenStream.of(stream, channel, tcp, print)  # type: ignore[arg-type]  # as far as it is used
    echo = MessageEcho(plan, 7, lambda: None, datagrams=False)
    measured = MeasuredStream(opened, tcp.metrics, 0, echo)
    measured.start(print)
    assert channel.write is not None
    channel.write(memoryview(HEADER.pack(0, 0, 7) + bytes(84)))
    assert echo.wait_us(0) == 0
    await measured.end(1.0)
