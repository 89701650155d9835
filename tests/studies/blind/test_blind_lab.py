"""The cases of the lab part, and the verdict on a document, without a lab."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from iperfpy.diagnosis.finding import Cause
from iperfpy.protocols.simulator.path_language import parse
from tests.open_ports import open_ports
from tests.studies import record
from tests.studies.blind import lab_part, rows, verdicts
from tests.studies.blind.__main__ import LAB
from tests.studies.blind.drawing import FAIR_QUEUE_RTTS, FAIR_QUEUE_US, draw
from tests.studies.blind.lab_cases import FASTEST, PARTS, LabCase, cases, drawn, part, reason_to_skip
from tests.studies.blind.lab_run import LabRun, judge, run_clean
from tests.studies.blind.outcome import Outcome

SEEDS = range(2001, 2101)
CASE = LabCase(
    1, ("policer",), "10M", 10e6, {Cause.POLICER: {"rate_bits_per_s": 10e6, "burst_bytes": 50_000.0}}
)


def finding(cause: str, direction: str, **evidence: float) -> dict[str, Any]:
    return {
        "cause": cause,
        "direction": direction,
        "sentence": cause,
        "because": "",
        "evidence": evidence,
    }


def document(*findings: dict[str, Any], capacity: float | None = 10.1e6) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "capacity_bits_per_s": capacity,
        "capacity_error_bits_per_s": 1e4,
        "rungs": [],
        "rounds": [],
    }
    directions = [{"direction": way, **figures} for way in ("reverse", "forward")]
    return {"diagnosis": list(findings), "directions": directions}


def test_a_drawn_path_reads_back_as_the_simulated_one() -> None:
    paths = [draw(seed) for seed in SEEDS]
    runnable = [path for path in paths if not reason_to_skip(path)]
    assert runnable
    for path in runnable:
        case = drawn(path)
        there, back = parse(case.path)
        wanted = path.forward
        # The language rounds a time to a nanosecond.
        for name in ("rate_bits_per_s", "delay_us", "jitter_us", "loss", "reorder", "police_bits_per_s"):
            assert (getattr(there, name) or 0.0) == pytest.approx(getattr(wanted, name) or 0.0), name
        for name in ("buffer_bytes", "bucket_bytes", "maxlen"):
            assert getattr(there, name) == getattr(wanted, name), name
        for name in ("bursts", "second_way", "lumps", "codel", "rate_walk"):
            assert (getattr(there, name) is None) == (getattr(wanted, name) is None), name
        assert back.rate_bits_per_s == pytest.approx(path.back.get("rate_bits_per_s", path.rate))
        assert (back.lumps is None) == (path.backward.lumps is None)
        assert case.truth == path.truth


def test_skipped_paths_are_counted_by_reason() -> None:
    found, skipped = cases(SEEDS)
    assert sum(skipped.values()) + len(found) - len(SEEDS) == len(SEEDS)  # a part for each seed
    assert len(skipped) == 4
    assert all(case.rate <= FASTEST for case in found)


def test_parts_may_be_of_fewer_seeds_than_paths() -> None:
    every, some = cases(SEEDS)[0], cases(SEEDS, 3)[0]
    assert len(every) - len(some) == len(SEEDS) - 3
    assert [case for case in every if case not in some] == [part(seed) for seed in SEEDS[3:]]


def test_every_part_has_a_line_whose_queue_is_no_cause() -> None:
    parts = [part(seed) for seed in LAB]
    assert Counter(case.kinds[0] for case in parts) == dict.fromkeys(PARTS, 8)
    for case in parts:
        there, back = parse(case.path)
        assert there == back
        assert there.rate_bits_per_s is not None
        assert there.buffer_bytes is not None
        fair_us = max(FAIR_QUEUE_US, FAIR_QUEUE_RTTS * 2 * there.delay_us)
        assert there.buffer_bytes * 8e6 / there.rate_bits_per_s <= fair_us


def test_a_test_whose_application_is_slow_is_judged_by_its_own_document() -> None:
    case = next(one for one in map(part, SEEDS) if one.feeder)
    assert "head -c" in case.program
    assert "diagnose" not in case.program
    one = judge(case, {"diagnosis": [finding("application", "forward", share=0.8)]})
    assert not one.missed | one.invented
    assert not verdicts.cannot_tell([one])


def test_only_the_direction_towards_the_far_end_is_judged() -> None:
    one = judge(
        CASE,
        document(
            finding("policer", "forward", rate_bits_per_s=10.1e6, burst_bytes=52_000),
            finding("noise", "reverse", share=0.1),
        ),
    )
    assert not one.missed | one.invented
    assert [error.met for _, errors in verdicts.ERRORS.values() for error in errors([one])] == [True] * 3
    assert one.kinds == ["lab", "policer"]
    wrong = judge(CASE, document(finding("noise", "forward", share=0.1, error=0.01), capacity=None))
    assert (wrong.missed, wrong.invented) == ({"policer"}, {"noise"})
    assert verdicts.cannot_tell([wrong]) == [wrong]
    assert "lab+policer (1)" in rows.confusion([wrong]).text()


@pytest.mark.parametrize(("unclean", "runs"), [((), 1), (("late",), 2), (("late", "late"), 2)])
def test_a_disturbed_run_is_repeated_once(unclean: tuple[str, ...], runs: int) -> None:
    results = iter([*(LabRun({}, {"unclean": reason}) for reason in unclean), LabRun({}, {"unclean": ""})])
    run, count = run_clean(CASE, lambda case: next(results))
    assert count == runs
    assert bool(run.unclean) == (len(unclean) == 2)


def test_a_run_that_was_disturbed_twice_is_kept_and_gives_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = next(one for one in map(part, SEEDS) if not one.feeder)
    right = document(*(finding(str(cause), "forward", share=1.0) for cause in case.truth))
    runs = {"clean": LabRun(right, {"unclean": ""}), "late": LabRun(right, {"unclean": "late"})}
    options = argparse.Namespace(
        out=tmp_path, name="lab", show=False, minutes=None, seeds=range(2002, 2003), fresh=False, parts=None
    )
    for name, known in (("late", 0), ("clean", 1)):
        monkeypatch.setattr(lab_part, "cases", lambda seeds, parts: ([case], {}))
        monkeypatch.setattr(lab_part, "run_clean", lambda case, run=runs[name]: (run, 1))
        options.name = name
        outcomes = lab_part.measure(options)
        assert len(outcomes) == known
        assert len(list(record.read_lines(tmp_path / f"{name}.jsonl"))) == 1
        # A record is not measured again.
        monkeypatch.setattr(lab_part, "run_clean", None)
        assert lab_part.measure(options) == outcomes
        assert all(isinstance(one, Outcome) for one in outcomes)


def test_a_server_is_slow_once_it_listens(tmp_path: Path) -> None:
    table = tmp_path / "tcp6"
    table.write_text("sl local rem st\n 0: 0100007F:1451 00000000:0000 01 ...\n")
    assert open_ports("tcp", tmp_path) == set()
    table.write_text("sl local rem st\n 0: 0100007F:1451 00000000:0000 0A ...\n")
    assert open_ports("tcp", tmp_path) == {0x1451}
