"""A server as a service: its log, its files under rotation, and a full disk."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from iperfpy.errors import PeerError
from iperfpy.protocols.operating_system import lock_file
from tests.interop.free_port import free_port
from tests.interop.programs import wait_until
from tests.iperfpy.support import measure, plan_for
from tests.warm_program import WarmProgram, run_warm

pytestmark = pytest.mark.live
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
PROGRAM = [sys.executable, "-m", "iperfpy"]
ROOT = Path(__file__).parents[2]


class Service:
    """A server in a process of its own, without a terminal."""

    def __init__(self, folder: Path, *flags: str, prepare: Callable[[], None] | None = None) -> None:
        self.port = free_port()
        self.log = folder / "log"
        words = ["-s", "-B", "127.0.0.1", "-p", str(self.port), *flags]
        # A limit on the length of files would cut the files that hold compiled modules.
        variables = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
        self.process: WarmProgram | subprocess.Popen[bytes]
        with self.log.open("w") as errors:
            more: Any = {"cwd": folder, "env": variables, "stdout": subprocess.DEVNULL, "stderr": errors}
            if prepare is None:
                self.process = WarmProgram(words, start_new_session=True, **more)
            else:
                self.process = subprocess.Popen(
                    [*PROGRAM, *words], start_new_session=True, preexec_fn=prepare, **more
                )

    def listens(self) -> bool:
        """True once clients can connect."""
        assert self.process.poll() is None, self.lines()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def lines(self) -> list[str]:
        """The log so far."""
        return self.log.read_text().splitlines()

    def has(self, text: str) -> None:
        """Wait until the log has a line with this text."""
        wait_until(lambda: text in self.log.read_text(), f"no line with {text!r}", 20)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextmanager
def service(folder: Path, *flags: str, prepare: Callable[[], None] | None = None) -> Iterator[Service]:
    made = Service(folder, *flags, prepare=prepare)
    try:
        wait_until(made.listens, "the server does not listen", 20)
        yield made
    finally:
        made.process.kill()
        made.process.wait()


async def test_the_log_has_a_line_for_each_test_each_refusal_and_the_end(tmp_path: Path) -> None:
    with service(tmp_path, "--max-tests", "1", "--server-max-duration", "5") as server:
        await measure(server.port, plan_for(duration_us=200_000))
        server.has(": measured")  # its place is free
        with pytest.raises(PeerError, match="at most 5 s"):
            await measure(server.port, plan_for(duration_us=6_000_000))
        server.has("refused")
        assert server.stop() == 0
    patterns = [
        r"127\.0\.0\.1 port \d+: tcp forward, 0\.\d s, [\d.]+ Mbit/s, loss -: measured",
        r"refused 127\.0\.0\.1 port \d+: this server runs tests of at most 5 s .*",
        r"the server has ended: the server has terminated by signal Terminated\(15\); "
        r"1 test, 1 client refused",
    ]
    lines = server.lines()
    assert len(lines) == len(patterns), lines
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(f"{TIME} iperfpy: {pattern}", line), line


async def test_a_hangup_reopens_log_and_csv_of_a_server_without_a_terminal(tmp_path: Path) -> None:
    log, rows = tmp_path / "s.log", tmp_path / "x.csv"
    with service(tmp_path, "--csv", "x.csv", "--logfile", "s.log") as server:
        await measure(server.port, plan_for(total_bytes=1000))
        wait_until(lambda: "\nsum," in rows.read_text(), "no rows", 20)
        log.rename(tmp_path / "s.log.1")
        rows.rename(tmp_path / "x.csv.1")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: log.exists() and rows.exists(), "no new files", 20)
        await measure(server.port, plan_for(total_bytes=1000))
        wait_until(lambda: "\nsum," in rows.read_text(), "no rows in the new file", 20)
        # A file that cannot be followed stays, and the log says so.
        rows.rename(tmp_path / "x.csv.2")
        rows.write_text("of another program\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the CSV goes on with the old file" in log.read_text(), "no warning", 20)
        assert server.stop() == 0
    assert rows.read_text() == "of another program\n"
    assert (tmp_path / "x.csv.1").read_text().splitlines()[0] == (
        (tmp_path / "x.csv.2").read_text().splitlines()[0]
    )
    text = log.read_text()
    assert text.count("Accepted connection") == 1
    assert "the server has ended" in text.splitlines()[-1]


def test_a_hangup_ends_a_server_whose_terminal_goes_away(tmp_path: Path) -> None:
    port, (leader, follower) = free_port(), pty.openpty()
    # In a session of its own, the server takes the terminal that it opens first.
    take = f"import os; os.close(os.open({os.ttyname(follower)!r}, os.O_RDWR)); "
    run = "from iperfpy.cli.main import main; raise SystemExit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", take + run, "-s", "-B", "127.0.0.1", "-p", str(port)],
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as server:
        assert server.stdout is not None
        while "listening" not in (line := server.stdout.readline()):
            assert line
        os.close(follower)
        os.close(leader)
        _, errors = server.communicate(timeout=20)
    assert server.returncode == 0
    assert "terminated by signal Hangup(1)" in errors


@pytest.mark.parametrize(
    "flags",
    [
        ["-c", "127.0.0.1", "-p", "1"],
        ["-c", "127.0.0.1", "-p", "1", "--gsro", "--csv", "/dev/full"],
        ["-c", "127.0.0.1", "-t", "much"],
        ["-c", "127.0.0.1", "-p", "1", "--csv", "missing/x.csv"],
        ["-s", "-B", "192.0.2.1"],
    ],
    ids=["refused", "warnings", "parameter", "csv", "server"],
)
def test_a_json_stream_that_fails_is_json_on_both_streams(flags: list[str], tmp_path: Path) -> None:
    done = run_warm([*flags, "--json-stream"], cwd=tmp_path, stderr=subprocess.STDOUT)
    assert done.returncode == 1
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events].count("error") == 1
    assert {"error", "end"} <= {event["event"] for event in events} <= {"error", "end", "warning", "log"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("flags", [["-c", "127.0.0.1", "-p", "1"], ["-c"], ["-c", "h", "--gsro", "-t", "x"]])
def test_a_full_standard_error_changes_no_exit_status(flags: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, *flags], cwd=ROOT, stdout=subprocess.PIPE, stderr=full, timeout=30, check=False
        )
    assert done.returncode == 1


async def test_a_full_disk_ends_the_reports_of_each_test_and_the_server_lives(tmp_path: Path) -> None:
    """No file may be longer than 16 KiB: the system refuses the write as if the disk were full."""

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, 16 << 10))

    rows, log = tmp_path / "x.csv", tmp_path / "s.log"
    # One address may run half of the tests.
    flags = ["--csv", "x.csv", "--logfile", "s.log", "--max-tests", "128", "-V"]
    with service(tmp_path, *flags, prepare=prepare) as server:
        plan = plan_for(total_bytes=10_000, interval_us=0)
        await asyncio.gather(*(measure(server.port, plan) for _ in range(64)))
        server.has("no more rows of this test go to x.csv: File too large; the test continues")
        server.has("the log file s.log can no longer be written: File too large; the output goes to standard")
        with rows.open() as file:
            # A row that does not fit is there until it is removed again, under this lock.
            lock_file(file.fileno(), wait=True)
            whole = file.read()
        # There is room again, and the next test is in the files.
        for path in (rows, log):
            os.truncate(path, 0)
        await measure(server.port, plan)
        wait_until(lambda: "\nsum," in rows.read_text(), "no rows", 20)
        wait_until(lambda: "receiver" in log.read_text(), "no report", 20)
        assert server.stop() == 1
    assert whole.endswith("\n")
    assert len({line.count(",") for line in whole.splitlines()}) == 1
