"""A diagnosis as text and as a document."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from iperfpy.diagnosis.bufferbloat import Bufferbloat
from iperfpy.diagnosis.evidence import DirectionEvidence, IdlePath, Rung
from iperfpy.diagnosis.finding import SURENESS, Cause, Confidence
from iperfpy.diagnosis.path_report import PathReport
from iperfpy.errors import DocumentError
from iperfpy.protocols.path_evidence import PathEvidence
from iperfpy.report import diagnosis_document
from iperfpy.report.diagnosis_text import STYLES, lines, rates
from tests.iperfpy.report.diagnosis_scenes import SCENES, UP, golden, nothing, run, text, udp_differs, whole

SCHEMA = json.loads((resources.files("iperfpy") / "report" / "diagnosis_schema.json").read_text())


def document(report: PathReport) -> dict[str, Any]:
    loaded = json.loads(json.dumps(diagnosis_document.document(report), allow_nan=False))
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.parametrize(("path", "expected"), list(golden()), ids=lambda value: getattr(value, "stem", ""))
def test_texts_match_the_golden_files(path: Path, expected: str) -> None:
    """Accept a change by: python -m tests.iperfpy.report.diagnosis_scenes"""
    assert expected == path.read_text()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_folds_long_lines_under_their_column(width: int) -> None:
    folded = text(whole(), width).splitlines()
    assert max(map(len, folded)) <= max(width, 70)
    assert " ".join(text(whole(), width).split()) == " ".join(text(whole()).split())


def test_the_first_line_of_a_direction_has_rate_cause_and_confidence() -> None:
    up = next(line for line in text(whole()).splitlines() if line.startswith("up "))
    assert up.split("  ")[0] == "up"
    assert "20.5 of 24.0 Mbit/s" in up
    assert up.endswith("(sure)")


@pytest.mark.parametrize(
    ("carried", "capacity", "letter", "expected"),
    [
        (17.7e6, 20e6, "", "17.7 of 20.0 Mbit/s"),
        (950e3, 1.2e6, "", "950 kbit/s of 1.20 Mbit/s"),
        (950e3, 1.2e6, "k", "950 of 1200 kbit/s"),
        (None, 20e6, "", "20.0 Mbit/s"),
        (17.7e6, None, "", "17.7 Mbit/s"),
        (21e6, 20e6, "", "20.0 Mbit/s"),
        (9e9, 2e9, "", "9.00 Gbit/s"),
        (None, None, "", "rate not known"),
    ],
)
def test_rates(carried: float | None, capacity: float | None, letter: str, expected: str) -> None:
    assert rates(carried, capacity, letter) == expected


def test_a_grade_has_its_number_and_the_letter_of_the_worse_direction() -> None:
    assert "bufferbloat C (+139 ms up, +2.2 ms down)" in text(whole())


def test_without_a_full_load_there_is_no_letter() -> None:
    report = whole()
    up, down = report.directions
    reason = Bufferbloat(reason="the load did not reach 80 % of the path's rate")
    one = replace(up, diagnosis=replace(up.diagnosis, bufferbloat=reason))
    shown = text(replace(report, directions=(one, down)))
    assert f"bufferbloat A+ (+2.2 ms down); up: no grade, {reason.reason}" in shown
    assert "bufferbloat up: no grade" in text(replace(report, directions=(one,)))


def test_udp_beside_tcp_has_a_conclusion_or_only_its_figures() -> None:
    shown = text(whole())
    assert "up: UDP and TCP are treated alike (" in shown
    assert "down: UDP beside TCP: tcp bbr 17.9 Mbit/s, kcp-bbr 17.7 Mbit/s, udp at 16.1 Mbit/s loses" in shown


def test_a_difference_that_was_found_is_not_denied() -> None:
    shown = text(udp_differs())
    assert "UDP is treated differently" in shown
    assert "beside TCP" not in shown


def test_the_other_address_family_is_said_to_be_unchecked() -> None:
    assert text(whole()).rstrip().endswith("IPv6; other ports")
    assert text(udp_differs()).rstrip().endswith("IPv4; other ports")


def test_every_confidence_has_a_word() -> None:
    assert set(SURENESS) == set(STYLES) == set(Confidence)


def test_styles_are_known_to_the_screen() -> None:
    from iperfpy.report.screen import STYLES

    used = {style for scene in SCENES.values() for line in lines(scene()) for _, style in line}
    assert used <= {*STYLES, ""}


# -- the document


@pytest.mark.parametrize("scene", [*SCENES.values(), nothing], ids=lambda scene: scene.__name__)
def test_documents_follow_the_schema(scene: Any) -> None:
    Draft202012Validator(SCHEMA).validate(document(scene()))


def test_the_schema_knows_every_cause_and_confidence() -> None:
    finding = SCHEMA["$defs"]["finding"]["properties"]
    assert set(finding["cause"]["enum"]) == {cause.value for cause in Cause}
    assert set(finding["confidence"]["enum"]) == {confidence.value for confidence in Confidence}


@pytest.mark.parametrize("key", ["diagnosis", "idle", "directions", "end", "not_checked"])
def test_the_schema_refuses_a_document_without(key: str) -> None:
    report = document(whole())
    del report[key]
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate(report)


def test_a_document_has_each_finding_with_its_evidence() -> None:
    report = document(whole())
    assert [(one["direction"], one["cause"]) for one in report["diagnosis"]] == [
        ("forward", "queue"),
        ("reverse", "policer"),
        ("reverse", "noise"),
        ("reverse", "asymmetry"),
    ]
    assert report["diagnosis"][1]["evidence"] == {"rate_bits_per_s": 20e6, "burst_bytes": 192_000}
    assert report["diagnosis"][1]["promise"] == 1.2
    assert "error" not in report
    up = report["directions"][0]
    assert up["rounds"][0][0]["path"][0]["limited_us"] == {"pacing": 3_100_000}
    assert len(up["rounds"]) == 3


def test_an_early_end_is_an_error_and_a_users_one_an_interrupt() -> None:
    report = udp_differs()
    assert document(report)["error"] == "the server closed the control connection unexpectedly"
    assert document(replace(report, stopped=True))["error"].startswith("interrupt - ")


def test_figures_that_json_cannot_hold_become_null() -> None:
    report = whole()
    one = replace(report.directions[0].diagnosis, capacity_bits_per_s=math.nan)
    changed = replace(report, directions=(replace(report.directions[0], diagnosis=one),))
    assert document(changed)["directions"][0]["capacity_bits_per_s"] is None


@pytest.mark.parametrize("scene", [*SCENES.values(), nothing], ids=lambda scene: scene.__name__)
def test_a_document_is_read_back(scene: Any) -> None:
    written = document(scene())
    read = diagnosis_document.read(written)
    assert document(read) == written
    assert text(read, 80) == text(scene(), 80)


def test_the_reader_knows_every_field_of_the_evidence() -> None:
    """Each value differs from the default that a forgotten field would have."""
    path = PathEvidence(
        *(None, 2, 3, 170e3, {"p50": 171e3}, 0.1, 5e3, 4e3, 20e6, 0.2, 7, 8e3, {"pacing": 9}, 1428),
        extra={"kernel_drops": 1},
    )
    measured = replace(
        run("kcp", UP, 1e6, 2e6),
        path=(path,),
        block_bytes=1400,
        over_udp=False,
        window_flags=("--kcp-sndwnd", "--kcp-rcvwnd"),
        windows=(512, 1024),
        kernel_drops=4,
        same_host=True,
    )
    rung = Rung(20e6, 1428, 1.5, 2626, 2600, {"p50": 171e3}, None, 1, 2, 3, 4, 5)
    idle = IdlePath({"p50": 170e3}, 1500, 9000, 15, 4e3)
    evidence = DirectionEvidence(UP, idle, (rung,), ((measured,),))
    one = replace(whole().directions[0], evidence=evidence)
    report = replace(whole(), idle=idle, directions=(one,), both_ways=(), quick=True, budget_bytes=5)
    assert diagnosis_document.read(document(report)) == report


@pytest.mark.parametrize(
    ("key", "value"),
    [("rounds", [1]), ("rungs", [{}]), ("direction", "sideways"), ("alike", 1), ("capacity_bits_per_s", "x")],
)
def test_a_damaged_document_is_one_sentence(key: str, value: Any) -> None:
    damaged = document(whole())
    damaged["directions"][0][key] = value
    with pytest.raises(DocumentError, match=r"^it is not the document of a diagnosis: "):
        diagnosis_document.read(damaged)
