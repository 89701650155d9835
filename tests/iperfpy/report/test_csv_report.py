"""CSV reports: types of rows, their columns, and the figures of both ends in one row."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pandas
import pytest

from iperfpy.errors import system_reason
from iperfpy.options import ClientOptions
from iperfpy.protocols.metrics import Kind, Metric, Side
from iperfpy.protocols.registry import BUILT_IN, transports
from iperfpy.records import Row, RunEnded, Sample
from iperfpy.report.csv_columns import ABOUT, PLUGIN, cells, field, header
from iperfpy.report.csv_file import CsvFile
from iperfpy.report.csv_report import CsvSink, about_client
from iperfpy.report.guarded_sink import GuardedSink
from tests.iperfpy.report.scenes import (
    Scene,
    bidirectional,
    forward,
    parallel_interrupted,
    reverse_omit,
    server,
    start_of,
)


def rows_of(scene: Scene, path: Path) -> list[dict[str, str]]:
    """Write the scene to a CSV, with a fixed date and quarters of a second as the monotonic clock."""
    ticks = iter(range(1000))
    file = CsvFile(path, header())
    scene.play(CsvSink(file, None, lambda: 1_795_367_700.25, lambda: next(ticks) / 4))
    file.close()
    return read(path)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def filled(row: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in row.items() if value}


def of_transport(name: str) -> Scene:
    """A test of that transport, in which every figure of the sender is 1 and of the receiver 2."""
    one = transports()[name]

    def sample(side: Side) -> Sample:
        values = {key: 1 + (side is Side.RECEIVER) for m in one.metrics if m.side is side for key in m.keys}
        return Sample(1, side, 0, 1_000_000, 125, values)

    row = Row(1, sample(Side.SENDER), sample(Side.RECEIVER))
    start = start_of()
    plan = replace(start.plan, transport=name, settings=one.settings())
    return Scene(replace(start, plan=plan, transport=one), ((row,),), RunEnded((row,), {}))


def test_there_is_a_row_per_stream_and_interval_and_a_typed_summary(tmp_path: Path) -> None:
    rows = rows_of(parallel_interrupted(), tmp_path / "x.csv")
    assert [(row["type"], row["stream"]) for row in rows] == [
        *[("interval", "1"), ("interval", "3")] * 2,
        *[("summary", "1"), ("summary", "3"), ("sum", "sum")],
        ("error", ""),
    ]
    assert {row["error"] for row in rows[:-1]} == {""}
    assert (
        [row["warnings"] for row in rows if row["warnings"]]
        == [rows[-2]["warnings"]]
        == ["the window was full"]
    )
    # An error's row names the test, and has no figures.
    assert filled(rows[-1]) == {
        "type": "error",
        "time": "2026-11-22T17:15:00.250+00:00",
        "monotonic_s": "1.750000",
        "test_id": "iperfpy-cookie",
        "role": "client",
        "host": "10.0.0.2",
        "port": "5201",
        "transport": "scene",
        "direction": "forward",
        "streams": "2",
        "error": "the client was stopped by SIGINT",
    }


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_transport_has_the_same_columns(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rows_of(of_transport("kcp-bbr"), path)
    rows = rows_of(of_transport(name), path)
    lines = path.read_text().splitlines()
    assert lines[0].split(",") == list(header())
    assert sum(line.startswith("type,") for line in lines) == 1
    # Every figure of this transport is in the one row of the result; the others are empty.
    last = filled(rows[-1])
    expected = {key for metric in transports()[name].metrics for key in metric.keys}
    assert expected == set(last) - (set(ABOUT) - expected)
    assert (last["type"], last["sender_bytes"], last["receiver_bits_per_second"]) == ("sum", "125", "1000")


def test_a_plug_in_changes_no_column(tmp_path: Path) -> None:
    row = rows_of(forward(), tmp_path / "x.csv")[-1]
    figures = json.loads(row.pop(PLUGIN))
    assert (figures["retransmits"], figures["duplicates"], figures["algorithm"]) == (11, 3, "bbr")
    assert (row["retransmits"], row["rtt_us"]) == ("", "")
    assert header()[-1] == PLUGIN


def test_pandas_reads_tests_of_every_transport_and_of_a_plug_in_from_one_file(tmp_path: Path) -> None:
    path = tmp_path / "tests.csv"
    for scene in (*map(of_transport, BUILT_IN), forward()):
        file = CsvFile(path, header())
        scene.play(CsvSink(file, None))
        file.close()
    rows = pandas.read_csv(path)
    assert tuple(rows.columns) == header()
    results = rows[rows.type == "sum"].set_index("transport")
    assert list(results.index) == [*BUILT_IN, "scene"]
    assert (results.bits_per_second > 0).all()
    *others, figures = results.iloc[:, -1]
    assert pandas.isna(others).all()
    assert json.loads(figures)["retransmits"] == 11


def test_a_cell_without_a_column_is_a_fault() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        cells({"nonsense": 1})


def test_a_test_that_did_not_start_is_a_row_with_its_server(tmp_path: Path) -> None:
    path, plan = tmp_path / "x.csv", replace(forward().start.plan, title="=night")
    sink = CsvSink(CsvFile(path, header()), about_client(plan, ClientOptions("far.example", 5300)))
    sink.error("cannot connect\nto it")
    (row,) = read(path)
    assert (row["type"], row["error"]) == ("error", "cannot connect?to it")
    assert (row["host"], row["port"], row["role"]) == ("far.example", "5300", "client")
    assert (row["transport"], row["test_id"]) == ("scene", "")


def test_every_row_has_the_common_columns(tmp_path: Path) -> None:
    first = rows_of(forward(), tmp_path / "x.csv")[0]
    assert datetime.fromisoformat(first["time"]).utcoffset() == timedelta(0)
    # The monotonic clock of the test begins with 0.
    assert {key: first[key] for key in ABOUT} == {
        "type": "interval",
        "time": "2026-11-22T17:15:00.250+00:00",
        "monotonic_s": "0.000000",
        "test_id": "iperfpy-cookie",
        "role": "client",
        "host": "10.0.0.2",
        "port": "5201",
        "title": "",
        "transport": "scene",
        "direction": "forward",
        "congestion": "",
        "streams": "1",
        "stream": "1",
        "side": "sender",
        "start": "0.000000",
        "end": "1.000300",
        "bytes": "3911188",
        "bits_per_second": "31280120",
        "omitted": "0",
        "sender_bytes": "3911188",
        "sender_bits_per_second": "31280120",
        "receiver_bytes": "",
        "receiver_bits_per_second": "",
    }


def test_a_result_is_one_row_with_the_figures_of_both_ends(tmp_path: Path) -> None:
    rows = [row for row in rows_of(forward(), tmp_path / "x.csv") if row["type"] != "interval"]
    assert [(row["type"], row["side"], row["bytes"], row["sender_bytes"]) for row in rows] == [
        ("summary", "receiver", "3670016", "3911188"),
        ("sum", "receiver", "3670016", "3911188"),
    ]
    # A stock peer names its congestion control once, in its results.
    assert [row["congestion"] for row in rows] == ["bbr", "bbr"]
    # Without the receiver's figures, the sender's are the result.
    (*_, last, _) = rows_of(parallel_interrupted(), tmp_path / "y.csv")
    assert (last["type"], last["side"], last["receiver_bytes"]) == ("sum", "sender", "")
    assert rows_of(server(), tmp_path / "z.csv")[-1]["sender_bytes"] == ""


def test_a_missing_figure_is_empty_and_a_zero_is_zero(tmp_path: Path) -> None:
    rows = rows_of(reverse_omit(), tmp_path / "x.csv")
    assert [row["omitted"] for row in rows[:3]] == ["1", "0", "0"]
    assert [row["sender_bytes"] for row in rows[1:3]] == ["2621440", ""]
    scene = of_transport("tcp")
    quiet = replace(scene.intervals[0][0].local, bytes=0, values={"retransmits": 0, "rtt_us": None})
    row = rows_of(replace(scene, intervals=((Row(1, quiet),),)), tmp_path / "y.csv")[0]
    assert (row["bytes"], row["retransmits"], row["rtt_us"]) == ("0", "0", "")


def test_a_bidirectional_test_has_a_sum_for_each_direction(tmp_path: Path) -> None:
    rows = [row for row in rows_of(bidirectional(), tmp_path / "x.csv") if row["type"] == "sum"]
    assert [(row["direction"], row["side"]) for row in rows] == [
        ("forward", "receiver"),
        ("reverse", "receiver"),
    ]


def test_every_row_is_in_the_file_when_its_interval_ends(tmp_path: Path) -> None:
    path, scene = tmp_path / "x.csv", forward()
    sink = CsvSink(CsvFile(path, header()))
    sink.start(scene.start)
    assert path.read_text() == ""
    sink.interval(scene.intervals[0])
    assert path.read_text().count("\n") == 2


def test_a_killed_process_leaves_complete_rows(tmp_path: Path) -> None:
    # SIGKILL runs no handler: only what was written after each interval is left.
    script = f"""
import os, signal
from pathlib import Path
from iperfpy.report.csv_columns import header
from iperfpy.report.csv_file import CsvFile
from iperfpy.report.csv_report import CsvSink
from tests.iperfpy.report.scenes import parallel_interrupted
scene = parallel_interrupted()
sink = CsvSink(CsvFile(Path({str(tmp_path / "x.csv")!r}), header()))
sink.start(scene.start)
sink.interval(scene.intervals[0])
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "x.csv").read_text().endswith("\n")
    assert len(read(tmp_path / "x.csv")) == 2


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


def test_a_report_that_cannot_be_written_does_not_end_the_test(tmp_path: Path) -> None:
    lost: list[Exception] = []

    # After the first failure the sink is not called again, although the test goes on.
    class Broken(CsvSink):
        calls = 0

        def start(self, start: object) -> None:
            Broken.calls += 1
            raise BrokenPipeError(32, "Broken pipe")

        def interval(self, rows: object) -> None:
            Broken.calls += 1

    forward().play(GuardedSink(Broken(CsvFile(tmp_path / "x.csv", header())), lost.append))
    assert (Broken.calls, [type(error) for error in lost]) == (1, [BrokenPipeError])


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", '=HYPERLINK("http://example.org")'])
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    assert f"'{text}" in cells({"title": text})
    assert f"'{text}" in cells({"error": text})


def test_numbers_and_other_text_get_none() -> None:
    assert [field(value) for value in (-1, -1.5, "cubic", "a=b", "")] == ["-1", "-1.5", "cubic", "a=b", ""]
