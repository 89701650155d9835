"""The page of `iperfpy latency`, from its JSON document: a table, a distribution and a timeline for each
load.

    document of -J, or of a stored run --page_of_latency--> Page

Rows of one size, rate and load are compared with each other. A transport has one colour in the whole page.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from iperfpy.options import DEFAULT_PORT
from iperfpy.protocols.units import counted
from iperfpy.report.columns import NOT_AVAILABLE, milliseconds
from iperfpy.report.experiment_document import reading, told_by_server
from iperfpy.report.pictures.page_model import (
    Axis,
    Block,
    Box,
    Boxes,
    Curve,
    Distribution,
    Facts,
    Headline,
    Number,
    Page,
    Panel,
    Point,
    Table,
    Timeline,
    Trace,
    thinned_curve,
)
from iperfpy.report.pictures.repeat_command import contender_word
from iperfpy.sampling.latency_report import IDLE, OWN, by_kind
from iperfpy.store.document_part import DocumentPart
from iperfpy.store.iperf3_document import INTERRUPTED

BINS = 120
"""Stretches of time of a panel, at most."""
SHORTEST_BIN_S = 0.1

TIMES = {
    "p50_us": "P50",
    "p90_us": "P90",
    "p99_us": "P99",
    "p999_us": "P99.9",
    "max_us": "max",
    "jitter_us": "jitter",
}
"""Keys of figures in microseconds, and their titles."""
SHARES = {"late_percent": "> 200 ms", "lost_percent": "lost"}
BEST = ("p99_us", "p90_us", "p50_us")
"""Percentiles by which transports are compared: the highest one that is known."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One transport at one size, rate and load.

    Parameters
    ----------
    figures : by key, those that are known
    beyond : (round trip in ms, share of the messages due that took longer or were lost)
    rounds : of each round the seconds between two messages, and the round trips in ms; None: not answered
    """

    name: str
    word: str
    size_bytes: int
    per_s: int
    load: str
    direction: str
    load_text: str
    error: str
    figures: Mapping[str, float]
    beyond: tuple[Point, ...]
    rounds: tuple[tuple[float, tuple[Number, ...]], ...]


def page_of_latency(document: Mapping[str, Any]) -> Page:
    """The page. Raises `DocumentError` if the document is not that of `iperfpy latency`."""
    with reading("message latencies"):
        return _page(DocumentPart(document))


def _page(whole: DocumentPart) -> Page:
    start, end = whole.part("start"), whole.part("end")
    peer = start.part("connecting_to")
    rows = [_row(one) for one in whole.parts("rows")]
    slots = {name: slot for slot, name in enumerate(dict.fromkeys(row.name for row in rows))}
    groups = by_kind(rows)
    kinds = list(dict.fromkeys((row.per_s, row.size_bytes) for row in rows))
    blocks: list[Block] = []
    headlines: list[Headline] = []
    for (_, _, load, way), found in groups.items():
        # One kind of messages stands below the title of the page, and leaves room in those of its pictures.
        title = _load(load, way) if len(kinds) == 1 else f"{_messages(found[0])}, {_load(load, way)}"
        blocks += [block for block in _group(found, slots, title) if block is not None]
        headlines += _headlines(found, title)
    rounds = start.whole("rounds")
    error = whole.text("error", "")
    return Page(
        title=f"Latency of messages to {peer.text('host')}",
        subtitle=", ".join(
            (
                ", ".join(slots),
                *((f"{_messages(rows[0])} per second",) if len(kinds) == 1 else ()),
                counted(rounds, "round"),
                f"{end.number('seconds'):.0f} s",
            )
        ),
        unix_time=start.unix_time("unix_time"),
        headlines=tuple(headlines),
        blocks=(*blocks, *_facts(start)),
        command=_command(start, rows, [load for _, _, load, _ in groups]),
        warnings=(*(f"{row.name}: {row.error}" for row in rows if row.error), *whole.texts("warnings", ())),
        error=error.removeprefix(INTERRUPTED),
        program=start.text("version"),
    )


# -- reading


def _row(one: DocumentPart) -> _Row:
    load, figures, cdf = one.part("load"), one.part("figures"), one.part("cdf")
    known = {key: figures.number(key) for key in figures.values if figures.values[key] is not None}
    trips, shares = cdf.values["round_trip_us"], cdf.values["share_beyond"]
    settings = one.part("settings").values
    return _Row(
        one.text("name"),
        contender_word(one.text("transport"), settings),
        one.whole("size_bytes"),
        one.whole("messages_per_s"),
        load.text("name"),
        str(load.values.get("direction") or ""),
        load.text("text", ""),
        one.text("error", ""),
        known,
        tuple((float(us) / 1e3, float(share)) for us, share in zip(trips, shares, strict=True)),
        tuple(_round(each) for each in one.parts("rounds", ())),
    )


def _round(one: DocumentPart) -> tuple[float, tuple[Number, ...]]:
    trips = one.values["round_trip_us"]
    return one.number("interval_us") / 1e6, tuple(None if us is None else float(us) / 1e3 for us in trips)


# -- one load


def _group(rows: Sequence[_Row], slots: Mapping[str, int], title: str) -> Iterator[Block | None]:
    yield _table(rows, title)
    yield _timeline(rows, slots, title)
    yield _distribution(rows, slots, title)
    yield _boxes(rows, slots, title)


def _load(load: str, direction: str) -> str:
    """`Idle path`, or the load beside the messages, with its direction."""
    if load == IDLE:
        return "Idle path"
    carried = "own bulk data" if load == OWN else load
    return f"Beside {carried}, {'both directions' if direction == 'both' else direction}"


def _messages(row: _Row) -> str:
    return f"{counted(row.per_s, 'message')} of {row.size_bytes} bytes"


def _headlines(rows: Sequence[_Row], title: str) -> Iterator[Headline]:
    """The best transport of a table, by the highest percentile that all of them have."""
    known = [row for row in rows if row.figures.get("answered")]
    key = next((key for key in BEST if known and all(key in row.figures for row in known)), "")
    if key:
        best = min(known, key=lambda row: row.figures[key])
        name = f"{TIMES[key]}, {title[0].lower()}{title[1:]}: {best.name}"
        yield Headline(milliseconds(best.figures[key]), "ms", name)


def _table(rows: Sequence[_Row], title: str) -> Table:
    header = (
        "transport",
        *(f"{name} ms" for name in TIMES.values()),
        *(f"{name} %" for name in SHARES.values()),
        *("wire/payload", "answered", "load"),
    )
    # A cell of milliseconds has no digits of its own: `milliseconds` keeps the significant ones.
    cells = tuple(
        (
            row.name,
            *(_cell(row, key, 1e-3) for key in TIMES),
            *(_cell(row, key, 1.0, 2) for key in SHARES),
            _cell(row, "wire_ratio", 1.0, 2),
            _cell(row, "answered", 1.0, 0),
            row.load_text or NOT_AVAILABLE,
        )
        for row in rows
    )
    return Table(title, header, cells, 1)


def _cell(row: _Row, key: str, factor: float, digits: int | None = None) -> str:
    value = row.figures.get(key)
    if value is None:
        return NOT_AVAILABLE
    return milliseconds(value) if digits is None else f"{value * factor:.{digits}f}"


def _timeline(rows: Sequence[_Row], slots: Mapping[str, int], title: str) -> Timeline | None:
    """Round trips over the time of a test: medians of short stretches, in a band from least to greatest."""
    length = max((interval * len(trips) for row in rows for interval, trips in row.rounds), default=0.0)
    if not length:
        return None
    width = max(SHORTEST_BIN_S, length / BINS)
    count = max(1, round(length / width))
    traces = []
    for row in rows:
        # The n-th message of every round was due at the same time after the begin of its test.
        stretches: list[list[float]] = [[] for _ in range(count)]
        for interval, trips in row.rounds:
            for number, trip in enumerate(trips):
                if trip is not None:
                    stretches[min(count - 1, int(number * interval / width))].append(trip)
        if any(stretches):
            middles, lows, highs = (
                tuple(of(found) if found else None for found in stretches) for of in (median, min, max)
            )
            traces.append(Trace(row.name, slots[row.name], middles, lows, highs))
    if not traces:
        return None
    panel = Panel("round trip", "ms", tuple(traces))
    starts = tuple(number * width for number in range(count))
    note = (
        f"Medians of {width:.2g} s, all rounds together; bands from the shortest to the longest round trip."
    )
    return Timeline(title, starts, count * width, (panel,), note=note)


def _distribution(rows: Sequence[_Row], slots: Mapping[str, int], title: str) -> Distribution | None:
    curves = []
    for row in rows:
        due = round(row.figures.get("due", 0.0))
        # The largest of n samples is not shown as 100 %, as in every distribution of a page.
        points = [(trip, (1 - share) * due / (due + 1)) for trip, share in row.beyond]
        if due and points:
            curves.append(Curve(row.name, slots[row.name], thinned_curve(points), due))
    if not curves:
        return None
    note = "Shares of all messages that were due: a curve ends below 100 % by those that were lost."
    return Distribution(f"{title}: distribution", Axis("round trip", "ms"), tuple(curves), note=note)


def _boxes(rows: Sequence[_Row], slots: Mapping[str, int], title: str) -> Boxes | None:
    boxes = []
    for row in rows:
        trips = tuple(trip for _, trips in row.rounds for trip in trips if trip is not None)
        if trips:
            boxes.append(Box(row.name, slots[row.name], trips))
    if not boxes:
        return None
    note = "Answered messages: median, quartiles, and the shortest and longest round trip."
    return Boxes(f"{title}: spread", Axis("round trip", "ms"), tuple(boxes), note)


# -- text


def _facts(start: DocumentPart) -> Iterator[Facts]:
    peer = start.part("connecting_to")
    yield Facts("Client", (("Program", start.text("version")), ("System", start.text("system_info"))))
    told = told_by_server(start)
    server = (
        ("Name", peer.text("host")),
        ("Port", str(peer.whole("port"))),
        ("Program", told.version),
        ("System", told.system_info),
    )
    yield Facts("Server", tuple(row for row in server if row[1]))


def _command(start: DocumentPart, rows: Sequence[_Row], loads: Sequence[str]) -> str:
    """The command that measures the same rows, except the rate of a load, which the document does not
    have."""
    peer = start.part("connecting_to")
    if not peer.text("host") or not rows:
        return ""
    words = ["iperfpy", "latency", peer.text("host")]
    if peer.whole("port") != DEFAULT_PORT:
        words += ["-p", str(peer.whole("port"))]
    seconds = max((interval * len(trips) for row in rows for interval, trips in row.rounds), default=0.0)
    lists = {
        "--proto": [row.word for row in rows],
        "-l": [str(row.size_bytes) for row in rows],
        "--rate": [str(row.per_s) for row in rows],
        "--load": loads,
        "--load-direction": [row.direction for row in rows if row.direction],
    }
    for flag, values in lists.items():
        if values:
            words += [flag, ",".join(dict.fromkeys(values))]
    words += ["-t", f"{seconds:.1f}".rstrip("0").rstrip(".")] if seconds else []
    return shlex.join([*words, "--rounds", str(start.whole("rounds"))])
