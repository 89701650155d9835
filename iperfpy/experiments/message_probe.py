"""One message test: the latency of messages over one transport, idle or beside a load.

    test = MessageTest("kcp", {"mode": "fast"}, seconds=10)
    result = await measure_messages(options, test)        idle
    result.figures().p99_us

    loaded = replace(test, load=BulkLoad("kcp", reverse=True))    beside a bulk test of the same server

The load is a test of its own: it begins first and is stopped once the messages are answered. The server must
admit two tests at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from iperfpy.api import measure_async, watch
from iperfpy.errors import IperfpyError
from iperfpy.experiments import run_figures
from iperfpy.measure_keywords import message_plan_of, plan_of, transport_of
from iperfpy.options import ClientOptions
from iperfpy.plan import WAYS
from iperfpy.protocols.settings import Settings
from iperfpy.records import EndFacts, MessageTimes
from iperfpy.sampling.clock_difference import symmetric
from iperfpy.sampling.message_figures import MessageFigures, figures
from iperfpy.store.stored_run import Run

T = TypeVar("T")

RAMP_S = 3.0
"""Time for which a load runs before the messages begin: it has left slow start by then."""
LOAD_REST_S = 60.0
"""Longest time that a load goes on after the messages: it is stopped when they are answered."""


@dataclass(frozen=True, slots=True)
class BulkLoad:
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
    load: BulkLoad | None = None
    tos: int = 0


@dataclass(frozen=True, slots=True)
class MessageResult:
    """The times of one message test.

    Parameters
    ----------
    times : None if none was sent
    load_bits_per_second : of the load while the messages were sent, by direction ("up", "down")
    warnings : of the test of the messages, a sentence each
    server : program and system of the server, as far as it told them
    """

    test: MessageTest
    times: MessageTimes | None = None
    load_bits_per_second: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    server: EndFacts = field(default_factory=EndFacts)

    def figures(self) -> MessageFigures | None:
        """The figures, with two ways as if the path were symmetric. None if there are no times."""
        return None if self.times is None else figures(self.times, clocks=[symmetric(self.times)])


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
    if test.load is None:
        return _result(test, await measure_async(options, plan), {})
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
    async with watch(options, bulk) as loading:
        finished = asyncio.create_task(loading.finished())
        try:
            await _unless(finished, asyncio.sleep(RAMP_S))
            begun = loading.run.intervals
            run = await _unless(finished, measure_async(options, plan))
            carried = load_rates(loading.run, begun[-1].end if begun else 0.0)
        finally:
            loading.stop("the messages have been answered")
            await asyncio.gather(finished, return_exceptions=True)
    return _result(test, run, carried)


def _result(test: MessageTest, run: Run, carried: Mapping[str, float]) -> MessageResult:
    times = run.ended.messages if run.ended is not None else None
    return MessageResult(test, times, carried, run.warnings, run_figures.server_facts(run))


async def _unless(load: asyncio.Task[Any], work: Coroutine[Any, Any, T]) -> T:
    """Wait for `work` and give its result, unless the load ends before: then raise its error."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({load, task}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await load
            raise IperfpyError("the load ended before the messages")
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def load_rates(run: Run, from_s: float) -> dict[str, float]:
    """Payload bits per second that arrived of a load from a moment of it on, by direction ("up", "down").

    Empty if no interval has ended since.
    """
    if not run.intervals or run.intervals[-1].start < from_s:
        return {}
    rates = {name: run_figures.steady_bps(run, way, from_s) for way, name in WAYS.items()}
    return {name: rate for name, rate in rates.items() if rate is not None}
