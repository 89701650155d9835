"""Standard output is a pipe without a reader: no other part of the program waits for it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.free_port import free_port
from tests.interop.programs import wait_until
from tests.open_ports import open_ports
from tests.warm_program import local_server, run_warm

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="the pipe cannot be made small here"),
]

PROGRAM = [sys.executable, "-m", "iperfpy"]


@pytest.fixture
def unread() -> Iterator[int]:
    """The writing end of a pipe of 4 KiB, which 40 lines of a table fill."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    yield writing
    os.close(reading)
    os.close(writing)


def client(port: str) -> list[str]:
    """A client with a test that prints 110 lines at either end."""
    return ["-c", "127.0.0.1", "-p", port, "-P", "9", "-b", "1M", "-t", "1", "-i", "0.1"]


def test_a_server_whose_output_is_not_read_serves_and_stops(unread: int) -> None:
    port = str(free_port())
    with subprocess.Popen(
        [*PROGRAM, "-s", "-B", "127.0.0.1", "-p", port, "-i", "0.1"],
        stdout=unread,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            wait_until(lambda: int(port) in open_ports(), "the server does not listen", 60)
            for _ in range(2):
                done = run_warm(client(port))
                assert (done.returncode, done.stderr) == (0, "")
            server.terminate()
            _, errors = server.communicate(timeout=20)
        finally:
            server.kill()
    assert server.returncode == 1
    # The log, which has a reader, is complete.
    *served, end, warning = errors.splitlines()
    assert len(served) == 2
    assert all(line.endswith(": measured") for line in served)
    assert "the server has ended" in end
    assert warning == "iperfpy: warning - the report was not read to its end"


def interrupted(process: subprocess.Popen[str]) -> bool:
    """Send one Ctrl-C; True if the process has ended. The handler of the test may take the first one."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(8)
    except subprocess.TimeoutExpired:
        return False
    return True


def test_a_client_whose_output_is_not_read_measures_and_ends_by_a_signal(unread: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with (
        local_server() as server,
        subprocess.Popen(
            [*PROGRAM, *client(str(server.port)), "--csv", str(path)],
            stdout=unread,
            stderr=subprocess.PIPE,
            text=True,
        ) as measuring,
    ):
        # The test is over, and the table still waits for a reader.
        try:
            wait_until(lambda: path.exists() and "\nsum," in path.read_text(), "no summary", 30)
            with pytest.raises(subprocess.TimeoutExpired):
                measuring.wait(0.5)
            wait_until(lambda: interrupted(measuring), "a Ctrl-C did not end the client", 30)
            _, errors = measuring.communicate(timeout=20)
        finally:
            measuring.kill()
    assert measuring.returncode == 130
    assert errors == "iperfpy: interrupt - Ctrl-C; stopped without a clean shutdown\n"
    intervals = [line for line in path.read_text().splitlines() if line.startswith("interval,")]
    assert len(intervals) >= 9 * 9
