"""Conclusions about one direction of a path, from its idle delay, the ladder and the rounds."""

from __future__ import annotations

from dataclasses import dataclass

from iperfpy.diagnosis import one_run
from iperfpy.diagnosis.bufferbloat import Bufferbloat, grade
from iperfpy.diagnosis.evidence import DirectionEvidence
from iperfpy.diagnosis.finding import Cause, Confidence, Finding
from iperfpy.plan import Direction
from iperfpy.protocols.units import format_rate


@dataclass(frozen=True, slots=True)
class DirectionDiagnosis:
    """The conclusions about one direction.

    Parameters
    ----------
    capacity_bits_per_s : rate of IP packets that the direction carries, None: not known
    capacity_error_bits_per_s : its standard error
    carried_bits_per_s : payload rate of the best round, None without one
    findings : the most limiting one first; `Cause.LINE` if there is no sign of anything
    bufferbloat : the grade, or the reason why there is none
    not_checked : phrases such as "MTU", each with its reason
    changed : sentence about a path that was another one at the end; empty if it was not
    """

    direction: Direction
    capacity_bits_per_s: float | None
    capacity_error_bits_per_s: float | None
    carried_bits_per_s: float | None
    findings: tuple[Finding, ...]
    bufferbloat: Bufferbloat
    not_checked: tuple[str, ...] = ()
    changed: str = ""


def conclude(evidence: DirectionEvidence) -> DirectionDiagnosis:
    """Conclude from all that was measured in one direction."""
    arrived = [8.0 * rung.packet_bytes * rung.arrived / rung.seconds for rung in evidence.rungs]
    runs = [run for tests in evidence.rounds for run in tests]
    carried = max((run.bits_per_second for run in runs), default=None)
    capacity = max(arrived, default=None)
    findings = tuple(
        finding
        for run in runs[-1:]
        for finding in one_run.conclude(run)
        if finding.cause is not Cause.UNKNOWN or capacity is None
    )
    if not findings and capacity is not None:
        findings = (
            Finding(
                evidence.direction,
                Cause.LINE,
                Confidence.POSSIBLE,
                f"the line: it carries {format_rate(capacity)}",
            ),
        )
    return DirectionDiagnosis(
        evidence.direction,
        capacity,
        None,
        carried,
        findings,
        grade(evidence.idle.rtt_us, [rung.rtt_us for rung in evidence.rungs], full_load=bool(arrived)),
    )
