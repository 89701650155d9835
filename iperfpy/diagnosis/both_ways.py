"""Conclusions from the two directions of a path together."""

from __future__ import annotations

from iperfpy.diagnosis.direction import DirectionDiagnosis
from iperfpy.diagnosis.finding import Cause, Confidence, Finding
from iperfpy.plan import WAYS
from iperfpy.protocols.units import format_rate

_RATIO = 1.25
"""Smaller ratios of the two limits are not worth a sentence."""


def conclude(forward: DirectionDiagnosis, reverse: DirectionDiagnosis) -> tuple[Finding, ...]:
    """Compare the limits of the two directions, not the rates that tests reached."""
    there, back = forward.capacity_bits_per_s, reverse.capacity_bits_per_s
    if not there or not back:
        return ()
    ratio = max(there, back) / min(there, back)
    # The difference must exceed the errors of the two limits.
    errors = (
        (forward.capacity_error_bits_per_s or 0.0) / there,
        (reverse.capacity_error_bits_per_s or 0.0) / back,
    )
    if ratio < _RATIO or ratio - 1.0 < 3.0 * ratio * (errors[0] ** 2 + errors[1] ** 2) ** 0.5:
        return ()
    slower, faster = (forward, reverse) if there < back else (reverse, forward)
    causes = [f"{WAYS[one.direction]} {one.findings[0].cause}" for one in (slower, faster) if one.findings]
    return (
        Finding(
            slower.direction,
            Cause.ASYMMETRY,
            Confidence.SURE,
            f"the two directions differ by a factor of {ratio:.2g}: {WAYS[slower.direction]}"
            f" {format_rate(min(there, back))}, {WAYS[faster.direction]} {format_rate(max(there, back))}",
            f"limit of each: {', '.join(causes)}" if causes else "",
            evidence={
                "ratio": ratio,
                "forward_bits_per_s": there,
                "reverse_bits_per_s": back,
            },
        ),
    )
