"""One message test: the latency of messages over one transport, idle or beside a load.

    test = MessageTest("kcp", {"mode": "fast"}, seconds=10)
    result = await measure_messages(options, test)        idle
    result.figures().p99_us

    loaded = replace(test, load=Load("kcp", reverse=True))    beside a bulk test of the same server

The load is a test of its own: it begins first and is stopped once the messages are answered. The server must
admit two tests at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from iperfpy.api import measure_async, watch
from iperfpy.errors import IperfpyError
from iperfpy.measure_keywords import message_plan_of, plan_of, transport_of
from iperfpy.options import ClientOptions
from iperfpy.protocols.settings import Settings
from iperfpy.records import MessageTimes, Row, RunEnded, RunStarted
from iperfpy.sampling.message_figures import MessageFigures, clock_offset_us, figures

RAMP_S = 3.0
"""Time for which a load runs before the messages begin: it has left slow start by then."""
LOAD_REST_S = 60.0
"""Longest time that a load goes on after the messages: it is stopped when they are answered."""


@dataclass(frozen=True, slots=True)
class Load:
    """A bulk test beside the messages. `rate`: bits per second, 0: as much as the transport carries; None: as
    much as the transport does by itself."""

    transport: str
    settings: Mapping[str, Any] | Settings = field(default_factory=dict)
    reverse: bool = False
    bidirectional: bool = False
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class MessageTest:
    """A wish: messages of `size_bytes`, `per_s` of them per second, for `seconds`."""

    transport: str
    settings: Mapping[str, Any] | Settings = field(default_factory=dict)
    size_bytes: int = 100
    per_s: int = 100
    seconds: float = 10.0
    load: Load | None = None
    tos: int = 0


@dataclass(frozen=True, slots=True)
class MessageResult:
    """The times of one message test.

    Parameters
    ----------
    unix_time : beginning of the messages
    times : None if none was sent
    load_bits_per_second : of the load while the messages were sent, by direction ("up", "down")
    error : the sentence that ended it early, or empty
    """

    test: MessageTest
    unix_time: float = 0.0
    times: MessageTimes | None = None
    load_bits_per_second: Mapping[str, float] = field(default_factory=dict)
    error: str = ""

    def figures(self, offset_us: float | None = None) -> MessageFigures | None:
        """The figures; `offset_us`: the difference of the clocks (`sampling.message_figures`), by default
        estimated from these times. None if there are no times."""
        if self.times is None:
            return None
        known = clock_offset_us(self.times) if offset_us is None else offset_us
        return figures(self.times, offsets_us=[known])


async def measure_messages(options: ClientOptions, test: MessageTest) -> MessageResult:
    """Run one message test, and its load. Cancelling it ends both.

    Raises
    ------
    IperfpyError
        The messages, or the load, could not be sent or failed.
    """
    plan = message_plan_of(
        transport_of(test.transport),
        {"settings": test.settings, "seconds": test.seconds, "block_bytes": test.size_bytes, "tos": test.tos},
        test.per_s,
    )
    keep = _KeepTimes()
    if test.load is None:
        await measure_async(options, plan, sinks=[keep])
        return MessageResult(test, keep.unix_time, keep.times)
    load = test.load
    keywords: dict[str, Any] = {
        "settings": load.settings,
        "reverse": load.reverse,
        "bidirectional": load.bidirectional,
        "seconds": RAMP_S + test.seconds + LOAD_REST_S,
        "tos": test.tos,
    }
    if load.rate is not None:
        keywords["rate"] = load.rate
    bulk = plan_of(transport_of(load.transport), keywords)
    rates = _LoadRates()
    async with watch(options, bulk, sinks=[rates]) as loading:
        finished = asyncio.create_task(loading.finished())
        try:
            await _unless(finished, asyncio.sleep(RAMP_S))
            rates.is_counting = True
            await _unless(finished, measure_async(options, plan, sinks=[keep]))
        finally:
            rates.is_counting = False
            loading.stop("the messages have been answered")
            await asyncio.gather(finished, return_exceptions=True)
    return MessageResult(test, keep.unix_time, keep.times, rates.bits_per_second())


async def _unless(load: asyncio.Task[Any], work: Any) -> None:
    """Wait for `work`, unless the load ends before: then raise its error."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({load, task}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await load
            raise IperfpyError("the load ended before the messages")
        task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _KeepTimes:
    """A sink that keeps the times of a message test."""

    def __init__(self) -> None:
        self.times: MessageTimes | None = None
        self.unix_time = 0.0

    def start(self, start: RunStarted) -> None:
        self.unix_time = start.unix_time

    def interval(self, rows: tuple[Row, ...]) -> None:
        """Leave intervals out."""

    def end(self, end: RunEnded) -> None:
        self.times = end.messages

    def error(self, message: str) -> None:
        """Leave the sentence out: the call that runs the test raises it."""

    def close(self) -> None:
        """Nothing is open."""


class _LoadRates:
    """A sink that adds up the payload of a load while the messages are sent."""

    def __init__(self) -> None:
        self.is_counting = False
        self._bits: dict[str, float] = {}
        self._seconds: dict[str, float] = {}

    def start(self, start: RunStarted) -> None:
        """Nothing has been carried yet."""

    def interval(self, rows: tuple[Row, ...]) -> None:
        if not self.is_counting:
            return
        for row in rows:
            sample = row.peer if row.peer is not None and row.local.side is not row.peer.side else row.local
            way = "down" if row.direction.value == "reverse" else "up"
            self._bits[way] = self._bits.get(way, 0.0) + 8.0 * sample.bytes
            self._seconds[way] = self._seconds.get(way, 0.0) + sample.seconds

    def end(self, end: RunEnded) -> None:
        """The intervals have told everything."""

    def error(self, message: str) -> None:
        """Leave the sentence out: the call that runs the test raises it."""

    def close(self) -> None:
        """Nothing is open."""

    def bits_per_second(self) -> dict[str, float]:
        """Payload bits per second by direction."""
        return {way: bits / self._seconds[way] for way, bits in self._bits.items() if self._seconds[way]}
