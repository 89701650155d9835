"""Losses at the end of a UDP test, over a relay inside the process that drops what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from iperfpy.control.framing import COOKIE_BYTES
from iperfpy.endpoint.client import run_client
from iperfpy.errors import InterruptError, PathError
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.metrics import Side
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.traffic import counting_time
from tests.iperfpy.lossy_relay import Drops, none, relayed_datagrams
from tests.iperfpy.support import HURRIED, Recorder, measure, measure_into, plan_for, scripted, serving

pytestmark = pytest.mark.live


def every(number: int) -> bool:
    return True


def tail(number: int) -> bool:
    """All but the first ten, and one of those."""
    return number >= 10 or number == 4


@asynccontextmanager
async def lossy(to_server: Drops = none, to_client: Drops = none) -> AsyncIterator[int]:
    """A server behind a relay; the relay's port."""
    async with serving() as server, relayed_datagrams(server.port, to_server, to_client) as port:
        yield port


def udp_plan(**changes: Any) -> Plan:
    return plan_for("udp", **{"rate_bps": 1_000_000, "block_bytes": 500, **changes})


def check(report: Recorder, direction: Direction) -> None:
    """Check that nine datagrams of every stream in that direction arrived, and all others are lost."""
    assert report.ended is not None
    rows = [row for row in report.end_rows if row.direction is direction]
    assert rows
    for row in rows:
        sent, received = row.of(Side.SENDER), row.of(Side.RECEIVER)
        assert sent is not None
        assert received is not None
        count = sent.values["datagrams_sent"]
        assert isinstance(count, int)
        assert count > 20
        assert received.values["datagrams_received"] == 9
        assert received.values["datagrams_numbered"] == count
        assert received.values["lost_datagrams"] == count - 9
        assert received.values["loss_percent"] == pytest.approx(100 * (count - 9) / count)
        assert sent.values["path_loss_percent"] == pytest.approx(100 * (count - 9) / count)
        assert any(f"stream {row.stream}: the last {count - 10}" in one for one in report.ended.warnings)


@pytest.mark.parametrize("parallel", [1, 2])
@pytest.mark.parametrize("direction", Direction)
async def test_a_lost_end_is_counted(direction: Direction, parallel: int) -> None:
    async with serving() as server:
        async with relayed_datagrams(server.port, tail, tail) as port:
            report = await measure(port, udp_plan(direction=direction, parallel=parallel))
        await server.settled()
    assert report.ended is not None
    assert not report.ended.failed
    for one in (Direction.FORWARD, Direction.REVERSE):
        if direction in (one, Direction.BIDIRECTIONAL):
            check(report, one)
            check(server.tests[0], one)


@pytest.mark.parametrize("direction", Direction)
async def test_a_lost_end_is_counted_after_an_omitted_period(direction: Direction) -> None:
    def lost(number: int) -> bool:
        return number >= 40 or number == 4

    async with lossy(lost, lost) as port:
        report = await measure(port, udp_plan(direction=direction, omit_us=100_000))
    for row in report.end_rows:
        received = row.of(Side.RECEIVER)
        assert received is not None
        numbered, missing = received.values["datagrams_numbered"], received.values["lost_datagrams"]
        assert isinstance(numbered, int)
        assert isinstance(missing, int)
        assert numbered - missing == received.values["datagrams_received"]
        assert missing > 20


@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.REVERSE])
async def test_a_test_in_which_nothing_arrives_fails(direction: Direction) -> None:
    async with lossy(every, every) as port:
        report = Recorder()
        with pytest.raises(PathError, match=r"stream 1: none of the \d+ datagrams that the"):
            await measure_into(report, port, udp_plan(direction=direction))
    assert report.ended is not None
    assert report.ended.failed
    received = report.end_rows[0].of(Side.RECEIVER)
    assert received is not None
    assert received.values["loss_percent"] == 100


@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.REVERSE])
async def test_silence_is_rows_of_zeros_until_the_planned_end(
    direction: Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting_time, "FIRST_DATA_LIMIT_US", 60_000_000)
    plan, client = udp_plan(direction=direction, duration_us=1_200_000, interval_us=500_000), Recorder()
    async with serving() as server, relayed_datagrams(server.port, every, every) as port:
        with pytest.raises(PathError):
            await measure_into(client, port, plan)
        await server.settled()
    receiver = client if direction is Direction.REVERSE else server.tests[0]
    rows = [rows[0].local for rows in receiver.intervals]
    assert [row.end_us for row in rows[:-1]] == [500_000, 1_000_000]
    assert not any(row.bytes for row in rows)


async def test_an_interrupted_test_in_which_nothing_arrived_fails() -> None:
    scope = AbortScope()
    report = Recorder(lambda: scope.abort(InterruptError("the user had enough")))
    async with lossy(every) as port:
        client = ClientOptions(host="127.0.0.1", port=port)
        with pytest.raises(PathError, match=r"none of the \d+ datagrams .* \(the user had enough\)"):
            await run_client(udp_plan(duration_us=0), client, [report], scope=scope)
    assert report.ended is not None
    assert report.ended.failed


async def test_a_test_that_is_interrupted_before_data_flows_fails() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(COOKIE_BYTES)
        scope.abort(InterruptError("the user had enough"))
        await reader.read()

    scope, report = AbortScope(), Recorder()
    async with scripted(silent) as port:
        client = ClientOptions(host="127.0.0.1", port=port)
        with pytest.raises(PathError, match=r"^nothing was measured: the user had enough$"):
            await run_client(udp_plan(), client, [report], scope=scope)
    assert report.errors == ["nothing was measured: the user had enough"]


@pytest.mark.parametrize("interval_us", [100_000, 0])
async def test_a_receiver_hears_that_an_amount_was_sent_although_a_part_of_it_is_lost(
    interval_us: int,
) -> None:
    """Without that it would wait until its own limit passes, which is an error."""
    plan = udp_plan(direction=Direction.REVERSE, total_bytes=50 * 500, interval_us=interval_us)
    async with lossy(to_client=lambda number: number == 30 or number >= 48) as port:
        report = await measure(port, plan, replace(HURRIED, receive_s=5.0))
    received = report.end_rows[0].of(Side.RECEIVER)
    assert received is not None
    assert (received.values["lost_datagrams"], received.values["datagrams_numbered"]) == (3, 50)
    assert received.bytes == 47 * 500


@pytest.mark.parametrize("omit_us", [0, 300_000])
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("name", ["kcp", "kcp-bbr"])
async def test_nothing_is_lost_on_a_path_that_loses_nothing(
    name: str, direction: Direction, omit_us: int
) -> None:
    """Both ends begin to count at the same datagram: neither the handshake nor the probes for the size of
    datagrams, nor those between the two ends of the omitted period, make a loss."""
    plan = plan_for(name, direction=direction, duration_us=300_000, omit_us=omit_us, rate_bps=5_000_000)
    async with serving() as server:
        report = await measure(server.port, replace(plan, parallel=2, interval_us=100_000))
    assert report.ended is not None
    senders = [row.of(Side.SENDER) for row in report.end_rows]
    losses = {sender.values["path_loss_percent"] for sender in senders if sender is not None}
    assert losses == {0.0}
