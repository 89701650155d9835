"""The table, as text and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from tests.studies.paths.targets import Judged, Target, Verdict

HEADINGS = ("what", "at least", "aim", "worst", "median", "runs", "below", "verdict")


def figure(value: float, unit: str) -> str:
    """A number as the table shows it."""
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
    """A row. `below` counts the runs that do not reach `at least`."""
    target = judged.target
    asked = (target.what, bound(target.limit, target), bound(target.aim, target))
    if judged.verdict is Verdict.MISSING:
        return (*asked, "", "", "0", "", judged.verdict.value)
    worst = " to ".join(figure(value, target.unit) for value, _ in judged.worst)
    middle = figure(judged.middle, target.unit)
    return (*asked, worst, middle, str(judged.runs), str(judged.failing), judged.verdict.value)


def text(rows: Sequence[Judged]) -> str:
    """Aligned columns, and under them the worst case of every line that is below."""
    table = [HEADINGS, *(cells(row) for row in rows)]
    widths = [max(len(line[at]) for line in table) for at in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
    return "\n".join(line.rstrip() for line in lines) + "\n" + "".join(_worst(row) for row in rows)


def _worst(row: Judged) -> str:
    if row.verdict is not Verdict.BELOW:
        return ""
    worst = "; ".join(f"{figure(value, row.target.unit)} at {case}" for value, case in row.worst)
    return f"  {row.target.what}: {worst}\n"


def markdown(rows: Sequence[Judged]) -> str:
    """For results/records/README.md."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(cells(row) for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
