"""The thread that writes reports: the event loop waits for no reader, and only rows of a table are lost."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iperfpy.cli.outputs import Outputs
from iperfpy.options import OutputOptions
from iperfpy.report.output_thread import OutputThread, QueuedLog, QueuedSink
from tests.iperfpy.report.scenes import forward
from tests.iperfpy.support import Recorder


class Gate(io.StringIO):
    """A stream whose `write` waits until it is opened, as that of a pipe without a reader."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.opened = threading.Event(), threading.Event()

    def write(self, text: str, /) -> int:
        self.entered.set()
        waiting(self.opened)
        return super().write(text)


def waiting(gate: threading.Event) -> None:
    assert gate.wait(20), "the test has forgotten to open the gate"


@contextmanager
def held_up(thread: OutputThread) -> Iterator[None]:
    """Keep the thread from its work while the context lasts."""
    gate = threading.Event()
    thread.put(lambda: waiting(gate))
    try:
        yield
    finally:
        gate.set()


LATE_LINE = """
import os
from iperfpy.report.output_thread import OutputThread

class Late:
    def __init__(self):
        self.thread, self.write = OutputThread("late"), os.write

    def __del__(self):
        self.thread.put(lambda: self.write(1, b"said"))

late = Late()
"""


def test_a_line_at_the_end_of_the_program_starts_no_thread() -> None:
    """It comes from an object that the interpreter destroys: a thread would never begin."""
    run = subprocess.run([sys.executable, "-c", LATE_LINE], capture_output=True, timeout=60, check=True)
    assert run.stdout == b"said"


def test_functions_are_called_in_order_in_one_other_thread() -> None:
    calls: list[tuple[int, int]] = []
    thread = OutputThread("test")

    def call(number: int) -> Callable[[], None]:
        return lambda: calls.append((number, threading.get_ident()))

    for number in range(100):
        thread.put(call(number))
    assert thread.finish()
    assert [number for number, _ in calls] == list(range(100))
    assert len({ident for _, ident in calls} - {threading.get_ident()}) == 1


def test_an_output_that_nothing_was_written_to_has_no_thread() -> None:
    before = threading.active_count()
    assert OutputThread("test").finish()
    assert threading.active_count() == before


def test_a_thread_that_waits_for_a_reader_is_left_behind() -> None:
    gate, thread = threading.Event(), OutputThread("test")
    thread.put(lambda: waiting(gate))
    assert not thread.finish(0.01)
    gate.set()


def test_only_intervals_are_left_out_and_the_gap_is_told_once() -> None:
    scene, recorder, thread = forward(), Recorder(), OutputThread("test")
    rows = scene.intervals[0]
    gaps: list[int] = []
    sink = QueuedSink(recorder, thread, 3 * len(rows), gaps.append)
    with held_up(thread):
        sink.start(scene.start)
        for _ in range(10):
            sink.interval(rows)
        sink.end(scene.end)
        sink.close()
    thread.finish()
    assert recorder.started is scene.start
    assert recorder.intervals == [rows] * 3
    assert recorder.ended is scene.end
    assert recorder.closed
    assert gaps == [7]


def test_one_interval_may_be_longer_than_the_limit() -> None:
    scene, recorder, thread = forward(), Recorder(), OutputThread("test")
    sink = QueuedSink(recorder, thread, 0, lambda count: pytest.fail("nothing was left out"))
    sink.start(scene.start)
    sink.interval(scene.intervals[0])
    thread.finish()
    assert recorder.intervals == [scene.intervals[0]]


def test_a_table_that_nobody_reads_has_a_gap_and_a_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iperfpy.cli.outputs.TERMINAL_ROWS", 2)
    scene, stream = forward(), Gate()
    monkeypatch.setattr("sys.stdout", stream)
    outputs = Outputs(OutputOptions())
    (sink,) = outputs.server_sinks()
    sink.start(scene.start)
    assert stream.entered.wait(20)
    # From here on the table waits: this thread, which stands for the event loop's, goes on.
    for _ in range(5):
        sink.interval(scene.intervals[0])
    sink.end(scene.end)
    stream.opened.set()
    outputs.finish()
    lines = stream.getvalue().splitlines()
    assert "(3 intervals left out: the output was not read in time)" in lines
    assert any(line.endswith("receiver") for line in lines)
    assert not outputs.failed


def test_the_csv_is_written_while_nobody_reads_the_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scene, stream, path = forward(), Gate(), tmp_path / "rows.csv"
    monkeypatch.setattr("sys.stdout", stream)
    outputs, written = Outputs(OutputOptions(csv=str(path))), threading.Event()
    with outputs.serving():
        shown, csv = outputs.server_sinks()
        for sink in (shown, csv):
            sink.start(scene.start)
            sink.interval(scene.intervals[0])
            sink.end(scene.end)
        outputs._files.put(written.set)
        assert written.wait(20)
        assert "summary" in path.read_text()
        assert not stream.getvalue()
        stream.opened.set()


@pytest.mark.parametrize("form", ["text", "json", "json_stream"])
def test_a_fault_in_a_report_is_one_warning_and_status_1(
    form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fault(*_: object) -> None:
        raise KeyError("no such column")

    for kind in ("terminal.TextSink", "json_report.JsonSink", "json_report.JsonStreamSink"):
        monkeypatch.setattr(f"iperfpy.report.{kind}.interval", fault)
    output = OutputOptions(json=form == "json", json_stream=form == "json_stream")
    scene, outputs = forward(), Outputs(output)
    (sink,) = outputs.server_sinks()
    scene.play(sink)
    outputs.finish()
    assert outputs.failed
    sentence = "the report has a fault: KeyError: 'no such column'"
    event = f'{{"event":"warning","data":"{sentence}"}}'
    assert capsys.readouterr().err == (
        f"{event}\n" if form == "json_stream" else f"iperfpy: warning - {sentence}\n"
    )


def test_a_log_that_nobody_reads_is_bounded_and_says_so() -> None:
    stream, thread = Gate(), OutputThread("test")
    handler = QueuedLog(stream, thread, lines_limit=2)
    for number in range(5):
        handler.handle(logging.makeLogRecord({"msg": f"line {number}"}))
    assert stream.entered.wait(20)
    stream.opened.set()
    thread.finish()
    handler.handle(logging.makeLogRecord({"msg": "line 5"}))
    thread.finish()
    assert stream.getvalue().splitlines() == [
        *("line 0", "line 1", "(3 lines left out: the log was not read in time)", "line 5"),
    ]
