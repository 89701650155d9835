"""Readers of the studies, with documents of the product's own code.

Studies read the program's documents by their keys, and run seldom: here a renamed key fails at once.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iperfpy.diagnosis.finding import Cause
from iperfpy.lab.lateness import Lateness
from iperfpy.lab.run_report import RunReport
from iperfpy.protocols.registry import transports
from iperfpy.protocols.simulator.truth import Truth
from iperfpy.report import compare_document, diagnosis_document
from iperfpy.report.csv_columns import header
from iperfpy.report.csv_file import CsvFile
from iperfpy.report.csv_report import CsvSink
from iperfpy.report.json_report import JsonSink, JsonStreamSink
from tests.iperfpy.report import compare_scenes, diagnosis_scenes
from tests.iperfpy.report.scenes import bidirectional, forward
from tests.studies.abuse.figures import interval_bytes
from tests.studies.blind.lab_cases import LabCase
from tests.studies.blind.lab_run import LabRun, judge
from tests.studies.lab_check.instruments import lab_figures
from tests.studies.mtu.measure_one import SIZE
from tests.studies.odd_real.one_run import figures_of
from tests.studies.windows.program_output import (
    BIDIRECTIONAL,
    comparison_peaks,
    received_bytes,
    received_rates,
)
from tests.studies.windows.windows_python import packages


def loaded(document: Any) -> Any:
    return json.loads(json.dumps(document, allow_nan=False))


def test_windows_reads_the_rates_of_a_comparison() -> None:
    report = compare_scenes.whole(1)
    rates = comparison_peaks(loaded(compare_document.document(report)))
    assert set(rates) == {one.name for one in report.contenders}
    assert all(len(directions) == 2 and min(directions.values()) > 0 for directions in rates.values())


def test_windows_needs_no_steady_rate_but_no_error_either() -> None:
    report = compare_scenes.whole(1)
    short = replace(report.tests[0], steady_bits_per_second=None)
    failed = replace(report.tests[1], error="refused")
    document = compare_document.document(replace(report, tests=(short, failed)))
    peaks = comparison_peaks(loaded(document))
    assert peaks[short.contender][short.direction.value] > 0
    assert peaks[failed.contender][failed.direction.value] == 0


def test_windows_reads_the_rates_of_a_test() -> None:
    out = io.StringIO()
    bidirectional().play(JsonSink(out))
    document = json.loads(out.getvalue())
    assert received_rates(document, BIDIRECTIONAL) == pytest.approx([72e6, 40e6], rel=0.05)
    assert received_rates(document) == received_rates(document, BIDIRECTIONAL[:1])
    assert received_rates({"error": "refused"}, BIDIRECTIONAL) == [0, 0]


def test_windows_reads_the_sums_of_a_csv_file(tmp_path: Path) -> None:
    file = CsvFile(tmp_path / "one.csv", header())
    forward().play(CsvSink(file))
    file.close()
    assert received_bytes(tmp_path / "one.csv") == pytest.approx(3.5e6, rel=0.05)


def test_windows_has_every_package_that_the_program_needs() -> None:
    names = {one.split("=")[0].rstrip("><") for one in packages()}
    assert {"numpy", "click", "rich", "colorama"} <= names
    assert "uvloop" not in names


def test_the_odd_paths_read_the_receivers_intervals_of_a_test() -> None:
    out = io.StringIO()
    bidirectional().play(JsonSink(out))
    document = json.loads(out.getvalue())
    figures = figures_of(document, 0.0, whole=False)
    assert figures["rtt_ms"] is not None
    # The sum of the whole test has other seconds: the intervals were read.
    without = loaded({**document, "end": {}})
    assert figures_of(without, 0.0, whole=False) == figures


def test_the_blind_study_reads_a_diagnosis() -> None:
    report = diagnosis_scenes.whole()
    document = loaded(diagnosis_document.document(report))
    case = LabCase(1, ("queue",), "24M", 24e6, {})
    outcome = judge(case, document)
    up = report.directions[0].diagnosis
    assert outcome.capacity == up.capacity_bits_per_s
    assert {one.cause for one in up.findings} | {Cause.ASYMMETRY} == set(map(Cause, outcome.found))


def test_two_studies_read_the_labs_report(tmp_path: Path) -> None:
    report = RunReport("10M", 1, 2.0, 0, (Truth(), Truth()), 0, Lateness(), "late")
    file = tmp_path / "report"
    file.write_text(json.dumps(report.document()))
    assert lab_figures(file) == {"unclean": "late", "late_p99_us": 0.0}
    assert LabRun({}, json.loads(file.read_text())).unclean == "late"
    assert lab_figures(tmp_path / "none")["unclean"] == ""


def test_kcp_reports_the_size_of_datagrams_that_the_study_of_mtus_reads() -> None:
    for name in ("kcp", "kcp-bbr"):
        assert SIZE in {key for metric in transports()[name].metrics for key in metric.keys}


def test_the_study_of_abuse_reads_a_stream_of_intervals() -> None:
    out, scene = io.StringIO(), forward()
    first, *_ = scene.intervals
    replace(scene, intervals=(first,)).play(JsonStreamSink(out))
    counts = [interval_bytes(line) for line in out.getvalue().splitlines()]
    assert [count for count in counts if count is not None] == [first[0].local.bytes]
    assert interval_bytes('{"event": "int') is None
