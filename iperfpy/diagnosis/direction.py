"""Conclusions about one direction of a path, from its idle delay, the ladder and the rounds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from iperfpy.diagnosis import advice, model_findings, one_run, path_model, udp_differs
from iperfpy.diagnosis.advice import Recommendation
from iperfpy.diagnosis.bufferbloat import Bufferbloat, LoadedRtt, grade
from iperfpy.diagnosis.evidence import DirectionEvidence, RunEvidence, Rung
from iperfpy.diagnosis.finding import Cause, Confidence, Finding
from iperfpy.diagnosis.path_model import PathModel
from iperfpy.diagnosis.stretches import cut
from iperfpy.plan import Direction
from iperfpy.protocols.units import format_milliseconds, format_percent, format_rate


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
    recommendation : settings for this path, from the model of it
    alike : sentence about UDP beside TCP if both are treated alike; else empty
    changed : sentence about a path that was another one at the end; empty if it was not
    """

    direction: Direction
    capacity_bits_per_s: float | None
    capacity_error_bits_per_s: float | None
    carried_bits_per_s: float | None
    findings: tuple[Finding, ...]
    bufferbloat: Bufferbloat
    not_checked: tuple[str, ...] = ()
    alike: str = ""
    changed: str = ""
    recommendation: Recommendation | None = None


_END_LIMITS = (
    Cause.APPLICATION,
    Cause.RECEIVE_WINDOW,
    Cause.SEND_WINDOW,
    Cause.SEND_BUFFER,
    Cause.PROCESSOR,
)
_FULL = 0.85
"""Payload rate of a test over the path's rate from which on the path was the limit: headers take 4 %."""
_HELD = 0.7
"""A test with at most this share of the rate of the transport's best one may have been held by an end."""
_UNKNOWN_RATE = "the rate of the path is not known"
"""Reason of a direction without a grade of bufferbloat."""
_CHANGED, _CHANGED_US = 0.25, 5e3
"""Change of the rate or of the round-trip time from which on the path is said to have changed."""


def conclude(evidence: DirectionEvidence) -> DirectionDiagnosis:
    """Conclude from all that was measured in one direction."""
    model = path_model.fit(evidence)
    runs = [run for tests in evidence.rounds for run in tests]
    path = model_findings.findings(model, evidence.direction)
    treatment = udp_differs.compare(evidence.rounds, evidence.direction)
    paced = (run.bits_per_second for run in runs if run.reliable and run.controlled and run.over_udp)
    recommended = advice.recommend(model, max(paced, default=None))
    carried = max((run.bits_per_second for run in runs if run.reliable), default=None)
    rate = model.rate_bits_per_s
    ends, others = [*_receiver(evidence), *_ends(runs)], []
    if rate is not None and carried is not None and carried > _FULL * rate:
        # Tests of the rounds filled the path: an end that waited now and then was no limit.
        ends = [finding for finding in ends if finding.cause not in _END_LIMITS]
        # Another transport may still be held by an end. That does not limit the path, so it comes last.
        others = _ends_of_others(runs, rate)
    ends = [_promised(finding, recommended, carried) for finding in ends]
    findings = [*ends, *([treatment.finding] if treatment.finding else []), *path, *others]
    if not any(finding.cause is not Cause.UNKNOWN for finding in findings):
        findings.insert(0, model_findings.line(model, evidence.direction))
    return DirectionDiagnosis(
        evidence.direction,
        None if model.least else rate,
        None if model.least else model.rate_error,
        carried,
        tuple(findings),
        _graded(evidence, rate),
        (*_not_checked(evidence), *([treatment.missing] if treatment.missing else [])),
        treatment.alike,
        _changed(evidence, model),
        recommended,
    )


def _graded(evidence: DirectionEvidence, rate: float | None) -> Bufferbloat:
    """The grade of the ladder's rungs.

    The session's rates are those of the rungs, of the tests of the rounds, and of the path as the model has
    it. A rung beyond the path's rate was a burst into a bucket: it is no rate that a load could have reached.
    """
    loads = [LoadedRtt(_packet_rate(rung), rung.rtt_us.get("p95")) for rung in evidence.rungs]
    rungs = [load.bits_per_s for load in loads if load.bits_per_s is not None]
    if rate is None:  # nothing tells a burst from the path: a letter could be of an empty queue
        return replace(grade(evidence.idle.rtt_us.get("p50"), loads, ()), reason=_UNKNOWN_RATE)
    tests = [run.bits_per_second for runs in evidence.rounds for run in runs if run.reliable]
    rates = [*(min(one, rate) for one in rungs), *tests, rate]
    return grade(evidence.idle.rtt_us.get("p50"), loads, rates)


def _packet_rate(rung: Rung) -> float:
    """Bits per second of IP packets that arrived of a rung."""
    return 8.0 * rung.packet_bytes * rung.arrived / rung.seconds


def _receiver(evidence: DirectionEvidence) -> list[Finding]:
    """Name a receiver if its kernel dropped datagrams that had arrived."""
    found = [rung for rung in evidence.rungs if cut(rung)]
    # If the path lost more, it was the limit.
    found = [one for one in found if 2 * (one.kernel_drops or 0) > one.sent - one.arrived]
    if not found:
        return []
    drops, missing = (
        sum(rung.kernel_drops or 0 for rung in found),
        sum(one.sent - one.arrived for one in found),
    )
    slowest = min(rung.offered_bits_per_s for rung in found)
    return [
        Finding(
            evidence.direction,
            Cause.PROCESSOR,
            Confidence.SURE,
            f"the receiving machine: its kernel dropped {drops:,} datagrams that had arrived, at"
            f" {format_rate(slowest)} and more",
            f"{format_percent(min(1.0, drops / max(1, missing)))} of the missing datagrams",
            "a faster machine, or less work beside the test; a larger socket buffer (net.core.rmem_max)",
            evidence={"kernel_drops": drops, "share": 1.0, "rate_bits_per_s": round(slowest)},
        )
    ]


def _ends(runs: list[RunEvidence]) -> list[Finding]:
    """Limits of the two ends, of the tests that adapt their rate; each cause once, the clearest one."""
    best: dict[Cause, Finding] = {}
    for run in runs:
        if not run.reliable:
            continue
        for finding in one_run.sender_findings(run):
            known = best.get(finding.cause)
            if known is None or _share(finding) > _share(known):
                best[finding.cause] = finding
    return sorted(best.values(), key=_share, reverse=True)


def _share(finding: Finding) -> float:
    """The share of the time for which a limit of an end held."""
    return float(finding.evidence["share"])


def _ends_of_others(runs: list[RunEvidence], rate: float) -> list[Finding]:
    """Limits of the two ends that kept one transport far below a rate that another one reached."""
    found: list[Finding] = []
    for transport in dict.fromkeys(run.transport for run in runs):
        same = [run for run in runs if run.transport == transport and run.reliable]
        if not same or max(run.bits_per_second for run in same) > _HELD * rate:
            continue
        found += [
            replace(finding, sentence=f"{transport} alone: {finding.sentence}")
            for finding in _ends(same)
            if finding.cause in _END_LIMITS and finding.cause not in {one.cause for one in found}
        ]
    return found


def _promised(finding: Finding, recommended: Recommendation, carried: float | None) -> Finding:
    """Add the window that the path needs, and the factor that it promises, to a finding about a window."""
    factor = recommended.promise(carried)
    if finding.cause not in (Cause.SEND_WINDOW, Cause.RECEIVE_WINDOW) or factor is None:
        return finding
    flag = finding.advice.split()[0] if finding.advice.startswith("--") else "a window of"
    return replace(
        finding,
        advice=f"{flag} {recommended.window} segments: {factor:.2g} times the rate",
        promise=factor,
    )


def _not_checked(evidence: DirectionEvidence) -> list[str]:
    missing = []
    if evidence.idle.mtu_bytes is None:
        missing.append("the longest packet that passes")
    if not evidence.rungs:
        missing.append("the rate ladder")
    elif all(rung.flight is None for rung in evidence.rungs):
        missing.append("a policer, a rate that varies: the receiver does not tell when datagrams arrived")
    return missing


def _changed(evidence: DirectionEvidence, model: PathModel) -> str:
    """Compare the beginning with the end: round-trip times without load, and rates under overload."""
    before_us = evidence.idle.rtt_us.get("p5")
    after_us = min((rung.rtt_us["p5"] for rung in evidence.rungs if "p5" in rung.rtt_us), default=None)
    if before_us and after_us:
        difference_us = abs(after_us - before_us) - model.delay.spread_us
        if difference_us > max(_CHANGED_US, _CHANGED * before_us):
            return (
                f"the path changed: its round-trip time was {format_milliseconds(before_us)} at first,"
                f" and {format_milliseconds(after_us)} later"
            )
    rates = [one.arriving for one in model.capacity.overloaded if one.loses]
    if len(rates) > 1 and not model.rate.present and max(rates) > (1 + _CHANGED) * min(rates):
        return (
            f"the path changed: it carried {format_rate(min(rates))} in one period of overload,"
            f" and {format_rate(max(rates))} in another"
        )
    return ""
