"""`iperfpy compare`: its words, its files, and the exit status of each end."""

from __future__ import annotations

import csv
import errno
import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from iperfpy.cli.commands import compare
from iperfpy.cli.common_flags import CONNECTION, PICTURES, REPORTS
from iperfpy.cli.main import main
from iperfpy.comparison.comparison_report import ComparisonReport
from iperfpy.errors import ConnectError
from iperfpy.experiments import comparison_run
from iperfpy.experiments.compare_schedule import Turn
from iperfpy.experiments.comparison_run import Compare, Progress
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction
from iperfpy.store.folder import Folder
from tests.iperfpy.report.compare_scenes import brief, nothing, stock, whole

SCHEMA = json.loads((resources.files("iperfpy") / "report" / "compare_schema.json").read_text())


class FakeCompare(Compare):
    """A comparison that takes no time, with a result made by hand."""

    made: list[FakeCompare]
    result: ComparisonReport

    def __init__(self, options: ClientOptions, contenders: Any, **more: Any) -> None:
        super().__init__(options, contenders, **more)
        self.options, self.names, self.more = options, [one.name for one in contenders], more
        FakeCompare.made.append(self)

    async def run(self, on_progress: Callable[[Progress], None] | None = None) -> None:
        assert on_progress is not None
        on_progress(Progress(None, "a remark", True, 0.5, 60, 0))
        on_progress(Progress(Turn(0, None, 1), "round 1: kcp messages", True, 0.7, 60, 0))

    def report(self) -> ComparisonReport:
        return FakeCompare.result


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    FakeCompare.made, FakeCompare.result = [], whole()
    monkeypatch.setattr(comparison_run, "Compare", FakeCompare)
    monkeypatch.setenv("IPERFPY_RESULTS", str(tmp_path / "runs"))


def test_the_table_goes_to_stdout_and_progress_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "192.0.2.7"]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("Comparison over the path to 192.0.2.7")
    assert output.err.startswith("a remark\n  0.7 of 60 s: round 1: kcp messages\niperfpy: saved - ")


def test_the_default_contenders_are_compared_in_both_directions() -> None:
    assert main(["compare", "host"]) == 0
    made = FakeCompare.made[0]
    assert made.names == ["tcp bbr", "tcp cubic", "kcp", "kcp-bbr"]
    assert made.more == {
        "directions": (Direction.FORWARD, Direction.REVERSE),
        "limit_s": 480.0,
        "budget_bytes": 0,
        "seed": None,
        "tos": 0,
    }


def test_options_reach_the_comparison() -> None:
    words = ["-p", "5999", "-4", "-B", "127.0.0.1", "--connect-timeout", "700", "--dscp", "ef", "-L", "7"]
    own = ["-t", "2m", "--budget", "10M", "--seed", "5", "-R", "--proto", "tcp:bbr,udp:20M"]
    assert main(["compare", *own, "--set", "tcp:mss=1000", *words, "host%lo"]) == 0
    made = FakeCompare.made[0]
    assert (made.options.host, made.options.port, made.options.bind) == ("host", 5999, "127.0.0.1")
    assert (made.options.connect_timeout_us, made.options.flow_label) == (700_000, 7)
    assert made.options.sockets.device == "lo"
    assert made.names == ["tcp bbr", "udp 20M"]
    assert made.more == {
        "directions": (Direction.REVERSE,),
        "limit_s": 120.0,
        "budget_bytes": 10 << 20,
        "seed": 5,
        "tos": 0xB8,
    }


def test_contenders_may_be_given_one_by_one() -> None:
    assert main(["compare", "host", "--proto", "tcp:bbr,kcp", "--proto", "kcp-bbr"]) == 0
    assert FakeCompare.made[0].names == ["tcp bbr", "kcp", "kcp-bbr"]


def test_forward_is_the_other_direction() -> None:
    assert main(["compare", "--forward", "host"]) == 0
    assert FakeCompare.made[0].more["directions"] == (Direction.FORWARD,)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "compare needs the server's name or address: iperfpy compare HOST"),
        (["host", "other"], "got unexpected extra argument (other)"),
        (["host", "--bidir"], "unknown option --bidir"),
        (["host", "-R", "--forward"], "--forward and -R exclude each other"),
        (["host", "-t", "1"], "-t must be between 5 and 86400 seconds, not 1"),
        (["host", "--budget", "1k"], "--budget must be between 5 MB and 1 PiB, not 1k"),
        (["host", "--proto", "quick"], "unknown transport 'quick'"),
        (["host", "--proto", "udp"], "udp repeats no losses, so it needs a rate"),
        (["host", "--set", "kcp:kcp-mod=fast"], "kcp has no setting 'kcp-mod'"),
        (["host", "--csv", "-", "-J"], "--csv - and -J exclude each other"),
        (["host", "--csv", "-", "--logfile", "x"], "--csv - and --logfile exclude each other"),
        (["host", "--csv-overwrite"], "--csv-overwrite needs the file that it replaces"),
        (["host", "-4", "-6"], "only one address family (-4, -6) may be specified"),
        (["host", "--username", "me"], "a password needs both --username and --rsa-public-key-path"),
    ],
)
def test_bad_words_get_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *words]) == 1
    output = capsys.readouterr()
    assert output.err.startswith(f"iperfpy: parameter error - {sentence}")
    assert output.err.count("\n") == 1
    assert not FakeCompare.made


def test_bad_words_with_json_give_a_document_of_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "-J", "host", "--proto", "quick"]) == 1
    document = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMA).validate(document)
    assert document["error"].startswith("unknown transport 'quick'")


def test_the_document_follows_the_schema_that_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--json-schema"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA
    assert main(["compare", "host", "--json", "--no-save"]) == 0
    document = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMA).validate(document)
    assert document["choice"]["bulk"]["take"] == {"forward": ["tcp bbr", "kcp-bbr"], "reverse": ["kcp-bbr"]}


def test_help_lists_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "-h"]) == 0
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    for word in (
        "--proto",
        "--set",
        "--forward",
        "--time",
        "--budget",
        "--seed",
        "--csv",
        "--username",
        "-J",
    ):
        assert word in output


def test_the_subcommand_takes_every_flag_that_it_says() -> None:
    names = {option.name for option in compare.subcommand().params}
    own = {"host", "proto", "settings", "reverse", "forward", "time_us", "budget", "seed", "json_schema"}
    own |= {"secret_kcp", "secret_file_kcp"}
    assert {*own, "csv", "csv_overwrite", "no_save", *CONNECTION, *PICTURES, *REPORTS} == names


@pytest.mark.parametrize(
    ("report", "status", "words"),
    [
        (nothing(), 1, "error - cannot connect to 192.0.2.7 port 5201: connection refused"),
        (replace(nothing(), error="signal", stopped=True), 1, "interrupt - nothing was measured: signal"),
        (replace(brief(), error="signal", stopped=True), 0, "interrupt - signal"),
        (stock(), 1, "error - cannot connect to 192.0.2.7 port 5201: connection refused"),
        (replace(brief(), warnings=("a small buffer",)), 0, "warning - a small buffer"),
    ],
    ids=["nothing", "stopped-at-once", "stopped", "failed", "warned"],
)
def test_an_early_end_has_its_sentence_and_status(
    report: ComparisonReport, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeCompare.result = report
    assert main(["compare", "host"]) == status
    output = capsys.readouterr()
    assert f"iperfpy: {words}\n" in output.err
    assert bool(output.out) == bool(report.tests)


def test_the_result_is_kept_and_shown_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["compare", "host"]) == 0
    printed = capsys.readouterr().out
    (entry,) = Folder(tmp_path / "runs").entries().entries
    assert entry.about.kind == "compare"
    assert main(["show", entry.id]) == 0
    assert capsys.readouterr().out == printed


def test_nothing_is_kept_without_a_test_or_by_choice(tmp_path: Path) -> None:
    assert main(["compare", "host", "--no-save"]) == 0
    FakeCompare.result = nothing()
    assert main(["compare", "host"]) == 1
    assert not (tmp_path / "runs").exists()


def test_the_csv_has_a_row_for_each_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tests.csv"
    assert main(["compare", "host", "--csv", str(path)]) == 0
    with path.open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(FakeCompare.result.tests) + len(FakeCompare.result.messages)
    assert {row["contender"] for row in table} == {"tcp bbr", "tcp cubic", "kcp", "kcp-bbr", "udp"}
    capsys.readouterr()
    assert main(["compare", "host", "--csv", "-", "--no-save"]) == 0
    printed = capsys.readouterr().out
    assert printed == path.read_text()


def test_a_csv_that_cannot_be_written_is_an_error_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["compare", "host", "--csv", "/no/such/folder/x.csv"]) == 1
    assert "cannot write the CSV: /no/such/folder/x.csv" in capsys.readouterr().err
    assert not FakeCompare.made or "round 1" not in capsys.readouterr().err


def test_a_log_file_gets_the_report_and_the_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeCompare.result = stock()
    log = tmp_path / "log"
    assert main(["compare", "host", "--no-save", "--logfile", str(log)]) == 1
    assert capsys.readouterr().out == ""
    text = log.read_text()
    assert "Comparison over the path" in text
    assert text.endswith("connection refused\n")


def test_an_error_of_this_program_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(self: FakeCompare, on_progress: object) -> None:
        raise ConnectError("no sockets are left")

    monkeypatch.setattr(FakeCompare, "run", run)
    assert main(["compare", "host"]) == 1
    assert capsys.readouterr().err == "iperfpy: error - no sockets are left\n"


def test_a_failure_with_json_gives_a_document_of_the_schema(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(self: FakeCompare, on_progress: object) -> None:
        raise ConnectError("no sockets are left")

    monkeypatch.setattr(FakeCompare, "run", run)
    for words, sentence in (
        (["--csv", "/no/such/folder/x.csv"], "cannot write the CSV: /no/such/folder/x.csv"),
        ([], "no sockets are left"),
    ):
        assert main(["compare", "-J", "host", *words]) == 1
        output = capsys.readouterr()
        document = json.loads(output.out)
        Draft202012Validator(SCHEMA).validate(document)
        assert document["error"].startswith(sentence)
        assert output.err.startswith(f"iperfpy: error - {sentence}")


class ClosedPipe(io.StringIO):
    """Standard output without a reader any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_closed_standard_output_loses_no_measurement(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    monkeypatch.setattr(sys, "stdout", ClosedPipe())
    with pytest.raises(BrokenPipeError):
        compare.main(["host", "--html", str(page)])
    monkeypatch.undo()
    assert len(Folder(tmp_path / "runs").entries().entries) == 1
    assert page.read_bytes()
