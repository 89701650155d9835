"""`iperfpy diagnose`: its words, and the exit status of each end."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from iperfpy.cli.commands import diagnose
from iperfpy.cli.common_flags import CONNECTION, PICTURES, REPORTS, base_flags, chosen_flags
from iperfpy.cli.main import main
from iperfpy.diagnosis.path_report import PathReport
from iperfpy.errors import ConnectError
from iperfpy.experiments import check_schedule, path_check
from iperfpy.experiments.path_check import PathCheck, Progress
from iperfpy.options import ClientOptions
from iperfpy.report.progress_lines import BarProgress, PlainProgress, progress_for
from iperfpy.store.folder import Folder
from tests.iperfpy.report.diagnosis_scenes import nothing, whole

SCHEMA = json.loads((resources.files("iperfpy") / "report" / "diagnosis_schema.json").read_text())


class FakeCheck(PathCheck):
    """A diagnosis that takes no time, with a result made by hand."""

    made: list[FakeCheck]
    result: PathReport

    def __init__(self, options: ClientOptions, scale: check_schedule.Scale, **more: Any) -> None:
        super().__init__(options, scale, **more)
        self.options, self.scale, self.more = options, scale, more
        FakeCheck.made.append(self)

    async def run(self, on_progress: Callable[[Progress], None] | None = None) -> None:
        assert on_progress is not None
        on_progress(Progress(None, "a remark", True, 0.5, 60, 0))

    def report(self) -> PathReport:
        return FakeCheck.result


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeCheck.made, FakeCheck.result = [], whole()
    monkeypatch.setattr(path_check, "PathCheck", FakeCheck)


def test_the_report_goes_to_stdout_and_progress_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "192.0.2.7", "--no-save"]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("Path to 192.0.2.7")
    assert output.err == "a remark\n"


def test_options_of_the_connection_reach_the_tests() -> None:
    words = ["-p", "5999", "-4", "-B", "127.0.0.1", "--connect-timeout", "700", "--dscp", "ef", "-L", "7"]
    assert main(["diagnose", "--quick", "--budget", "10M", *words, "host%lo"]) == 0
    made = FakeCheck.made[0]
    assert (made.options.host, made.options.port, made.options.bind) == ("host", 5999, "127.0.0.1")
    assert (made.options.connect_timeout_us, made.options.flow_label) == (700_000, 7)
    assert made.options.sockets.device == "lo"
    assert made.more == {"budget_bytes": 10 << 20, "tos": 0xB8}
    assert made.scale is check_schedule.QUICK


def test_without_quick_the_whole_schedule_runs() -> None:
    assert main(["diagnose", "host"]) == 0
    assert FakeCheck.made[0].scale is check_schedule.FULL
    assert FakeCheck.made[0].more == {"budget_bytes": 0, "tos": 0}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "diagnose needs the server's name or address: iperfpy diagnose HOST"),
        ([" "], "diagnose needs the server's name or address: iperfpy diagnose HOST"),
        (["-R", "host"], "unknown option -R"),
        (["host", "other"], "got unexpected extra argument (other)"),
        (["host", "--budget", "1k"], "--budget must be between 5 MB and 1 PiB, not 1k"),
        (["host", "-4", "-6"], "only one address family (-4, -6) may be specified"),
        (["host", "--dscp", "ef", "-S", "4"], "only one of -S and --dscp may be specified"),
        (["host", "--username", "me"], "a password needs both --username and --rsa-public-key-path"),
        (["host", "-p", "0"], "a port must be between 1 and 65535, not 0"),
    ],
)
def test_bad_words_get_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", *words]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"iperfpy: parameter error - {sentence}")
    assert output.err.count("\n") == 1
    assert not FakeCheck.made


def test_bad_words_with_json_give_a_document_of_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "-J", "host", "--budget", "x"]) == 1
    document = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMA).validate(document)
    assert document["error"].startswith("'x' is not a size")


def test_the_document_follows_the_schema_that_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "--json-schema"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA
    assert main(["diagnose", "host", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMA).validate(document)
    assert document["diagnosis"][0]["cause"] == "queue"


def test_help_lists_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "-h"]) == 0
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    for word in ("--quick", "--budget", "--username", "--port", "-J, --json"):
        assert word in output


@pytest.mark.parametrize(
    ("report", "status", "words"),
    [
        (nothing(), 1, "error - cannot connect to 192.0.2.7 port 5201: connection refused"),
        (replace(nothing(), error="signal", stopped=True), 1, "interrupt - nothing was measured: signal"),
        (replace(whole(), error="signal", stopped=True), 0, "interrupt - signal"),
        (replace(whole(), error="the server left"), 1, "error - the server left"),
        (replace(whole(), warnings=("a small buffer",)), 0, "warning - a small buffer"),
    ],
    ids=["nothing", "stopped-at-once", "stopped", "failed", "warned"],
)
def test_an_early_end_has_its_sentence_and_status(
    report: PathReport, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeCheck.result = report
    assert main(["diagnose", "host"]) == status
    output = capsys.readouterr()
    assert f"iperfpy: {words}\n" in output.err
    assert bool(output.out) == bool(report.directions)


def test_a_log_file_gets_the_report_and_the_errors(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    FakeCheck.result = replace(whole(), error="the server left")
    log = tmp_path / "log"
    assert main(["diagnose", "host", "--no-save", "--logfile", str(log)]) == 1
    assert capsys.readouterr().out == ""
    text = log.read_text()
    assert "Path to 192.0.2.7" in text
    assert text.endswith("iperfpy: error - the server left\n")


def test_a_log_file_that_cannot_be_written_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "host", "--logfile", "/no/such/folder/log"]) == 1
    errors = capsys.readouterr().err
    assert "cannot write the log file" in errors
    assert "a remark" not in errors, "the tests ran"


def test_the_shared_flags_are_those_of_a_test() -> None:
    every = {option.name: option for option in base_flags(["tcp"], {})}
    for option in chosen_flags((*CONNECTION, *REPORTS)):
        assert option.opts == every[option.name].opts


def test_the_subcommand_takes_every_flag_that_it_says() -> None:
    names = {option.name for option in diagnose.subcommand().params}
    assert {"host", "quick", "budget", "json_schema", "no_save", *CONNECTION, *PICTURES, *REPORTS} == names


# -- progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_a_line_for_each_step_and_no_bar() -> None:
    stream = io.StringIO()
    view = progress_for(stream)
    assert isinstance(view, PlainProgress)
    with view:
        view.step("idle path", 0.04, 60)
        view.advance(0.5, 60)
        view.remark("a remark\x1b")
    assert stream.getvalue() == "  0.0 of 60 s: idle path\na remark?\n"


@pytest.mark.parametrize("term", ["", "dumb"])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    monkeypatch.setenv("TERM", term)
    stream = Terminal()
    with progress_for(stream) as view:
        view.step("idle path", 0.04, 60)
    assert stream.getvalue() == "  0.0 of 60 s: idle path\n"


def test_a_remark_is_folded_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
    text = "round-trip time 41.3 ms, up to 9 rounds of 12 tests of up to 3.2 s, 38 s each, about 40 s in all"
    stream = Terminal()
    with progress_for(stream) as view:
        view.remark(text)
    assert max(map(len, stream.getvalue().splitlines())) < 80
    assert stream.getvalue().split() == text.split()
    pipe = io.StringIO()
    with progress_for(pipe) as view:
        view.remark(text)
    assert pipe.getvalue() == f"{text}\n"


def test_a_terminal_gets_a_bar_that_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    view = progress_for(stream)
    assert isinstance(view, BarProgress)
    with view:
        view.step("up: round 1, [tcp]", 15, 60)
        view.advance(16, 60)
        view.remark("the round-trip time is 3 ms")
    text = stream.getvalue()
    assert "16 of 60 s, 44 s left" in text
    assert "up: round 1, [tcp]" in text
    assert "the round-trip time is 3 ms\n" in text


def test_a_closed_standard_error_does_not_end_the_diagnosis() -> None:
    stream = io.StringIO()
    stream.close()
    with PlainProgress(stream) as view:
        view.step("idle path", 0.0, 60)


def test_an_error_of_this_program_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(self: FakeCheck, on_progress: object) -> None:
        raise ConnectError("no sockets are left")

    monkeypatch.setattr(FakeCheck, "run", run)
    assert main(["diagnose", "host"]) == 1
    assert capsys.readouterr().err == "iperfpy: error - no sockets are left\n"


def test_a_diagnosis_is_kept_and_printed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "host", "--results", str(tmp_path)]) == 0
    output = capsys.readouterr()
    (entry,) = Folder(tmp_path).entries().entries
    path = Folder(tmp_path).document_path(entry)
    assert str(path) in output.err
    Draft202012Validator(SCHEMA).validate(json.loads(path.read_text()))
    assert main(["show", str(path)]) == 0
    assert capsys.readouterr().out == output.out
    assert (entry.about.kind, entry.about.hosts) == ("diagnose", (whole().host,))
    assert entry.about.summary.startswith(whole().directions[0].diagnosis.findings[0].sentence)


@pytest.mark.parametrize(("words", "result"), [(["--no-save"], whole()), ([], nothing())])
def test_a_diagnosis_without_a_result_or_against_the_users_wish_is_not_kept(
    words: list[str], result: PathReport, tmp_path: Path
) -> None:
    FakeCheck.result = result
    main(["diagnose", "host", "--results", str(tmp_path), *words])
    assert list(tmp_path.iterdir()) == []


def test_a_diagnosis_that_cannot_be_kept_keeps_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["diagnose", "host", "--results", str(tmp_path / "file")]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("Path to")
    assert output.err.endswith(f"warning - the run is not saved in {tmp_path}/file: File exists\n")
