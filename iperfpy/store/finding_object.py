"""One conclusion of a diagnosis as JSON, and back: the elements of `diagnosis` in a document."""

from __future__ import annotations

from typing import Any

from iperfpy.diagnosis.finding import Cause, Confidence, Finding
from iperfpy.plan import Direction
from iperfpy.store.document_part import DocumentPart


def finding_object(one: Finding) -> dict[str, Any]:
    """The finding under its keys. `evidence`: figures by name, each with its unit."""
    return {
        "direction": one.direction.value,
        "cause": one.cause.value,
        "confidence": one.confidence.value,
        "evidence": dict(one.evidence),
        "advice": one.advice,
        "sentence": one.sentence,
        "because": one.because,
        "promise": one.promise,
    }


def read_finding(stored: DocumentPart) -> Finding:
    """The finding that was stored. Raises `ValueError` for a value that is missing or of another kind."""
    evidence = stored.part("evidence")
    figures = {key: evidence.figure(key) for key in evidence.values}
    return Finding(
        direction=Direction(stored.text("direction")),
        cause=Cause(stored.text("cause")),
        confidence=Confidence(stored.text("confidence")),
        sentence=stored.text("sentence", ""),
        because=stored.text("because", ""),
        advice=stored.text("advice", ""),
        evidence={key: value for key, value in figures.items() if value is not None},
        promise=stored.number_or_none("promise"),
    )
