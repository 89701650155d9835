"""A signal while the program starts is reported as one that comes later."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

PROGRAM = """
import os, runpy, sys

module, number, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
del sys.argv[1:4]

class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            try:
                os.kill(os.getpid(), number)  # raises the exception of the first signal
            finally:
                for _ in range(times - 1):
                    os.kill(os.getpid(), number)

sys.meta_path.insert(0, Sender())
runpy.run_module("iperfpy", run_name="__main__")
"""
"""The program, which gets a signal when it imports a module."""
CLIENT = ["-c", "127.0.0.1", "-p", "1", "-T", "ti"]
BEFORE_PARSING, AFTER_PARSING = "iperfpy.cli.command_line", "iperfpy.cli.process"


def signalled(
    module: str, number: signal.Signals, *words: str, times: int = 1
) -> subprocess.CompletedProcess[str]:
    """Run the words; the process gets the signal when it imports the module."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, module, str(int(number)), str(times), *words],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def sentence(number: signal.Signals, role: str = "client") -> str:
    return f"the {role} has terminated by signal {signal.strsignal(number)}({int(number)})"


@pytest.mark.parametrize(
    ("module", "number"),
    [
        ("iperfpy.cli.standard_streams", signal.SIGINT),
        (BEFORE_PARSING, signal.SIGTERM),
        (AFTER_PARSING, signal.SIGHUP),
        ("iperfpy.endpoint.client", signal.SIGINT),
    ],
)
def test_a_client_tells_that_nothing_was_measured(module: str, number: signal.Signals) -> None:
    done = signalled(module, number, *CLIENT, "-J")
    reason = f"nothing was measured: {sentence(number)}"
    assert (done.returncode, done.stderr) == (1, f"iperfpy: error - {reason}\n")
    document = json.loads(done.stdout)
    assert (document["error"], document["title"]) == (reason, "ti")


def test_a_stream_of_json_has_the_error_as_an_event() -> None:
    done = signalled(BEFORE_PARSING, signal.SIGTERM, *CLIENT, "--json-stream")
    assert (done.returncode, done.stderr) == (1, "")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"event": "error", "data": f"nothing was measured: {sentence(signal.SIGTERM)}"},
        {"event": "end", "data": {}},
    ]


@pytest.mark.parametrize("words", [CLIENT, ["kcp-peer", "127.0.0.1:1"]])
def test_a_csv_has_a_row_about_the_error(words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    done = signalled(AFTER_PARSING, signal.SIGINT, *words, "--csv", str(path))
    assert done.returncode == 1
    with open(path) as stream:
        (row,) = csv.DictReader(stream)
    assert (row["type"], row["error"]) == ("error", f"nothing was measured: {sentence(signal.SIGINT)}")


def test_text_has_one_line() -> None:
    done = signalled(AFTER_PARSING, signal.SIGINT, *CLIENT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"iperfpy: error - nothing was measured: {sentence(signal.SIGINT)}\n"
    done = signalled(AFTER_PARSING, signal.SIGINT, "-s", "--text", "iperf3")
    assert done.stderr == f"iperf3: interrupt - {sentence(signal.SIGINT, 'server')}\n"


def test_a_duplicate_changes_nothing() -> None:
    done = signalled(AFTER_PARSING, signal.SIGTERM, *CLIENT, times=2)
    assert done.stderr == f"iperfpy: error - nothing was measured: {sentence(signal.SIGTERM)}\n"


def test_a_server_ends_as_one_that_served_nothing() -> None:
    done = signalled(BEFORE_PARSING, signal.SIGTERM, "-s", "-J")
    assert done.returncode == 0
    reason = f"interrupt - {sentence(signal.SIGTERM, 'server')}"
    assert json.loads(done.stdout)["error"] == reason
    assert done.stderr == f"iperfpy: {reason}\n"


def test_several_tests_end_with_a_document() -> None:
    done = signalled("iperfpy.cli.experiment_command", signal.SIGINT, "compare", "127.0.0.1", "-J")
    assert json.loads(done.stdout)["error"] == f"interrupt - {sentence(signal.SIGINT)}"
    assert done.stderr == f"iperfpy: interrupt - nothing was measured: {sentence(signal.SIGINT)}\n"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("words", "module", "line", "status"),
    [
        (["demo"], "iperfpy.local_server", f"nothing was measured: {sentence(signal.SIGINT)}", 1),
        (["runs"], "iperfpy.store.folder", "stopped by signal Interrupt(2)", 130),
        (["lab", "1M", "--", "true"], "iperfpy.cli.commands.lab_run", "stopped by signal Interrupt(2)", 130),
    ],
)
def test_other_commands_have_one_line(words: list[str], module: str, line: str, status: int) -> None:
    done = signalled(module, signal.SIGINT, *words)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", f"iperfpy: interrupt - {line}\n")


def test_a_ctrl_c_during_the_first_imports_has_no_traceback() -> None:
    done = signalled("iperfpy.cli.main", signal.SIGINT, *CLIENT)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
