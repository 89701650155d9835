"""Conclusions from one ordinary test: what limited it, and what to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iperfpy.diagnosis.evidence import RunEvidence
from iperfpy.diagnosis.finding import Cause, Confidence, Finding

_LIMITS = {
    "application": (Cause.APPLICATION, "the application, which had nothing to send"),
    "receive-window": (Cause.RECEIVE_WINDOW, "the receiver's window"),
    "send-window": (Cause.SEND_WINDOW, "the send window"),
    "send-buffer": (Cause.SEND_BUFFER, "the send buffer"),
    "processor": (Cause.PROCESSOR, "the sender's processor"),
}
"""Keys of `PathEvidence.limited_us` -> cause, and its words."""
_NOTICED, _MOST = 0.1, 0.5
"""Shares of the time from which on a limit is named, and is the main one."""


def conclude(run: RunEvidence) -> tuple[Finding, ...]:
    """Conclude from one test; the most limiting cause first, one `Cause.UNKNOWN` if nothing decides."""
    findings = end_limits(run)
    if not findings:
        unknown = Finding(run.direction, Cause.UNKNOWN, Confidence.POSSIBLE, "no limit was recognised")
        findings = [unknown]
    return tuple(findings)


def limit_line(findings: Sequence[Finding]) -> str:
    """Say in one line what limited the test."""
    first = findings[0] if findings else None
    if first is None or first.cause is Cause.UNKNOWN:
        return f"Limited by: not known ({first.sentence if first else 'nothing was measured'})"
    return f"Limited by: {first.sentence}" + (f" ({first.because})" if first.because else "")


def advice_line(findings: Sequence[Finding]) -> str:
    """Say in one line what to try; empty if there is nothing to try."""
    advice = next((finding.advice for finding in findings if finding.advice), "")
    return f"Try: {advice}" if advice else ""


def limit_shares(run: RunEvidence) -> Mapping[str, float]:
    """Give the share of the time, 0 to 1, for which each limit held, over all streams."""
    total: dict[str, float] = {}
    for path in run.path:
        for key, us in path.limited_us.items():
            total[key] = total.get(key, 0.0) + us
    streams = sum(bool(path.limited_us) for path in run.path)
    whole_us = max(streams * run.seconds * 1e6, sum(total.values())) or 1.0
    return {key: us / whole_us for key, us in total.items()}


def end_limits(run: RunEvidence) -> list[Finding]:
    """Findings about the two ends, by the time for which each limited the sender."""
    shares = limit_shares(run)
    named = sorted(
        ((share, *_LIMITS[key]) for key, share in shares.items() if key in _LIMITS and share > _NOTICED),
        reverse=True,
    )
    return [
        Finding(
            run.direction,
            cause,
            Confidence.SURE if share > _MOST else Confidence.LIKELY,
            words,
            f"{share:.0%} of the time",
            evidence={"share": round(share, 3)},
        )
        for share, cause, words in named
    ]
