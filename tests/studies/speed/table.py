"""The table of results, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tests.studies.speed.summary import Result, Row, Spread, Verdict

UNITS = {
    "bits_per_s": (1e-9, "Gb/s"),
    "cpu_s_per_gb": (1.0, "s/GB"),
    "whole_cpu_s_per_gb": (1.0, "s/GB"),
    "peak_bytes": (1e-6, "MB"),
    "wall_ms": (1.0, "ms"),
    "rate_error_percent": (1.0, "%"),
    "worst_bin_percent": (1.0, "%"),
    "sender_cpu_percent": (1.0, "%"),
    "receiver_cpu_percent": (1.0, "%"),
}
SEGMENT = (1.0, "us")
STYLES = {Verdict.AIM: "green", Verdict.LIMIT: "green", Verdict.BELOW: "red", Verdict.ABSENT: "dim"}


def unit_of(row: Row) -> tuple[float, str]:
    """Factor and name of the unit that a row's figures are shown in."""
    return UNITS.get(row.figure, SEGMENT)


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


def show(results: Sequence[Result], title: str, console: Console | None = None) -> None:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("what")
    for name in ("ours", "theirs", "ratio", "target", "aim"):
        table.add_column(name, justify="right")
    table.add_column("")
    for result in results:
        row = result.row
        table.add_row(
            row.what + (f"\n[dim]{row.ours} : {row.theirs}[/]" if row.theirs else ""),
            figures(result.ours, row),
            figures(result.theirs, row) if row.theirs else "",
            ratio(result),
            target(row.limit, row),
            target(row.aim, row),
            f"[{STYLES.get(result.verdict, 'default')}]{result.verdict.value}[/]",
        )
    (console or Console(width=max(136, Console().width))).print(table)


def write_markdown(
    path: Path, head: Mapping[str, Any], results: Sequence[Result], said: Sequence[str]
) -> None:
    """The same table for a page that people read."""
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
        "| what | ours | theirs | ratio | target | aim | |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        row = result.row
        cells = (
            row.what + (f"<br>{row.ours} : {row.theirs}" if row.theirs else ""),
            figures(result.ours, row),
            figures(result.theirs, row) if row.theirs else "",
            ratio(result),
            target(row.limit, row),
            target(row.aim, row),
            result.verdict.value,
        )
        lines.append(f"| {' | '.join(_plain(cell) for cell in cells)} |")
    path.write_text("\n".join([*lines, "", *(f"- {sentence}" for sentence in said), ""]))


def _plain(cell: str) -> str:
    return cell.replace("[dim]", "").replace("[/]", "").replace("\n", "<br>").replace("|", "\\|")
