"""The reports of a test, and the consequences of a failing report."""

from __future__ import annotations

import csv
import errno
import io
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iperfpy.cli.exit_status import complain, warn
from iperfpy.cli.kept_run import KeptTest
from iperfpy.cli.outputs import Outputs
from iperfpy.cli.process import LogFile
from iperfpy.errors import InterruptError, StartError
from iperfpy.options import ClientOptions, OutputOptions
from iperfpy.report.progress_lines import progress_for
from iperfpy.store.folder import Folder
from tests.iperfpy.report.scenes import forward, parallel_interrupted, server
from tests.iperfpy.report.test_output_thread import held_up
from tests.iperfpy.store.test_round_trip import run_of


def test_concurrent_tests_of_a_server_have_titles(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = Outputs(OutputOptions())
    (first,), (second,) = outputs.server_sinks(), outputs.server_sinks()
    second.start(server().start)
    first.start(server().start)
    first.close()
    second.close()
    (third,) = outputs.server_sinks()
    third.start(server().start)
    outputs.finish()
    starts = [line for line in capsys.readouterr().out.splitlines() if "Accepted" in line]
    assert [line.startswith("test 2:  ") for line in starts] == [True, False, False]


@pytest.mark.parametrize("place", ["one file", "a log file", "two files"])
def test_the_log_line_of_a_test_follows_its_table_in_one_file(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, scene = tmp_path / "out", server()
    errors_path = path if place == "one file" else tmp_path / "errors"
    with open(path, "a") as out, open(errors_path, "a") as errors:
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", errors)
        with LogFile(str(tmp_path / "log") if place == "a log file" else "").opened():
            outputs = Outputs(OutputOptions())
            handler = outputs.log_handler(server=True)
            (sink,) = outputs.server_sinks()
            with held_up(outputs._terminal):
                scene.play(sink)
                handler.handle(logging.makeLogRecord({"msg": "the test is over"}))
                outputs._log.finish()
                # In a file of its own the log waits for no reader of the table.
                log = tmp_path / "log" if place == "a log file" else errors_path
                assert ("the test is over" in log.read_text()) is (place == "two files")
            outputs.finish()
    if place != "two files":
        text = (tmp_path / "log" if place == "a log file" else path).read_text()
        assert "the test is over" in text.splitlines()[-1]
        assert "receiver" in text.splitlines()[-2]


def test_all_tests_of_a_server_share_one_csv(tmp_path: Path) -> None:
    path, scene = tmp_path / "x.csv", server()
    outputs = Outputs(OutputOptions(json_stream=True, csv=str(path)))
    with outputs.serving():
        both = [outputs.server_sinks()[-1] for _ in range(2)]
        for number, sink in enumerate(both):
            sink.start(replace(scene.start, cookie=f"test {number}"))
        for sink in both:
            sink.interval(scene.intervals[0])
        for sink in both:
            sink.end(scene.end)
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["type"], row["test_id"]) for row in rows] == [
        *[("interval", "test 0"), ("interval", "test 1")],
        *[(kind, f"test {number}") for number in range(2) for kind in ("summary", "sum")],
    ]
    assert not outputs.failed


def test_a_full_disk_ends_the_csv_of_one_test_and_not_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, scene = tmp_path / "x.csv", server()
    outputs = Outputs(OutputOptions(csv=str(path)))
    with outputs.serving():
        first, second = (outputs.server_sinks()[-1] for _ in range(2))
        first.start(scene.start)
        with monkeypatch.context() as full:
            full.setattr("os.write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            first.interval(scene.intervals[0])
            first.interval(scene.intervals[0])
            outputs.finish()
        second.start(replace(scene.start, cookie="second"))
        second.interval(scene.intervals[0])
        first.end(scene.end)
    assert outputs.failed
    assert capsys.readouterr().err == (
        f"iperfpy: warning - no more rows of this test go to {path}: No space left on device; "
        "the test continues\n"
    )
    assert [line.split(",")[3] for line in path.read_text().splitlines()] == ["test_id", "second"]


def test_rows_on_standard_output_replace_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    scene = parallel_interrupted()
    with Outputs(OutputOptions(csv="-")).client_sinks(scene.start.plan, ClientOptions("h")) as sinks:
        for sink in sinks:
            scene.play(sink)
    out, errors = capsys.readouterr()
    assert [line.split(",")[0] for line in out.splitlines()] == [
        *["type", "interval", "interval", "interval", "interval"],
        *["summary", "summary", "sum", "error"],
    ]
    assert errors.splitlines()[-1] == "iperfpy: interrupt - the client was stopped by SIGINT"


@pytest.mark.parametrize("told", [False, True])
def test_a_stopped_server_writes_one_document(told: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """A running test tells of the signal in its own document; without one there is a further document."""
    outputs, error = Outputs(OutputOptions(json=True)), InterruptError("the server has terminated")
    for sink in outputs.server_sinks():
        scene = server()
        sink.start(scene.start)
        sink.end(replace(scene.end, interrupted=str(error) if told else ""))
        sink.close()
    outputs.finish()
    outputs.interrupted(error)
    documents = capsys.readouterr().out.rstrip().replace("}\n{", "}\0{").split("\0")
    assert len(documents) == (1 if told else 2)
    assert json.loads(documents[-1])["error"] == "interrupt - the server has terminated"


def test_a_failed_client_keeps_its_texts_in_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    plan = replace(forward().start.plan, title="a title", extra_data="some text")
    with Outputs(OutputOptions(json=True)).client_sinks(plan, ClientOptions("h")) as (sink,):
        sink.error("no server")
    report = json.loads(capsys.readouterr().out)
    texts = (report["title"], report["extra_data"], report["error"])
    assert texts == ("a title", "some text", "no server")


def test_a_closed_pipe_stops_a_client_and_not_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[str] = []
    monkeypatch.setattr("iperfpy.cli.outputs.silence_stdout", lambda: None)
    for stop in (None, lambda: stopped.append("client")):
        outputs = Outputs(OutputOptions())
        outputs.stop = stop
        outputs.stdout_failed(BrokenPipeError(errno.EPIPE, "Broken pipe"))
        assert outputs.failed
    assert stopped == ["client"]


@pytest.mark.parametrize(
    ("output", "lines"), [(OutputOptions(json=True), 1), (OutputOptions(json_stream=True), 3)]
)
def test_json_is_the_only_output(
    output: OutputOptions, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = forward()
    with Outputs(output).client_sinks(scene.start.plan, ClientOptions("h")) as (sink,):
        sink.start(scene.start)
        sink.interval(scene.intervals[0])
        sink.end(scene.end)
    out = capsys.readouterr().out
    assert out.startswith("{")
    assert (out.count("\n") == lines) is output.json_stream


def test_a_hangup_tells_of_the_log_only_if_there_is_a_log_file(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    opened: list[str] = []
    for reopen_log, lines in ((None, 0), (lambda: opened.append("log"), 1)):
        outputs = Outputs(OutputOptions())
        with outputs.serving():
            outputs.reopen(reopen_log)
        assert len(opened) == lines
        assert caplog.text.count("the log goes on in a file that was opened again") == lines


class Pieces(io.StringIO):
    """A stream that keeps the texts of its writes apart."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def write(self, text: str, /) -> int:
        self.texts.append(text)
        return len(text)


@pytest.mark.parametrize(
    "tell",
    [
        lambda stream: warn("a sentence"),
        lambda stream: warn("a sentence", "stream"),
        lambda stream: complain("a sentence"),
        lambda stream: complain("a sentence", text="iperf3"),
        lambda stream: Outputs(OutputOptions(text="iperf3")).interrupted(InterruptError("a signal")),
        lambda stream: progress_for(stream).remark("a sentence"),
    ],
)
def test_a_line_of_standard_error_is_one_write(
    tell: Callable[[Any], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of another thread could come between two writes."""
    stream = Pieces()
    monkeypatch.setattr("sys.stderr", stream)
    tell(stream)
    assert stream.texts
    assert all(text.endswith("\n") and text.strip() for text in stream.texts)


def saved(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "runs").glob("*.json"))


@pytest.mark.parametrize(
    "form", [{}, {"json": True}, {"json_stream": True}, {"csv": "-"}, {"text": "iperf3"}]
)
def test_a_saved_run_is_the_document_of_json_whatever_is_printed(
    form: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = forward()
    outputs = Outputs(OutputOptions(save=True, results=str(tmp_path / "runs"), **form))
    with outputs.client_sinks(scene.start.plan) as sinks:
        for sink in sinks:
            scene.play(sink)
    (path,) = saved(tmp_path)
    document = json.loads(path.read_text())
    assert document.pop("stored") == {"id": path.stem, "kind": "test"}
    assert document == run_of(scene).document()
    assert str(path) in capsys.readouterr().err
    assert not outputs.failed


def test_a_run_that_cannot_be_saved_fails_and_loses_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = forward()
    outputs = Outputs(OutputOptions(save=True, results=str(tmp_path / "runs")))
    with outputs.client_sinks(scene.start.plan) as sinks:
        (tmp_path / "runs").write_text("a file")
        for sink in sinks:
            scene.play(sink)
    output = capsys.readouterr()
    assert output.out.endswith("iperfpy Done.\n")
    assert output.err.endswith(f"iperfpy: warning - the run is not saved in {tmp_path}/runs: File exists\n")
    assert outputs.failed


@pytest.mark.linux
@pytest.mark.parametrize("place", ["a file", "/proc/x/y", "/dev/full", "an index"])
def test_a_folder_that_takes_no_run_is_told_before_the_test(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    if place == "a file":
        folder.write_text("content")
    elif place == "an index":
        (folder / "index.jsonl").mkdir(parents=True)
    else:
        folder = Path(place)
    outputs = Outputs(OutputOptions(save=True, results=str(folder)))
    sentence = f"^no run can be saved in {folder}: .* \\(--save\\)$"
    with pytest.raises(StartError, match=sentence), outputs.client_sinks(forward().start.plan):
        raise AssertionError("nothing is measured")


def test_the_check_of_the_folder_leaves_nothing(tmp_path: Path) -> None:
    Folder(tmp_path / "new" / "runs").check()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").mkdir()
    Folder(tmp_path / "old").check()
    assert list((tmp_path / "old").iterdir()) == []


def test_a_test_that_did_not_start_is_not_saved(tmp_path: Path) -> None:
    outputs = Outputs(OutputOptions(save=True, json=True, results=str(tmp_path / "runs")))
    with outputs.client_sinks(forward().start.plan) as sinks:
        for sink in sinks:
            sink.error("connection refused")
    assert saved(tmp_path) == []


def test_a_test_that_was_interrupted_is_saved_with_the_reason(tmp_path: Path) -> None:
    scene = parallel_interrupted()
    outputs = Outputs(OutputOptions(save=True, results=str(tmp_path / "runs")))
    with outputs.client_sinks(scene.start.plan) as sinks:
        for sink in sinks:
            scene.play(sink)
    (entry,) = Folder(tmp_path / "runs").entries().entries
    assert entry.about.error == json.loads(saved(tmp_path)[0].read_text())["error"] != ""


def test_a_fault_in_the_saved_run_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(KeptTest, "interval", lambda *_: 1 / 0)
    scene = forward()
    outputs = Outputs(OutputOptions(save=True, results=str(tmp_path / "runs")))
    with outputs.client_sinks(scene.start.plan) as sinks:
        for sink in sinks:
            scene.play(sink)
    output = capsys.readouterr()
    assert output.out.endswith("iperfpy Done.\n")
    assert "the saved run has a fault: ZeroDivisionError" in output.err
