"""Two sides of diagnoses compared: sentences about causes and capacities."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from iperfpy.diagnosis.finding import Cause
from iperfpy.errors import DocumentError
from iperfpy.store.diagnosis_difference import NOUNS, DiagnosisChange, diagnosis_changes

Json = dict[str, Any]


def finding(cause: str, direction: str = "reverse", **evidence: float) -> Json:
    return {
        "direction": direction,
        "cause": cause,
        "confidence": "sure",
        "evidence": evidence,
        "sentence": f"a {cause}",
    }


def diagnosis(*findings: Json, capacity: float | None = None, error: float = 0.0) -> Json:
    directions = [
        {"direction": "reverse", "capacity_bits_per_s": capacity, "capacity_error_bits_per_s": error}
    ]
    return {"diagnosis": list(findings), "directions": directions}


def said(first: list[Json], second: list[Json], bound: float = 0.05) -> list[str]:
    return [f"{one.way}: {one.sentence}" for one in diagnosis_changes(first, second, bound)]


def test_a_cause_of_another_size() -> None:
    first = diagnosis(finding("policer", rate_bits_per_s=20e6))
    second = diagnosis(finding("policer", rate_bits_per_s=18e6))
    assert said([first], [second]) == ["down: the policer that was at 20.0 is at 18.0 Mbit/s now"]


def test_a_cause_that_went_and_one_that_came() -> None:
    first = diagnosis(finding("policer", rate_bits_per_s=20e6))
    second = diagnosis(finding("queue", "forward", delay_us=140_000))
    assert said([first], [second]) == ["down: the policer is gone (20.0 Mbit/s)", "up: new: a queue"]


@pytest.mark.parametrize(
    ("cause", "key", "before", "now", "sentence"),
    [
        ("queue", "delay_us", 140_000, 60_000, "the queue that was at 140 is at 60 ms now"),
        ("noise", "share", 0.01, 0.02, "the random loss that was at 1 is at 2 % now"),
        ("mtu", "mtu_bytes", 1500, 1280, "the packet size that was at 1500 is at 1280 bytes now"),
        (
            "bursts",
            "burst_bytes",
            20_480,
            2_048_000,
            "the small buffer that was at 20.0 KiB is at 1.95 MiB now",
        ),
        ("processor", "percent", 95, 60, "the processor that was at 95 is at 60 % now"),
    ],
)
def test_each_size_has_its_unit(cause: str, key: str, before: float, now: float, sentence: str) -> None:
    first, second = (diagnosis(finding(cause, "reverse", **{key: value})) for value in (before, now))
    (made,) = said([first], [second])
    assert made.removesuffix(" now") == f"down: {sentence.removesuffix(' now')}"


def test_a_change_within_the_bound_or_the_errors_is_none() -> None:
    first = diagnosis(finding("line", rate_bits_per_s=20e6, error_bits_per_s=1e6))
    for rate in (19.2e6, 18e6):
        second = diagnosis(finding("line", rate_bits_per_s=rate, error_bits_per_s=1e6))
        (change,) = diagnosis_changes([first], [second], 0.05)
        assert change == DiagnosisChange(
            "down", f"the line as before ({rate / 1e6:.1f} Mbit/s)", changed=False
        )


def test_a_capacity_is_worse_beyond_its_error_and_the_bound() -> None:
    first = diagnosis(capacity=20e6, error=0.2e6)
    for capacity, worse in ((19.3e6, False), (18e6, True), (22e6, False)):
        (change,) = diagnosis_changes([first], [diagnosis(capacity=capacity, error=0.2e6)], 0.05)
        assert change.worse is worse
    (change,) = diagnosis_changes([first], [diagnosis(capacity=18e6, error=2e6)], 0.05)
    assert not change.changed
    assert diagnosis_changes([first], [diagnosis()], 0.05) == ()


def test_of_several_diagnoses_most_decide() -> None:
    policed = [diagnosis(finding("policer", rate_bits_per_s=rate)) for rate in (19e6, 20e6, 21e6)]
    free = diagnosis()
    assert said([*policed[:2], free], [policed[1]]) == ["down: the policer as before (20.0 Mbit/s)"]
    assert said([policed[0], free], [free]) == []


def test_every_cause_has_a_noun() -> None:
    assert set(NOUNS) == set(Cause)


@pytest.mark.parametrize(
    "damage",
    [{"diagnosis": 1}, {"diagnosis": [{}]}, {"directions": None}, {"directions": [{"direction": "up"}]}],
)
def test_a_damaged_diagnosis_is_refused(damage: Json) -> None:
    document = copy.deepcopy(diagnosis(finding("line"), capacity=1.0))
    if damage.get("directions"):
        damage["directions"][0]["capacity_bits_per_s"] = 1.0
    with pytest.raises(DocumentError, match="the diagnosis cannot be read"):
        diagnosis_changes([document], [{**document, **damage}], 0.05)
