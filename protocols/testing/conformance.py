"""The rules that every transport must keep, as checks.

    @pytest.mark.parametrize("check", CHECKS, ids=name_of)
    def test_contract(check: Check) -> None:
        check(Subject(MyTransport(), MySettings()))

A check is a plain function with an event loop of its own, so it needs neither pytest nor a plug-in of pytest.
It opens real channels over loopback (`loopback.py`), has a deadline, and raises `AssertionError` with one
sentence if the rule is broken. `python -m iperfpy.protocols.testing my_package:MyTransport` runs them all.
No check knows a protocol.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import wraps
from typing import Any

from iperfpy.protocols.contract import Transport
from iperfpy.protocols.declaration import check_declaration
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.metrics import LABELLED, Kind, Meaning, Metric, Side, Unit, Value, with_meaning
from iperfpy.protocols.path_evidence import PathEvidence
from iperfpy.protocols.settings import Settings, setting_fields
from iperfpy.protocols.testing.forged_opening import forged_opening
from iperfpy.protocols.testing.loopback import (
    DEADLINE_S,
    PROMPT_S,
    EchoLoad,
    LoopbackPair,
    bytes_of,
    expect,
    loopback_pairs,
    loopback_streams,
    until,
)

BULK_BYTES = 3_000_000


@dataclass(frozen=True)
class Subject:
    """A transport under test.

    settings : the settings of its streams
    host : the loopback address, which selects IPv4 or IPv6
    deadline_s, prompt_s : longest duration of a check, and of a call that must return at once
    loop_factory : makes the event loop of each check; None for asyncio's own
    """

    transport: Transport
    settings: Settings
    host: str = "127.0.0.1"
    deadline_s: float = DEADLINE_S
    prompt_s: float = PROMPT_S
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None

    def opened(self, *reverse: bool) -> AbstractAsyncContextManager[list[LoopbackPair]]:
        """Open a pair for each of `reverse`; True makes the server end the sender."""
        return loopback_pairs(
            self.transport,
            self.settings,
            *reverse,
            host=self.host,
            deadline_s=self.deadline_s,
            prompt_s=self.prompt_s,
        )


Check = Callable[[Subject], None]
CHECKS: list[Check] = []


def check(function: Callable[[Subject], Coroutine[Any, Any, None]]) -> Check:
    """Add a check to `CHECKS`: a plain function, in which every failure is an `AssertionError`."""

    @wraps(function)
    def run(subject: Subject) -> None:
        try:
            with asyncio.Runner(loop_factory=subject.loop_factory) as runner:
                runner.run(function(subject))
        except AssertionError:
            raise
        except Exception as error:  # the transport's own, which stays visible as the cause
            raise AssertionError(f"{type(error).__name__}: {error}") from error

    CHECKS.append(run)
    return run


def name_of(function: Check) -> str:
    """The name of a check, for test ids and reports."""
    return function.__name__


# ---------------------------------------------------------------------- declaration


@check
async def declaration_is_complete(subject: Subject) -> None:
    transport = subject.transport
    try:
        check_declaration(transport)
    except (TypeError, ValueError, SettingsError) as error:
        raise AssertionError(str(error)) from error
    expect(transport.summary, "`summary` is empty")
    shortest, longest = transport.block_limits
    expect(1 <= shortest <= longest, f"`block_limits` are {transport.block_limits}")


@check
async def metrics_are_declared_consistently(subject: Subject) -> None:
    metrics = subject.transport.metrics
    keys = [metric.key for metric in metrics]
    expect(len(set(keys)) == len(keys), "two metrics share a key")
    expect("bytes" not in keys, "`bytes` belongs to every transport and is not declared")
    for side in Side:
        titles = [metric.title for metric in _of_side(subject.transport, side) if metric.title]
        expect(len(set(titles)) == len(titles), f"two metrics of the {side.value} share a title")
        counters = {m.key for m in _of_side(subject.transport, side) if m.kind is Kind.COUNTER} | {"bytes"}
        for metric in _of_side(subject.transport, side):
            expect(metric.doc, f"{metric.key} has no description")
            # A ratio is computed from counters of its own side; the other two kinds compare both ends.
            if metric.kind is Kind.RATIO:
                operands = {metric.numerator, metric.denominator}
                expect(operands <= counters, f"{metric.key}: an operand of the ratio is not a counter")
            elif metric.kind in (Kind.ACROSS, Kind.MISSING):
                ends = (metric.numerator, Side.RECEIVER), (metric.denominator, Side.SENDER)
                owned = {(m.key, m.side) for m in metrics if m.kind is Kind.COUNTER}
                expect(owned >= set(ends), f"{metric.key}: an operand is not a counter of its end")
    delivery = subject.transport.delivery
    if delivery is not None:
        named = {(key, Side.RECEIVER) for key in delivery.receiver_keys} | {(delivery.sent, Side.SENDER)}
        owned = {(m.key, m.side) for m in metrics if m.kind is Kind.COUNTER}
        expect(owned >= named, "`delivery` names a key that is not a counter of its end")


@check
async def meanings_are_declared_consistently(subject: Subject) -> None:
    metrics = subject.transport.metrics
    for metric in metrics:
        if metric.meaning is Meaning.NONE:
            expect(not metric.label, f"{metric.key} has a label and no meaning")
            continue
        name, unit = f"{metric.key}, whose meaning is {metric.meaning.name},", _UNIT_OF[metric.meaning]
        expect(metric.unit is unit, f"{name} must be in {unit.value}")
        # Shares may be of any kind. Times are cumulative, and sizes are present values, both of the sender.
        kind = {Unit.MICROSECONDS: Kind.COUNTER, Unit.BYTES: Kind.GAUGE}.get(unit, metric.kind)
        expect(metric.kind is kind, f"{name} must be a {kind.value}")
        if unit is not Unit.PERCENT:
            expect(metric.side is Side.SENDER, f"{name} must be of the sender")
        expect(
            bool(metric.label) is (metric.meaning in LABELLED), f"{name} has {_LABELS[bool(metric.label)]}"
        )
    for meaning in LABELLED:
        labels = [metric.label for metric in with_meaning(metrics, meaning)]
        expect(len(set(labels)) == len(labels), f"two metrics with the meaning {meaning.name} share a label")


_UNIT_OF = {
    **dict.fromkeys(
        (Meaning.PATH_LOSS, Meaning.RESENT, Meaning.RESENT_CAUSE, Meaning.RESENT_IN_VAIN), Unit.PERCENT
    ),
    **dict.fromkeys((Meaning.SENDER_LIMIT, Meaning.SENDER_BUSY), Unit.MICROSECONDS),
    **dict.fromkeys(
        (
            Meaning.WINDOW,
            Meaning.FULL_DATAGRAM,
            Meaning.FIRST_DATAGRAM,
            Meaning.LONGEST_TRIED,
            Meaning.LONGEST_PASSED,
            Meaning.FULL_PAYLOAD,
        ),
        Unit.BYTES,
    ),
}
_LABELS = {True: "a label, which nothing shows", False: "no label"}


def _of_side(transport: Transport, side: Side) -> list[Metric]:
    return [metric for metric in transport.metrics if metric.side is side]


@check
async def settings_survive_the_wire(subject: Subject) -> None:
    """Settings become JSON and come back equal; unknown keys are ignored, bad values rejected."""
    for settings in (subject.settings, *settings_to_try(type(subject.settings))):
        kind = type(settings)
        wire = json.loads(json.dumps(settings.to_wire()))
        expect(kind.from_wire(wire) == settings, f"{settings} came back as {kind.from_wire(wire)}")
        received = kind.from_wire({**wire, "no such setting": [1]})
        expect(received == settings, f"an unknown key changes {settings} to {received}")
        names = {setting.name for setting in setting_fields(kind)}
        expect(set(settings.record()) == names, f"record() has the keys {sorted(settings.record())}")
        for key in wire:
            try:
                kind.from_wire({**wire, key: {"not": "a value"}})
            except SettingsError:
                continue
            raise AssertionError(f"from_wire() accepts an object as the value of {key!r}")


def settings_to_try(kind: type[Settings]) -> list[Settings]:
    """The defaults, each field alone with another value, and all of these values at once.

    A combination that the settings reject with `SettingsError` is left out, because fields may
    constrain each other.
    """
    values: dict[str, bool | int | str] = {}
    for setting in setting_fields(kind):
        rule = setting.option
        if setting.kind is bool:
            values[setting.name] = not setting.default
        elif setting.kind is int:
            low, high = rule.minimum or 0, rule.maximum
            values[setting.name] = low if low != setting.default or high is None else high
        elif rule.choices:
            values[setting.name] = next(choice for choice in rule.choices if choice != setting.default)
    tried: list[Settings] = []
    for chosen in ({}, *({name: value} for name, value in values.items()), values):
        try:
            tried.append(dataclasses.replace(kind(), **chosen))
        except SettingsError:
            continue
    return tried


# ---------------------------------------------------------------------- bulk


@check
async def forward_bulk_is_counted_exactly(subject: Subject) -> None:
    async with subject.opened(False) as (pair,):
        await pair.carry(BULK_BYTES)


@check
async def reverse_bulk_is_counted_exactly(subject: Subject) -> None:
    async with subject.opened(True) as (pair,):
        await pair.carry(BULK_BYTES)


@check
async def blocks_of_any_size_arrive(subject: Subject) -> None:
    async with subject.opened(False, False, False) as pairs:
        shortest, longest = subject.transport.block_limits
        for pair, wanted in zip(pairs, (1, 1377, 128 * 1024), strict=True):
            block_bytes = max(shortest, min(wanted, longest))
            total = min(BULK_BYTES, 500 * block_bytes) + shortest
            await pair.carry(total, pair.load(total, block_bytes))


@check
async def a_default_block_is_usable(subject: Subject) -> None:
    block_bytes = subject.transport.block_bytes(subject.settings)
    shortest, longest = subject.transport.block_limits
    expect(shortest <= block_bytes <= longest, f"block_bytes() is {block_bytes}, outside `block_limits`")
    async with subject.opened(False) as (pair,):
        await pair.carry(3 * block_bytes, pair.load(3 * block_bytes, block_bytes))


@check
async def a_paced_load_is_waited_for(subject: Subject) -> None:
    async with subject.opened(False) as (pair,):
        loop = asyncio.get_running_loop()
        started = loop.time()
        await pair.carry(30 * 1000, pair.load(30 * 1000, 1000, pause_us=3_000))
        spent_s = loop.time() - started
        expect(spent_s >= 29 * 0.003, f"29 pauses of 3 ms took {spent_s * 1000:.0f} ms: wait_us() is ignored")


@check
async def a_stopped_load_ends_send(subject: Subject) -> None:
    async with subject.opened(False) as (pair,):
        load = pair.load()
        pair.start(pair.receiver.receive())
        sending = pair.start(pair.sender.send(load))
        await until(lambda: bytes_of(pair.receiver) > 100_000)
        load.stop()
        await pair.promptly(sending, "send() of a load that has stopped")


@check
async def two_streams_count_their_own(subject: Subject) -> None:
    async with subject.opened(False, False) as (one, two):
        await asyncio.gather(one.carry(BULK_BYTES), two.carry(BULK_BYTES // 3))


@check
async def both_directions_at_once(subject: Subject) -> None:
    async with subject.opened(False, True) as (forward, backward):
        await asyncio.gather(forward.carry(BULK_BYTES // 2), backward.carry(BULK_BYTES))


@check
async def a_stream_that_goes_both_ways_echoes(subject: Subject) -> None:
    """Of a transport that declares `both_ways`: an end that receives sends again at once, on the same
    stream."""
    transport, settings = subject.transport, subject.settings
    if not transport.both_ways:
        return
    async with loopback_streams(
        (transport, transport.for_messages(settings), False),
        host=subject.host,
        deadline_s=subject.deadline_s,
        prompt_s=subject.prompt_s,
        both_ways=True,
    ) as (pair,):
        echo, block_bytes = EchoLoad(pair.server.wake), max(100, transport.block_limits[0])
        pair.server.keep(echo.arrived)
        pair.start(pair.server.receive())
        pair.start(pair.server.send(echo))
        returned = bytearray()
        pair.client.keep(lambda data: returned.extend(data))
        pair.start(pair.client.receive())
        count = 20
        sent = pair.load(count * block_bytes, block_bytes, pause_us=5_000)
        await pair.client.send(sent)
        least = count if transport.reliable else 1
        await until(lambda: len(returned) >= least * block_bytes)
        expect(
            returned[:block_bytes] == bytes(sent.block),
            "the echo differs from what was sent",
        )
        for channel in (pair.client, pair.server):
            wire, payload = channel.wire_bytes(), len(returned)
            expect(wire is None or min(wire) >= payload, f"wire_bytes() is {wire}, of {payload} each way")


@check
async def another_transport_works_beside_it(subject: Subject) -> None:
    """KCP, which uses the UDP port that the server's transports share, works in the same server.

    A transport that binds this port itself locks KCP out, or is locked out, as the order of opening decides.
    """
    # A local import: a transport's own test that runs single checks need not load the KCP engine.
    from iperfpy.protocols.kcp import Kcp

    neighbour = Kcp()
    own, other = (subject.transport, subject.settings, False), (neighbour, neighbour.settings(), False)
    for streams in ((own, other), (other, own)):
        async with loopback_streams(
            *streams, host=subject.host, deadline_s=subject.deadline_s, prompt_s=subject.prompt_s
        ) as pairs:
            await asyncio.gather(*(pair.carry(300_000) for pair in pairs))


# ---------------------------------------------------------------------- counters


@check
async def records_hold_every_metric_and_counters_never_fall(subject: Subject) -> None:
    async with subject.opened(False, True) as pairs:
        loads = [pair.load() for pair in pairs]
        for pair, load in zip(pairs, loads, strict=True):
            pair.start(pair.receiver.receive())
            pair.start(pair.sender.send(load))
        ends = [(pair.sender, Side.SENDER) for pair in pairs]
        ends += [(pair.receiver, Side.RECEIVER) for pair in pairs]
        before: list[dict[str, Value]] = [{} for _ in ends]
        # Thirty records while data flows: a counter that falls now and then must be caught.
        for _ in range(30):
            before = [
                _check_record(subject.transport, side, channel.counters(), last)
                for (channel, side), last in zip(ends, before, strict=True)
            ]
            await asyncio.sleep(0.01)
        for pair, load in zip(pairs, loads, strict=True):
            counted, taken = bytes_of(pair.sender), load.taken
            expect(0 < counted <= taken, f"the sender has counted {counted} of {taken} bytes that it took")
            load.stop()


def _check_record(
    transport: Transport, side: Side, record: dict[str, Value], before: dict[str, Value]
) -> dict[str, Value]:
    """Compare a record with the declared metrics of its side and with the one before; return it."""
    recorded = (Kind.COUNTER, Kind.GAUGE)
    expected = {metric.key: metric for metric in _of_side(transport, side) if metric.kind in recorded}
    missing = {"bytes", *expected} - record.keys()
    expect(not missing, f"counters() of the {side.value} lacks {', '.join(sorted(missing))}")
    for key in ("bytes", *(key for key, metric in expected.items() if metric.kind is Kind.COUNTER)):
        value, last = record[key], before.get(key)
        expect(value is None or (isinstance(value, int | float) and value >= 0), f"{key} is {value!r}")
        # None means not available. A counter may become available, but not the other way round.
        if isinstance(last, int | float):
            expect(isinstance(value, int | float), f"{key} was {last}, and is {value!r} now")
            expect(isinstance(value, int | float) and value >= last, f"{key} fell from {last} to {value}")
    for key, metric in expected.items():
        if metric.kind is Kind.GAUGE and record[key] is not None:
            wanted = str if metric.unit is Unit.TEXT else (int, float)
            expect(isinstance(record[key], wanted), f"{key} is {record[key]!r}")
    return record


# ---------------------------------------------------------------------- ends


@check
async def close_ends_a_blocked_send(subject: Subject) -> None:
    """Without a receiver the sender fills the buffers and waits; `close` must end that wait."""
    async with subject.opened(False) as (pair,):
        load = pair.load()
        sending = pair.start(pair.sender.send(load))
        await until(lambda: load.taken > 0)
        await asyncio.sleep(0.2)
        await pair.promptly(pair.sender.close(), "close() of a blocked sender")
        await pair.promptly(sending, "send() of a closed channel")


@check
async def close_ends_a_waiting_receive(subject: Subject) -> None:
    async with subject.opened(False) as (pair,):
        receiving = pair.start(pair.receiver.receive())
        await asyncio.sleep(0.05)
        await pair.promptly(pair.receiver.close(), "close() of a waiting receiver")
        await pair.promptly(receiving, "receive() of a closed channel")


@check
async def close_of_a_sender_at_rest_is_prompt(subject: Subject) -> None:
    async with subject.opened(False) as (pair,):
        sending = pair.start(pair.sender.send(pair.load(0, 1000, pause_us=60_000_000)))
        await asyncio.sleep(0.05)
        await pair.promptly(pair.sender.close(), "close() of a sender that waits for its load")
        await pair.promptly(sending, "send() that waits for its load")


@check
async def a_cancelled_send_lets_go(subject: Subject) -> None:
    async with subject.opened(False) as (pair,):
        sending = asyncio.get_running_loop().create_task(pair.sender.send(pair.load()))
        await asyncio.sleep(0.05)
        sending.cancel()
        ends = await asyncio.gather(sending, return_exceptions=True)
        expect(isinstance(ends[0], asyncio.CancelledError), f"a cancelled send() ended with {ends[0]!r}")
        await pair.promptly(pair.sender.close(), "close() after a cancelled send()")


@check
async def evidence_is_optional_and_consistent(subject: Subject) -> None:
    """A channel may keep a record of the path (`Channel.evidence`). One that does must be consistent."""
    async with subject.opened(False) as (pair,):
        await pair.carry(100_000)
        for channel in (pair.sender, pair.receiver):
            evidence = channel.evidence()
            expect(
                evidence is None or isinstance(evidence, PathEvidence),
                f"evidence() gave a {type(evidence).__name__}, not PathEvidence or None",
            )
            bins = None if evidence is None else evidence.flight
            if bins is not None:
                fault = bins.fault()
                expect(not fault, f"evidence().flight: {fault}")


@check
async def close_twice_and_counters_stay(subject: Subject) -> None:
    async with subject.opened(False) as (pair,):
        await pair.carry(100_000)
        for channel in (pair.sender, pair.receiver):
            await channel.close()
            counted = bytes_of(channel)
            expect(counted == 100_000 or not pair.reliable, f"after close() {counted} bytes, not 100000")
            await channel.close()
            again = bytes_of(channel)
            expect(again == counted > 0, f"the second close() changed the count from {counted} to {again}")


@check
async def a_closed_channel_returns_at_once(subject: Subject) -> None:
    """A test may end before its tasks have begun."""
    async with subject.opened(False) as (pair,):
        await pair.sender.close()
        await pair.receiver.close()
        await pair.promptly(pair.sender.send(pair.load()), "send() on a closed channel")
        await pair.promptly(pair.receiver.receive(), "receive() on a closed channel")
        await pair.promptly(pair.sender.drain(), "drain() on a closed channel")


@check
async def a_vanished_receiver_is_survived(subject: Subject) -> None:
    """The sender may or may not notice: its `close` ends everything, and it never counts unsent data."""
    async with subject.opened(False) as (pair,):
        load = pair.load()
        pair.start(pair.receiver.receive())
        sending = pair.start(pair.sender.send(load))
        await until(lambda: bytes_of(pair.receiver) > 100_000)
        await pair.promptly(pair.receiver.close(), "close() of a busy receiver")
        await asyncio.sleep(0.1)
        counted, taken = bytes_of(pair.sender), load.taken
        expect(counted <= taken, f"the sender has counted {counted} bytes, and took {taken}")
        await pair.promptly(pair.sender.close(), "close() towards a peer that is gone")
        await pair.promptly(sending, "send() towards a peer that is gone")


@check
async def a_vanished_sender_is_survived(subject: Subject) -> None:
    async with subject.opened(True) as (pair,):
        receiving = pair.start(pair.receiver.receive())
        pair.start(pair.sender.send(pair.load()))
        await until(lambda: bytes_of(pair.receiver) > 100_000)
        await pair.promptly(pair.sender.close(), "close() of a busy sender")
        await asyncio.sleep(0.05)
        await pair.promptly(pair.receiver.close(), "close() towards a peer that is gone")
        await pair.promptly(receiving, "receive() from a peer that is gone")


# ---------------------------------------------------------------------- addresses


@check
async def nothing_is_sent_to_an_address_that_is_not_proven(subject: Subject) -> None:
    """Ask `ServerPort.proven` before the first datagram: the source address of the client's may be forged.

    Only a transport with a UDP port of its own is asked to; on the port that all share, `accept_path` asks.
    """
    if not subject.transport.own_udp_port:
        return
    sent, received = await forged_opening(
        subject.transport, subject.settings, subject.host, subject.deadline_s, subject.prompt_s
    )
    expect(
        received <= sent,
        f"{received} bytes went to an address that ServerPort.proven() refuses, for {sent} that came from it",
    )


@check
async def addresses_of_both_ends_agree(subject: Subject) -> None:
    async with subject.opened(False) as (pair,):
        client, server = pair.client, pair.server
        expect(client.fileno() >= 0 and server.fileno() >= 0, "fileno() of an open channel is negative")
        for one, other, end in ((client, server, "client"), (server, client, "server")):
            ours, theirs = one.local_address[:2], other.remote_address[:2]
            expect(ours == theirs, f"the {end} is at {ours}, and its peer says {theirs}")
        host = client.remote_address[0]
        expect(host == subject.host, f"the client's remote_address is {host}, not {subject.host}")
