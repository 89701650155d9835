"""CSV reports: types of rows, complete rows, and a warning if rows are lost."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from iperfpy.errors import system_reason
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.metrics import Kind, Metric
from iperfpy.report.csv_report import BASE, LATENCY, CsvFile, CsvSink, field, open_default
from iperfpy.report.guarded_sink import GuardedSink
from tests.iperfpy.report.scenes import (
    Scene,
    SceneSettings,
    SceneTransport,
    bidirectional,
    forward,
    parallel_interrupted,
    reverse_omit,
)

FULL = Path("/dev/full")


def rows_of(scene: Scene, path: Path) -> list[dict[str, str]]:
    """Write the scene to a CSV, with a fixed date and quarters of a second as the monotonic clock."""
    ticks = iter(range(1000))
    warnings: list[str] = []
    sink = CsvSink(
        lambda plan: CsvFile(path), warnings.append, lambda: 1_795_367_700.25, lambda: next(ticks) / 4
    )
    scene.play(sink)
    assert warnings == []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_there_is_a_row_per_stream_and_interval_and_a_typed_summary(tmp_path: Path) -> None:
    rows = rows_of(parallel_interrupted(), tmp_path / "x.csv")
    assert [(row["type"], row["stream"]) for row in rows] == [
        *[("interval", "1"), ("interval", "3")] * 2,
        *[("summary", "1"), ("summary", "3"), ("sum", "sum")],
        ("error", ""),
    ]
    # Rows of all types have the same columns; only an error row has a sentence, and no figures.
    figures = sum(len(metric.keys) for metric in SceneTransport.metrics)
    assert len(rows[0]) == len(BASE) + figures + len(LATENCY) + 1
    assert {row["error"] for row in rows[:-1]} == {""}
    assert set(rows[-1].values()) == {
        *("error", "2026-11-22T17:15:00.250+00:00", "1.750000", "client", "forward", "scene", ""),
        rows[-1]["error"],
    }
    assert rows[-1]["error"] == "the client was stopped by SIGINT"


def test_an_error_before_the_start_leaves_the_file_alone(tmp_path: Path) -> None:
    sink = CsvSink(lambda plan: pytest.fail("opened"), pytest.fail)
    sink.error("cannot connect")
    sink.close()


def test_an_error_after_the_start_is_a_row(tmp_path: Path) -> None:
    path, scene = tmp_path / "x.csv", forward()
    sink = CsvSink(lambda plan: CsvFile(path), pytest.fail)
    sink.start(scene.start)
    sink.error("the other end is gone, it seems")
    sink.close()
    with path.open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["type"], row["error"]) == ("error", "the other end is gone, it seems")


def test_every_row_has_the_common_columns(tmp_path: Path) -> None:
    first = rows_of(forward(), tmp_path / "x.csv")[0]
    assert datetime.fromisoformat(first["time"]).utcoffset() == timedelta(0)
    # The monotonic clock of the test begins with 0.
    assert first["time"] == "2026-11-22T17:15:00.250+00:00"
    assert {key: first[key] for key in BASE if key not in ("time",)} == {
        "type": "interval",
        "monotonic_s": "0.000000",
        "role": "client",
        "side": "sender",
        "direction": "forward",
        "transport": "scene",
        "stream": "1",
        "start": "0.000000",
        "end": "1.000300",
        "bytes": "3911188",
        "bits_per_second": "31280120",
        "omitted": "0",
    }
    assert (first["retransmits"], first["sent"], first["retrans_percent"]) == ("11", "2853", "0.385559")
    assert (first["rtt_us"], first["rtt_us_min"], first["rtt_us_mean"]) == ("165000", "164000", "165500")


def test_both_ends_have_a_summary_and_a_sum(tmp_path: Path) -> None:
    rows = [row for row in rows_of(forward(), tmp_path / "x.csv") if row["type"] != "interval"]
    assert [(row["type"], row["side"], row["bytes"]) for row in rows] == [
        *[("summary", "sender", "3911188"), ("summary", "receiver", "3670016")],
        *[("sum", "sender", "3911188"), ("sum", "receiver", "3670016")],
    ]
    assert (rows[0]["duplicates"], rows[1]["duplicates"], rows[1]["retransmits"]) == ("", "3", "")


def test_a_missing_figure_is_empty_and_a_zero_is_zero(tmp_path: Path) -> None:
    rows = rows_of(reverse_omit(), tmp_path / "x.csv")
    assert [row["omitted"] for row in rows[:3]] == ["1", "0", "0"]
    assert (rows[1]["retransmits"], rows[1]["early_percent"], rows[2]["retransmits"]) == ("200", "0", "")
    assert rows_of(forward(), tmp_path / "y.csv")[1]["lost_percent"] == ""


def test_a_bidirectional_test_has_a_sum_for_each_direction(tmp_path: Path) -> None:
    rows = [row for row in rows_of(bidirectional(), tmp_path / "x.csv") if row["type"] == "sum"]
    assert [(row["direction"], row["side"]) for row in rows] == [
        *[("forward", "sender"), ("forward", "receiver")],
        *[("reverse", "sender"), ("reverse", "receiver")],
    ]


def test_every_row_is_in_the_file_when_its_interval_ends(tmp_path: Path) -> None:
    path, scene = tmp_path / "x.csv", forward()
    sink = CsvSink(lambda plan: CsvFile(path), pytest.fail)
    sink.start(scene.start)
    assert path.read_text().count("\n") == 1
    sink.interval(scene.intervals[0])
    assert path.read_text().count("\n") == 2
    sink.close()


def test_a_killed_process_leaves_complete_rows(tmp_path: Path) -> None:
    # SIGKILL runs no handler: only what was written after each interval is left.
    script = f"""
import os, signal
from pathlib import Path
from iperfpy.report.csv_report import CsvFile, CsvSink
from tests.iperfpy.report.scenes import parallel_interrupted
scene = parallel_interrupted()
sink = CsvSink(lambda plan: CsvFile(Path({str(tmp_path / "x.csv")!r})), print)
sink.start(scene.start)
sink.interval(scene.intervals[0])
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == -9
    text = (tmp_path / "x.csv").read_text()
    assert text.endswith("\n")
    assert len(list(csv.DictReader(text.splitlines()))) == 2


def test_an_old_file_is_replaced_by_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_text("yesterday\n")
    CsvFile(path).close()
    assert path.read_text() == "yesterday\n"
    file = CsvFile(path)
    file.row(["today"])
    file.close()
    assert path.read_text() == "today\n"


def test_a_new_file_without_rows_is_removed(tmp_path: Path) -> None:
    file = CsvFile(tmp_path / "new.csv")
    assert file.path.exists()
    file.close()
    file.close()
    assert not file.path.exists()


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_warning_and_the_test_goes_on() -> None:
    warnings: list[str] = []
    sink = CsvSink(lambda plan: CsvFile(FULL), warnings.append)
    forward().play(sink)
    assert sink.failed
    assert warnings == ["no more rows go to /dev/full: No space left on device; the test continues"]


def test_a_row_that_does_not_fit_is_removed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full after ten bytes of the second row."""
    file, write = CsvFile(tmp_path / "x.csv"), os.write
    assert file.row(["first"])

    # The first write is short, as on a disk that is nearly full; the next one fails.
    def write_until_full(descriptor: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:10])

    monkeypatch.setattr(os, "write", write_until_full)
    assert not file.row(["second row, longer than"])
    monkeypatch.undo()
    assert not file.row(["third"])
    file.close()
    assert (tmp_path / "x.csv").read_text() == "first\n"


def test_a_file_that_cannot_be_opened_is_a_warning(tmp_path: Path) -> None:
    warnings: list[str] = []
    sink = CsvSink(lambda plan: CsvFile(tmp_path), warnings.append)
    forward().play(sink)
    assert sink.failed
    assert warnings == [f"no rows are written: {tmp_path}: Is a directory; the test continues"]


def test_a_default_name_has_time_transport_and_direction(tmp_path: Path) -> None:
    plan = Plan("scene", SceneSettings(), Direction.REVERSE)
    files = [open_default(plan, 1_795_367_700, tmp_path / "results") for _ in range(3)]
    names = [file.path.name for file in files]
    assert re.fullmatch(r"\d{8}-\d{6}-scene-reverse\.csv", names[0])
    assert names[1:] == [names[0].replace(".csv", f"-{number}.csv") for number in (2, 3)]
    for file in files:
        file.close()


def test_only_gauges_have_a_spread() -> None:
    assert Metric("rtt_us", "", kind=Kind.GAUGE, spread=True).keys == (
        *("rtt_us", "rtt_us_min", "rtt_us_mean", "rtt_us_max"),
    )
    assert Metric("sent", "", spread=True).keys == ("sent",)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0, "0"),
        (0.0, "0"),
        (2.5, "2.5"),
        (1 / 3, "0.333333"),
        (float("nan"), ""),
        ("UP", "UP"),
        (10.0, "10"),
    ],
)
def test_a_field_is_empty_if_unknown_and_short_otherwise(value: int | float | str | None, text: str) -> None:
    assert field(value) == text


def test_the_reason_of_an_os_error_names_the_file_and_no_number() -> None:
    assert system_reason(PermissionError(13, "Permission denied", "/x")) == "/x: Permission denied"
    assert system_reason(OSError("odd")) == "odd"


def test_a_report_that_cannot_be_written_does_not_end_the_test() -> None:
    lost: list[OSError] = []

    # After the first failure the sink is not called again, although the test goes on.
    class Broken(CsvSink):
        calls = 0

        def start(self, start: object) -> None:
            Broken.calls += 1
            raise BrokenPipeError(32, "Broken pipe")

        def interval(self, rows: object) -> None:
            Broken.calls += 1

    record: Callable[[OSError], None] = lost.append
    forward().play(GuardedSink(Broken(lambda plan: pytest.fail("never"), print), record))
    assert (Broken.calls, [error.errno for error in lost]) == (1, [32])
