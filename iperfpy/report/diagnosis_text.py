"""The text of a diagnosis: for each direction its rate, the causes, their evidence, and advice.

    up    17.7 of 20.0 Mbit/s   a policer: 20.0 Mbit/s, burst 192 KB (sure)
          evidence   loss begins 0.31 s in, RTT flat
          do         pace at 19.6 Mbit/s

The rate is the payload of the best test, and the IP packets that the direction carries. A terminal folds long
lines under their column; a pipe gets whole ones.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from iperfpy.diagnosis.bufferbloat import Bufferbloat
from iperfpy.diagnosis.finding import SURENESS, Cause, Confidence, Finding
from iperfpy.diagnosis.path_report import Comparison, DirectionReport, PathReport
from iperfpy.plan import WAYS
from iperfpy.protocols.units import counted, format_rate, format_size
from iperfpy.report.screen import Span

STYLES = {Confidence.SURE: "strong", Confidence.LIKELY: "", Confidence.POSSIBLE: "muted"}
WAY_WIDTH, RATE_WIDTH, LABEL_WIDTH = 6, 20, 11
BURST = 1.5
"""Rate of a short test over that of the path up to which a burst explains it."""
NARROWEST = 40
"""Characters for the text of a column, however narrow the terminal is."""


def lines(report: PathReport, width: int | None = None, letter: str = "") -> Iterator[list[Span]]:
    """The lines, as spans. `width`: characters that fit on a line, None: no limit. `letter`: unit of rates,
    one of `RATE_LETTERS`; empty: adaptive."""
    yield [(_title(report), "header")]
    for one in report.directions:
        yield from _direction(one, width, letter)
    for finding in report.both_ways:
        yield from _finding("both", "", finding, width)
    if bloat := _bufferbloat(report):
        yield from _folded([("bufferbloat ", "")], bloat, "", width)
    for one in report.directions:
        if text := _beside(one, letter):
            yield from _folded([(f"{WAYS[one.direction]}: ", "")], text, "", width)
    for one in report.directions:
        if one.diagnosis.changed:
            changed = [(f"{WAYS[one.direction]}: ", "warn")]
            yield from _folded(changed, one.diagnosis.changed, "warn", width)
    if unchecked := _not_checked(report):
        yield from _folded([("not checked: ", "muted")], "; ".join(unchecked), "muted", width)


def _title(report: PathReport) -> str:
    """The server, the idle path, and the cost of the diagnosis."""
    parts = [f"Path to {report.host}"]
    idle = report.idle
    if "p50" in idle.rtt_us:
        parts.append(f"RTT {_ms(idle.rtt_us['p50'])} idle")
    if idle.mtu_bytes is not None:
        parts.append(f"MTU {idle.mtu_bytes}")
    if report.peer_is_iperfpy is False:
        parts.append("a stock iperf3 server")
    parts.append(f"{report.seconds:.0f} s, {format_size(report.sent_bytes)} sent")
    return ", ".join(parts)


def _direction(one: DirectionReport, width: int | None, letter: str) -> Iterator[list[Span]]:
    diagnosis = one.diagnosis
    rate = rates(diagnosis.carried_bits_per_s, diagnosis.capacity_bits_per_s, letter)
    way = WAYS[one.direction]
    if not diagnosis.findings:
        yield [(f"{way:<{WAY_WIDTH}}", "strong"), (f"{rate:<{RATE_WIDTH}}", "rate"), ("no cause found", "")]
    for finding in diagnosis.findings:
        yield from _finding(way, rate, finding, width)
        way, rate = "", "also"


def _finding(way: str, rate: str, finding: Finding, width: int | None) -> Iterator[list[Span]]:
    """The cause on a line that begins with the direction and the rate, then its evidence and its advice."""
    sureness, style = SURENESS[finding.confidence], STYLES[finding.confidence]
    if rate == "also":
        head = [(" " * WAY_WIDTH, ""), (f"{rate:<{LABEL_WIDTH}}", "muted")]
    else:
        head = [(f"{way:<{WAY_WIDTH}}", "strong"), (f"{rate:<{RATE_WIDTH}}" if rate else "", "rate")]
        if rate:
            head.append(("  ", ""))
    said = finding.sentence if finding.cause is Cause.UNKNOWN else f"{finding.sentence} ({sureness})"
    yield from _folded(head, said, style, width)
    for label, text in (("evidence", finding.because), ("do", finding.advice)):
        if text:
            below = [(" " * WAY_WIDTH, ""), (f"{label:<{LABEL_WIDTH}}", "muted")]
            yield from _folded(below, text, "", width)


def rates(carried: float | None, capacity: float | None, letter: str = "") -> str:
    """`17.7 of 20.0 Mbit/s`, or the one of both that is known."""
    if carried is None and capacity is None:
        return "rate not known"
    if carried is not None and capacity is not None and carried > capacity:
        # A short test carried a bucket's burst as well; or bare datagrams, at a machine, fell far behind TCP.
        carried, capacity = (None, capacity) if carried < BURST * capacity else (carried, None)
    if carried is None or capacity is None:
        return format_rate(carried or capacity or 0.0, letter)
    part, whole = format_rate(carried, letter), format_rate(capacity, letter)
    number, _, unit = part.partition(" ")
    return f"{number} of {whole}" if whole.endswith(f" {unit}") else f"{part} of {whole}"


def _bufferbloat(report: PathReport) -> str:
    """The worse grade with the number of each direction, and the reason where there is none."""
    graded: list[tuple[str, Bufferbloat]] = [
        (WAYS[one.direction], one.diagnosis.bufferbloat) for one in report.directions
    ]
    known = [(bloat.increase_us, bloat.letter, way) for way, bloat in graded if bloat.increase_us is not None]
    parts = [f"+{_ms(increase)} {way}" for increase, letter, way in known if letter]
    reasons = [f"{way}: no grade, {bloat.reason}" for way, bloat in graded if not bloat.letter]
    worst = max((one for one in known if one[1]), default=None)
    text = f"{worst[1]} ({', '.join(parts)})" if worst is not None else ""
    return "; ".join([*([text] if text else []), *reasons])


def _beside(one: DirectionReport, letter: str) -> str:
    """UDP beside TCP: the conclusion that both are treated alike, or the figures without a conclusion. Empty
    if there are none, and if a finding says that they differ."""
    if one.diagnosis.alike:
        return one.diagnosis.alike
    comparison = one.comparison
    differ = any(found.cause is Cause.DATAGRAMS_DIFFER for found in one.diagnosis.findings)
    return "" if comparison is None or differ else f"UDP beside TCP: {_figures(comparison, letter)}"


def _figures(one: Comparison, letter: str) -> str:
    parts = [f"{name} {format_rate(rate, letter)}" for name, rate in one.bits_per_second.items()]
    if one.datagrams:
        loss = "was not answered" if one.loss is None else f"loses {100 * one.loss:.1f} %"
        parts.append(f"{one.datagrams} at {format_rate(one.offered_bits_per_s, letter)} {loss}")
    rounds = counted(one.rounds, "round")
    return f"{', '.join(parts)}; {rounds}"


def _not_checked(report: PathReport) -> list[str]:
    phrases = list(report.not_checked)
    for one in report.directions:
        phrases += one.diagnosis.not_checked
    if report.address:
        phrases.append("IPv4" if ":" in report.address else "IPv6")
    return list(dict.fromkeys([*phrases, "other ports"]))


def _folded(head: list[Span], text: str, style: str, width: int | None) -> Iterator[list[Span]]:
    """The head and the text, which goes on below itself where the line is full."""
    indent = sum(len(piece) for piece, _ in head)
    room = None if width is None else max(NARROWEST, width - indent)
    folded = [text] if room is None else _wrapped(text, room)
    first, *rest = folded or [""]
    yield [*head, (first, style)]
    yield from ([(" " * indent, ""), (more, style)] for more in rest)


def _wrapped(text: str, room: int) -> list[str]:
    # Names such as kcp-bbr stay whole.
    return textwrap.wrap(text, room, break_on_hyphens=False, break_long_words=False)


def _ms(us: float) -> str:
    """A time in milliseconds, with the decimals that matter: `0.087 ms`, `4.2 ms`, `139 ms`."""
    ms = us / 1e3
    if ms < 5e-4:
        return "0 ms"
    return f"{ms:.3f} ms" if ms < 1 else f"{ms:.1f} ms" if ms < 100 else f"{ms:.0f} ms"
