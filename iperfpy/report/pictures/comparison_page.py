"""The page of a comparison: one answer, one table, and each contender's tests beside the others'.

    ComparisonReport --page_of_comparison--> Page

A contender has one colour, dash and mark in the whole page: its place in the user's order.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from iperfpy.comparison.choice import bulk_choice, message_choice
from iperfpy.comparison.comparison_report import ComparisonReport, ContenderFacts, MeasuredTest
from iperfpy.comparison.message_standing import message_standings
from iperfpy.comparison.standing import idle_rtt_us, known_median, standings
from iperfpy.options import DEFAULT_PORT
from iperfpy.plan import WAYS, Direction
from iperfpy.protocols.units import counted, format_rate, format_size
from iperfpy.report.columns import milliseconds
from iperfpy.report.compare_text import cells, rules, troubles
from iperfpy.report.pictures.page_model import (
    Axis,
    Block,
    Box,
    Boxes,
    Cloud,
    Distribution,
    Facts,
    Headline,
    Mark,
    Number,
    Page,
    Panel,
    Scatter,
    Statement,
    Table,
    Timeline,
    Trace,
    quantile_curve,
    quartiles,
)
from iperfpy.report.pictures.repeat_command import contender_word
from iperfpy.report.pictures.run_timeline import rate_scale, ribbon_of
from iperfpy.store.interval_series import any_known

FEWEST_SAMPLES = 5
RTT = Axis("round-trip time under load", "ms")
Column = Callable[[MeasuredTest], tuple[Number, ...]]


def page_of_comparison(report: ComparisonReport) -> Page:
    """The page; it has the tests that were measured, also if an error ended the comparison early."""
    seconds, sent = f"{report.seconds:.0f} s", format_size(report.sent_bytes)
    rounds = f"{counted(report.rounds, 'round')} of tests of {report.test_s:.1f} s"
    blocks: list[Block] = [*_tables(report)]
    if (messages := _messages(report)) is not None:
        blocks.append(messages)
    for way in report.directions:
        blocks += [block for block in _pictures(report, way) if block is not None]
    return Page(
        title=f"Comparison over the path to {report.host}",
        subtitle=f"{', '.join(one.name for one in report.contenders)}; {rounds}; {seconds}, {sent} sent",
        unix_time=report.unix_time,
        headlines=tuple(_headlines(report)),
        verdict=tuple(_verdict(report)),
        blocks=(*blocks, *_facts(report)),
        command=_command(report),
        warnings=(*troubles(report), *report.warnings),
        error=report.error,
        program=report.version,
    )


def _headlines(report: ComparisonReport) -> Iterator[Headline]:
    """The best contender of each direction, and the path without load."""
    for way in report.directions:
        first = next((one for one in standings(report, way) if one.rate is not None), None)
        if first is not None and first.rate is not None:
            value, _, unit = format_rate(first.rate.median).partition(" ")
            yield Headline(value, unit, f"{WAYS[way]}: {first.contender.name}, steady")
    if message := next((one for one in message_standings(report) if one.answered), None):
        # A percentile for which the best contender has too few messages does not make another one the best.
        known = (
            (message.p99_us, "99th percentile"),
            (message.p90_us, "90th percentile"),
            (message.p50_us, "median"),
        )
        value_us, words = next((one for one in known if one[0] is not None), (None, ""))
        if value_us is not None:
            yield Headline(milliseconds(value_us), "ms", f"messages: {message.contender.name}, {words}")
    idle = idle_rtt_us(report)
    if idle is not None:
        yield Headline(milliseconds(idle), "ms", "round-trip time, idle")


def _verdict(report: ComparisonReport) -> Iterator[Statement]:
    choice = bulk_choice(report)
    for label, one in (("Bulk data", choice), ("Messages", message_choice(report))):
        if one.sentence:
            yield Statement(label, one.sentence)
    for way, ranking in choice.rankings.items():
        limits = [one.limit for one in report.of(ranking.names[0], way) if one.limit is not None]
        if limits:
            lines = (("evidence", limits[-1].because), ("do", limits[-1].advice))
            sentence = f"{limits[-1].sentence} ({ranking.names[0]})"
            yield Statement(f"Limit {WAYS[way]}", sentence, tuple(line for line in lines if line[1]))


def _tables(report: ComparisonReport) -> Iterator[Table]:
    """The tables of the terminal. The rules behind the figures stand below the last one."""
    found = [*cells(report)]
    for place, one in enumerate(found, 1):
        yield Table(one.title, one.header, one.rows, 2, rules(report) if place == len(found) else "")


def _messages(report: ComparisonReport) -> Distribution | None:
    """Round trips of the messages of each contender, all rounds together."""
    curves = []
    for slot, facts in _slots(report):
        trips = [us / 1e3 for one in report.messages_of(facts.name) for us in one.round_trip_us]
        if len(trips) >= FEWEST_SAMPLES:
            curves.append(quantile_curve(facts.name, slot, trips))
    if not curves:
        return None
    note = "Answered messages, from the moment at which each was due to the arrival of its echo."
    return Distribution("Round trips of messages", Axis("round trip", "ms"), tuple(curves), (), note)


# -- one direction


def _pictures(report: ComparisonReport, way: Direction) -> Iterator[Block | None]:
    rates = [one.steady_bits_per_second for one in report.tests if one.direction is way and not one.failed]
    unit, scale = rate_scale(rates)
    yield _timeline(report, way, unit, scale)
    yield _scatter(report, way, unit, scale)
    yield _distribution(report, way)
    yield _boxes(report, way, unit, scale)


def _slots(report: ComparisonReport) -> Iterator[tuple[int, ContenderFacts]]:
    return enumerate(report.contenders)


def _timeline(report: ComparisonReport, way: Direction, unit: str, scale: float) -> Timeline | None:
    """Each contender over the seconds of its tests: the median of the rounds, in a band of the quartiles."""
    tests = [one for one in report.tests if one.direction is way and not one.failed and _ends(one)]
    if not tests:
        return None
    # Tests of a comparison have the same length and intervals, so that the n-th ones lie beside each other.
    count = max(len(_ends(one)) for one in tests)
    ends = [known_median(times[at] for one in tests if at < len(times := _ends(one))) for at in range(count)]
    starts = [0.0]
    for end in ends[:-1]:
        starts.append(max(end or 0.0, starts[-1] + 1e-3))
    panels = [
        _panel(report, way, count, title, shown, partial(_column, key), size)
        for title, shown, key, size in (
            ("Throughput", unit, "bits_per_second", scale),
            ("Round-trip time", "ms", "rtt_us", 1e3),
            ("Lost on the path", "%", "loss_percent", 1.0),
            ("Sent again", "%", "resent_percent", 1.0),
        )
    ]
    # A contender has one colour, so that each cause has a panel of its own.
    causes = (name for one in tests for name, shares in one.resent_series.items() if any(shares))
    panels += [
        _panel(report, way, count, f"Sent again, {cause}", "%", partial(_cause, cause), 1.0)
        for cause in dict.fromkeys(causes)
    ]
    ribbons = (
        ribbon_of(f"Limit of the sender, {facts.name}", _limits(report.of(facts.name, way), count))
        for facts in report.contenders
    )
    return Timeline(
        f"{WAYS[way].capitalize()}, over the seconds of a test",
        tuple(starts),
        max(ends[-1] or 0.0, starts[-1] + 1e-3),
        tuple(panel for panel in panels if panel.traces),
        tuple(ribbon for ribbon in ribbons if ribbon is not None),
        "Medians of the tests of each contender, limits by their mean share; bands from the lower to the"
        f" upper quartile. The first {report.startup_s:.1f} s are the start-up.",
    )


def _ends(one: MeasuredTest) -> tuple[Number, ...]:
    return one.series.get("end_s", ())


def _column(key: str, one: MeasuredTest) -> tuple[Number, ...]:
    return one.series.get(key, ())


def _cause(cause: str, one: MeasuredTest) -> tuple[Number, ...]:
    return one.resent_series.get(cause, ())


def _limits(tests: Sequence[MeasuredTest], count: int) -> dict[str, tuple[Number, ...]]:
    """The mean share of each interval by limit, over the tests that recorded it."""
    names = dict.fromkeys(name for one in tests for name in one.limit_series)
    shares: dict[str, list[Number]] = {name: [] for name in names}
    for at in range(count):
        by_test = [
            {name: values[at] for name, values in one.limit_series.items() if at < len(values)}
            for one in tests
        ]
        known = [one for one in by_test if any(value is not None for value in one.values())]
        for name, column in shares.items():
            column.append(sum(one.get(name) or 0.0 for one in known) / len(known) if known else None)
    return {name: tuple(column) for name, column in shares.items()}


def _panel(
    report: ComparisonReport, way: Direction, count: int, title: str, unit: str, column: Column, scale: float
) -> Panel:
    traces = []
    for slot, facts in _slots(report):
        # One column per test; a test that ended early has fewer intervals.
        columns = [column(one) for one in report.of(facts.name, way)]
        by_interval = [
            [value / scale for values in columns if at < len(values) and (value := values[at]) is not None]
            for at in range(count)
        ]
        values = tuple(known_median(found) for found in by_interval)
        lows, highs = (
            tuple(quartiles(found)[at] if found else None for found in by_interval) for at in (1, 3)
        )
        if any_known(values):
            banded = len(columns) > 1
            traces.append(Trace(facts.name, slot, values, lows if banded else (), highs if banded else ()))
    return Panel(title, unit, tuple(traces))


def _scatter(report: ComparisonReport, way: Direction, unit: str, scale: float) -> Scatter | None:
    """Steady rate against the 95th percentile of the round-trip time, a point per test."""
    clouds = []
    for slot, facts in _slots(report):
        points = tuple(
            (one.rtt_us["p95"] / 1e3, one.steady_bits_per_second / scale)
            for one in report.of(facts.name, way)
            if "p95" in one.rtt_us and one.steady_bits_per_second is not None
        )
        if points:
            clouds.append(Cloud(facts.name, slot, points))
    if not clouds:
        return None
    return Scatter(
        f"{WAYS[way].capitalize()}: rate against delay",
        Axis("round-trip time, 95th percentile", "ms", inverted=True),
        Axis("steady throughput", unit),
        tuple(clouds),
        "A point per test; ellipses of one standard deviation. Better is up and to the right.",
    )


def _distribution(report: ComparisonReport, way: Direction) -> Distribution | None:
    """Round-trip times of the intervals after the start-up, all rounds together."""
    curves = []
    for slot, facts in _slots(report):
        samples = [
            rtt / 1e3
            for one in report.of(facts.name, way)
            for end, rtt in zip(_ends(one), one.series.get("rtt_us", ()), strict=False)
            if rtt is not None and end is not None and end > one.steady_from_s
        ]
        if len(samples) >= FEWEST_SAMPLES:
            curves.append(quantile_curve(facts.name, slot, samples))
    if not curves:
        return None
    idle = idle_rtt_us(report)
    marks = () if idle is None else (Mark("idle", idle / 1e3),)
    title = f"{WAYS[way].capitalize()}: round-trip time under load"
    return Distribution(title, RTT, tuple(curves), marks, "Means of the intervals after the start-up.")


def _boxes(report: ComparisonReport, way: Direction, unit: str, scale: float) -> Boxes | None:
    boxes = []
    for slot, facts in _slots(report):
        rates = [one.steady_bits_per_second for one in report.of(facts.name, way)]
        values = tuple(rate / scale for rate in rates if rate is not None)
        if values:
            boxes.append(Box(facts.name, slot, values))
    if not boxes:
        return None
    title = f"{WAYS[way].capitalize()}: steady rates"
    return Boxes(title, Axis("steady throughput", unit), tuple(boxes), "Median, quartiles, and every test.")


# -- text


def _facts(report: ComparisonReport) -> Iterator[Facts]:
    here = (("Program", report.version), ("System", report.system_info))
    kind = {None: "", True: "iperfpy", False: "a stock iperf3"}[report.peer_is_iperfpy]
    there = (
        ("Name", report.host),
        ("Port", str(report.port)),
        ("Address", report.address),
        ("Program", report.server_version or kind),
        ("System", report.server_system_info),
    )
    test = (
        ("Rounds", str(report.rounds)),
        ("Length of a test", f"{report.test_s:.1f} s, of which {report.startup_s:.1f} s are the start-up"),
        ("Rest before a test", f"{report.rest_s:.1f} s"),
        ("Seed of the order", str(report.seed)),
        ("End", "every median is known well enough" if report.converged else "the time or the budget was up"),
    )
    for title, rows in (("Client", here), ("Server", there), ("Comparison", test)):
        yield Facts(title, tuple(row for row in rows if row[1]))


def _command(report: ComparisonReport) -> str:
    """The command that runs the same tests in the same order."""
    if not report.host or not report.contenders:
        return ""
    words = ["iperfpy", "compare", report.host]
    if report.port != DEFAULT_PORT:
        words += ["-p", str(report.port)]
    contenders = (contender_word(one.transport, one.settings, one.rate_bps) for one in report.contenders)
    words += ["--proto", ",".join(contenders)]
    if len(report.directions) == 1:
        words.append("-R" if report.directions[0] is Direction.REVERSE else "--forward")
    words += ["-t", f"{report.limit_s:g}"]
    if report.budget_bytes:
        words += ["--budget", str(report.budget_bytes)]
    return shlex.join([*words, "--seed", str(report.seed)])
