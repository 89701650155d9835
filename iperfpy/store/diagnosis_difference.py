"""Two sides of diagnoses compared: causes that came, went, or have another size now.

documents of each side --diagnosis_changes--> DiagnosisChange ..., a sentence each
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from iperfpy.diagnosis.finding import Cause, Finding
from iperfpy.errors import DocumentError
from iperfpy.plan import WAYS, Direction
from iperfpy.protocols.units import format_rate, format_size
from iperfpy.store.document_part import DocumentPart
from iperfpy.store.finding_object import read_finding

SIGMAS = 2.0
"""Standard errors of two rates, added in quadrature, that a difference must exceed."""

NOUNS: Mapping[Cause, tuple[str, str]] = {
    Cause.APPLICATION: ("the application", "target_bits_per_s"),
    Cause.RECEIVE_WINDOW: ("the receive window", "ceiling_bits_per_s"),
    Cause.SEND_WINDOW: ("the send window", "ceiling_bits_per_s"),
    Cause.SEND_BUFFER: ("the send buffer", "ceiling_bits_per_s"),
    Cause.PROCESSOR: ("the processor", "percent"),
    Cause.QUEUE: ("the queue", "delay_us"),
    Cause.POLICER: ("the policer", "rate_bits_per_s"),
    Cause.NOISE: ("the random loss", "share"),
    Cause.BURSTS: ("the small buffer", "burst_bytes"),
    Cause.REORDERING: ("the reordering", "share"),
    Cause.JITTER: ("the varying delay", "spread_us"),
    Cause.ACK_LUMPS: ("the lumps of acknowledgements", "lump_us"),
    Cause.RATE_VARIES: ("the varying rate", "mean_bits_per_s"),
    Cause.MTU: ("the packet size", "mtu_bytes"),
    Cause.SPURIOUS: ("the needless retransmissions", "share"),
    Cause.ASYMMETRY: ("the asymmetry", "ratio"),
    Cause.DATAGRAMS_DIFFER: ("the other treatment of UDP", "udp_bits_per_s"),
    Cause.LINE: ("the line", "rate_bits_per_s"),
    Cause.UNKNOWN: ("the unknown limit", ""),
}
"""Cause -> its noun, and the figure of its evidence that gives its size."""


Size = tuple[float, float]
"""A figure and its standard error, 0 if that is not known."""


@dataclass(frozen=True, slots=True)
class DiagnosisChange:
    """One statement. `way`: "up" or "down". `worse`: True if the direction carries less now."""

    way: str
    sentence: str
    changed: bool = True
    worse: bool = False


def diagnosis_changes(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], bound: float
) -> tuple[DiagnosisChange, ...]:
    """Compare diagnoses; of several a side, causes that most of them found, and medians of their figures.

    Parameters
    ----------
    first, second : documents, at least one of each
    bound : share by which a figure must have changed

    Raises
    ------
    DocumentError
        A document is damaged.
    """
    sides = _Side(first), _Side(second)
    return (*_capacities(*sides, bound), *_causes(*sides, bound))


class _Side:
    """The findings and the capacities of some diagnoses.

    Attributes
    ----------
    sizes : (direction, cause) of the findings that most diagnoses have -> `Size`, None without one
    sentences : (direction, cause) -> sentence of the last diagnosis that has it
    capacities : direction -> bit/s of IP packets
    """

    def __init__(self, documents: Sequence[Mapping[str, Any]]) -> None:
        try:
            findings = [_findings(document) for document in documents]
            capacities = [dict(_capacities_of(document)) for document in documents]
        except (KeyError, TypeError, ValueError) as error:
            raise DocumentError(f"the diagnosis cannot be read: {error}") from error
        self.sizes: dict[tuple[Direction, Cause], Size | None] = {}
        self.sentences: dict[tuple[Direction, Cause], str] = {}
        for key in dict.fromkeys(key for one in findings for key in one):
            having = [one[key] for one in findings if key in one]
            if 2 * len(having) > len(documents):
                sizes = [size for one in having if (size := _size(one)) is not None]
                self.sizes[key] = _median_of(sizes) if sizes else None
                self.sentences[key] = having[-1].sentence
        self.capacities: dict[Direction, Size] = {}
        for direction in (Direction.FORWARD, Direction.REVERSE):
            known = [one[direction] for one in capacities if direction in one]
            if known:
                self.capacities[direction] = _median_of(known)


def _findings(document: Mapping[str, Any]) -> dict[tuple[Direction, Cause], Finding]:
    """The findings by direction and cause; of two alike, the first one limits more."""
    found: dict[tuple[Direction, Cause], Finding] = {}
    for part in DocumentPart(document).parts("diagnosis"):
        one = read_finding(part)
        found.setdefault((one.direction, one.cause), one)
    return found


def _capacities_of(document: Mapping[str, Any]) -> Iterator[tuple[Direction, Size]]:
    for part in DocumentPart(document).parts("directions"):
        rate = part.number_or_none("capacity_bits_per_s")
        if rate is not None:
            error = part.number_or_none("capacity_error_bits_per_s") or 0.0
            yield Direction(part.text("direction")), (rate, error)


def _size(finding: Finding) -> Size | None:
    """The size of a finding, and its error, which the evidence has in the same unit."""
    value = finding.evidence.get(NOUNS[finding.cause][1])
    if not isinstance(value, (int, float)):
        return None
    errors = (finding.evidence.get(key) for key in ("error_bits_per_s", "error"))
    error = next((one for one in errors if isinstance(one, (int, float))), 0.0)
    return float(value), float(error)


def _median_of(sizes: Sequence[Size]) -> Size:
    return median(size for size, _ in sizes), median(error for _, error in sizes)


def _differ(before: Size, now: Size, bound: float) -> bool:
    """True if a figure has changed by the bound, and by more than its errors."""
    noise = SIGMAS * math.hypot(before[1], now[1])
    return abs(now[0] - before[0]) > max(noise, bound * abs(before[0]))


def _capacities(first: _Side, second: _Side, bound: float) -> Iterator[DiagnosisChange]:
    for direction, before in first.capacities.items():
        if direction not in second.capacities:
            continue
        now = second.capacities[direction]
        changed = _differ(before, now, bound)
        said = (
            " -> ".join(_both(before, now, "bits_per_s")) if changed else f"{format_rate(now[0])} as before"
        )
        yield DiagnosisChange(WAYS[direction], f"capacity {said}", changed, changed and now < before)


def _causes(first: _Side, second: _Side, bound: float) -> Iterator[DiagnosisChange]:
    for key in dict.fromkeys((*first.sizes, *second.sizes)):
        direction, cause = key
        way, (noun, unit) = WAYS[direction], NOUNS[cause]
        before, now = first.sizes.get(key), second.sizes.get(key)
        if key not in second.sizes:
            size = f" ({_value(before[0], unit)})" if before is not None else ""
            yield DiagnosisChange(way, f"{noun} is gone{size}")
        elif key not in first.sizes:
            yield DiagnosisChange(way, f"new: {second.sentences[key]}")
        elif before is None or now is None or not _differ(before, now, bound):
            size = f" ({_value(now[0], unit)})" if now is not None else ""
            yield DiagnosisChange(way, f"{noun} as before{size}", changed=False)
        else:
            was, is_now = _both(before, now, unit)
            yield DiagnosisChange(way, f"{noun} that was at {was} is at {is_now} now")


def _both(before: Size, now: Size, unit: str) -> tuple[str, str]:
    """Both values; the first one without its unit if that is the unit of both."""
    was, is_now = _value(before[0], unit), _value(now[0], unit)
    number, _, its_unit = was.partition(" ")
    return (number if its_unit and is_now.endswith(f" {its_unit}") else was), is_now


def _value(value: float, name: str) -> str:
    """A figure of the evidence in the unit at the end of its name."""
    if name.endswith("bits_per_s"):
        return format_rate(value)
    if name.endswith("_us"):
        return f"{value / 1e3:.3g} ms"
    if name.endswith("_bytes"):
        return format_size(value) if value >= 10_000 else f"{value:.0f} bytes"
    if name == "share":
        return f"{100 * value:.2g} %"
    return f"{value:.0f} %" if name == "percent" else f"{value:.3g}"
