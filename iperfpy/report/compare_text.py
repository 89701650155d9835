"""The text of a comparison: tables of the contenders by direction, and the answer in a sentence.

Where a line is full, the columns go on in a second table below, so that nothing is left out in 80 columns. A
name of more than `LONGEST_NAME` characters has a line of its own. A pipe gets one table, with whole lines.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from iperfpy.comparison.choice import BOTH, Choice, bulk_choice, message_choice
from iperfpy.comparison.comparison_report import ComparisonReport
from iperfpy.comparison.message_standing import SLOWEST, MessageStanding, message_standings
from iperfpy.comparison.ranking import Ranking
from iperfpy.comparison.standing import Standing, idle_rtt_us, standings
from iperfpy.diagnosis.finding import Cause
from iperfpy.plan import WAYS, Direction
from iperfpy.protocols.units import (
    bits_per_rate_unit,
    counted,
    format_milliseconds,
    format_rate,
    format_size,
    rate_unit,
)
from iperfpy.report.columns import NOT_AVAILABLE
from iperfpy.report.screen import Span
from iperfpy.report.settings_text import settings_line
from iperfpy.sampling.order_statistics import FEWEST_FOR_MEDIAN

GAP = "  "
WAY_WIDTH = 6
LONGEST_NAME = 20
EQUAL = "~"
MESSAGE_WAY = "msgs"
MIB = 1 << 20
SHORT_STEADY_S = 1.0
"""Time behind the start-up below which a steady rate may hold data that was sent before."""
NARROWEST = 40
"""Characters for a folded sentence, however narrow the terminal is."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the table: a contender in a direction, its ranking, and the best median of the direction."""

    standing: Standing
    ranking: Ranking | None
    best: float = 0.0


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a table: the labels before its cells, and the cells."""

    way: str
    name: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Head:
    """One column: two lines of header, and its style."""

    head: tuple[str, str]
    style: str = ""


@dataclass(frozen=True, slots=True)
class _Column(_Head):
    """A column of the table of bulk data, with the way to its cells."""

    cell: Callable[[_Row], str] = lambda row: ""


@dataclass(frozen=True, slots=True)
class _MessageColumn(_Head):
    """A column of the table of messages. An empty cell gets the difference to the best contender."""

    cell: Callable[[MessageStanding], str] = lambda one: ""


def lines(report: ComparisonReport, width: int | None = None, letter: str = "") -> Iterator[list[Span]]:
    """The lines, as spans. `width`: characters that fit on a line, None: no limit. `letter`: unit of rates,
    one of `RATE_LETTERS`; empty: by the fastest one."""
    choice, messages = bulk_choice(report), message_choice(report)
    yield from _folded([("", "")], _title(report), "header", width)
    rows = [row for way in report.directions for row in _rows(report, way, choice.rankings.get(way))]
    answered = message_standings(report)
    if rows:
        columns = _columns(rows, letter or _letter(rows))
        yield from _tables(columns, _bulk_lines(columns, rows), width)
    if answered:
        ranking = messages.rankings.get(BOTH)
        yield from _tables(MESSAGE_COLUMNS, _message_lines(answered, ranking), width)
    yield from _notes(report, rows, answered, width)
    if settings := _settings(report):
        yield from _folded([("", "")], settings, "muted", width)
    for one in (choice, messages):
        yield from _folded([("", "")], one.sentence, "strong", width)
    yield from _limits(report, choice, width)
    for text in troubles(report):
        yield from _folded([("", "")], text, "warn", width)


def _title(report: ComparisonReport) -> str:
    """The server, the idle path, and the cost of the comparison."""
    parts = [f"Comparison over the path to {report.host}"]
    idle = idle_rtt_us(report)
    if idle is not None:
        parts.append(f"RTT {format_milliseconds(idle)} idle")
    if report.peer_is_iperfpy is False:
        parts.append("a stock iperf3 server")
    rounds = counted(report.rounds, "round")
    parts.append(f"{rounds} of tests of {report.test_s:.1f} s")
    parts.append(f"{report.seconds:.0f} s, {format_size(report.sent_bytes)} sent")
    return ", ".join(parts)


# -- the table


def _rows(report: ComparisonReport, way: Direction, ranking: Ranking | None) -> list[_Row]:
    found = standings(report, way)
    top = ranking.names[0] if ranking is not None else ""
    best = next((one.rate.median for one in found if one.contender.name == top and one.rate), 0.0)
    return [_Row(one, ranking, best) for one in found]


def _letter(rows: Sequence[_Row]) -> str:
    """The unit of all rates of the table, by the fastest one."""
    best = max((one.standing.rate.median for one in rows if one.standing.rate is not None), default=0.0)
    return "k" if best < 1e6 else "m" if best < 1e10 else "g"


def _columns(rows: Sequence[_Row], letter: str) -> list[_Column]:
    """The columns, in the order of the table. `letter`: unit of the rates."""
    unit = bits_per_rate_unit(letter)
    few = all(one.standing.tests < FEWEST_FOR_MEDIAN for one in rows)
    return [
        _Column(("steady", rate_unit(letter)), "rate", lambda row: _rate(row, unit)),
        _Column(("range", "") if few else ("95 %", "interval"), "", lambda row: _interval(row, unit)),
        _Column(("to", "best"), "", _difference),
        _Column(("start-up", "s to 90 %"), "", lambda row: _number(row.standing.startup_s, "{:.1f}")),
        _Column(("start-up", "MiB"), "", lambda row: _number(row.standing.startup_bytes, "{:.2f}", 1 / MIB)),
        _Column(("RTT", "ms"), "", lambda row: _milliseconds(row.standing.rtt_us)),
        _Column(("bloat", "ms"), "", _bloat),
        _Column(("wire/", "payload"), "", lambda row: _number(row.standing.wire_per_payload, "{:.3f}")),
        _Column(("resent", "%"), "", lambda row: _number(row.standing.resent_percent, "{:.2f}")),
        _Column(("in vain", "%"), "", lambda row: _number(row.standing.in_vain_percent, "{:.1f}")),
        _Column(("lost", "%"), "", lambda row: _number(row.standing.loss_percent, "{:.2f}")),
        _Column(("", "tests"), "", lambda row: str(row.standing.tests)),
    ]


@dataclass(frozen=True, slots=True)
class Cells:
    """A table for another form of report: its title, header, and rows of text. The first two columns are the
    direction and the name of the contender."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def cells(report: ComparisonReport, letter: str = "") -> Iterator[Cells]:
    """The tables of `lines`, those that have rows: of bulk data, and of messages."""
    choice, messages = bulk_choice(report), message_choice(report)
    rows = [row for way in report.directions for row in _rows(report, way, choice.rankings.get(way))]
    if rows:
        columns = _columns(rows, letter or _letter(rows))
        yield _cells("Bulk data", columns, _bulk_lines(columns, rows))
    answered = message_standings(report)
    if answered:
        lines = _message_lines(answered, messages.rankings.get(BOTH))
        yield _cells("Messages", MESSAGE_COLUMNS, lines)


def _cells(title: str, columns: Sequence[_Head], lines: Sequence[_Line]) -> Cells:
    header = ("", "contender", *(" ".join(filter(None, column.head)) for column in columns))
    return Cells(title, header, tuple((line.way, line.name, *line.cells) for line in lines))


def rules(report: ComparisonReport) -> str:
    """The note below the tables."""
    rows = [row for way in report.directions for row in _rows(report, way, None)]
    lines = _notes(report, rows, message_standings(report), None)
    noted = " ".join(text for line in lines for text, _ in line)
    return " ".join(filter(None, (noted, _settings(report))))


def _settings(report: ComparisonReport) -> str:
    """The line with the settings of the contenders; empty if their names tell them all."""
    return settings_line((one.name, one.settings) for one in report.contenders)


def _rate(row: _Row, unit: float) -> str:
    rate = row.standing.rate
    return NOT_AVAILABLE if rate is None else _places(rate.median / unit)


def _interval(row: _Row, unit: float) -> str:
    """`[18.7 19.0]`, or the range of too few tests: `(18.7 19.0)`."""
    rate = row.standing.rate
    if rate is None:
        return NOT_AVAILABLE
    inside = f"{_places(rate.low / unit)} {_places(rate.high / unit)}"
    return f"({inside})" if rate.is_range else f"[{inside}]"


def _difference(row: _Row) -> str:
    standing = row.standing
    median = standing.rate.median if standing.rate is not None else None
    return _to_best(standing.contender.name, median, row.best, row.ranking)


def _to_best(name: str, value: float | None, best: float | None, ranking: Ranking | None) -> str:
    """The difference to the best contender: `~` if there is none, `-12 %`, or `(-12 %)` if the tests are too
    few to tell. `value`, `best`: medians."""
    if ranking is None or value is None or name not in ranking.names:
        return NOT_AVAILABLE
    top = ranking.names[0]
    if name == top:
        return "best" if ranking.decides or len(ranking.names) == 1 else "(best)"
    pair = ranking.pair(top, name)
    if pair is not None:
        return EQUAL if not pair.different else _change(pair.shift or 0.0)
    return f"({_change(value / best - 1)})" if best else NOT_AVAILABLE


def _change(share: float) -> str:
    """`+12 %`, `-3 %`, and `0 %` without a sign."""
    percent = round(100 * share)
    return f"{percent:+d} %" if percent else "0 %"


def _bloat(row: _Row) -> str:
    """`C +124`, the increase of the round-trip time under load with its letter."""
    increase = row.standing.increase_us
    if increase is None:
        return NOT_AVAILABLE
    return f"{row.standing.grade} +{_milliseconds(increase)}".strip()


def _milliseconds(us: float | None) -> str:
    return NOT_AVAILABLE if us is None else _places(us / 1e3)


def _number(value: float | None, form: str, factor: float = 1.0) -> str:
    return NOT_AVAILABLE if value is None else form.format(value * factor)


def _places(value: float) -> str:
    """Three significant places, whole digits never cut: `0.052`, `1.23`, `18.9`, `1240`."""
    if value < 0.9995:
        return f"{value:.3f}"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _bulk_lines(columns: Sequence[_Column], rows: Sequence[_Row]) -> list[_Line]:
    lines = []
    shown: Direction | None = None
    for row in rows:
        way = row.standing.direction
        label = WAYS[way] if way is not shown else ""
        cells = tuple(column.cell(row) for column in columns)
        lines.append(_Line(label, row.standing.contender.name, cells))
        shown = way
    return lines


MESSAGE_COLUMNS = (
    _MessageColumn(("P50", "ms"), "", lambda one: _milliseconds(one.p50_us)),
    _MessageColumn(("P90", "ms"), "", lambda one: _milliseconds(one.p90_us)),
    _MessageColumn(("P99", "ms"), "rate", lambda one: _milliseconds(one.p99_us)),
    _MessageColumn(("slowest", f"{SLOWEST * 100:.0f} %, ms"), "", lambda one: _milliseconds(one.slowest_us)),
    _MessageColumn(("to", "best")),
    _MessageColumn(("> 0.2 s", "%"), "", lambda one: _number(one.late_percent, "{:.2f}")),
    _MessageColumn(("wire/", "payload"), "", lambda one: _number(one.wire_ratio, "{:.2f}")),
    _MessageColumn(("", "answered"), "", lambda one: str(one.answered)),
)


def _message_lines(found: Sequence[MessageStanding], ranking: Ranking | None) -> list[_Line]:
    best = next((one.slowest_us for one in found if ranking and one.contender.name == ranking.names[0]), None)
    lines = []
    for place, one in enumerate(found):
        difference = _to_best(one.contender.name, one.slowest_us, best, ranking)
        cells = [
            difference if column.head == ("to", "best") else column.cell(one) for column in MESSAGE_COLUMNS
        ]
        lines.append(_Line("" if place else MESSAGE_WAY, one.contender.name, tuple(cells)))
    return lines


def _tables(columns: Sequence[_Head], lines: Sequence[_Line], width: int | None) -> Iterator[list[Span]]:
    """The columns in one table, or in as many as the width needs."""
    name_width = min(LONGEST_NAME, max(len("contender"), *(len(line.name) for line in lines)))
    widths = [
        max(*map(len, column.head), *(len(line.cells[place]) for line in lines))
        for place, column in enumerate(columns)
    ]
    room = None if width is None else width - WAY_WIDTH - name_width
    block: list[int] = []
    for place in range(len(columns)):
        used = sum(len(GAP) + widths[each] for each in block)
        if block and room is not None and used + len(GAP) + widths[place] > room:
            yield from _table(columns, lines, block, name_width, widths)
            block = []
        block.append(place)
    yield from _table(columns, lines, block, name_width, widths)


def _table(
    columns: Sequence[_Head],
    lines: Sequence[_Line],
    block: Sequence[int],
    name_width: int,
    widths: Sequence[int],
) -> Iterator[list[Span]]:
    """The two lines of the header, and a line for each row. `block`: the places of the columns."""
    for part, label in enumerate(("", "contender")):
        heads = "".join(GAP + columns[place].head[part].rjust(widths[place]) for place in block)
        yield [(f"{'':<{WAY_WIDTH}}{label:<{name_width}}{heads}", "header")]
    for line in lines:
        label, name = f"{line.way:<{WAY_WIDTH}}", line.name
        if len(name) > name_width:
            yield [(label, "strong"), (name, "")]
            label, name = " " * WAY_WIDTH, ""
        cells = [(GAP + line.cells[place].rjust(widths[place]), columns[place].style) for place in block]
        yield [(label, "strong"), (f"{name:<{name_width}}", ""), *cells]


# -- below the table


def _notes(
    report: ComparisonReport,
    rows: Sequence[_Row],
    answered: Sequence[MessageStanding],
    width: int | None,
) -> Iterator[list[Span]]:
    """The rules behind the figures, as far as the tables need them."""
    notes: list[str] = []
    if rows:
        notes += _steady_notes(report)
    if any(one.standing.rate is not None and one.standing.rate.is_range for one in rows):
        notes.append(f"( ): range of fewer than {FEWEST_FOR_MEDIAN} tests, instead of a 95 % interval")
    if any(_difference(one) == EQUAL for one in rows):
        notes.append(f"{EQUAL}: not different from the best")
    ungraded = [one.standing for one in rows if one.standing.increase_us is not None]
    reasons = dict.fromkeys(one.no_grade for one in ungraded if one.no_grade)
    notes += [f"bloat without a letter: {reason}" for reason in reasons]
    names = dict.fromkeys(one.standing.contender.name for one in rows if not one.standing.contender.ranked)
    for name in names:
        rates = ", ".join(
            f"{format_rate(one.standing.target_bits_per_second)} {WAYS[one.standing.direction]}"
            for one in rows
            if one.standing.contender.name == name
        )
        notes.append(f"{name} is sent at {rates}, and not ranked")
    messages = next((one for one in report.messages if not one.failed), None)
    if answered and messages is not None:
        size, rate = messages.size_bytes, messages.per_s
        notes.append(f"{MESSAGE_WAY}: messages of {size} bytes, {rate} a second, echoed over the idle path")
    if notes:
        yield from _folded([("", "")], "; ".join(notes), "muted", width)


def _steady_notes(report: ComparisonReport) -> Iterator[str]:
    """The part of the tests that the steady rates are about, as it was measured."""
    tests = [one for one in report.tests if not one.failed]
    if not tests:
        return
    startups_s = [one.steady_from_s for one in tests]
    yield f"steady: payload after the first {_range(startups_s)} s of each test, which are the start-up"
    left_s = [one.seconds - one.steady_from_s for one in tests]
    if round(min(left_s), 1) < SHORT_STEADY_S:
        more = "--budget" if report.budget_bytes else "--time"
        yield (
            f"only {_range(left_s)} s are left of each test, and data that waited behind a loss of the"
            f" start-up may count in them: a larger {more} gives better rates"
        )


def _range(seconds: Sequence[float]) -> str:
    """`1.0`, or `0.4 to 1.0` if the values differ."""
    low, high = f"{min(seconds):.1f}", f"{max(seconds):.1f}"
    return low if low == high else f"{low} to {high}"


def _limits(report: ComparisonReport, choice: Choice, width: int | None) -> Iterator[list[Span]]:
    """The limit of the best contender in each direction, by its last test that has one."""
    for way, ranking in choice.rankings.items():
        found = [one.limit for one in report.of(ranking.names[0], way) if one.limit is not None]
        if found:
            text = f"{found[-1].sentence} ({ranking.names[0]})"
            yield from _folded([(f"Limited {WAYS[way]} by: ", "strong")], text, "", width)


def troubles(report: ComparisonReport) -> Iterator[str]:
    """A sentence for the contenders that were left out for one reason, and for each contender those about
    failed tests, and about tests in which a machine was too slow."""
    reasons: dict[str, list[str]] = {}
    for gone in report.left_out:
        part = "messages" if gone.messages else WAYS[gone.direction] if gone.direction is not None else ""
        reasons.setdefault(gone.reason, []).append(f"{gone.contender} {part}".rstrip())
    for reason, names in reasons.items():
        yield f"Left out: {', '.join(names)} ({reason})"
    for one in report.contenders:
        for way in report.directions:
            failures = report.failures(one.name, way)
            count = len(failures) + len(report.of(one.name, way))
            yield from _failed(f"{one.name} {WAYS[way]}", [each.error for each in failures], count)
        yield from _slow_machines(report, one.name)
        lost = [each.error for each in report.messages if each.contender == one.name and each.failed]
        yield from _failed(f"{one.name} messages", lost, len(lost) + len(report.messages_of(one.name)))


def _slow_machines(report: ComparisonReport, name: str) -> Iterator[str]:
    """A sentence if tests of a contender show a machine and not the path."""
    measured = [one for one in report.tests if one.contender == name and not one.failed]
    slow = [one.limit for one in measured if one.limit is not None and one.limit.cause is Cause.PROCESSOR]
    if slow:
        count = f"{len(slow)} of {counted(len(measured), 'test')}"
        yield f"{name}: {count} met the limit of a machine, not of the path ({slow[-1].sentence})"


def _failed(what: str, errors: Sequence[str], count: int) -> Iterator[str]:
    if errors:
        failed = f"{len(errors)} of {counted(count, 'test')}"
        reason = errors[-1] or "too short for a steady rate"
        yield f"{what}: {failed} failed, and no figure uses them ({reason})"


def _folded(head: list[Span], text: str, style: str, width: int | None) -> Iterator[list[Span]]:
    """The head and the text, which goes on below itself where the line is full."""
    indent = sum(len(piece) for piece, _ in head)
    room = None if width is None else max(NARROWEST, width - indent)
    # Names such as kcp-bbr stay whole.
    folded = (
        [text] if room is None else textwrap.wrap(text, room, break_on_hyphens=False, break_long_words=False)
    )
    first, *rest = folded or [""]
    yield [*head, (first, style)]
    yield from ([(" " * indent, ""), (more, style)] for more in rest)
