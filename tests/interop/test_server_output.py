"""--get-server-output: our client with iperf3's server, iperf3's client with ours, and between two
iperfpy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.conftest import PATIENCE_S, wait_until
from tests.interop.free_port import free_port

pytestmark = pytest.mark.interop

OURS = (sys.executable, "-m", "iperfpy")


@pytest.fixture(params=["iperf3 to ours", "ours to iperf3", "ours to ours"])
def programs(request: pytest.FixtureRequest) -> tuple[Sequence[str], Sequence[str]]:
    """(client, server)"""
    names = request.param.split(" to ")
    if "iperf3" not in names:
        return OURS, OURS
    theirs = (request.getfixturevalue("iperf3"),)
    return (theirs, OURS) if names[0] == "iperf3" else (OURS, theirs)


@contextmanager
def server(program: Sequence[str], log: Path, *flags: str) -> Iterator[int]:
    port = free_port()
    with log.open("w") as output:
        process = subprocess.Popen(
            [*program, "-s", "-B", "127.0.0.1", "-p", str(port), *flags],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: listens(port), "no server listens")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def listens(port: int) -> bool:
    """True if a server listens, by the kernel's tables."""
    wanted = f":{port:04X} "
    tables = [Path(name) for name in ("/proc/net/tcp", "/proc/net/tcp6")]
    rows = [row for table in tables if table.exists() for row in table.read_text().splitlines()]
    return any(wanted in row.split(" rem")[0][:60] and " 0A " in row for row in rows)


def client(program: Sequence[str], port: int, *flags: str) -> dict[str, Any]:
    command = [*program, "-c", "127.0.0.1", "-p", str(port), "-t", "1", "-J", "--get-server-output", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("flags", [(), ("-R",), ("-u", "-b", "10M")], ids=["forward", "reverse", "udp"])
def test_the_client_shows_the_servers_text(
    programs: tuple[Sequence[str], Sequence[str]], flags: tuple[str, ...], tmp_path: Path
) -> None:
    with server(programs[1], tmp_path / "log") as port:
        document = client(programs[0], port, *flags)
    text = document["server_output_text"]
    assert "Accepted connection from 127.0.0.1" in text
    # The summary is in it. Our server ends with what limited the test, iperf3's with the summary.
    assert any(line.endswith(("sender", "receiver")) for line in text.splitlines()[-4:])
    assert "server_output_json" not in document


def test_the_client_includes_the_servers_document(
    programs: tuple[Sequence[str], Sequence[str]], tmp_path: Path
) -> None:
    """The server's figure is the receiver's, and the client shows the same figure."""
    with server(programs[1], tmp_path / "log", "-J") as port:
        document = client(programs[0], port)
    report = document["server_output_json"]
    assert report["start"]["accepted_connection"]["host"] == "127.0.0.1"
    assert report["start"]["cookie"] == document["start"]["cookie"]
    assert report["end"]["sum_received"]["bytes"] == document["end"]["sum_received"]["bytes"] > 0
    assert "server_output_text" not in document
