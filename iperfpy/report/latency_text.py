"""The text of `iperfpy latency`: a table for each size, rate and load, sorted by the 99th percentile.

Where a line is full, the columns go on in a second table below, so that nothing is left out in 80 columns.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from iperfpy.protocols.units import counted, format_rate
from iperfpy.report.columns import NOT_AVAILABLE
from iperfpy.report.screen import HANGING, NARROWEST, Span
from iperfpy.report.settings_text import settings_line
from iperfpy.sampling.clock_difference import Basis
from iperfpy.sampling.latency_report import IDLE, LatencyReport, LatencyRow, groups
from iperfpy.sampling.message_figures import BEYOND, LATE_US, MessageFigures
from iperfpy.sampling.way_split import WaySplit

GAP = "  "
LONGEST_NAME = 20
HELD_US = 5_000
"""Shortest wait before departure that is named."""
FOR_P99, FOR_P999 = 100 * BEYOND, 1_000 * BEYOND
"""Answered messages from which there is a 99th, and a 99.9th percentile."""


@dataclass(frozen=True, slots=True)
class _Column:
    head: tuple[str, str]
    cell: Callable[[MessageFigures], str]
    style: str = ""


def lines(report: LatencyReport, width: int | None = None) -> Iterator[list[Span]]:
    """The lines, as spans. `width`: characters that fit on a line, None: no limit."""
    yield from _folded(f"Latency of messages to {report.host}, {_span(report)}", "header", width)
    tables = groups(report)
    for rows in tables:
        yield from _group(rows, width)
    yield from _notes([row for rows in tables for row in rows], report.ways, width)
    if settings := settings_line((row.name, row.settings) for rows in tables for row in rows):
        yield from _folded(settings, "muted", width)


def _folded(text: str, style: str, width: int | None) -> Iterator[list[Span]]:
    """A sentence in lines that fit, the later ones indented."""
    if width is None or width < NARROWEST:
        yield [(text, style)]
        return
    for line in textwrap.wrap(text, width, subsequent_indent=" " * HANGING):
        yield [(line, style)]


def _span(report: LatencyReport) -> str:
    rounds = f"{report.rounds} rounds, " if report.rounds > 1 else ""
    return f"{rounds}{report.seconds:.0f} s; times in ms, from the time at which a message is due"


def _group(rows: Sequence[LatencyRow], width: int | None) -> Iterator[list[Span]]:
    """The table of one size, rate and load."""
    first = rows[0]
    yield [("", "")]
    heading = f"{counted(first.per_s, 'message')} of {first.size_bytes} bytes per second, {_load(rows)}"
    yield from _folded(heading, "strong", width)
    answered = [row for row in rows if row.figures.answered]
    if answered:
        yield from _tables(answered, width)
    for row in rows:
        if row.error:
            yield from _folded(f"{row.name}: {row.error}", "warn", width)
        elif not row.figures.answered:
            yield from _folded(f"{row.name}: no message was answered", "warn", width)
        if row.load != IDLE and row.load_rate:
            carried = ", ".join(f"{way} {format_rate(rate)}" for way, rate in row.load_rate.items())
            yield from _folded(f"{row.name}: beside {row.load} {carried}", "muted", width)


def _load(rows: Sequence[LatencyRow]) -> str:
    first = rows[0]
    if first.load == IDLE:
        return "idle path"
    way = "both directions" if first.direction == "both" else first.direction
    own = all(row.load == row.name for row in rows)
    return f"beside {'own bulk data' if own else first.load}, {way}"


def _tables(rows: Sequence[LatencyRow], width: int | None) -> Iterator[list[Span]]:
    shown = [(row.name, row.figures) for row in rows]
    name_width = min(LONGEST_NAME, max(len("transport"), *(len(name) for name, _ in shown)))
    columns = list(COLUMNS)
    while columns:
        taken: list[tuple[_Column, int]] = []
        used = name_width
        while columns:
            cells = [columns[0].cell(one) for _, one in shown]
            wide = max(len(text) for text in (*columns[0].head, *cells))
            if taken and width is not None and used + len(GAP) + wide > width:
                break
            taken.append((columns.pop(0), wide))
            used += len(GAP) + wide
        for at, label in enumerate(("", "transport")):
            heads = [f"{GAP}{column.head[at]:>{wide}}" for column, wide in taken]
            yield [(f"{label:<{name_width}}{''.join(heads)}", "header")]
        for name, one in shown:
            if len(name) > name_width:
                yield [(name, "")]
            spans: list[Span] = [(f"{name if len(name) <= name_width else '':<{name_width}}", "")]
            spans += [(f"{GAP}{column.cell(one):>{wide}}", column.style) for column, wide in taken]
            yield spans


def _notes(rows: Sequence[LatencyRow], ways: WaySplit, width: int | None) -> Iterator[list[Span]]:
    """Reasons for missing figures, and the assumption behind the two ways."""
    found = [row.figures for row in rows if row.figures.answered]
    if not found:
        return
    fewest = min(one.answered for one in found)
    yield [("", "")]
    if fewest < FOR_P99:
        text = f"P99 needs {FOR_P99:,} answered messages: a longer time (-t), or --rounds"
        yield from _folded(text, "muted", width)
    elif fewest < FOR_P999:
        text = f"P99.9 needs {FOR_P999:,} answered messages: a longer time (-t), or --rounds"
        yield from _folded(text, "muted", width)
    held = [row for row in rows if _was_held(row.figures)]
    if held:
        names = ", ".join(dict.fromkeys(row.name for row in held))
        text = f"{names}: the column held is large: a stalled transport, or a machine too busy to measure"
        yield from _folded(text, "warn", width)
    text, style = _basis(ways)
    if text:
        yield from _folded(f"up and down: {text}", style, width)


def _basis(ways: WaySplit) -> tuple[str, str]:
    """(the assumption behind the two ways, style); empty: they are not known."""
    if ways.fault:
        return f"empty, because {ways.fault}; without --owd they are estimated for a symmetric path", "warn"
    drift = f"; the clocks drift by {1e6 * abs(ways.drift):.0f} ppm, taken out" if ways.drift else ""
    known = {
        None: "",
        Basis.SYMMETRIC: f"parts of the round trip, if the idle path takes equally long both ways{drift}",
        Basis.SAME_HOST: "one-way delays by one clock, because both ends run on one host",
        Basis.SYNCHRONISED: "one-way delays, if the clocks of both hosts are synchronised (--owd): their"
        " difference lengthens one way and shortens the other",
    }
    return known[ways.basis], "muted"


def _was_held(one: MessageFigures) -> bool:
    """True if messages waited for the transport, or for this program, as long as for a part of the path."""
    held, middle = one.held_p99_us, one.p50_us
    return held is not None and middle is not None and held > max(HELD_US, middle / 4)


def _ms(us: float | None) -> str:
    """Milliseconds with three significant places."""
    if us is None:
        return NOT_AVAILABLE
    value = us / 1e3
    if value < 0.9995:
        return f"{value:.3f}"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _number(value: float | None, form: str) -> str:
    return NOT_AVAILABLE if value is None else form.format(value)


COLUMNS = (
    _Column(("", "P50"), lambda one: _ms(one.p50_us)),
    _Column(("", "P90"), lambda one: _ms(one.p90_us)),
    _Column(("", "P99"), lambda one: _ms(one.p99_us), "rate"),
    _Column(("", "P99.9"), lambda one: _ms(one.p999_us)),
    _Column(("", "max"), lambda one: _ms(one.max_us)),
    _Column((">" + f"{LATE_US / 1e3:.0f} ms", "%"), lambda one: _number(one.late_percent, "{:.2f}")),
    _Column(("lost", "%"), lambda one: _number(one.lost_percent, "{:.2f}")),
    _Column(("wire/", "payload"), lambda one: _number(one.wire_ratio, "{:.2f}")),
    _Column(("", "min"), lambda one: _ms(one.min_us)),
    _Column(("", "stdev"), lambda one: _ms(one.stdev_us)),
    _Column(("", "jitter"), lambda one: _ms(one.jitter_us)),
    _Column(("up", "P50"), lambda one: _ms(one.there_p50_us)),
    _Column(("down", "P50"), lambda one: _ms(one.back_p50_us)),
    _Column(("up", "P99"), lambda one: _ms(one.there_p99_us)),
    _Column(("down", "P99"), lambda one: _ms(one.back_p99_us)),
    _Column(("held", "P99"), lambda one: _ms(one.held_p99_us)),
    _Column(("", "sent"), lambda one: str(one.sent)),
    _Column(("", "answered"), lambda one: str(one.answered)),
)
"""The columns, in order; docs/latency.md explains them."""
