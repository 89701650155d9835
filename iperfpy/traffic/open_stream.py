"""Streams with open channels, before and while they are measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import FileIO

from iperfpy.errors import FaultError
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import Channel, Stream, Transport
from iperfpy.protocols.metrics import Side
from iperfpy.traffic.counter_snapshots import CounterSnapshots
from iperfpy.traffic.guarded_channel import GuardedChannel

FIRST_DATA_POLL_S = 0.001


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A stream with its open channel, and the channel's counters since then.

    `file` is read by the sender, or filled by the receiver (-F). `echoes`: this end returns what it receives.
    """

    stream: Stream
    channel: GuardedChannel
    snapshots: CounterSnapshots
    file: FileIO | None = None
    echoes: bool = False

    @classmethod
    def of(
        cls, stream: Stream, channel: Channel, transport: Transport, on_fault: Callable[[FaultError], None]
    ) -> OpenStream:
        """The stream over a channel that the transport has just opened. `on_fault`: see `GuardedChannel`."""
        guarded = GuardedChannel(channel, transport.name, where(stream), on_fault)
        return cls(stream, guarded, CounterSnapshots(guarded, transport.delivery))

    @property
    def side(self) -> Side:
        """The end of the stream that this program is."""
        return Side.SENDER if self.stream.sends else Side.RECEIVER

    async def close(self) -> None:
        """Close the channel and the file."""
        try:
            await self.channel.close()
        finally:
            if self.file is not None:
                self.file.close()


def where(stream: Stream) -> str:
    """The stream's name in sentences."""
    return f"stream {stream.id}"


async def first_arrival_us(streams: Sequence[OpenStream], limit_s: float) -> int | None:
    """The time of the first payload on streams that are not measured yet, to a millisecond.

    None: none came within `limit_s`. The message that the test runs can be lost and come after the data, so
    a receiver watches for both.
    """
    receiving = [each.snapshots for each in streams if not each.stream.sends]
    arrived = await becomes_true(
        lambda: any(snapshots.has_moved for snapshots in receiving), round(limit_s * 1e6)
    )
    return first_data_us(each.channel for each in streams) if arrived else None


def first_data_us(channels: Iterable[Channel]) -> int:
    """The time at which data that is here arrived: as the channels recorded it, else now."""
    recorded = [channel.first_data_us for channel in channels if channel.first_data_us is not None]
    return min(recorded, default=now_us())


async def becomes_true(condition: Callable[[], bool], limit_us: int) -> bool:
    """Poll the condition every millisecond; False if it is still false after `limit_us`."""
    give_up_us = now_us() + limit_us
    while not condition():
        if now_us() >= give_up_us:
            return False
        await asyncio.sleep(FIRST_DATA_POLL_S)
    return True
