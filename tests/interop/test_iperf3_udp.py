"""UDP tests with the real iperf3: our client with its server, its client with our server.

Rates are low enough for a busy machine's socket buffers; losses that occur all the same must be accounted
for.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from iperfpy.errors import PeerError
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.metrics import Side
from iperfpy.protocols.udp import own
from iperfpy.records import Row, Sample
from tests.interop.test_iperf3 import client_of, sample_of
from tests.interop.udp_tap import Tap
from tests.iperfpy.support import Recorder, measure, plan_for, serving
from tests.warm_program import PATIENCE_S

pytestmark = [pytest.mark.interop, pytest.mark.long]

RATE: dict[str, Any] = {"rate_bps": 10_000_000, "block_bytes": 1000}
SECOND: dict[str, Any] = {"duration_us": 1_000_000, "interval_us": 500_000, **RATE}
BLOCKS: dict[str, Any] = {"total_blocks": 200, **RATE}
OVERLAP_DATAGRAMS = 1000
"""Most datagrams that leave after the end, or that a receiver counts beyond the sender's last count."""
OMIT_SLACK = 0.4
"""Both ends omit by their own clock; figures that include the omitted time would be twice as large."""


def udp_plan(settings: dict[str, Any] | None = None, **changes: Any) -> Plan:
    plan = plan_for("udp", **changes)
    return replace(plan, settings=replace(own(plan.settings), **settings or {}))


def count(sample: Sample, key: str) -> int:
    value = sample.values[key]
    assert isinstance(value, int), f"{key} is {value!r}"
    return value


def check_row(row: Row, block_bytes: int) -> None:
    """Check that bytes, numbers and losses of both ends fit together. Both ends count bytes until they learn
    of the end, and datagrams until the sender has stopped."""
    sent, received = sample_of(row, Side.SENDER), sample_of(row, Side.RECEIVER)
    assert received.bytes > 0
    late = count(sent, "datagrams_sent") - sent.bytes // block_bytes
    assert 0 <= late <= OVERLAP_DATAGRAMS
    numbered, lost = count(received, "datagrams_numbered"), count(received, "lost_datagrams")
    assert 0 <= lost < numbered <= count(sent, "datagrams_sent") + OVERLAP_DATAGRAMS
    assert received.bytes <= (numbered - lost) * block_bytes
    jitter_us = received.values["jitter_us"]
    assert isinstance(jitter_us, int | float)
    assert 0 <= jitter_us < 1e6
    assert received.values["loss_percent"] == pytest.approx(100 * lost / numbered)


def check(report: Recorder, plan: Plan, streams: Sequence[int] = (1,)) -> None:
    assert report.started is not None
    assert not report.started.peer_is_iperfpy
    assert report.ended is not None
    assert report.ended.interrupted == ""
    assert [row.stream for row in report.end_rows] == list(streams)
    for row in report.end_rows:
        check_row(row, plan.block_bytes)


WIDE: dict[str, Any] = {"wide_counters": True}
OFFERED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("plain", {}, {}),
    ("64 bits", WIDE, {}),
    ("repeating payload", {"repeating_payload": True}, {}),
    ("no fragments", {"dont_fragment": True}, {}),
    ("window", {"window": 200_000}, {}),
    ("gsro is for newer ones", {"gsro": True}, {}),
    ("bursts", {}, {"rate_bps": 20_000_000, "burst_blocks": 20}),
    ("one rate of many", {}, {"rate_bps": 1_000_000, "total_blocks": 20}),
    ("shortest", {}, {"block_bytes": 16, "rate_bps": 200_000}),
    ("shortest, 64 bits", WIDE, {"block_bytes": 16, "rate_bps": 200_000}),
    ("jumbo", {}, {"block_bytes": 8972, "rate_bps": 50_000_000, "total_blocks": 100}),
    ("longest", {}, {"block_bytes": 65_507, "rate_bps": 50_000_000, "total_blocks": 20}),
    ("type of service", {}, {"tos": 0x68}),
]
named = pytest.mark.parametrize(
    ("settings", "changes"), [each[1:] for each in OFFERED], ids=[each[0] for each in OFFERED]
)
directed = pytest.mark.parametrize(
    "direction", [Direction.FORWARD, Direction.REVERSE], ids=lambda one: one.value
)


# ---------------------------------------------------------------------- our client, its server


@directed
@named
async def test_udp_options_hold_with_an_iperf3_server(
    iperf3_server: int, settings: dict[str, Any], changes: dict[str, Any], direction: Direction
) -> None:
    plan = udp_plan(settings, **{**BLOCKS, **changes}, direction=direction)
    check(await measure(iperf3_server, plan), plan)


@pytest.mark.parametrize("settings", [{}, WIDE], ids=["32 bits", "64 bits"])
@pytest.mark.parametrize("parallel", [1, 4, 16])
@pytest.mark.parametrize("direction", Direction, ids=lambda one: one.value)
async def test_udp_measures_in_every_direction_with_an_iperf3_server(
    iperf3_server: int, direction: Direction, parallel: int, settings: dict[str, Any]
) -> None:
    total = 100 * parallel
    plan = udp_plan(
        settings,
        direction=direction,
        parallel=parallel,
        block_bytes=500,
        rate_bps=2_000_000,
        total_blocks=total,
    )
    both = 2 if direction is Direction.BIDIRECTIONAL else 1
    report = await measure(iperf3_server, plan)
    check(report, plan, [1, *range(3, 2 + both * parallel)])
    directions = [row.direction for row in report.end_rows]
    assert len(set(directions)) == both


@directed
async def test_udp_has_intervals_and_a_rate_with_an_iperf3_server(
    iperf3_server: int, direction: Direction
) -> None:
    plan = udp_plan(**SECOND, direction=direction)
    report = await measure(iperf3_server, plan)
    check(report, plan)
    assert len(report.intervals) == 2
    row = report.end_rows[0]
    assert sum(rows[0].local.bytes for rows in report.intervals) == row.local.bytes
    sent = sample_of(row, Side.SENDER)
    # A machine that stalls the sender makes it slower than the rate, never faster.
    assert sent.bits_per_second is not None
    assert 0 < sent.bits_per_second < 1.1 * plan.rate_bps
    assert sent.values.get("rtt_us") is None


async def test_an_amount_is_rounded_up_to_datagrams_as_in_iperf3(iperf3_server: int) -> None:
    """-n is rounded up to a datagram, as iperf3 does it."""
    plan = udp_plan(total_bytes=100_001, **RATE)
    report = await measure(iperf3_server, plan)
    check(report, plan)
    assert sample_of(report.end_rows[0], Side.SENDER).bytes == 101_000


@directed
async def test_udp_omits_a_period_with_an_iperf3_server(iperf3_server: int, direction: Direction) -> None:
    """iperf3 3.12 numbers omitted datagrams too, and does not report their number."""
    plan = udp_plan(**SECOND, omit_us=1_000_000, direction=direction)
    report = await measure(iperf3_server, plan)
    assert [rows[0].local.omitted for rows in report.intervals] == [True] * 2 + [False] * 2
    sent = sample_of(report.end_rows[0], Side.SENDER)
    received = sample_of(report.end_rows[0], Side.RECEIVER)
    assert received.bytes == pytest.approx(sent.bytes, rel=OMIT_SLACK)
    datagrams = pytest.approx(sent.bytes / plan.block_bytes, rel=OMIT_SLACK)
    assert [count(sent, "datagrams_sent"), count(received, "datagrams_numbered")] == [datagrams] * 2


async def test_an_iperf3_server_runs_a_second_udp_test_at_once(iperf3_server: int) -> None:
    """Retry until the server is free: for a moment after a test, iperf3 refuses the next."""
    plan, measured = udp_plan(**BLOCKS), 0
    async with asyncio.timeout(PATIENCE_S):
        while measured < 4:
            try:
                check(await measure(iperf3_server, plan), plan)
                measured += 1
            except PeerError as error:
                if "busy" not in str(error):
                    raise
                await asyncio.sleep(0.05)


# ---------------------------------------------------------------------- its client, our server


def figures(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [stream["udp"] for stream in document["end"]["streams"]]


def check_agreement(document: dict[str, Any], report: Recorder) -> None:
    """iperf3 shows its own counts of every stream, and those that our end reported."""
    shown = figures(document)
    assert len(shown) == len(report.end_rows)
    for stream, row in zip(shown, report.end_rows, strict=True):
        received = sample_of(row, Side.RECEIVER)
        jitter_us = received.values["jitter_us"]
        assert isinstance(jitter_us, int | float)
        if row.local.side is Side.RECEIVER:
            assert stream["lost_packets"] == count(received, "lost_datagrams")
            assert stream["jitter_ms"] * 1000 == pytest.approx(jitter_us)
        # The two ends stop counting at different moments, so the shown number lies between their counts.
        counts = (
            count(sample_of(row, Side.SENDER), "datagrams_sent"),
            count(received, "datagrams_numbered"),
        )
        assert min(counts) <= stream["packets"] <= max(counts)
    assert document["end"]["sum_received"]["bytes"] > 0
    assert document["end"]["cpu_utilization_percent"]["remote_total"] > 0


K, FEW = ("-b", "10M", "-l", "1000", "-k", "200"), ("-b", "2M", "-l", "500", "-k", "800")
MANY = (*FEW[:-1], "3200")
"""Blocks of all streams together: 0.4 s, so that the last stream has begun before the first are done."""


@pytest.mark.parametrize("direction", [(), ("-R",), ("--bidir",)], ids=["forward", "reverse", "both"])
@pytest.mark.parametrize(
    ("flags", "parallel"),
    [
        (K, 1),
        ((*K, "--udp-counters-64bit"), 1),
        ((*K, "--repeating-payload"), 1),
        ((*K, "--dont-fragment"), 1),
        ((*K, "-w", "200K"), 1),
        ((*K, "-S", "0x68"), 1),
        ((*K, "--dscp", "ef", "--get-server-output"), 1),
        (("-b", "20M/20", "-l", "1000", "-k", "200"), 1),
        (("-b", "200K", "-l", "16", "-k", "200"), 1),
        (("-b", "200K", "-l", "16", "-k", "200", "--udp-counters-64bit"), 1),
        (("-b", "50M", "-l", "32000", "-k", "20"), 1),
        (("-b", "10M", "-l", "1000", "-n", "200K"), 1),
        ((*FEW, "-P", "4"), 4),
        ((*MANY, "-P", "16"), 16),
        ((*MANY, "-P", "16", "--udp-counters-64bit"), 16),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_an_iperf3_client_measures_udp_with_an_iperfpy_server(
    iperf3: str, flags: tuple[str, ...], parallel: int, direction: tuple[str, ...]
) -> None:
    async with serving() as server:
        document, report = await client_of(iperf3, server, "-u", *flags, *direction)
    streams = parallel * (2 if direction == ("--bidir",) else 1)
    assert [row.stream for row in report.end_rows] == [1, *range(3, 2 + streams)]
    block_bytes = int(flags[flags.index("-l") + 1])
    for row in report.end_rows:
        check_row(row, block_bytes)
    check_agreement(document, report)


@pytest.mark.parametrize("direction", [(), ("-R",)], ids=["forward", "reverse"])
async def test_an_iperf3_client_omits_datagrams_of_an_iperfpy_server(
    iperf3: str, direction: tuple[str, ...]
) -> None:
    """iperf3 subtracts the omitted datagrams from the counts that we report."""
    async with serving() as server:
        flags = ("-u", "-b", "10M", "-l", "1000", "-t", "1", "-O", "1")
        document, report = await client_of(iperf3, server, *flags, *direction)
    for end in ("sum_sent", "sum_received"):
        assert document["end"][end]["bytes"] == pytest.approx(1_250_000, rel=OMIT_SLACK)
        assert document["end"][end]["packets"] == pytest.approx(1250, rel=OMIT_SLACK)
    assert sample_of(report.end_rows[0], Side.RECEIVER).bytes == pytest.approx(1_250_000, rel=OMIT_SLACK)


async def test_two_iperf3_clients_measure_udp_at_once(iperf3: str) -> None:
    async with serving() as server:
        (first, _), (second, _) = await asyncio.gather(
            client_of(iperf3, server, "-u", *K), client_of(iperf3, server, "-u", *K, "-R")
        )
    assert {len(figures(document)) for document in (first, second)} == {1}


async def test_an_iperf3_client_shows_the_loss_that_an_iperfpy_server_reports(iperf3: str) -> None:
    """The sender has no rate limit and outruns the receiver; both reports must show the same losses."""
    async with serving() as server:
        document, report = await client_of(iperf3, server, "-u", "-b", "0", "-l", "1400", "-t", "1")
    received = sample_of(report.end_rows[0], Side.RECEIVER)
    assert figures(document)[0]["lost_packets"] == count(received, "lost_datagrams")


# ---------------------------------------------------------------------- the same traffic, two receivers


async def test_both_receivers_count_alike_for_the_same_traffic(iperf3: str, iperf3_server: int) -> None:
    """Datagrams of an iperf3 client reach an iperf3 server and our receiver over one path that drops,
    reorders and delays. Counts are equal; jitter is close, because the two programs are woken at slightly
    different times."""
    async with Tap(iperf3_server) as tap:
        flags = ("-u", "-b", "400K", "-l", "500", "-k", "182", "-J")
        process = await asyncio.create_subprocess_exec(
            *(iperf3, "-c", "127.0.0.1", "-p", str(tap.port), *flags), stdout=subprocess.PIPE
        )
        async with asyncio.timeout(PATIENCE_S):
            output, _ = await process.communicate()
        document = json.loads(output)
        tally = tap.tally()
    assert "error" not in document, document["error"]
    theirs = figures(document)[0]
    assert tap.dropped > 5
    assert tap.overtaken > 5
    server = document["end"]["sum_received"]
    assert (tally.lost, tally.duplicates) == (server["lost_packets"], 0)
    assert tally.lost == tap.dropped
    assert tally.late == tap.overtaken
    assert theirs["out_of_order"] in (0, tally.late)  # of this end, which receives nothing, in 3.12
    assert tally.jitter_us is not None
    assert tally.jitter_us / 1000 == pytest.approx(server["jitter_ms"], rel=0.25)
    assert (tally.datagrams, tally.bytes) == (tap.delivered, tap.delivered * 500)
