"""Losses at the end of a UDP test with a stock iperf3; its results tell what was sent and what arrived."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iperfpy.errors import PathError
from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Side
from iperfpy.records import Row
from iperfpy.runtime.deadlines import Deadlines
from tests.interop.conftest import iperf3_serving
from tests.iperfpy.lossy_relay import relayed_datagrams
from tests.iperfpy.support import Recorder, measure, measure_into, plan_for, serving

pytestmark = pytest.mark.interop

UDP = plan_for("udp", rate_bps=1_000_000, block_bytes=500)


def tail(number: int) -> bool:
    """All but the first ten, and one of those."""
    return number >= 10 or number == 4


def check_lost_end(report: Recorder, row: Row) -> None:
    sent, received = row.of(Side.SENDER), row.of(Side.RECEIVER)
    assert sent is not None
    assert received is not None
    count = sent.values["datagrams_sent"]
    assert isinstance(count, int)
    assert count > 11
    assert received.values["datagrams_numbered"] == count
    assert received.values["lost_datagrams"] == count - 9
    assert report.ended is not None
    assert any(f"the last {count - 10}" in one for one in report.ended.warnings)


@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.REVERSE])
async def test_a_lost_end_is_counted_with_an_iperf3_server(
    iperf3: str, tmp_path: Path, direction: Direction
) -> None:
    plan = plan_for("udp", rate_bps=1_000_000, block_bytes=500, direction=direction)
    with iperf3_serving(iperf3, tmp_path) as server_port:
        async with relayed_datagrams(server_port, tail, tail) as port:
            report = await measure(port, plan)
    (row,) = report.end_rows
    check_lost_end(report, row)


async def test_a_loss_in_bursts_of_an_iperf3_server_does_not_keep_the_client_waiting(
    iperf3: str, tmp_path: Path
) -> None:
    """In bursts, a stock server stops at the amount and does not say so: the client stops waiting after a
    silence."""
    plan = plan_for(
        "udp",
        direction=Direction.REVERSE,
        rate_bps=20_000_000,
        burst_blocks=20,
        block_bytes=1000,
        total_blocks=200,
    )
    with iperf3_serving(iperf3, tmp_path) as server_port:
        async with relayed_datagrams(server_port, to_client=lambda number: number == 30) as port:
            report = await measure(port, plan, replace(Deadlines(), quiet_s=2.0))
    (row,) = report.end_rows
    received = row.of(Side.RECEIVER)
    assert received is not None
    lost, numbered = received.values["lost_datagrams"], received.values["datagrams_numbered"]
    assert isinstance(lost, int)
    assert isinstance(numbered, int)
    assert 0 < lost < numbered
    assert received.bytes < 200_000


async def test_a_test_in_which_nothing_arrives_at_an_iperf3_server_fails(iperf3: str, tmp_path: Path) -> None:
    report = Recorder()
    with iperf3_serving(iperf3, tmp_path) as server_port:
        async with relayed_datagrams(server_port, lambda number: True) as port:
            with pytest.raises(PathError, match=r"none of the \d+ datagrams that the client sent"):
                await measure_into(report, port, UDP)


@pytest.mark.parametrize("more", [(), ("-P", "2"), ("--bidir",)], ids=" ".join)
async def test_a_lost_end_is_counted_for_an_iperf3_client(iperf3: str, more: tuple[str, ...]) -> None:
    """Both reports show the same losses: the server completes its counts by the client's, then sends them."""
    async with serving() as server, relayed_datagrams(server.port, tail) as port:
        words = ("-c", "127.0.0.1", "-p", str(port), "-u", "-b", "1M", "-l", "500", "-t", "1", "-J", *more)
        client = await asyncio.create_subprocess_exec(
            iperf3, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await client.communicate()
        await server.settled()
    document = json.loads(output)
    assert "error" not in document
    report = server.tests[0]
    received = [row for row in report.end_rows if row.direction is Direction.FORWARD]
    assert len(received) == (2 if "-P" in more else 1)
    shown = {stream["udp"]["lost_packets"] for stream in document["end"]["streams"] if _is_sent(stream)}
    for row in received:
        check_lost_end(report, row)
        assert row.local.values["lost_datagrams"] in shown


def _is_sent(stream: dict[str, Any]) -> bool:
    return bool(stream["udp"]["sender"])
