"""The JSON document of a diagnosis, written and read back; `diagnosis_schema.json` describes it.

Keys end with their unit. A report that was read has neither the bins of the evidence nor the recommendation
of a direction, and the second at which it began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from iperfpy.diagnosis.bufferbloat import Bufferbloat
from iperfpy.diagnosis.direction import DirectionDiagnosis
from iperfpy.diagnosis.evidence import DirectionEvidence, IdlePath, RunEvidence, Rung
from iperfpy.diagnosis.finding import Cause, Finding
from iperfpy.diagnosis.path_report import DirectionReport, PathReport
from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.path_evidence import PathEvidence
from iperfpy.report.experiment_document import Json, common_facts, document_of, reading
from iperfpy.store.document_part import DocumentPart
from iperfpy.store.finding_object import finding_object, read_finding
from iperfpy.store.run_index import DIAGNOSE, About, path_signature

V = TypeVar("V")
LEFT_OUT = ("flight", "figures")
"""Fields of the evidence that are for conclusions only: thousands of bins, and figures that `sender` and
`receiver` have by their keys."""


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
    """The fields of a record by name, without those for conclusions only."""
    values = {item.name: getattr(one, item.name) for item in fields(one) if item.name not in LEFT_OUT}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


# -- reading


def read(stored: Mapping[str, Any]) -> PathReport:
    """The diagnosis of a document. Raises `DocumentError` if it is none."""
    with reading("a diagnosis"):
        return _report(DocumentPart(stored))


def _report(whole: DocumentPart) -> PathReport:
    start, end = whole.part("start"), whole.part("end")
    known = start.values.get("peer_is_iperfpy")
    idle = _read_idle(whole.part("idle"))
    findings = [read_finding(one) for one in whole.parts("diagnosis")]
    # The asymmetry is the one conclusion about both directions together (`diagnosis.both_ways`).
    both = tuple(one for one in findings if one.cause is Cause.ASYMMETRY)
    own = [one for one in findings if one.cause is not Cause.ASYMMETRY]
    return PathReport(
        **common_facts(whole),
        seconds=end.number("seconds"),
        sent_bytes=end.whole("sent_bytes"),
        budget_bytes=start.whole("budget_bytes"),
        quick=start.flag("quick"),
        peer_is_iperfpy=None if known is None else start.flag("peer_is_iperfpy"),
        address=start.text("address"),
        idle=idle,
        directions=tuple(_read_direction(one, idle, own) for one in whole.parts("directions")),
        both_ways=both,
        not_checked=whole.texts("not_checked"),
    )


def _read_direction(one: DocumentPart, idle: IdlePath, findings: Sequence[Finding]) -> DirectionReport:
    direction, bloat = Direction(one.text("direction")), one.part("bufferbloat")
    rungs = tuple(_read_rung(each) for each in one.parts("rungs"))
    diagnosis = DirectionDiagnosis(
        direction,
        one.number_or_none("capacity_bits_per_s"),
        one.number_or_none("capacity_error_bits_per_s"),
        one.number_or_none("carried_bits_per_s"),
        tuple(each for each in findings if each.direction is direction),
        Bufferbloat(bloat.text("letter"), bloat.number_or_none("increase_us"), bloat.text("reason")),
        one.texts("not_checked"),
        one.text("alike"),
        one.text("changed"),
    )
    return DirectionReport(direction, DirectionEvidence(direction, idle, rungs, _read_rounds(one)), diagnosis)


def _read_rounds(one: DocumentPart) -> tuple[tuple[RunEvidence, ...], ...]:
    rounds = one.values["rounds"]
    if not isinstance(rounds, list) or not all(isinstance(tests, list) for tests in rounds):
        raise ValueError("rounds is not a list of lists")
    return tuple(tuple(_read_run(DocumentPart(run)) for run in tests) for tests in rounds)


def _read_idle(one: DocumentPart) -> IdlePath:
    return IdlePath(
        _numbers(one, "rtt_us"),
        one.whole_or_none("mtu_bytes"),
        one.whole_or_none("mtu_hint_bytes"),
        one.whole("echoes"),
        one.number_or_none("lump_us"),
    )


def _read_rung(one: DocumentPart) -> Rung:
    return Rung(
        offered_bits_per_s=one.number("offered_bits_per_s"),
        packet_bytes=one.whole("packet_bytes"),
        seconds=one.number("seconds"),
        sent=one.whole("sent"),
        arrived=one.whole("arrived"),
        rtt_us=_numbers(one, "rtt_us"),
        late=one.whole("late"),
        duplicates=one.whole("duplicates"),
        kernel_drops=one.whole_or_none("kernel_drops"),
        loss_runs=one.whole_or_none("loss_runs"),
        lost_in_runs=one.whole_or_none("lost_in_runs"),
    )


def _read_run(one: DocumentPart) -> RunEvidence:
    flags, windows = one.texts("window_flags"), one.wholes("windows")
    return RunEvidence(
        transport=one.text("transport"),
        reliable=one.flag("reliable"),
        controlled=one.flag("controlled"),
        streams=one.whole("streams"),
        seconds=one.number("seconds"),
        bits_per_second=one.number("bits_per_second"),
        direction=Direction(one.text("direction")),
        target_bits_per_second=one.number("target_bits_per_second"),
        sender=_figures(one, "sender"),
        receiver=_figures(one, "receiver"),
        path=tuple(_read_path(each) for each in one.parts("path")),
        cpu_percent=_numbers(one, "cpu_percent"),
        idle_rtt_us=one.number_or_none("idle_rtt_us"),
        block_bytes=one.whole("block_bytes"),
        over_udp=one.flag("over_udp"),
        window_flags=_pair(flags),
        windows=_pair(windows),
        kernel_drops=one.whole_or_none("kernel_drops"),
        same_host=one.flag("same_host"),
        quiet_s=one.number_or_none("quiet_s") or 0.0,  # documents before 0.2 lack it
    )


def _read_path(one: DocumentPart) -> PathEvidence:
    limited = one.part("limited_us")
    return PathEvidence(
        loss_runs=one.whole_or_none("loss_runs"),
        lost_in_runs=one.whole_or_none("lost_in_runs"),
        min_rtt_us=one.number_or_none("min_rtt_us"),
        rtt_us=_numbers(one, "rtt_us"),
        noise_share=one.number_or_none("noise_share"),
        delay_spread_us=one.number_or_none("delay_spread_us"),
        lump_us=one.number_or_none("lump_us"),
        rate_bits_per_s=one.number_or_none("rate_bits_per_s"),
        rate_deviation=one.number_or_none("rate_deviation"),
        displaced_packets=one.whole_or_none("displaced_packets"),
        displacement_us=one.number_or_none("displacement_us"),
        limited_us={key: limited.whole(key) for key in limited.values},
        packet_bytes=one.whole_or_none("packet_bytes"),
        extra=dict(one.part("extra").values),
    )


def _pair(values: tuple[V, ...]) -> tuple[V, V] | tuple[()]:
    """The values of the two ends, or none."""
    if len(values) not in (0, 2):
        raise ValueError(f"there are {len(values)} values of two ends")
    return (values[0], values[1]) if values else ()


def _numbers(one: DocumentPart, key: str) -> dict[str, float]:
    part = one.part(key)
    return {name: part.number(name) for name in part.values}


def _figures(one: DocumentPart, key: str) -> dict[str, Value]:
    part = one.part(key)
    return {name: part.figure(name) for name in part.values}
