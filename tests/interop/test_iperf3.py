"""TCP tests with the real iperf3: our client with its server, its client with our server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from iperfpy.errors import PeerError, PlanError
from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Side
from iperfpy.records import Row, Sample
from tests.iperfpy.support import Recorder, Server, measure, plan_for, serving
from tests.warm_program import PATIENCE_S, run_warm

pytestmark = [pytest.mark.interop, pytest.mark.long]

SECOND: dict[str, Any] = {"duration_us": 1_000_000, "interval_us": 500_000}


def sample_of(row: Row, side: Side) -> Sample:
    sample = row.of(side)
    assert sample is not None
    return sample


def check_sane(report: Recorder, *, streams: list[int]) -> None:
    """Check that both ends' figures are present, and agree as well as iperf3's way of ending a test
    allows."""
    assert report.started is not None
    assert not report.started.peer_is_iperfpy
    assert report.ended is not None
    assert report.ended.interrupted == ""
    assert [row.stream for row in report.end_rows] == streams
    for row in report.end_rows:
        sent, received = sample_of(row, Side.SENDER), sample_of(row, Side.RECEIVER)
        assert received.bytes > 0
        assert sent.bytes > 0
        # Data in the buffers at TEST_END is counted by the sender only. With a rate, they are empty.
        buffered = 1_000_000 if report.started.plan.rate_bps else 16_000_000
        assert abs(sent.bytes - received.bytes) < 0.2 * sent.bytes + buffered
        # The ends stop their clocks at different messages; a busy machine delays either of them.
        assert sent.seconds == pytest.approx(received.seconds, abs=2.0)
    assert {"host_total", "remote_total"} <= set(report.ended.cpu_percent)


# ---------------------------------------------------------------------- our client, its server


async def test_an_iperfpy_client_sends_to_an_iperf3_server(iperf3_server: int) -> None:
    report = await measure(iperf3_server, plan_for(**SECOND, rate_bps=0))
    check_sane(report, streams=[1])
    assert len(report.intervals) == 2
    assert all(rows[0].peer is None for rows in report.intervals)
    assert report.end_rows[0].local.values["retransmits"] is not None


async def test_an_iperfpy_client_receives_from_an_iperf3_server(iperf3_server: int) -> None:
    report = await measure(iperf3_server, plan_for(**SECOND, direction=Direction.REVERSE, rate_bps=0))
    check_sane(report, streams=[1])
    sent = sample_of(report.end_rows[0], Side.SENDER)
    assert isinstance(sent.values["retransmits"], int)
    assert sent.values["retransmits"] >= 0


async def test_an_iperfpy_client_sends_and_receives_at_once(iperf3_server: int) -> None:
    plan = plan_for(**SECOND, direction=Direction.BIDIRECTIONAL, parallel=2)
    report = await measure(iperf3_server, plan)
    check_sane(report, streams=[1, 3, 4, 5])
    assert [row.direction for row in report.end_rows] == [
        Direction.FORWARD,
        Direction.FORWARD,
        Direction.REVERSE,
        Direction.REVERSE,
    ]
    received = sample_of(report.end_rows[0], Side.RECEIVER)
    assert "retransmits" not in received.values


async def test_an_iperfpy_client_opens_parallel_streams(iperf3_server: int) -> None:
    check_sane(await measure(iperf3_server, plan_for(**SECOND, parallel=4)), streams=[1, 3, 4, 5])


async def test_an_iperf3_server_receives_all_bytes(iperf3_server: int) -> None:
    """It counts whole blocks, so it gets no others."""
    whole = 153 * 131_072
    report = await measure(iperf3_server, plan_for(total_bytes=20_000_003))
    row = report.end_rows[0]
    assert sample_of(row, Side.SENDER).bytes == whole
    assert sample_of(row, Side.RECEIVER).bytes == whole


async def test_an_iperf3_server_sends_the_requested_bytes(iperf3_server: int) -> None:
    plan = plan_for(total_bytes=20_000_000, direction=Direction.REVERSE)
    report = await measure(iperf3_server, plan)
    assert sample_of(report.end_rows[0], Side.RECEIVER).bytes >= 20_000_000


async def test_an_iperf3_server_omits_the_same_period(iperf3_server: int) -> None:
    plan = plan_for(**SECOND, omit_us=1_000_000)
    report = await measure(iperf3_server, plan)
    check_sane(report, streams=[1])
    assert [rows[0].local.omitted for rows in report.intervals] == [True] * 2 + [False] * 2
    assert sample_of(report.end_rows[0], Side.RECEIVER).seconds < 1.4


async def test_an_iperf3_server_takes_the_rate_and_the_socket_options(iperf3_server: int) -> None:
    plan = plan_for(**SECOND, rate_bps=40_000_000, direction=Direction.REVERSE, title="a title")
    plan = replace(plan, settings=replace(plan.settings, nodelay=True, mss=1000, window=262144))  # type: ignore[call-arg]  # TCP has them
    report = await measure(iperf3_server, plan)
    assert 3_000_000 < report.end_rows[0].local.bytes < 6_000_000


async def test_an_iperf3_server_runs_a_second_test_at_once(iperf3_server: int) -> None:
    """iperf3 reopens its listener after a test, and refuses connections for a moment. On a busy machine it
    may still be at the end of the test before, and say that it is busy."""
    measured = 0
    async with asyncio.timeout(PATIENCE_S):
        while measured < 4:
            with contextlib.suppress(PeerError):
                await measure(iperf3_server, plan_for(total_bytes=1_000_000))
                measured += 1


@pytest.mark.parametrize("name", ["kcp", "kcp-bbr"])
async def test_an_iperf3_server_refuses_the_transports_of_iperfpy(iperf3_server: int, name: str) -> None:
    with pytest.raises(PlanError, match=f"runs a stock iperf3 server, which cannot run {name}"):
        await measure(iperf3_server, plan_for(name))
    await asyncio.sleep(0.2)
    check_sane(await measure(iperf3_server, plan_for(**SECOND)), streams=[1])


def test_the_command_measures_with_an_iperf3_server(iperf3_server: int) -> None:
    done = run_warm(["-c", "127.0.0.1", "-p", str(iperf3_server), "-t", "1", "-b", "50M", "-J"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["end"]["sum_received"]["bytes"] > 0


# ---------------------------------------------------------------------- its client, our server


async def client_of(iperf3: str, server: Server, *flags: str) -> tuple[dict[str, Any], Recorder]:
    """Run iperf3 against our server; give its JSON and the server's report."""
    process = await asyncio.create_subprocess_exec(
        *(iperf3, "-c", "127.0.0.1", "-p", str(server.port), "-J", *flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE_S):
        output, _ = await process.communicate()
    document = json.loads(output)
    assert "error" not in document, document["error"]
    assert process.returncode == 0
    await server.settled()
    return document, server.tests[-1]


def check_agreement(document: dict[str, Any], report: Recorder) -> None:
    """iperf3 shows our end's own figures for our end."""
    streams = document["end"]["streams"]
    assert len(streams) == len(report.end_rows)
    for stream, row in zip(streams, report.end_rows, strict=True):
        for side in Side:
            assert stream[side.value]["bytes"] == sample_of(row, side).bytes
    assert document["end"]["cpu_utilization_percent"]["remote_total"] > 0


LIMITED = ("-t", "1", "-b", "50M")
MOST_TRIES = 5
"""Tests of a race, until the one that is meant has happened."""


@pytest.mark.parametrize(
    ("flags", "streams", "directions"),
    [
        (("-t", "1"), [1], {"forward"}),
        (("-t", "1", "-R"), [1], {"reverse"}),
        ((*LIMITED, "-P", "4"), [1, 3, 4, 5], {"forward"}),
        ((*LIMITED, "-P", "4", "-R"), [1, 3, 4, 5], {"reverse"}),
        ((*LIMITED, "--bidir"), [1, 3], {"forward", "reverse"}),
        ((*LIMITED, "--bidir", "-P", "2"), [1, 3, 4, 5], {"forward", "reverse"}),
        ((*LIMITED, "-O", "1"), [1], {"forward"}),
        (LIMITED, [1], {"forward"}),
        ((*LIMITED, "-R"), [1], {"reverse"}),
        ((*LIMITED, "-N", "-w", "256K", "-M", "1000", "-C", "cubic", "-T", "a title"), [1], {"forward"}),
        ((*LIMITED, "--get-server-output", "--repeating-payload"), [1], {"forward"}),
    ],
)
async def test_an_iperf3_client_measures_with_an_iperfpy_server(
    iperf3: str, flags: tuple[str, ...], streams: list[int], directions: set[str]
) -> None:
    async with serving() as server:
        document, report = await client_of(iperf3, server, *flags)
    check_sane(report, streams=streams)
    check_agreement(document, report)
    assert {row.direction.value for row in report.end_rows} == directions


async def test_an_iperf3_client_gets_the_retransmissions_of_an_iperfpy_server(iperf3: str) -> None:
    async with serving() as server:
        document, report = await client_of(iperf3, server, *LIMITED, "-R")
    ours = report.end_rows[0].local.values["retransmits"]
    assert document["end"]["streams"][0]["sender"]["retransmits"] == ours
    assert document["end"]["sender_tcp_congestion"] == report.end_rows[0].local.values["congestion"]


async def test_an_iperfpy_server_receives_all_bytes_of_an_iperf3_client(iperf3: str) -> None:
    """No sent byte is missing: our end reads all arrived data before it closes."""
    async with serving() as server:
        document, report = await client_of(iperf3, server, "-n", "50M")
    sent = document["end"]["sum_sent"]["bytes"]
    assert sent >= 50 * 1024 * 1024
    assert report.end_rows[0].local.bytes == sent


@pytest.mark.parametrize(
    ("flags", "amount", "blocks"),
    [
        (("-n", "50M", "-R"), 50 * 1024 * 1024, 400),
        (("-n", "3000000", "-R"), 3_000_000, 23),
        (("-n", "10M", "-R", "-P", "4"), 10 * 1024 * 1024, 80),
        (("-n", "2M", "-R", "-b", "100M"), 2 * 1024 * 1024, 16),
    ],
)
async def test_an_iperf3_client_gets_the_amount_of_an_iperfpy_server_and_no_more(
    iperf3: str, flags: tuple[str, ...], amount: int, blocks: int
) -> None:
    """Newer ones look once a second whether the amount has come: a server that goes on sends gigabytes.

    Older ones end the test at the read that completes the amount, maybe in the middle of the last block.
    """
    async with serving() as server:
        document, report = await client_of(iperf3, server, *flags)
    received = document["end"]["sum_received"]["bytes"]
    sent = sum(sample_of(row, Side.SENDER).bytes for row in report.end_rows)
    assert amount <= received <= sent <= blocks * 131_072


async def test_an_iperf3_client_gets_no_more_than_its_blocks(iperf3: str) -> None:
    """The client counts a block for each read, also for a short one, and so ends a little early."""
    async with serving() as server:
        _, report = await client_of(iperf3, server, "-k", "50", "-R")
    assert 0 < sample_of(report.end_rows[0], Side.SENDER).bytes <= 50 * 131_072


async def test_each_direction_of_an_iperf3_client_has_the_amount_as_its_limit(iperf3: str) -> None:
    """The client ends the test as soon as one direction has carried it, maybe before the other has begun."""
    async with serving() as server:
        for _ in range(MOST_TRIES):
            _, report = await client_of(iperf3, server, "-n", "10M", "--bidir")
            sent = sum(row.local.bytes for row in report.end_rows if row.local.side is Side.SENDER)
            if sent:
                break
    assert 0 < sent <= 80 * 131_072


async def test_two_iperf3_clients_measure_at_once(iperf3: str) -> None:
    async with serving() as server:
        (first, _), (second, _) = await asyncio.gather(
            client_of(iperf3, server, *LIMITED), client_of(iperf3, server, *LIMITED, "-R")
        )
    assert first["end"]["sum_received"]["bytes"] > 0
    assert second["end"]["sum_received"]["bytes"] > 0


async def test_an_iperf3_client_is_refused_a_protocol_that_iperfpy_lacks(iperf3: str) -> None:
    """An old server would start a TCP test instead."""
    async with serving() as server:
        process = await asyncio.create_subprocess_exec(
            *(iperf3, "-c", "127.0.0.1", "-p", str(server.port), "--sctp", "-t", "1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE_S):
            output, _ = await process.communicate()
        assert process.returncode == 1
        if b"unrecognized option" in output:
            pytest.skip("this iperf3 was built without SCTP")
        assert b"protocol does not exist" in output
        document, _ = await client_of(iperf3, server, *LIMITED)
        assert document["end"]["sum_received"]["bytes"] > 0


async def test_a_stopped_iperf3_client_ends_the_test(iperf3: str) -> None:
    async with serving() as server:
        process = await asyncio.create_subprocess_exec(
            *(iperf3, "-c", "127.0.0.1", "-p", str(server.port), "-t", "30", "-b", "50M"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        await asyncio.sleep(1.2)
        process.terminate()
        await process.wait()
        await server.settled()
        assert server.tests[0].sentence == "the client has terminated"
        assert server.tests[0].end_rows[0].local.bytes > 0
