"""The JSON document of a diagnosis; `diagnosis_schema.json` describes it. Keys end with their unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from iperfpy.diagnosis.evidence import IdlePath, RunEvidence, Rung
from iperfpy.diagnosis.path_report import DirectionReport, PathReport
from iperfpy.protocols.path_evidence import PathEvidence
from iperfpy.report.experiment_document import Json, document_of
from iperfpy.store.finding_object import finding_object
from iperfpy.store.run_index import DIAGNOSE, About, path_signature

BINS = ("flight",)
"""Fields of the evidence that the document leaves out: thousands of numbers, for conclusions only."""


def document(report: PathReport) -> Json:
    """The whole diagnosis: JSON values only."""
    start: Json = {
        "address": report.address,
        "peer_is_iperfpy": report.peer_is_iperfpy,
        "quick": report.quick,
        "budget_bytes": report.budget_bytes,
    }
    results: Json = {
        "diagnosis": [finding_object(one) for one in report.findings],
        "idle": _record(report.idle),
        "directions": [_direction(one) for one in report.directions],
        "end": {"seconds": report.seconds, "sent_bytes": report.sent_bytes},
        "not_checked": list(report.not_checked),
    }
    return document_of(report, start, results)


def about(report: PathReport) -> About:
    """The facts of a diagnosis for the index of runs."""
    runs = [run for one in report.directions for tests in one.evidence.rounds for run in tests]
    headline: dict[str, float | str | None] = {"rtt_us": report.idle.rtt_us.get("p50")}
    for one in report.directions:
        headline[f"{one.direction.value}_capacity_bits_per_s"] = one.diagnosis.capacity_bits_per_s
        headline[f"{one.direction.value}_carried_bits_per_s"] = one.diagnosis.carried_bits_per_s
    # The first finding of a direction is the most limiting one.
    limits = [one.diagnosis.findings[0].sentence for one in report.directions if one.diagnosis.findings]
    return About(
        kind=DIAGNOSE,
        unix_time=report.unix_time,
        hosts=(report.host,),
        transports=tuple(dict.fromkeys(run.transport for run in runs)),
        directions=tuple(one.direction.value for one in report.directions),
        path=path_signature("", report.address),
        summary="; ".join(limits),
        headline=headline,
        version=report.version,
        error=report.error,
    )


def _direction(one: DirectionReport) -> Json:
    diagnosis, bloat = one.diagnosis, one.diagnosis.bufferbloat
    return {
        "direction": one.direction.value,
        "capacity_bits_per_s": diagnosis.capacity_bits_per_s,
        "capacity_error_bits_per_s": diagnosis.capacity_error_bits_per_s,
        "carried_bits_per_s": diagnosis.carried_bits_per_s,
        "bufferbloat": {
            "letter": bloat.letter,
            "increase_us": bloat.increase_us,
            "reason": bloat.reason,
        },
        "alike": diagnosis.alike,
        "changed": diagnosis.changed,
        "not_checked": list(diagnosis.not_checked),
        "rungs": [_record(rung) for rung in one.evidence.rungs],
        "rounds": [[_run(run) for run in tests] for tests in one.evidence.rounds],
    }


def _run(one: RunEvidence) -> Json:
    path = [_record(each) for each in one.path]
    return _record(one) | {"direction": one.direction.value, "path": path}


def _record(one: IdlePath | Rung | RunEvidence | PathEvidence) -> Json:
    """The fields of a record by name, without the bins."""
    values = {item.name: getattr(one, item.name) for item in fields(one) if item.name not in BINS}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}
