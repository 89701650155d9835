"""Set-up of the process: log file, PID file, daemon, processor affinity."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path

import pytest

from iperfpy.cli.process import LogFile, pid_file, run_on
from iperfpy.errors import StartError
from tests.interop.free_port import free_port
from tests.warm_program import local_server, run_warm

PROGRAM = [sys.executable, "-m", "iperfpy"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}


def run(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.live
def test_a_daemon_serves_and_cleans_up(tmp_path: Path) -> None:
    port = str(free_port())
    flags = ["-s", "-D", "-p", port, "-B", "127.0.0.1", "-I", "server.pid", "--logfile", "server.log"]
    begun = run([*flags, "--timestamps=at %H "], tmp_path)
    pid, log = tmp_path / "server.pid", tmp_path / "server.log"
    assert (begun.returncode, begun.stdout, begun.stderr) == (0, "", "")
    # From here on the daemon must be stopped, whatever fails.
    number = int(pid.read_text())
    try:
        assert os.getsid(number) not in (os.getsid(0), number)
        again = run_warm([*flags[:2], "-p", port, "-B", "127.0.0.1"], cwd=tmp_path)
        assert (again.returncode, again.stdout) == (1, "")
        assert again.stderr == (
            f"iperfpy: error - cannot listen on port {port} of 127.0.0.1: the port is in use\n"
        )
        second = run_warm([*flags[:2], "-p", str(free_port()), "-I", "server.pid"], cwd=tmp_path)
        assert second.stderr == (
            f"iperfpy: error - the PID file server.pid names process {number}, which is running\n"
        )
        words = ["-c", "127.0.0.1", "-p", port, "-n", "100K", "--logfile", "client.log"]
        done = run_warm(words, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        wait_until(lambda: "receiver" in log.read_text())
    finally:
        os.kill(number, signal.SIGTERM)
    wait_until(lambda: not pid.exists())
    lines = log.read_text().splitlines()
    # The lines of the service have their own time.
    served = [line for line in lines if re.match(r"\d{4}-\d\d-\d\dT", line)]
    assert all(re.match(r"at \d\d ", line) for line in lines if line not in served)
    assert f"Server listening on {port}" in lines[1]
    assert [line.rpartition(": ")[2].partition(";")[0] for line in served] == [
        "measured",
        "the server has terminated by signal Terminated(15)",
    ]
    assert (tmp_path / "client.log").read_text().endswith("iperfpy Done.\n")


def test_a_log_file_gets_the_output_and_the_errors(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("earlier\n")
    done = run_warm(["-c", "127.0.0.1", "-p", "1", "--logfile", str(log)], cwd=tmp_path)
    sentence = "iperfpy: error - cannot connect to 127.0.0.1 port 1: connection refused\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)
    assert log.read_text() == f"earlier\nConnecting to host 127.0.0.1, port 1\n{sentence}"


def test_an_unwritable_log_file_is_a_start_error(tmp_path: Path) -> None:
    before = sys.stdout
    with (
        pytest.raises(StartError, match=r"^cannot write the log file \S+: No such file or directory$"),
        LogFile(str(tmp_path / "missing" / "log")).opened(),
    ):
        raise AssertionError("there is no such folder")
    assert sys.stdout is before


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """A function that sets the bytes for which the disk has room; None: for any number."""
    room: list[int | None] = [None]
    write = FileIO.write

    def limited(file: FileIO, data: bytes) -> int:
        if room[0] is None:
            return write(file, data)
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(file, data[: room[0]])
        room[0] -= written
        return written

    class Limited(FileIO):
        write = limited  # type: ignore[assignment]

    monkeypatch.setattr("iperfpy.cli.process.FileIO", Limited)
    return lambda count: room.__setitem__(0, count)


def test_output_that_the_log_file_does_not_take_goes_to_standard_output(
    full: Callable[[int | None], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = LogFile(str(tmp_path / "log"))
    with log.opened():
        print("first")
        assert not log.failed
        full(3)
        print("second\nthird")
        print("fourth")
        print("an error", file=sys.stderr)
        full(None)
        print("fifth")
        full(0)
        print("sixth")
    out, errors = capsys.readouterr()
    assert out == "second\nthird\nfourth\nsixth\n"
    warning = (
        f"iperfpy: warning - the log file {tmp_path}/log can no longer be written: No space left on device"
    )
    assert errors.splitlines() == [
        f"{warning}; the output goes to standard output",
        "an error",
        f"{warning}; the output goes to standard output",
    ]
    # The part of a line is not joined with the next one.
    assert (tmp_path / "log").read_text() == "first\nsec\nfifth\n"
    assert log.failed


def test_a_log_file_that_was_removed_is_made_anew_or_standard_output_takes_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    log = LogFile(str(folder / "log"))
    with log.opened():
        print("first")
        (folder / "log").unlink()
        print("second")
        assert (folder / "log").read_text() == "second\n"
        assert not log.failed
        (folder / "log").unlink()
        folder.rmdir()
        print("third")
        assert log.failed
    out, errors = capsys.readouterr()
    assert out == "third\n"
    assert f"the log file {folder}/log can no longer be written: No such file or directory" in errors


@pytest.mark.live
@pytest.mark.linux
@pytest.mark.parametrize("flags", [["-J"], ["--json-stream"], []])
def test_a_test_with_a_full_log_file_has_its_result_on_standard_output(
    flags: list[str], tmp_path: Path
) -> None:
    with local_server() as server:
        words = ["-c", server.host, "-p", str(server.port), "-t", "0.2", "-b", "5M", *flags]
        done = run_warm([*words, "--logfile", "/dev/full"], cwd=tmp_path)
    assert done.returncode == 1
    assert "the log file /dev/full can no longer be written: No space left on device" in done.stderr
    if flags == ["-J"]:
        assert json.loads(done.stdout)["end"]["sum_received"]["bytes"] > 0
    elif flags:
        assert json.loads(done.stdout.splitlines()[-1])["event"] == "end"
    else:
        assert "receiver" in done.stdout
        assert done.stdout.endswith("iperfpy Done.\n")


@pytest.mark.parametrize(
    "stale", ["", "not a number", "0", "-5", "999999999999999999999999", "{gone}\n", "{own}\n"]
)
def test_a_stale_pid_file_is_replaced_and_removed(stale: str, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    path = tmp_path / "pid"
    # A program in a container has the same number each time it is started.
    path.write_text(stale.format(gone=process.pid, own=os.getpid()))
    with pid_file(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_the_pid_file_of_a_running_process_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text(f"{os.getppid()}\n")
    with pytest.raises(StartError, match="which is running"), pid_file(str(path)):
        raise AssertionError("that process is running")
    assert path.read_text() == f"{os.getppid()}\n"


def test_an_unwritable_pid_file_is_a_start_error(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot write the PID file"), pid_file(str(tmp_path / "no" / "x")):
        raise AssertionError("there is no such folder")


@pytest.mark.linux
@pytest.mark.parametrize("path", ["/dev/full", "/dev/zero", "{pipe}"])
def test_a_pid_file_is_a_regular_file(path: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    name = path.format(pipe=tmp_path / "pipe")
    sentence = f"^cannot write the PID file {name}: it is not a regular file$"
    with pytest.raises(StartError, match=sentence), pid_file(name):
        raise AssertionError("no file keeps the number")


def test_a_long_file_is_no_pid_file_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("x" * 5000)
    with pytest.raises(StartError, match="it is longer than"), pid_file(str(path)):
        raise AssertionError("the file is something else")
    assert path.stat().st_size == 5000


def test_the_null_device_is_no_pid_file() -> None:
    with pid_file(os.devnull):
        pass
    assert os.path.exists(os.devnull)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processes are not bound here")
def test_a_process_is_restricted_to_one_processor() -> None:
    usual = os.sched_getaffinity(0)
    try:
        run_on(min(usual))
        assert os.sched_getaffinity(0) == {min(usual)}
        with pytest.raises(StartError, match="cannot run on processor 1023"):
            run_on(1023)
    finally:
        os.sched_setaffinity(0, usual)


@pytest.mark.live
def test_debug_prints_the_control_messages(tmp_path: Path) -> None:
    port = str(free_port())
    with subprocess.Popen(
        [*PROGRAM, "-s", "-1", "-d", "-p", port, "-B", "127.0.0.1"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        # The port is open only after this line.
        while "listening" not in server.stdout.readline():
            pass
        run_warm(["-c", "127.0.0.1", "-p", port, "-n", "100K"], cwd=tmp_path)
        _, errors = server.communicate(timeout=20)
    assert "to the client: PARAM_EXCHANGE" in errors
    assert "TEST_END" in errors
