"""The page of a diagnosis, from its JSON document: causes with evidence and advice, the ladder, the rounds.

document of -J, or of a stored diagnosis --page_of_diagnosis--> Page
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from iperfpy.diagnosis.finding import Finding
from iperfpy.options import DEFAULT_PORT
from iperfpy.plan import WAYS, Direction
from iperfpy.protocols.units import format_rate, format_size
from iperfpy.report.columns import milliseconds
from iperfpy.report.diagnosis_text import rates
from iperfpy.report.experiment_document import reading, told_by_server
from iperfpy.report.pictures.page_model import (
    Axis,
    Block,
    Box,
    Boxes,
    Cloud,
    Curve,
    Distribution,
    Facts,
    Headline,
    Page,
    Point,
    Scatter,
    Statement,
    Table,
)
from iperfpy.report.pictures.run_page import statement
from iperfpy.report.pictures.run_timeline import rate_scale
from iperfpy.store.document_part import DocumentPart
from iperfpy.store.finding_object import read_finding
from iperfpy.store.iperf3_document import INTERRUPTED

OFFERED = "UDP, ladder of rates"
RTT = Axis("round-trip time", "ms")


@dataclass(frozen=True, slots=True)
class _Rung:
    """One rate of the ladder. `arrived_bits_per_s`: IP packets; `rtt_us`: by percentile."""

    offered_bits_per_s: float
    arrived_bits_per_s: float
    loss: float
    rtt_us: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Test:
    """One test of a round. `rtt_us`: p5, p50 and p95, or empty."""

    transport: str
    bits_per_s: float
    rtt_us: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Way:
    """One direction. `slots`: number of each transport in the page."""

    direction: Direction
    carried_bits_per_s: float | None
    capacity_bits_per_s: float | None
    letter: str
    increase_us: float | None
    rungs: tuple[_Rung, ...]
    tests: tuple[_Test, ...]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """As the client sees it: up or down."""
        return WAYS[self.direction]


def page_of_diagnosis(document: Mapping[str, Any]) -> Page:
    """The page. Raises `DocumentError` if the document is not that of a diagnosis."""
    with reading("a diagnosis"):
        return _page(DocumentPart(document))


def _page(whole: DocumentPart) -> Page:
    start, end, idle = whole.part("start"), whole.part("end"), whole.part("idle")
    host = start.part("connecting_to").text("host")
    findings = [read_finding(one) for one in whole.parts("diagnosis", ())]
    ways = [_way(one) for one in whole.parts("directions", ())]
    idle_rtt = _numbers(idle.part("rtt_us"))
    mtu = idle.whole_or_none("mtu_bytes")
    cost = f"{end.number('seconds'):.0f} s, {format_size(end.whole('sent_bytes'))} sent"
    blocks: list[Block] = []
    # The shapes of a direction stand side by side, the tables of numbers below all shapes.
    for way in ways:
        blocks += [*_ladder(way), *_rounds(way)]
    if curves := tuple(_curves(idle_rtt, ways)):
        note = "By the 5th, 50th and 95th percentile of each test; medians of the rounds."
        blocks.append(Distribution("Round-trip time, idle and loaded", RTT, curves, note=note))
    error = whole.text("error", "")
    return Page(
        title=f"Diagnosis of the path to {host}",
        subtitle=", ".join(filter(None, (f"MTU {mtu} bytes" if mtu else "", cost))),
        unix_time=start.part("timestamp").unix_time("timesecs"),
        headlines=tuple(_headlines(ways, idle_rtt)),
        verdict=tuple(_verdict(findings, ways)),
        blocks=(*blocks, *(_rung_table(way) for way in ways if way.rungs), *_facts(whole, start, ways)),
        command=_command(start),
        warnings=whole.texts("warnings", ()),
        error=error.removeprefix(INTERRUPTED),
        program=start.text("version"),
    )


# -- reading


def _way(one: DocumentPart) -> _Way:
    bloat = one.part("bufferbloat")
    tests = [_test(DocumentPart(each)) for tests in one.values.get("rounds", ()) for each in tests]
    changed, alike = one.text("changed", ""), one.text("alike", "")
    return _Way(
        Direction(one.text("direction")),
        one.number_or_none("carried_bits_per_s"),
        one.number_or_none("capacity_bits_per_s"),
        bloat.text("letter"),
        bloat.number_or_none("increase_us"),
        tuple(_rung(each) for each in one.parts("rungs", ())),
        tuple(tests),
        tuple(filter(None, (changed, alike, *one.texts("not_checked", ())))),
    )


def _rung(one: DocumentPart) -> _Rung:
    sent, arrived, seconds = one.whole("sent"), one.whole("arrived"), one.number("seconds")
    bits = 8 * one.whole("packet_bytes") * arrived / seconds if seconds > 0 else 0.0
    loss = max(0.0, 1 - arrived / sent) if sent else 0.0
    return _Rung(one.number("offered_bits_per_s"), bits, loss, _numbers(one.part("rtt_us")))


def _test(one: DocumentPart) -> _Test:
    """A test of a round: its percentiles are those of the record of its path."""
    control = one.part("sender").values.get("congestion")
    name = one.text("transport")
    path = next((_numbers(each.part("rtt_us")) for each in one.parts("path", ())), {})
    named = bool(control) and control != "none" and str(control) not in name
    return _Test(f"{name} {control}" if named else name, one.number("bits_per_second"), path)


def _numbers(part: DocumentPart) -> dict[str, float]:
    return {key: part.number(key) for key in part.values}


# -- words


def _headlines(ways: Sequence[_Way], idle: Mapping[str, float]) -> Iterator[Headline]:
    for way in ways:
        if way.carried_bits_per_s is not None or way.capacity_bits_per_s is not None:
            known = rates(way.carried_bits_per_s, way.capacity_bits_per_s)
            value, _, unit = known.partition(" ")
            yield Headline(
                value, unit, f"{way.name}: carried of the path's rate" if " of " in known else way.name
            )
    if "p50" in idle:
        yield Headline(milliseconds(idle["p50"]), "ms", "round-trip time, idle")
    for way in ways:
        if way.increase_us is not None:
            letter = f"{way.letter} " if way.letter else ""
            yield Headline(f"{letter}+{milliseconds(way.increase_us)}", "ms", f"bufferbloat {way.name}")


def _verdict(findings: Sequence[Finding], ways: Sequence[_Way]) -> Iterator[Statement]:
    measured = {way.direction for way in ways}
    both = [one for one in findings if one.direction not in measured or one.cause.value == "asymmetry"]
    for way in ways:
        found = [one for one in findings if one.direction is way.direction and one not in both]
        if found:
            yield statement(way.name.capitalize(), found)
        else:
            yield Statement(way.name.capitalize(), "no cause found")
    if both:
        yield statement("Both directions", both)


def _rung_table(way: _Way) -> Table:
    rows = tuple(
        (
            format_rate(one.offered_bits_per_s),
            format_rate(one.arrived_bits_per_s),
            f"{100 * one.loss:.2f} %",
            *(f"{milliseconds(one.rtt_us[key])} ms" if key in one.rtt_us else "-" for key in ("p50", "p95")),
        )
        for one in way.rungs
    )
    header = ("Offered", "Arrived", "Lost", "RTT, median", "RTT, 95th percentile")
    return Table(f"{way.name.capitalize()}: {OFFERED}", header, rows)


def _facts(whole: DocumentPart, start: DocumentPart, ways: Sequence[_Way]) -> Iterator[Facts]:
    peer = start.part("connecting_to")
    known = start.values.get("peer_is_iperfpy")
    kind = "iperfpy" if known else "a stock iperf3" if known is False else ""
    yield Facts("Client", (("Program", start.text("version")), ("System", start.text("system_info"))))
    told = told_by_server(start)
    server = (
        ("Name", peer.text("host")),
        ("Address", start.text("address")),
        ("Program", told.version or kind),
        ("System", told.system_info),
    )
    yield Facts("Server", tuple(row for row in server if row[1]))
    notes = [(way.name, note) for way in ways for note in way.notes]
    notes += [("not checked", phrase) for phrase in whole.texts("not_checked", ())]
    if notes:
        yield Facts("Notes", tuple(notes))


def _command(start: DocumentPart) -> str:
    peer = start.part("connecting_to")
    if not peer.text("host"):
        return ""
    words = ["iperfpy", "diagnose", peer.text("host")]
    if peer.whole("port") != DEFAULT_PORT:
        words += ["-p", str(peer.whole("port"))]
    if start.flag("quick"):
        words.append("--quick")
    if budget := start.whole("budget_bytes"):
        words += ["--budget", str(budget)]
    return shlex.join(words)


# -- pictures


def _ladder(way: _Way) -> Iterator[Scatter]:
    """Loss and round-trip time against the offered rate."""
    if not way.rungs:
        return
    unit, scale = rate_scale([one.offered_bits_per_s for one in way.rungs])
    offered = Axis("offered rate of IP packets", unit)
    title, note = way.name.capitalize(), "A point per rate of UDP, half a second or longer."
    losses = [(one.offered_bits_per_s / scale, 100 * one.loss) for one in way.rungs]
    yield Scatter(f"{title}: loss against rate", offered, Axis("lost", "%"), _joined("UDP", 0, losses), note)
    clouds = [
        cloud
        for slot, (key, name) in enumerate((("p50", "median"), ("p95", "95th percentile")))
        for cloud in _joined(
            name,
            slot,
            [
                (one.offered_bits_per_s / scale, one.rtt_us[key] / 1e3)
                for one in way.rungs
                if key in one.rtt_us
            ],
        )
    ]
    if clouds:
        yield Scatter(f"{title}: delay against rate", offered, RTT, tuple(clouds), note)


def _joined(name: str, slot: int, points: Sequence[Point]) -> tuple[Cloud, ...]:
    return (Cloud(name, slot, tuple(sorted(points)), joined=True),) if points else ()


def _rounds(way: _Way) -> Iterator[Boxes]:
    """The rate of each transport over the rounds."""
    by_transport = _by_transport(way)
    if not by_transport:
        return
    unit, scale = rate_scale([one.bits_per_s for one in way.tests])
    boxes = tuple(
        Box(name, slot, tuple(one.bits_per_s / scale for one in tests))
        for slot, (name, tests) in enumerate(by_transport.items())
    )
    title = f"{way.name.capitalize()}: rate of each transport"
    note = "A point per round, with median and quartiles."
    yield Boxes(title, Axis("payload that arrived", unit), boxes, note)


def _by_transport(way: _Way) -> dict[str, list[_Test]]:
    found: dict[str, list[_Test]] = {}
    for one in way.tests:
        found.setdefault(one.transport, []).append(one)
    return found


def _curves(idle: Mapping[str, float], ways: Sequence[_Way]) -> Iterator[Curve]:
    """The path without load, then each transport in each direction."""
    slot = 0
    if points := _percentiles([idle]):
        yield Curve("idle", slot, points, 0)
    for way in ways:
        for name, tests in _by_transport(way).items():
            slot += 1
            if points := _percentiles([one.rtt_us for one in tests]):
                yield Curve(f"{name} {way.name}", slot, points, 0)


def _percentiles(records: Sequence[Mapping[str, float]]) -> tuple[Point, ...]:
    """The medians of some records of percentiles, as points of a curve."""
    points = []
    for key, share in (("p5", 0.05), ("p50", 0.5), ("p95", 0.95)):
        known = [one[key] for one in records if key in one]
        if known:
            points.append((median(known) / 1e3, share))
    return tuple(points)
