"""The rows of the study of paths: cells for the table, plain values for the files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from tests.studies.paths.run import Outcome
from tests.studies.paths.targets import Judged, Target, Verdict
from tests.studies.table import Table

HEADINGS = ("target", "at least", "aim", "worst", "median", "runs", "below", "verdict")


def figure(value: float, unit: str) -> str:
    """Format a number for the table."""
    if unit == "%":
        return f"{100 * value:.2f} %"
    return f"{value:.1f}{unit}" if unit else f"{value:.3f}"


def bound(bounds: tuple[float, float], target: Target) -> str:
    low, high = bounds
    unit = target.unit
    if low > -inf and high < inf:
        return f"{low:g} to {high:g}"
    sign, value = (">=", low) if low > -inf else ("<=", high)
    return f"{sign} {100 * value:g} %" if unit == "%" else f"{sign} {value:g}{unit}"


def cells(judged: Judged) -> tuple[str, ...]:
    """Build a row. `below` counts the runs that miss `at least`."""
    target = judged.target
    requirement = (target.what, bound(target.limit, target), bound(target.aim, target))
    if judged.verdict is Verdict.MISSING:
        return (*requirement, "", "", "0", "", judged.verdict.value)
    worst = " to ".join(figure(value, target.unit) for value, _ in judged.worst)
    middle = figure(judged.middle, target.unit)
    return (*requirement, worst, middle, str(judged.runs), str(judged.failing), judged.verdict.value)


def table(rows: Sequence[Judged]) -> Table:
    """Build the table: a row for each target."""
    return Table(HEADINGS, [cells(row) for row in rows])


def text(rows: Sequence[Judged]) -> str:
    """Align the table, and name the worst path of every target that is missed."""
    return table(rows).text() + "".join(_worst(row) for row in rows)


def _worst(row: Judged) -> str:
    if row.verdict is not Verdict.BELOW:
        return ""
    worst = "; ".join(f"{figure(value, row.target.unit)} at {case}" for value, case in row.worst)
    return f"  {row.target.what}: {worst}\n"


def values(outcome: Outcome) -> dict[str, Any]:
    """Give one simulation as a row of the CSV file."""
    off = {"without": outcome.without} if outcome.without else {}
    return {"line": outcome.line, "case": outcome.name, "seed": outcome.seed, **off, **outcome.values}


def document(head: Mapping[str, Any], rows: Sequence[Judged], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Build the JSON document: the head, the table and every simulation."""
    judged = [{**dataclasses.asdict(row), "verdict": row.verdict.value} for row in rows]
    return {**head, "table": judged, "runs": [outcome.fields() for outcome in outcomes]}
