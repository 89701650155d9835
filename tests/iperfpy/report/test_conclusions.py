"""What limited a test, in every report: two lines of text per direction, JSON, and back."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from importlib import resources

from jsonschema import Draft202012Validator

from iperfpy.diagnosis.finding import Cause, Confidence, Finding
from iperfpy.plan import Direction
from iperfpy.report.csv_columns import header
from iperfpy.report.json_report import JsonStreamSink
from iperfpy.report.terminal import Wording
from iperfpy.store.stored_run import Run
from tests.iperfpy.report.scenes import BOTH_CPU, Scene, SceneTransport, bidirectional, forward
from tests.iperfpy.report.test_json_report import document

POLICER = Finding(
    Direction.FORWARD,
    Cause.POLICER,
    Confidence.SURE,
    "a policer: 20.0 Mbit/s, burst 192 KiB",
    "7 of 7 checks",
    "kcp-bbr, which paces below the rate",
    {"rate_bits_per_s": 20_000_000, "burst_bytes": 196_608, "word": "x"},
    1.2,
)
JITTER = Finding(Direction.FORWARD, Cause.JITTER, Confidence.LIKELY, "delay that varies by 8 ms")
LINE = Finding(Direction.REVERSE, Cause.LINE, Confidence.LIKELY, "the path: 17.9 Mbit/s")
WORDS = ("Limited by", "Try:")


def _with(scene: Scene, *findings: Finding) -> Scene:
    return replace(scene, end=replace(scene.end, findings=findings, cpu_percent=BOTH_CPU))


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if any(word in line for word in WORDS)]


def test_the_first_finding_is_printed_below_the_summary_with_what_to_try() -> None:
    text = _with(forward(), POLICER, JITTER).text()
    assert _lines(text) == [
        "Limited by: a policer: 20.0 Mbit/s, burst 192 KiB (7 of 7 checks)",
        "Try: kcp-bbr, which paces below the rate",
    ]
    without = forward().text()
    assert not _lines(without)
    assert "\n".join(line for line in text.splitlines() if line not in _lines(text)) == without.rstrip("\n")


def test_each_direction_has_its_lines_if_both_run_at_once() -> None:
    assert _lines(_with(bidirectional(), POLICER, LINE).text()) == [
        "[TX-C] Limited by: a policer: 20.0 Mbit/s, burst 192 KiB (7 of 7 checks)",
        "[TX-C] Try: kcp-bbr, which paces below the rate",
        "[RX-C] Limited by: the path: 17.9 Mbit/s",
    ]


def test_the_lines_can_be_left_out_and_are_not_in_iperf3s_text() -> None:
    scene = _with(forward(), POLICER)
    assert not _lines(replace(scene, wording=Wording(verdict=False)).text())
    assert not _lines(scene.iperf3_text())


def test_json_has_all_findings_and_gives_them_back() -> None:
    scene = _with(bidirectional(), POLICER, JITTER, LINE)
    report = document(scene)
    schema = json.loads((resources.files("iperfpy.report") / "schema.json").read_text())
    Draft202012Validator(schema).validate(report)
    assert [one["cause"] for one in report["diagnosis"]] == ["policer", "jitter", "line"]
    assert report["diagnosis"][0]["evidence"] == POLICER.evidence
    again = Run.from_document(report, transport=SceneTransport())
    assert again.diagnosis == (POLICER, JITTER, LINE)
    assert again.evidence == ()
    assert "diagnosis" not in document(forward())


def test_the_schema_has_every_cause_and_confidence() -> None:
    schema = json.loads((resources.files("iperfpy.report") / "schema.json").read_text())
    keys = schema["$defs"]["finding"]["properties"]
    assert keys["cause"]["enum"] == [cause.value for cause in Cause]
    assert keys["confidence"]["enum"] == [each.value for each in Confidence]


def test_a_json_stream_has_an_event_for_the_findings() -> None:
    out = io.StringIO()
    _with(forward(), POLICER).play(JsonStreamSink(out))
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [one["event"] for one in events][-2:] == ["diagnosis", "end"]
    assert events[-2]["data"][0]["sentence"] == POLICER.sentence


def test_csv_has_no_column_for_it() -> None:
    assert not [name for name in header() if "diagnosis" in name]
