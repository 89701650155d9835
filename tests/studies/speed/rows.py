"""The rows of the speed study: cells for the table, plain values for the files, remarks below them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tests.studies.speed.run import Measured
from tests.studies.speed.summary import Result, Row, Spread, Verdict
from tests.studies.table import Table

HEADINGS = ("measurement", "ours", "theirs", "ratio", "target", "aim", "")
COLUMNS = (
    *("key", "what", "figure", "ours", "ours_median", "ours_min", "ours_max"),
    *("theirs", "theirs_median", "theirs_min", "theirs_max"),
    *("judged", "ratio_min", "ratio_max", "less_is_better", "limit", "aim", "verdict"),
)
UNITS = {
    "bits_per_s": (1e-9, "Gb/s"),
    "cpu_s_per_gb": (1.0, "s/GB"),
    "whole_cpu_s_per_gb": (1.0, "s/GB"),
    "peak_bytes": (1e-6, "MB"),
    "wall_ms": (1.0, "ms"),
    "fairness": (1.0, "of 1"),
    "rate_error_percent": (1.0, "%"),
    "worst_bin_percent": (1.0, "%"),
    "sender_cpu_percent": (1.0, "%"),
    "receiver_cpu_percent": (1.0, "%"),
}
SEGMENT = (1.0, "us")
STYLES = {Verdict.AIM: "green", Verdict.LIMIT: "green", Verdict.BELOW: "red", Verdict.ABSENT: "dim"}


def unit_of(row: Row) -> tuple[float, str]:
    """Factor and name of the unit that a row's figures are shown in."""
    rate = row.figure.endswith("_bits_per_s")  # one of several rates of a contestant
    return UNITS["bits_per_s"] if rate else UNITS.get(row.figure, SEGMENT)


def number(value: float) -> str:
    """Three significant digits, as people write them."""
    if value and abs(value) < 0.01:
        return f"{value:.4f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def figures(spread: Spread | None, row: Row) -> str:
    """Median and unit, and below it the spread."""
    if spread is None:
        return "-"
    factor, unit = unit_of(row)
    low, high = number(spread.low * factor), number(spread.high * factor)
    return f"{number(spread.median * factor)} {unit}\n[dim]{low}..{high}[/]"


def ratio(result: Result) -> str:
    if result.row.theirs is None or result.judged is None:
        return ""
    low, high = result.ratio_spread or (result.judged, result.judged)
    return f"{number(result.judged)}\n[dim]{number(low)}..{number(high)}[/]"


def target(value: float | None, row: Row) -> str:
    """A limit or aim with the sign that says which way is better."""
    if value is None:
        return ""
    sign = "≤" if row.less_is_better else "≥"
    if row.theirs is not None:
        return f"{sign} {number(value)}"
    factor, unit = unit_of(row)
    return f"{sign} {number(value * factor)} {unit}"


def table(results: Sequence[Result], title: str = "") -> Table:
    """Build the table of results."""
    return Table(HEADINGS, [_cells(result) for result in results], title)


def _cells(result: Result) -> tuple[str, ...]:
    row = result.row
    return (
        row.what + (f"\n[dim]{row.ours} : {row.theirs}[/]" if row.theirs else ""),
        figures(result.ours, row),
        figures(result.theirs, row) if row.theirs else "",
        ratio(result),
        target(row.limit, row),
        target(row.aim, row),
        f"[{STYLES.get(result.verdict, 'default')}]{result.verdict.value}[/]",
    )


def page(head: Mapping[str, Any], results: Sequence[Result], notes: Sequence[str]) -> str:
    """Write the Markdown page of a run: machine, versions, command, table, remarks."""
    around = head["surroundings"]
    versions = {"Python": around["python"], **around["packages"], **around["debian"]}
    lines = [
        f"# Benchmark of {head['date'][:10]}",
        "",
        f"{around['cpu']}, {around['cores']} cores, {around['kernel']}, load average"
        f" {around['load_average']:.1f} before it began; commit {around['commit'] or 'unknown'}.",
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        "",
        f"    {head['command']}",
        "",
        "Medians, with the smallest and the largest below them; a ratio's spread is that of single rounds.",
        "",
    ]
    remarks_below = ["", *(f"- {sentence}" for sentence in notes), ""]
    return "\n".join(lines) + "\n" + table(results).markdown() + "\n".join(remarks_below)


def remarks(measured: Sequence[Measured]) -> list[str]:
    """List missing peers, set-up of contestants, failures and repeated runs, one sentence each."""
    missing = dict.fromkeys(reason for one in measured for reason in one.missing)
    return [
        *(f"not measured: {reason}" for reason in missing),
        *(f"{one.group.title}, {name}: {remark}" for one in measured for name, remark in one.remarks.items()),
        *(f"failed: {failure}" for one in measured for failure in one.failures),
        *(
            f"{name}: {stalled:.0f} runs stalled and were repeated"
            for one in measured
            for name, runs in one.rounds.items()
            if (stalled := sum(run.get("stalled_runs", 0.0) for run in runs if run))
        ),
    ]


def document(head: Mapping[str, Any], measured: Sequence[Measured]) -> dict[str, Any]:
    """Build the JSON document: the head, and every group with its rows and raw figures."""
    groups = [
        {
            "title": one.group.title,
            "rows": [values(result) for result in one.results()],
            "runs": one.rounds,
            "remarks": one.remarks,
            "missing": one.missing,
            "failures": one.failures,
        }
        for one in measured
    ]
    return {**head, "groups": groups}


def values(result: Result) -> dict[str, Any]:
    """Give a row of the table as plain values; None where there is no number."""
    row = dataclasses.asdict(result.row)
    low, high = result.ratio_spread or (None, None)
    found = {
        **{f"ours_{name}": value for name, value in _spread(result.ours).items()},
        **{f"theirs_{name}": value for name, value in _spread(result.theirs).items()},
        "judged": result.judged,
        "ratio_min": low,
        "ratio_max": high,
        "verdict": result.verdict.value,
    }
    return {name: {**row, **found}[name] for name in COLUMNS}


def _spread(spread: Spread | None) -> dict[str, float | None]:
    if spread is None:
        return dict.fromkeys(("median", "min", "max"))
    return {"median": spread.median, "min": spread.low, "max": spread.high}
