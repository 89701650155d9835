"""What every transport must do, whoever wrote it.

    @pytest.mark.parametrize("check", CHECKS, ids=name_of)
    async def test_contract(check: Check) -> None:
        await check(Subject(MyTransport(), MySettings()))

Each check opens real channels over loopback, between a `LoopbackServer` and a `LoopbackClient`, and has a
deadline of its own. Nothing here knows a protocol.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, fields
from typing import Any

import pytest

from iperfpy.protocols.contract import Channel, Stream, Transport
from iperfpy.protocols.errors import SettingsError, TransportError
from iperfpy.protocols.metrics import Kind, Metric, Side, Unit, Value
from iperfpy.protocols.settings import Settings, setting_fields
from iperfpy.protocols.testing.loopback import LoopbackClient, LoopbackServer

DEADLINE_S = 20.0
PROMPT_S = 5.0
BULK_BYTES = 3_000_000
BLOCK_BYTES = 16_000
UNRELIABLE_US_PER_KB = 50
LEAST_ARRIVING_PERCENT = 80
"""On a machine that is busy otherwise, an unreliable transport may find a full buffer now and then."""


@dataclass(frozen=True)
class Subject:
    """A transport under test, the settings to use, and where."""

    transport: Transport
    settings: Settings
    host: str = "127.0.0.1"
    changed: Settings | None = None
    """Other settings with as many fields away from their defaults as possible, for the wire form."""


Check = Callable[[Subject], Coroutine[Any, Any, None]]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    CHECKS.append(function)
    return function


def name_of(function: Check) -> str:
    return function.__name__


async def run_battery(subject: Subject) -> None:
    """Every check in turn."""
    for function in CHECKS:
        await function(subject)


# ---------------------------------------------------------------------- what the checks stand on


class Bulk:
    """A `Load` of `total` bytes, 0 endless, that asks for `pause_us` between blocks."""

    def __init__(self, total: int, block_bytes: int = BLOCK_BYTES, pause_us: int = 0) -> None:
        self._block = memoryview(secrets.token_bytes(block_bytes))
        self._total = total
        self._pause_us = pause_us
        self._due_us = 0
        self._stopped = threading.Event()
        self.taken = 0
        self.early = 0

    def stop(self) -> None:
        self._stopped.set()

    def slow_down(self, us_per_kb: int) -> None:
        """Pause after every block for as long as that takes, or longer."""
        self._pause_us = max(self._pause_us, len(self._block) * us_per_kb // 1000)

    def wait_us(self, now_us: int) -> int:
        if self._stopped.is_set() or (self._total and self.taken >= self._total):
            return -1
        wait_us = max(0, self._due_us - now_us)
        if not wait_us:
            self._due_us = now_us + self._pause_us
        return wait_us

    def take(self) -> memoryview:
        left = self._total - self.taken if self._total else len(self._block)
        block = self._block[: min(left, len(self._block))]
        self.taken += len(block)
        return block


@dataclass
class Flow:
    """One stream, open at both ends."""

    sender: Channel
    receiver: Channel
    client: Channel
    server: Channel
    reliable: bool = True
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.append(task)
        return task

    async def close(self) -> None:
        """Both ends, and whatever ran on them; what does not end by itself is a fault."""
        try:
            await promptly(self.sender.close(), "close() of the sender")
        finally:
            await promptly(self.receiver.close(), "close() of the receiver")
            _, stuck = await asyncio.wait(self.tasks, timeout=PROMPT_S) if self.tasks else ((), ())
            for task in stuck:
                task.cancel()
            ends = await asyncio.gather(*self.tasks, return_exceptions=True)
        assert not stuck, "send() or receive() goes on after close()"
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, TransportError):
                raise end


@asynccontextmanager
async def opened(subject: Subject, *reverse: bool) -> AsyncIterator[list[Flow]]:
    """One flow for each of `reverse`, opened one after the other as a client opens them."""
    transport, settings = subject.transport, subject.settings
    flows: list[Flow] = []
    with LoopbackServer(subject.host) as server:
        client = LoopbackClient(server)
        try:
            async with asyncio.timeout(DEADLINE_S):
                for index, backwards in enumerate(reverse):
                    conv = secrets.randbits(32)
                    ours = Stream(index + 1, index, conv, sends=not backwards)
                    theirs = Stream(index + 1, index, conv, sends=backwards)
                    accepted, connected = await both(
                        transport.accept(theirs, settings, server),
                        transport.connect(ours, settings, client),
                    )
                    ends = (accepted, connected) if backwards else (connected, accepted)
                    flows.append(Flow(*ends, client=connected, server=accepted, reliable=transport.reliable))
                yield flows
        finally:
            for flow in flows:
                await flow.close()


async def both(*opening: Coroutine[Any, Any, Channel]) -> list[Channel]:
    """The channels; when one cannot be had, the other is given up and closed, and the error is raised."""
    tasks = [asyncio.get_running_loop().create_task(work) for work in opening]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        for made in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(made, Channel):
                await made.close()
        raise


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that has no event; the check's own deadline ends it."""
    while not condition():  # noqa: ASYNC110 - counters are polled, they announce nothing
        await asyncio.sleep(0.002)


async def promptly(work: Awaitable[None], what: str) -> None:
    """`work` must end within `PROMPT_S`; the transport may say why with a `TransportError`."""
    try:
        async with asyncio.timeout(PROMPT_S):
            with suppress(TransportError):
                await work
    except TimeoutError:
        pytest.fail(f"{what} did not end within {PROMPT_S:g} s")


def bytes_of(channel: Channel) -> int:
    count = channel.counters()["bytes"]
    assert isinstance(count, int)
    return count


def of_side(transport: Transport, side: Side) -> list[Metric]:
    return [metric for metric in transport.metrics if metric.side is side]


# ---------------------------------------------------------------------- bulk


async def carry(flow: Flow, total: int, load: Bulk | None = None) -> None:
    """Send `total` bytes through `flow`; every one of them must be counted at both ends, or, where the
    transport is not reliable, by the sender, and nearly all of them by the receiver."""
    load = load or Bulk(total)
    if not flow.reliable:
        load.slow_down(UNRELIABLE_US_PER_KB)
    flow.start(flow.receiver.receive())
    await flow.sender.send(load)
    assert load.taken == total
    await flow.sender.drain()
    assert bytes_of(flow.sender) == total
    least = total if flow.reliable else total * LEAST_ARRIVING_PERCENT // 100
    await until(lambda: bytes_of(flow.receiver) >= least)
    assert bytes_of(flow.receiver) <= total


@check
async def forward_bulk_is_counted_exactly(subject: Subject) -> None:
    async with opened(subject, False) as (flow,):
        await carry(flow, BULK_BYTES)


@check
async def reverse_bulk_is_counted_exactly(subject: Subject) -> None:
    async with opened(subject, True) as (flow,):
        await carry(flow, BULK_BYTES)


@check
async def blocks_of_any_size_arrive(subject: Subject) -> None:
    async with opened(subject, False, False, False) as flows:
        for flow, block_bytes in zip(flows, (1, 1377, 128 * 1024), strict=True):
            total = min(BULK_BYTES, 500 * block_bytes) + 1
            await carry(flow, total, Bulk(total, block_bytes))


@check
async def a_paced_load_is_waited_for(subject: Subject) -> None:
    async with opened(subject, False) as (flow,):
        loop = asyncio.get_running_loop()
        started = loop.time()
        await carry(flow, 30 * 1000, Bulk(30 * 1000, 1000, pause_us=3_000))
        assert loop.time() - started >= 29 * 0.003


@check
async def a_stopped_load_ends_send(subject: Subject) -> None:
    async with opened(subject, False) as (flow,):
        load = Bulk(0)
        flow.start(flow.receiver.receive())
        sending = flow.start(flow.sender.send(load))
        await until(lambda: bytes_of(flow.receiver) > 100_000)
        load.stop()
        await promptly(sending, "send() of a load that has stopped")


@check
async def two_streams_count_their_own(subject: Subject) -> None:
    async with opened(subject, False, False) as (one, two):
        await asyncio.gather(carry(one, BULK_BYTES), carry(two, BULK_BYTES // 3))


@check
async def both_directions_at_once(subject: Subject) -> None:
    async with opened(subject, False, True) as (out, back):
        await asyncio.gather(carry(out, BULK_BYTES // 2), carry(back, BULK_BYTES))


# ---------------------------------------------------------------------- counters


@check
async def metrics_are_declared_consistently(subject: Subject) -> None:
    metrics = subject.transport.metrics
    keys = [metric.key for metric in metrics]
    assert len(set(keys)) == len(keys), "two metrics share a key"
    assert "bytes" not in keys, "`bytes` is every transport's and is not declared"
    for side in Side:
        titles = [metric.title for metric in of_side(subject.transport, side) if metric.title]
        assert len(set(titles)) == len(titles), "two metrics share a title"
        counters = {m.key for m in of_side(subject.transport, side) if m.kind is Kind.COUNTER} | {"bytes"}
        for metric in of_side(subject.transport, side):
            assert metric.doc, f"{metric.key} is not explained"
            if metric.kind is Kind.RATIO:
                assert {metric.numerator, metric.denominator} <= counters, f"{metric.key}: ratio of what?"
            elif metric.kind in (Kind.ACROSS, Kind.MISSING):
                ends = (metric.numerator, Side.RECEIVER), (metric.denominator, Side.SENDER)
                owned = {(m.key, m.side) for m in metrics if m.kind is Kind.COUNTER}
                assert owned >= set(ends), f"{metric.key}: of what?"
    for setting in setting_fields(type(subject.settings)):
        assert all(flag.startswith("-") for flag in setting.flags(subject.transport.prefix))


@check
async def records_hold_every_metric_and_counters_never_fall(subject: Subject) -> None:
    async with opened(subject, False, True) as flows:
        loads = [Bulk(0), Bulk(0)]
        for flow, load in zip(flows, loads, strict=True):
            flow.start(flow.receiver.receive())
            flow.start(flow.sender.send(load))
        ends = [(flow.sender, Side.SENDER) for flow in flows] + [
            (flow.receiver, Side.RECEIVER) for flow in flows
        ]
        before: list[dict[str, Value]] = [{} for _ in ends]
        for _ in range(30):
            for index, (channel, side) in enumerate(ends):
                before[index] = _check_record(subject.transport, side, channel.counters(), before[index])
            await asyncio.sleep(0.01)
        for flow, load in zip(flows, loads, strict=True):
            assert 0 < bytes_of(flow.sender) <= load.taken
            load.stop()


def _check_record(
    transport: Transport, side: Side, record: dict[str, Value], before: dict[str, Value]
) -> dict[str, Value]:
    recorded = (Kind.COUNTER, Kind.GAUGE)
    expected = {metric.key: metric for metric in of_side(transport, side) if metric.kind in recorded}
    assert {"bytes", *expected} <= record.keys()
    for key in ("bytes", *(key for key, metric in expected.items() if metric.kind is Kind.COUNTER)):
        value, last = record[key], before.get(key)
        assert value is None or (isinstance(value, int | float) and value >= 0), f"{key} is {value!r}"
        if isinstance(last, int | float):
            assert isinstance(value, int | float), f"{key} was known, and is not any more"
            assert value >= last, f"{key} fell from {last} to {value}"
    for key, metric in expected.items():
        if metric.kind is Kind.GAUGE and record[key] is not None:
            wanted = str if metric.unit is Unit.TEXT else (int, float)
            assert isinstance(record[key], wanted), f"{key} is {record[key]!r}"
    return record


# ---------------------------------------------------------------------- ends


@check
async def close_ends_a_blocked_send(subject: Subject) -> None:
    """Nobody receives: the sender fills what there is to fill and waits."""
    async with opened(subject, False) as (flow,):
        load = Bulk(0)
        sending = flow.start(flow.sender.send(load))
        await until(lambda: load.taken > 0)
        await asyncio.sleep(0.2)
        await promptly(flow.sender.close(), "close() of a blocked sender")
        await promptly(sending, "send() of a closed channel")


@check
async def close_ends_a_waiting_receive(subject: Subject) -> None:
    async with opened(subject, False) as (flow,):
        receiving = flow.start(flow.receiver.receive())
        await asyncio.sleep(0.05)
        await promptly(flow.receiver.close(), "close() of a waiting receiver")
        await promptly(receiving, "receive() of a closed channel")


@check
async def close_of_a_sender_at_rest_is_prompt(subject: Subject) -> None:
    async with opened(subject, False) as (flow,):
        sending = flow.start(flow.sender.send(Bulk(0, 1000, pause_us=60_000_000)))
        await asyncio.sleep(0.05)
        await promptly(flow.sender.close(), "close() of a sender that waits for its load")
        await promptly(sending, "send() that waits for its load")


@check
async def a_cancelled_send_lets_go(subject: Subject) -> None:
    async with opened(subject, False) as (flow,):
        sending = asyncio.get_running_loop().create_task(flow.sender.send(Bulk(0)))
        await asyncio.sleep(0.05)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await promptly(flow.sender.close(), "close() after a cancelled send()")


@check
async def close_twice_and_counters_stay(subject: Subject) -> None:
    async with opened(subject, False) as (flow,):
        await carry(flow, 100_000)
        for channel in (flow.sender, flow.receiver):
            await channel.close()
            counted = bytes_of(channel)
            assert counted == 100_000 or not flow.reliable
            await channel.close()
            assert bytes_of(channel) == counted > 0


@check
async def a_closed_channel_returns_at_once(subject: Subject) -> None:
    """A test may end before its tasks have begun."""
    async with opened(subject, False) as (flow,):
        await flow.sender.close()
        await flow.receiver.close()
        await promptly(flow.sender.send(Bulk(0)), "send() on a closed channel")
        await promptly(flow.receiver.receive(), "receive() on a closed channel")
        await promptly(flow.sender.drain(), "drain() on a closed channel")


@check
async def a_vanished_receiver_is_survived(subject: Subject) -> None:
    """Whether the sender hears of it or not: its close() ends everything, and it never counts the unsent."""
    async with opened(subject, False) as (flow,):
        load = Bulk(0)
        flow.start(flow.receiver.receive())
        sending = flow.start(flow.sender.send(load))
        await until(lambda: bytes_of(flow.receiver) > 100_000)
        await promptly(flow.receiver.close(), "close() of a busy receiver")
        await asyncio.sleep(0.1)
        assert bytes_of(flow.sender) <= load.taken
        await promptly(flow.sender.close(), "close() towards a peer that is gone")
        await promptly(sending, "send() towards a peer that is gone")


@check
async def a_vanished_sender_is_survived(subject: Subject) -> None:
    async with opened(subject, True) as (flow,):
        receiving = flow.start(flow.receiver.receive())
        flow.start(flow.sender.send(Bulk(0)))
        await until(lambda: bytes_of(flow.receiver) > 100_000)
        await promptly(flow.sender.close(), "close() of a busy sender")
        await asyncio.sleep(0.05)
        await promptly(flow.receiver.close(), "close() towards a peer that is gone")
        await promptly(receiving, "receive() from a peer that is gone")


# ---------------------------------------------------------------------- addresses and settings


@check
async def addresses_of_both_ends_agree(subject: Subject) -> None:
    async with opened(subject, False) as (flow,):
        assert flow.client.fileno() >= 0
        assert flow.server.fileno() >= 0
        assert flow.client.local_address[:2] == flow.server.remote_address[:2]
        assert flow.client.remote_address[:2] == flow.server.local_address[:2]
        assert flow.client.remote_address[0] == subject.host


@check
async def settings_survive_the_wire(subject: Subject) -> None:
    for settings in (subject.transport.settings(), subject.settings, subject.changed or subject.settings):
        wire = json.loads(json.dumps(settings.to_wire()))
        assert type(settings).from_wire(wire) == settings
        assert type(settings).from_wire({**wire, "no such setting": [1]}) == settings
        assert set(settings.record()) == {setting.name for setting in fields(settings)}
        for key in wire:
            with pytest.raises(SettingsError):
                type(settings).from_wire({**wire, key: {"not": "a value"}})


@check
async def a_default_block_is_usable(subject: Subject) -> None:
    block_bytes = subject.transport.block_bytes(subject.settings)
    assert 1 <= block_bytes <= 1024 * 1024
    async with opened(subject, False) as (flow,):
        await carry(flow, 3 * block_bytes, Bulk(3 * block_bytes, block_bytes))
