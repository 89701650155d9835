"""iperf3's options across the wire: its server sees the options of our client, and the other way round."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from iperfpy.endpoint.client import STOCK_READ_S
from iperfpy.plan import Direction, Plan
from tests.interop.free_port import free_port, free_ports
from tests.interop.programs import OURS, finished, listening
from tests.iperfpy.support import Server, serving
from tests.warm_program import PATIENCE_S, WarmProgram

pytestmark = pytest.mark.interop

Json = dict[str, Any]
LIMITED = ("-t", "0.5", "-b", "20M")


def at(document: Json, path: str) -> Any:
    """`start.test_start.tos`, `start.connected.0.remote_port`."""
    found: Any = document
    for part in path.split("."):
        found = found[int(part)] if part.isdigit() else found[part]
    return found


# ---------------------------------------------------------------------- our client, its server


def run_iperfpy_client(iperf3: str, folder: Path, *flags: str, host: str = "127.0.0.1") -> tuple[Json, Json]:
    """Run our command against an iperf3 server for one test; give the JSON of both."""
    port = free_port()
    # With -1 iperf3 ends after the test, so its JSON is complete.
    server = listening((iperf3,), port, ["-1", "-J", "--forceflush"], folder, host)
    try:
        done = finished(OURS, ["-c", host, "-p", str(port), "-J", *flags], folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert server.wait(10) == 0
    finally:
        server.stop()
    return done.document, json.loads(server.output.read_text())


@pytest.mark.parametrize(
    ("flags", "seen"),
    [
        (
            "-S 0xb8 -l 1000 -b 20M -w 64K -N -T lab --extra-data more --snd-timeout 5000 --cntl-ka",
            {
                "start.test_start.tos": 184,
                "start.test_start.blksize": 1000,
                "start.target_bitrate": 20_000_000,
                "start.sock_bufsize": 65536,
                "title": "lab",
                "extra_data": "more",
            },
        ),
        (
            "--dscp ef -P 16 -b 5M -M 1000 -B 127.0.0.2 -4 -A 0,0 --connect-timeout 500",
            {
                "start.test_start.tos": 184,
                "start.test_start.num_streams": 16,
                "start.tcp_mss": 1000,
                "start.accepted_connection.host": "127.0.0.2",
            },
        ),
        ("-C reno -R --rcv-timeout 5000", {"end.sender_tcp_congestion": "reno"}),
        ("-u -b 10M/10 -l 500", {"start.test_start.blksize": 500}),
    ],
)
def test_an_iperf3_server_gets_every_option(
    iperf3: str, flags: str, seen: dict[str, object], tmp_path: Path
) -> None:
    ours, theirs = run_iperfpy_client(iperf3, tmp_path, *LIMITED, *flags.split())
    assert {path: at(theirs, path) for path in seen} == seen
    assert "error" not in ours
    assert "error" not in theirs


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
@pytest.mark.parametrize("flags", ["-6", "-6 -R", "-6 -u", "-6 -S 0x28 -L 0x12345"])
def test_an_iperf3_server_is_reached_over_ipv6(iperf3: str, flags: str, tmp_path: Path) -> None:
    ours, theirs = run_iperfpy_client(iperf3, tmp_path, *LIMITED, *flags.split(), host="::1")
    assert ours["start"]["connected"][0]["remote_host"] == "::1"
    assert theirs["start"]["connected"][0]["remote_host"] == "::1"
    assert ours["end"]["streams"][0]


def test_the_kernel_paces_the_data_to_an_iperf3_server(iperf3: str, tmp_path: Path) -> None:
    _, theirs = run_iperfpy_client(iperf3, tmp_path, "-t", "1", "--fq-rate", "100M")
    assert 30e6 < theirs["end"]["sum_received"]["bits_per_second"] < 150e6


@pytest.mark.parametrize(
    ("flags", "count"), [("-n 5M", 5 << 20), ("-k 40 -l 100K", 40 * 102400), ("-n 1M -P 4", 1 << 20)]
)
def test_an_iperf3_server_receives_the_requested_amount(
    iperf3: str, flags: str, count: int, tmp_path: Path
) -> None:
    ours, theirs = run_iperfpy_client(iperf3, tmp_path, *flags.split())
    assert ours["end"]["sum_sent"]["bytes"] == count
    assert ours["end"]["sum_received"]["bytes"] == count
    assert theirs["end"]["sum_received"]["bytes"] == count
    # The time for reading the rest does not count as receiving time.
    waited_s = theirs["end"]["sum_received"]["seconds"] - ours["end"]["sum_received"]["seconds"]
    assert waited_s == pytest.approx(STOCK_READ_S, rel=0.5)


@pytest.mark.parametrize(
    ("flags", "streams"), [("", 1), ("-P 3", 3), ("-P 2 --bidir", 4), ("-P 2 -R", 2), ("-u -P 2", 2)]
)
def test_local_ports_of_streams_are_consecutive(
    iperf3: str, flags: str, streams: int, tmp_path: Path
) -> None:
    """Stream i uses PORT + i, even if some streams receive."""
    ports = list(free_ports(streams))
    ours, theirs = run_iperfpy_client(iperf3, tmp_path, *LIMITED, "--cport", str(ports[0]), *flags.split())
    assert [one["local_port"] for one in ours["start"]["connected"]] == ports
    assert [one["remote_port"] for one in theirs["start"]["connected"]] == ports


# ---------------------------------------------------------------------- its client, our server


async def run_iperf3_client(iperf3: str, server: Server, *flags: str) -> Json:
    """Run iperf3's client; give its JSON."""
    process = await asyncio.create_subprocess_exec(
        *(iperf3, "-c", "127.0.0.1", "-p", str(server.port), "-J", *flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE_S):
        output, _ = await process.communicate()
    await server.settled()
    document: Json = json.loads(output)
    return document


@pytest.mark.parametrize(
    ("flags", "seen"),
    [
        (
            "-S 0xb8 -l 1000 -b 20M/5 -T lab --extra-data more -w 64K -M 1000 -N -C reno --snd-timeout 5000",
            lambda plan: (
                (plan.tos, plan.block_bytes, plan.rate_bps, plan.burst_blocks) == (184, 1000, 20_000_000, 5)
                and (plan.title, plan.extra_data) == ("lab", "more")
                and plan.settings.record().items()
                >= {"window": 65536, "mss": 1000, "nodelay": True, "congestion": "reno"}.items()
            ),
        ),
        (
            "--dscp ef -P 16 -b 5M --fq-rate 100M --pacing-timer 500 -A 0,0 --get-server-output",
            lambda plan: (
                (plan.tos, plan.parallel, plan.fq_rate_bps) == (184, 16, 100_000_000)
                and (plan.pacing_timer_us, plan.server_cpu, plan.get_server_output) == (500, 0, True)
            ),
        ),
        ("-Z --connect-timeout 500", lambda plan: plan.settings.record()["zerocopy"]),
        ("-n 5M", lambda plan: (plan.total_bytes, plan.duration_us) == (5 << 20, 0)),
        ("-k 40", lambda plan: (plan.total_blocks, plan.duration_us) == (40, 0)),
        ("-R --rcv-timeout 5000", lambda plan: plan.direction is Direction.REVERSE),
    ],
)
async def test_an_iperfpy_server_gets_every_option_of_an_iperf3_client(
    iperf3: str, flags: str, seen: Callable[[Plan], bool]
) -> None:
    ends = () if {"-n", "-k"} & set(flags.split()) else ("-t", "1", "-b", "20M")
    async with serving() as server:
        document = await run_iperf3_client(iperf3, server, *ends, *flags.split())
    assert "error" not in document
    assert document["end"]["sum_received"]["bytes"] > 0
    started = server.tests[0].started
    assert started is not None
    assert seen(started.plan)


async def test_an_iperf3_client_may_bind_its_address_and_port(iperf3: str) -> None:
    port = free_port()
    async with serving() as server:
        await run_iperf3_client(
            iperf3, server, "-t", "1", "-b", "20M", "-B", "127.0.0.2", "--cport", str(port)
        )
    started = server.tests[0].started
    assert started is not None
    assert started.peer[0] == "127.0.0.2"
    assert started.connected[0].remote[:2] == ("127.0.0.2", port)


@pytest.mark.parametrize(
    ("limits", "flags"),
    [
        ({"rate_limit_bps": 10_000_000}, "-t 1 -b 20M"),
        ({"rate_limit_bps": 10_000_000, "rate_window_us": 500_000}, "-t 10"),
        ({"rate_limit_bps": 10_000_000, "rate_window_us": 500_000}, "-t 10 -R"),
    ],
)
async def test_an_iperf3_client_reports_the_limit_of_an_iperfpy_server(
    iperf3: str, limits: Json, flags: str
) -> None:
    async with serving(**limits) as server:
        document = await run_iperf3_client(iperf3, server, *flags.split())
    assert "total required bandwidth is larger than server limit" in document["error"]


def test_an_iperfpy_server_for_one_test_ends_after_an_iperf3_client(iperf3: str, tmp_path: Path) -> None:
    port = str(free_port())
    with WarmProgram(["-s", "-1", "-p", port, "-B", "127.0.0.1"], stdout=PIPE) as server:
        assert server.stdout is not None
        while "listening" not in server.stdout.readline():
            pass
        done = subprocess.run(
            [iperf3, "-c", "127.0.0.1", "-p", port, "-t", "1", "-b", "20M"],
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0
        assert server.wait(10) == 0


def test_an_iperf3_client_sends_a_file_to_an_iperfpy_server(iperf3: str, tmp_path: Path) -> None:
    sent, filled, port = tmp_path / "sent", tmp_path / "filled", str(free_port())
    sent.write_bytes(os.urandom(2_000_001))
    words = ["-s", "-1", "-p", port, "-B", "127.0.0.1", "-F", str(filled)]
    with WarmProgram(words, stdout=PIPE) as server:
        assert server.stdout is not None
        while "listening" not in server.stdout.readline():
            pass
        subprocess.run(
            [iperf3, "-c", "127.0.0.1", "-p", port, "-F", str(sent)],
            capture_output=True,
            timeout=PATIENCE_S,
            check=True,
        )
        server.communicate(timeout=10)
    assert filled.read_bytes() == sent.read_bytes()


def test_an_iperfpy_client_sends_a_file_to_an_iperf3_server(iperf3: str, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(os.urandom(2_000_001))
    ours, theirs = run_iperfpy_client(iperf3, tmp_path, "-F", str(sent))
    assert ours["end"]["sum_sent"]["bytes"] == theirs["end"]["sum_received"]["bytes"] == 2_000_001
