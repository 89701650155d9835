"""--get-server-output: our client with iperf3's server, iperf3's client with ours, and between two
iperfpy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.free_port import free_port
from tests.interop.programs import OURS, Program, finished, listening

pytestmark = pytest.mark.interop


@pytest.fixture(params=["iperf3 to ours", "ours to iperf3", "ours to ours"])
def programs(request: pytest.FixtureRequest) -> tuple[Program, Program]:
    """(client, server)"""
    names = request.param.split(" to ")
    if "iperf3" not in names:
        return OURS, OURS
    theirs = (request.getfixturevalue("iperf3"),)
    return (theirs, OURS) if names[0] == "iperf3" else (OURS, theirs)


@contextmanager
def server(program: Program, folder: Path, *flags: str) -> Iterator[int]:
    port = free_port()
    serving = listening(program, port, flags, folder)
    try:
        yield port
    finally:
        serving.stop()


def client(program: Program, port: int, folder: Path, *flags: str) -> dict[str, Any]:
    words = ["-c", "127.0.0.1", "-p", str(port), "-t", "1", "-b", "20M", "-J", "--get-server-output", *flags]
    return finished(program, words, folder).document


@pytest.mark.parametrize("flags", [(), ("-R",), ("-u", "-b", "2M")], ids=["forward", "reverse", "udp"])
def test_the_client_shows_the_servers_text(
    programs: tuple[Program, Program], flags: tuple[str, ...], tmp_path: Path
) -> None:
    with server(programs[1], tmp_path) as port:
        document = client(programs[0], port, tmp_path, *flags)
    text = document["server_output_text"]
    assert "Accepted connection from 127.0.0.1" in text
    # The summary is in it. Our server ends with round-trip times and the limit, iperf3's with the summary.
    assert any(line.endswith(("sender", "receiver")) for line in text.splitlines()[-6:])
    assert "server_output_json" not in document


def test_the_client_includes_the_servers_document(programs: tuple[Program, Program], tmp_path: Path) -> None:
    """The server's figure is the receiver's, and the client shows the same figure."""
    with server(programs[1], tmp_path, "-J") as port:
        document = client(programs[0], port, tmp_path)
    report = document["server_output_json"]
    assert report["start"]["accepted_connection"]["host"] == "127.0.0.1"
    assert report["start"]["cookie"] == document["start"]["cookie"]
    assert report["end"]["sum_received"]["bytes"] == document["end"]["sum_received"]["bytes"] > 0
    assert "server_output_text" not in document
