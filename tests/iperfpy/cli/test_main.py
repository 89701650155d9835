"""The program as a shell runs it: exit status, errors of one sentence, and complete reports."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import PIPE
from typing import Any, BinaryIO, cast

import pytest
from jsonschema import Draft202012Validator

from iperfpy import __version__
from iperfpy.cli.command_line import CommandLine
from iperfpy.cli.commands import COMMANDS
from iperfpy.cli.help import spelled
from iperfpy.cli.main import main
from iperfpy.cli.value_types import Flag
from iperfpy.protocols.metrics import Kind, Side
from iperfpy.protocols.registry import transport, transports
from tests.warm_program import WarmProgram, local_server, run_warm

PROGRAM = [sys.executable, "-m", "iperfpy"]
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


def run(
    arguments: Sequence[str], folder: Path, stdout: int | None = None, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.fixture(scope="module")
def port() -> Iterator[str]:
    """Start a server in another process, on a free port of loopback."""
    with local_server() as server:
        yield str(server.port)


class ShortWrites(io.RawIOBase):
    """A file with short writes, as a pipe may have them."""

    def __init__(self) -> None:
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        some = bytes(data)[:7]
        self.taken += some
        return len(some)


def test_nothing_is_lost_to_short_writes_of_an_unbuffered_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = ShortWrites()
    # Standard output as PYTHONUNBUFFERED makes it.
    unbuffered = io.TextIOWrapper(cast("BinaryIO", raw), write_through=True)
    monkeypatch.setattr(sys, "stdout", unbuffered)
    assert main(["--version"]) == 0
    assert raw.taken.decode() == f"iperfpy {__version__}\n"


def test_no_arguments_show_the_usage_and_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("Usage: iperfpy -s")


@pytest.mark.parametrize("flag", ["-v", "--version"])
def test_the_version_is_printed(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([flag]) == 0
    assert capsys.readouterr().out == f"iperfpy {__version__}\n"


def help_lines(flag: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main([flag]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def test_the_help_fits_two_screens_and_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    lines = help_lines("--help", capsys)
    assert len(lines) - len(COMMANDS) <= 48  # the list of subcommands comes before the first screen
    text = "\n".join(lines)
    assert all(f"{name}: " in text for name in transports())
    assert all(flag in text for flag in ("-t, --time SEC", "--csv [FILE]", "Examples:"))
    words = set(text.replace(",", " ").split())
    flags = [each for each in CommandLine(transports()).command.params if isinstance(each, Flag)]
    assert all(words & set(option.opts) for option in flags if not option.hidden)
    assert "-sw" not in text


def test_the_complete_help_describes_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(" ".join(help_lines("--help-all", capsys)).split())
    for option in CommandLine(transports()).command.params:
        assert isinstance(option, Flag)
        if option.hidden:
            continue
        assert option.help
        assert spelled(option) in text
        assert option.help in text
    assert all(flag in text for flag in ("--kcp-sndwnd N", "-w, --window SIZE"))
    assert "-sw" not in text


@pytest.mark.parametrize("words", [["-c", "h", "-b", "5X"], ["-t", "5"], ["--frobnicate-it"], ["-s", "-R"]])
def test_a_wrong_command_line_is_one_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert re.fullmatch(r"iperfpy: parameter error - [^\n]+\n", output.err)


def test_a_wrong_command_line_is_also_an_error_in_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-c", "h", "-b", "5X", "-J"]) == 1
    assert "'5X' is not a rate" in json.loads(capsys.readouterr().out)["error"]
    assert main(["-c", "h", "-b", "5X", "--json-stream"]) == 1
    output, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert output["event"] == "error"
    assert "'5X' is not a rate" in output["data"]
    assert end == {"event": "end", "data": {}}


TEXTS = ["-T", "ti", "--extra-data", "ex"]
WRONG_WORDS = {
    "a value out of range": [*TEXTS, "-c", "h", "-P", "1000", "-J"],
    "texts behind it": ["-c", "h", "-P", "1000", "-J", *TEXTS],
    "other spellings": ["-P", "1000", "-c", "h", "-RJTti", "--extra=ex"],
    "an unknown option": ["--nosuch", "-c", "h", "-J", *TEXTS],
    "a stray word": ["-c", "h", "stray", "-J", *TEXTS],
    "options that exclude each other": ["-c", "h", "-R", "--bidir", "-J", *TEXTS],
    "a setting out of range": ["-c", "h", "--proto", "kcp", "--kcp-mtu", "1", "-J", *TEXTS],
    "a test that no server accepts": ["-c", "h", "-u", "-l", "1M", "-J", *TEXTS],
    "a word without its value": ["-c", "h", "-J", *TEXTS, "-P"],
    "no role": ["-J", *TEXTS],
    "another command": ["kcp-peer", "h:1", "-J", *TEXTS, "--conv", "x"],
    "another command, other options": ["kcp-peer", "-J", *TEXTS],
}


@pytest.mark.parametrize("words", WRONG_WORDS.values(), ids=WRONG_WORDS)
def test_the_json_of_a_wrong_command_line_has_the_users_texts(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["title"], document["extra_data"]) == ("ti", "ex")
    assert document["error"]


def test_the_printed_json_schema_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json-schema"]) == 0
    Draft202012Validator.check_schema(json.loads(capsys.readouterr().out))


def test_a_csv_that_cannot_be_written_is_reported_before_connecting(tmp_path: Path) -> None:
    done = run(["-c", "127.0.0.1", "-p", "1", "--csv", "missing/x.csv"], tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "iperfpy: error - cannot write the CSV: missing/x.csv: No such file or directory\n"


def test_a_server_reports_a_csv_that_it_cannot_write(tmp_path: Path) -> None:
    done = run_warm(["-s", "-B", "127.0.0.1", "--csv", "missing/x.csv"], cwd=tmp_path)
    assert done.returncode == 1
    assert "missing/x.csv: No such file or directory" in done.stderr


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("-C nonsense", r"congestion control 'nonsense' is not available here \(available: .+\)"),
        ("-l 2", r"a block of udp must have between 16 and 65507 bytes, not 2"),
    ],
)
def test_a_test_that_this_machine_cannot_run_fails_before_connecting(
    flags: str, sentence: str, tmp_path: Path
) -> None:
    udp = ["-u"] if "udp" in sentence else []
    done = run_warm(["-c", "127.0.0.1", "-p", "1", "--csv", *udp, *flags.split()], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(f"iperfpy: error - {sentence}\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.live
def test_a_refused_connection_is_one_sentence_and_a_row(tmp_path: Path) -> None:
    sentence = "cannot connect to 127.0.0.1 port 1: connection refused"
    for _ in range(2):
        done = run_warm(["-c", "127.0.0.1", "-p", "1", "--csv", "x.csv"], cwd=tmp_path)
        assert (done.returncode, done.stderr) == (1, f"iperfpy: error - {sentence}\n")
    rows = list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines()))
    assert [(row["type"], row["host"], row["port"], row["error"]) for row in rows] == [
        ("error", "127.0.0.1", "1", sentence)
    ] * 2


def test_a_csv_with_another_header_is_kept_and_no_test_starts(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("of another program\n")
    done = run_warm(["-c", "127.0.0.1", "-p", "1", "--csv", "x.csv"], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("iperfpy: error - cannot add rows to x.csv, whose first line is not")
    assert (tmp_path / "x.csv").read_text() == "of another program\n"


@pytest.mark.live
def test_a_refused_connection_is_an_error_in_the_json(tmp_path: Path) -> None:
    done = run_warm(["-c", "127.0.0.1", "-p", "1", "-J"], cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"].endswith("connection refused")
    assert done.stderr.startswith("iperfpy: error - cannot connect")


@pytest.mark.live
@pytest.mark.parametrize("name", transports())
@pytest.mark.parametrize("direction", [(), ("-R",)])
def test_every_transport_measures_in_both_directions(
    name: str, direction: tuple[str, ...], port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IPERFPY_RESULTS")
    flags = ["-p", port, "--proto", name, "-t", "0.6", "-i", "0.2", "-b", "40M", "-l", "16K", *direction]
    done = run_warm(["-c", "127.0.0.1", *flags, "--csv"], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"Connecting to host 127.0.0.1, port {port}"
    assert lines[-1] == "iperfpy Done."
    assert "\x1b" not in done.stdout
    assert sum(line.startswith("[ ID]") for line in lines) == 2
    assert [line.split()[-1] for line in lines if line.endswith(("sender", "receiver"))] == [
        "sender",
        "receiver",
    ]
    (path,) = (tmp_path / "results").iterdir()
    assert re.fullmatch(rf"\d+-\d+-{name}-{'reverse' if direction else 'forward'}\.csv", path.name)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["type"] for row in rows][-2:] == ["summary", "sum"]
    intervals = [row for row in rows if row["type"] == "interval"]
    assert 2 <= len(intervals) <= 3
    # Counters of the sender are in the client's rows even if the server sends.
    of_sender = (m for m in transport(name).metrics if m.side is Side.SENDER and m.kind is Kind.COUNTER)
    key = next(of_sender).key
    assert all(row[key] for row in intervals), "the sender's figures are there in both directions"


@pytest.mark.live
def test_json_has_every_stream_of_a_parallel_reversed_test(port: str, tmp_path: Path) -> None:
    done = run_warm(["-c", "127.0.0.1", "-p", port, "-R", "-P", "2", "-n", "2M", "-J"], cwd=tmp_path)
    output = json.loads(done.stdout)
    assert done.returncode == 0
    assert "error" not in output
    assert output["end"]["sum_received"]["bytes"] >= 2 << 20
    assert [stream["receiver"]["stream"] for stream in output["end"]["streams"]] == [1, 3]


@pytest.mark.live
def test_a_json_stream_may_be_followed_by_the_complete_document(port: str, tmp_path: Path) -> None:
    done = run_warm(["-c", "127.0.0.1", "-p", port, "-n", "2M", "--json-stream-full-output"], cwd=tmp_path)
    head, brace, rest = done.stdout.partition("\n{\n")
    events = [json.loads(line) for line in head.splitlines()]
    assert done.returncode == 0
    assert (events[0]["event"], events[-1]["event"]) == ("start", "end")
    assert json.loads(brace + rest)["end"] == events[-1]["data"]


@pytest.mark.live
@needs_full
def test_a_full_disk_ends_the_csv_and_not_the_test(port: str, tmp_path: Path) -> None:
    words = ["-c", "127.0.0.1", "-p", port, "-t", "0.3", "-b", "10M", "--csv", str(FULL)]
    done = run_warm(words, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "iperfpy Done."
    assert done.stderr == (
        "iperfpy: warning - no more rows of this test go to /dev/full: No space left on device; "
        "the test continues\n"
    )


@pytest.mark.live
@needs_full
def test_a_full_standard_output_is_one_warning(port: str, tmp_path: Path) -> None:
    with FULL.open("wb") as full:
        done = run(["-c", "127.0.0.1", "-p", port, "-t", "1"], tmp_path, full.fileno())
    assert done.returncode == 1
    assert done.stderr == "iperfpy: warning - the report cannot be written: No space left on device\n"


@pytest.mark.live
def test_a_closed_pipe_ends_the_test(port: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run(["-c", "127.0.0.1", "-p", port, "-t", "0", "--json-stream"], tmp_path, writing)
    os.close(writing)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.live
def test_a_signal_leaves_a_summary_a_complete_csv_and_status_0(port: str, tmp_path: Path) -> None:
    words = ["-c", "127.0.0.1", "-p", port, "-t", "0", "-i", "0.2", "-b", "10M", "--csv", "x.csv"]
    with WarmProgram(words, cwd=tmp_path, stdout=PIPE, stderr=PIPE) as client:
        assert client.stdout is not None
        # Interrupt after two intervals, so that the CSV has rows of them.
        for _ in range(2):
            while not re.match(r"\[  1\] +\d", line := client.stdout.readline()):
                assert line, "the client has ended"
        client.send_signal(signal.SIGINT)
        out, errors = client.communicate(timeout=30)
    assert client.returncode == 0
    assert errors == "iperfpy: interrupt - the client has terminated by signal Interrupt(2)\n"
    assert any(line.endswith("sender") for line in out.splitlines())
    rows = list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines()))
    assert {"interval", "summary", "sum", "error"} == {row["type"] for row in rows}
    assert rows[-1]["error"] == "the client has terminated by signal Interrupt(2)"


def test_one_ctrl_c_without_a_handler_is_not_reported_as_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Event loops of Windows have no signal handlers: a single Ctrl-C is a KeyboardInterrupt."""

    def interrupt(words: Sequence[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("iperfpy.cli.commands.run.main", interrupt)
    assert main(["-c", "127.0.0.1"]) == 130
    output = capsys.readouterr().err
    assert output == "iperfpy: interrupt - Ctrl-C; stopped without a clean shutdown\n"


def test_the_help_lists_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    lines = help_lines("--help", capsys)
    for name, command in COMMANDS.items():
        assert any(f"iperfpy {name} " in line and command.summary in line for line in lines)
        assert callable(importlib.import_module(command.module).main)


@pytest.mark.live
def test_a_kept_run_is_listed_shown_and_compared(
    port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IPERFPY_RESULTS", str(tmp_path))
    words = ["-c", "127.0.0.1", "-p", port, "-t", "0.4", "-i", "0.2", "-b", "10M", "--save", "-T", "a title"]
    done = run_warm(words, cwd=tmp_path)
    assert done.returncode == 0
    assert re.fullmatch(rf"iperfpy: saved - {tmp_path}/\d{{8}}-\d{{6}}\.json\n", done.stderr)
    assert main(["runs", "--names"]) == 0
    (name,) = capsys.readouterr().out.split()
    # The table is that of the terminal, line by line.
    assert main(["show", name]) == 0
    assert capsys.readouterr().out == done.stdout
    assert run_warm([*words, "-J"], cwd=tmp_path).returncode == 0
    assert main(["diff", "last~1", "last"]) == 3
    assert "cannot tell: at least 3 more runs of each" in capsys.readouterr().out
