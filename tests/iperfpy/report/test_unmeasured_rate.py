"""A rate over a time that is too short to be measured is empty in every report, and zero bytes are a zero."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

from iperfpy.records import Row, RunEnded
from iperfpy.report.csv_columns import header
from iperfpy.report.csv_file import CsvFile
from iperfpy.report.csv_report import CsvSink
from iperfpy.report.json_report import JsonSink
from iperfpy.report.screen import PlainScreen
from iperfpy.report.terminal import TextSink
from tests.iperfpy.report.scenes import Scene, forward, receiver, sender

WARNING = "stream 1: the counts do not fit together"


def short() -> Scene:
    """The sender measured a second, the receiver 0.005 s."""
    row = Row(1, sender(1, 0, 1, 0), receiver(1, 0, 0.005, 3.5))
    end = RunEnded((row,), {}, "too short for a rate", failed=True, warnings=(WARNING,))
    return replace(forward(), intervals=((row,),), end=end)


def test_the_table_has_a_dash() -> None:
    out, errors = io.StringIO(), io.StringIO()
    short().play(TextSink(PlainScreen(out), errors))
    lines = [line.split() for line in out.getvalue().splitlines()]
    rates = {line[-1]: line[4] for line in lines if line and line[-1] in ("sender", "receiver")}
    assert rates["receiver"] == "-"
    assert f"iperfpy: warning - {WARNING}" in errors.getvalue()
    assert "iperfpy: error - too short for a rate" in errors.getvalue()
    assert "Done" not in out.getvalue()


def test_json_has_null() -> None:
    out = io.StringIO()
    sink = JsonSink(out)
    short().play(sink)
    document = json.loads(out.getvalue())
    assert document["end"]["sum_received"]["bits_per_second"] is None
    assert document["end"]["sum_sent"]["bits_per_second"] == 0
    assert document["end"]["warnings"] == [WARNING]
    assert document["error"] == "too short for a rate"


def test_csv_has_an_empty_cell(tmp_path: Path) -> None:
    file = CsvFile(tmp_path / "rows.csv", header())
    short().play(CsvSink(file))
    file.close()
    with (tmp_path / "rows.csv").open(newline="") as stream:
        rows = {row["type"]: row for row in csv.DictReader(stream)}
    assert rows["sum"]["bits_per_second"] == rows["sum"]["receiver_bits_per_second"] == ""
    assert rows["sum"]["sender_bits_per_second"] == "0"
    assert WARNING in rows["sum"]["warnings"]
    assert rows["error"]["error"] == "too short for a rate"
