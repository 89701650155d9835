"""The document of `iperfpy latency`, read back."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from iperfpy.errors import DocumentError
from iperfpy.report import latency_csv
from iperfpy.report.latency_document import about, document, read
from iperfpy.report.latency_text import lines
from iperfpy.sampling.latency_report import LatencyReport
from tests.iperfpy.report.latency_scenes import latency_report

SCHEMA = json.loads((resources.files("iperfpy") / "report" / "latency_schema.json").read_text())


def printed(report: LatencyReport) -> Any:
    return json.loads(json.dumps(document(report), allow_nan=False))


@pytest.mark.parametrize(
    "report",
    [
        latency_report(),
        replace(latency_report(), error="the server went away", warnings=("a small buffer",)),
        replace(latency_report(), error="the client has terminated by signal SIGINT", stopped=True),
        LatencyReport("", 0, error="no server"),
    ],
    ids=["whole", "failed", "stopped", "nothing"],
)
def test_text_rows_and_document_are_those_of_the_report(report: LatencyReport) -> None:
    written = printed(report)
    Draft202012Validator(SCHEMA).validate(written)
    back = read(written)
    assert printed(back) == written
    assert list(lines(back, 80)) == list(lines(report, 80))
    assert list(latency_csv.rows(back)) == list(latency_csv.rows(report))
    assert (back.error, back.stopped, back.warnings) == (report.error, report.stopped, report.warnings)


def test_the_index_has_the_idle_messages() -> None:
    entry = about(latency_report())
    assert entry.headline["best"] == "kcp fast"
    assert "load" not in entry.headline
    assert entry.summary.startswith("kcp fast P")


def test_the_index_has_the_first_load_if_the_idle_path_was_left_out() -> None:
    report = latency_report()
    entry = about(replace(report, rows=report.rows[2:]))
    assert (entry.headline["best"], entry.headline["load"]) == ("kcp fast", "kcp up")
    assert entry.headline["p50_us"]
    assert entry.summary.startswith("under load: kcp fast P")
    assert (about(LatencyReport("", 0)).headline, about(LatencyReport("", 0)).summary) == ({}, "")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rounds", [{"sent": 1, "interval_us": 1.0, "repeated": 0, "round_trip_us": [2**32]}]),
        ("rounds", [{"sent": 1, "interval_us": 1.0, "repeated": 0, "round_trip_us": [1.5]}]),
        ("rounds", [{"sent": 1, "interval_us": 1.0, "repeated": 0}]),
        ("figures", {}),
        ("load", {"name": 1}),
        ("messages_per_s", 1e3),
    ],
)
def test_a_damaged_document_is_one_sentence(key: str, value: Any) -> None:
    damaged = printed(latency_report())
    damaged["rows"][0][key] = value
    with pytest.raises(DocumentError, match=r"^it is not the document of message latencies: "):
        read(damaged)


def test_the_guide_has_every_column_of_the_csv() -> None:
    page = (Path(__file__).parents[3] / "docs" / "latency.md").read_text()
    table = page.partition("\n## The CSV\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = [key for cell in cells for key in re.findall(r"`(\w+)`", cell)]
    assert named == latency_csv.header()


def test_settings_that_a_name_does_not_tell_stand_below_the_table_and_in_the_csv() -> None:
    report = latency_report()
    rows = tuple(replace(row, name="kcp", settings={"fec": "10:3"}) for row in report.rows)
    told = replace(report, rows=rows)
    shown = ["".join(part for part, _ in line) for line in lines(told)]
    assert shown[-1] == "Settings: kcp with fec=10:3"
    at = latency_csv.header().index("settings")
    assert {row[at] for row in latency_csv.rows(told)} == {"fec=10:3"}
