"""A comparison as text, as a document and as CSV."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from iperfpy.comparison.comparison_report import ComparisonReport, ContenderFacts
from iperfpy.diagnosis.finding import Cause, Confidence, Finding
from iperfpy.errors import DocumentError
from iperfpy.report.compare_csv import header, rows
from iperfpy.report.compare_document import about, document, read
from iperfpy.report.compare_text import lines, rules
from iperfpy.report.screen import STYLES
from iperfpy.store.run_index import COMPARE, time_text
from tests.iperfpy.report.compare_scenes import (
    KCP,
    KCP_BBR,
    SCENES,
    TCP_BBR,
    UP,
    golden,
    measured,
    nothing,
    stock,
    text,
    whole,
)

SCHEMA = json.loads((resources.files("iperfpy") / "report" / "compare_schema.json").read_text())
EVERY = [*SCENES.values(), nothing]


@pytest.mark.parametrize(("path", "expected"), list(golden()), ids=lambda value: getattr(value, "stem", ""))
def test_texts_match_the_golden_files(path: Path, expected: str) -> None:
    """Accept a change by: python -m tests.iperfpy.report.compare_scenes"""
    assert expected == path.read_text()


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_a_narrow_terminal_gets_more_tables_and_no_less_columns(width: int) -> None:
    narrow, wide = text(whole(), width), text(whole())
    assert max(map(len, narrow.splitlines())) <= width
    for title in ("steady", "interval", "start-up", "RTT", "bloat", "resent", "in vain", "lost", "P99"):
        assert len(re.findall(title, narrow)) >= len(re.findall(title, wide)) > 0


def test_a_long_name_has_a_line_of_its_own() -> None:
    long = ContenderFacts("kcp sndwnd=512 rcvwnd=512 mtu=1200", "kcp")
    report = replace(whole(1, (TCP_BBR,)), contenders=(TCP_BBR, long), tests=(measured(long, UP, 1, 1e7),))
    shown = text(report, 80).splitlines()
    place = next(place for place, line in enumerate(shown) if long.name in line)
    assert shown[place].split() == ["up", *long.name.split()]
    assert "10.0" in shown[place + 1]
    assert max(map(len, shown)) <= 80


def test_settings_that_a_name_does_not_tell_stand_below_the_table_and_in_the_csv() -> None:
    """As after `--set kcp:kcp-fec=10:3`: two comparisons must not look alike."""
    report = whole(1, (TCP_BBR, KCP))
    kcp = replace(KCP, settings={"fec": "10:3", "push": True})
    told = replace(report, contenders=(TCP_BBR, kcp))
    assert "Settings:" not in text(report)
    assert "Settings: kcp with fec=10:3 push=on\n" in text(told)
    assert "Settings: kcp with fec=10:3 push=on" in rules(told)
    name, settings = (header().index(title) for title in ("contender", "settings"))
    assert {row[name]: row[settings] for row in rows(told)} == {
        "tcp bbr": "congestion=bbr",
        "kcp": "fec=10:3 push=on",
    }


@pytest.mark.parametrize(
    ("seconds", "told"), [(6.8, ""), (4.4, ""), (4.38, ""), (3.7, "only 0.3 to 3.4 s are left")]
)
def test_a_short_steady_part_is_named(seconds: float, told: str) -> None:
    """A hole of the start-up that is filled in it makes the path look faster than it is."""
    report = whole()
    tests = (replace(report.tests[0], seconds=seconds), *report.tests[1:])
    shown = " ".join(text(replace(report, tests=tests)).split())
    assert told in shown
    assert ("are left of each test" in shown) is bool(told)


def test_the_start_up_is_the_measured_one_and_not_the_planned_one() -> None:
    """A budget ends tests before their planned length."""
    report = whole(2)
    tests = tuple(replace(one, seconds=0.7, steady_from_s=0.44) for one in report.tests)
    shown = text(replace(report, tests=tests, budget_bytes=20_000_000))
    assert "payload after the first 0.4 s of each test" in shown
    assert "a larger --budget gives better rates" in shown
    none = tuple(replace(one, steady_bits_per_second=None, seconds=0.7) for one in report.tests)
    shown = text(replace(report, tests=none))
    assert "steady: payload" not in shown


def test_few_tests_have_a_range_and_a_note() -> None:
    shown = text(whole(2))
    assert "range of fewer than 6 tests" in shown
    assert "95 %  " not in shown
    assert "[" not in shown
    assert "range of fewer" not in text(whole(7))


def test_a_difference_below_half_a_percent_has_no_sign() -> None:
    tests = (measured(TCP_BBR, UP, 1, 10e6), measured(KCP_BBR, UP, 1, 9.98e6))
    shown = text(replace(whole(1, (TCP_BBR, KCP_BBR)), tests=tests))
    assert "(0 %)" in shown
    assert "-0" not in shown


def test_equal_contenders_have_a_mark() -> None:
    row = next(line for line in text(whole(7)).splitlines() if line.split()[:1] == ["kcp-bbr"])
    assert "~" in row.split()


@pytest.mark.parametrize(("bits", "unit"), [(40e3, "kbit/s"), (40e6, "Mbit/s"), (40e9, "Gbit/s")])
def test_the_unit_follows_the_fastest_contender(bits: float, unit: str) -> None:
    report = replace(whole(1, (TCP_BBR,)), tests=(measured(TCP_BBR, UP, 1, bits),))
    assert unit in text(report)
    assert "MiB/s" in text(report, letter="M")


def test_styles_are_known_to_the_screen() -> None:
    used = {style for scene in EVERY for line in lines(scene()) for _, style in line}
    assert used <= {*STYLES, ""}


def test_a_limit_of_the_best_contender_is_shown() -> None:
    assert "Limited down by: a policer: 20.0 Mbit/s, burst 192 KB (kcp-bbr)" in text(whole())


def test_tests_that_met_the_limit_of_a_machine_are_counted() -> None:
    report = whole(2)
    slow = Finding(UP, Cause.PROCESSOR, Confidence.LIKELY, "the sender's program, which did not run")
    first, *others = report.tests
    shown = text(replace(report, tests=(replace(first, limit=slow), *others)))
    sentence = "tcp bbr: 1 of 4 tests met the limit of a machine, not of the path (the sender's program"
    assert sentence in shown
    assert "limit of a machine" not in text(report)


# -- the document


@pytest.mark.parametrize("scene", EVERY, ids=lambda scene: scene.__name__)
def test_documents_follow_the_schema_and_are_read_back(scene: Any) -> None:
    report = scene()
    stored = json.loads(json.dumps(document(report), allow_nan=False))
    Draft202012Validator(SCHEMA).validate(stored)
    assert read(stored) == report
    assert text(read(stored), 80) == text(report, 80)


@pytest.mark.parametrize("key", SCHEMA["required"])
def test_the_schema_refuses_a_document_without(key: str) -> None:
    made = document(whole(1))
    del made[key]
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate(made)


def test_a_users_end_is_an_interrupt() -> None:
    report = replace(whole(2), error="the client has terminated by signal Interrupt(2)", stopped=True)
    made = document(report)
    assert made["error"].startswith("interrupt - ")
    assert read(made) == report


def test_figures_that_json_cannot_hold_become_null() -> None:
    odd = replace(measured(TCP_BBR, UP, 1, 1e6), wire_per_payload=math.inf)
    made = document(replace(whole(1, (TCP_BBR,)), tests=(odd,)))
    assert made["tests"][0]["wire_per_payload"] is None


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.pop("start"),
        lambda made: made["tests"][0].update(direction="sideways"),
        lambda made: made["tests"][0].update(target_bits_per_second=None),
        lambda made: made["start"].update(unix_time=1e12),
        lambda made: made["tests"][0]["series"].update(end_s=["soon"]),
        lambda made: made["messages"][0].update(round_trip_us=[1.5]),
        lambda made: made["messages"][0].pop("round_trip_us"),
        lambda made: made["start"].update(contenders=[{"name": 7}]),
        lambda made: made.update(tests="none"),
    ],
)
def test_a_spoilt_document_is_refused_with_a_sentence(change: Any) -> None:
    made = json.loads(json.dumps(document(whole(1))))
    change(made)
    with pytest.raises(DocumentError, match="it is not the document of a comparison: "):
        read(made)


def test_the_index_has_the_best_of_each_direction() -> None:
    facts = about(whole(7))
    assert facts.kind == COMPARE
    assert facts.summary == "up tcp bbr 22.6 Mbit/s; down kcp-bbr 18.4 Mbit/s"
    assert facts.headline["reverse_best"] == "kcp-bbr"
    assert about(nothing()).error


# -- CSV


def table(report: ComparisonReport) -> list[dict[str, str]]:
    """The rows of the CSV by title."""
    return [dict(zip(header(), cells, strict=True)) for cells in rows(report)]


def test_a_row_for_each_test_with_a_cell_for_each_title() -> None:
    report = whole(1)
    found = table(report)
    first = next(row for row in found if row["type"] == "bulk")
    assert len(found) == len(report.tests) + len(report.messages)
    assert first["contender"] == "tcp bbr"
    assert first["direction"] == "forward"
    assert float(first["steady_bits_per_second"]) == report.tests[0].steady_bits_per_second
    assert (first["in_vain_percent"], first["answered"], first["p50_us"]) == ("", "", "")
    assert first["time"] == time_text(report.unix_time)


def test_the_messages_of_a_round_are_a_row_at_their_time() -> None:
    report = whole(1)
    trips = (*range(40_000, 40_190), 500_000)
    one = replace(report.messages[0], started_s=12.0, round_trip_us=trips)
    found = table(replace(report, messages=(one,)))
    assert [float(row["started_s"]) for row in found] == sorted(float(row["started_s"]) for row in found)
    (row,) = [row for row in found if row["type"] == "messages"]
    assert {key: row[key] for key in ("contender", "direction", "round", "time")} == {
        "contender": "tcp bbr",
        "direction": "bidirectional",
        "round": "1",
        "time": time_text(report.unix_time),
    }
    assert (row["size_bytes"], row["messages_per_s"]) == ("100", "100")
    assert (row["due"], row["sent"], row["answered"]) == ("200", "200", "191")
    assert (row["min_us"], row["p50_us"], row["max_us"]) == ("40000", "40095.0", "500000")
    assert (row["p99_us"], row["steady_bits_per_second"], row["limit"]) == ("", "", "")
    assert float(row["slowest_us"]) == pytest.approx((500_000 + sum(range(40_181, 40_190))) / 10)
    assert float(row["late_percent"]) == pytest.approx(5.0)  # 9 lost, 1 above 200 ms
    assert float(row["lost_percent"]) == pytest.approx(4.5)
    assert float(row["wire_ratio"]) == pytest.approx(90_000 / (100 * (200 + 191)))


def test_a_failed_test_has_its_sentence_in_the_csv() -> None:
    last = table(stock())[-1]
    assert last["error"].startswith("cannot connect")
    assert last["steady_bits_per_second"] == ""
    report = whole(1)
    failed = replace(report.messages[0], error="no message was answered", round_trip_us=())
    row = next(row for row in table(replace(report, messages=(failed,))) if row["type"] == "messages")
    assert (row["error"], row["answered"], row["max_us"]) == ("no message was answered", "0", "")
