"""One test over time: throughput, round-trip time, loss, resent by cause, windows; and the limits of its
senders.

A metric finds its panel by its meaning, so that one of a plug-in is drawn as well; a gauge with a title gets
a panel of its own. Directions are named as the client sees them: up and down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from iperfpy.plan import WAYS, Direction
from iperfpy.protocols.metrics import Kind, Meaning, Metric, Side, Unit, with_meaning
from iperfpy.records import RunStarted
from iperfpy.report.pictures.page_model import LimitShare, Number, Panel, Ribbon, Timeline, Trace
from iperfpy.store.interval_series import (
    APPLICATION_LIMIT,
    PATH_LIMIT,
    Figure,
    any_known,
    arrived_rate,
    first_known,
    limit_shares,
    path_loss,
    resent,
    values_of,
)
from iperfpy.store.stored_run import Run

ROUND_TRIP = "rtt_us"
LIMITS = (
    PATH_LIMIT,
    *("pacing", "congestion window", "send window", "receive window", "send buffer"),
    *(APPLICATION_LIMIT, "processor"),
)
"""Order of the limits in a ribbon. Each has the same colour in all pages. Further labels follow."""
LEAST_SHARE = 0.005
"""A limit with less of the whole time has no lane."""


@dataclass(frozen=True, slots=True)
class DrawnWay:
    """One direction of a test. `several`: the test has two, so that names need the direction."""

    direction: Direction
    slot: int
    several: bool

    def name(self, word: str = "") -> str:
        """`up`, `up, fast`, or `fast` where there is one direction only."""
        parts = (WAYS[self.direction] if self.several or not word else "", word)
        return ", ".join(filter(None, parts))

    def label(self, word: str) -> str:
        """The name of a figure: `received`, or `received, up`."""
        return f"{word}, {WAYS[self.direction]}" if self.several else word


def started_of(run: Run) -> RunStarted:
    """The record of the start. Only a test that started has figures."""
    assert run.started is not None, "the test failed before it started"
    return run.started


def ways_of(run: Run) -> tuple[DrawnWay, ...]:
    """The directions of the test, in order."""
    both = run.plan.direction is Direction.BIDIRECTIONAL
    directions = tuple(WAYS) if both else (run.plan.direction,)
    return tuple(DrawnWay(direction, slot, both) for slot, direction in enumerate(directions))


def timeline_of(run: Run) -> Timeline | None:
    """Panels and ribbons over the intervals of a test; None without an interval."""
    if not run.intervals:
        return None
    ways, omit_s = ways_of(run), run.plan.omit_us / 1e6
    starts: list[float] = []
    for interval in run.intervals:
        # Times begin again at 0 after the omitted period, so that it lies before 0.
        start = interval.start - (omit_s if interval.omitted else 0.0)
        starts.append(max(start, starts[-1] + 1e-6) if starts else start)
    note = f"Before 0 s: the omitted period of {omit_s:g} s." if run.intervals[0].omitted else ""
    return Timeline(
        title="Over time",
        starts_s=tuple(starts),
        end_s=max(run.intervals[-1].end, starts[-1] + 1e-6),
        panels=tuple(panel for panel in _panels(run, ways) if panel is not None),
        ribbons=tuple(ribbon for way in ways if (ribbon := _ribbon(run, way)) is not None),
        note=note,
    )


def _panels(run: Run, ways: Sequence[DrawnWay]) -> Iterator[Panel | None]:
    metrics = started_of(run).transport.metrics
    yield _throughput(run, ways)
    round_trip = next((metric for metric in metrics if ROUND_TRIP in metric.keys), None)
    if round_trip is not None:
        yield _gauge(run, ways, round_trip, "Round-trip time")
    yield _path_loss(run, ways)
    yield _resent(run, ways)
    yield _windows(run, ways, with_meaning(metrics, Meaning.WINDOW))
    for metric in metrics:
        gauge = metric.kind is Kind.GAUGE and metric.unit is not Unit.TEXT
        if metric.title and gauge and metric is not round_trip and metric.meaning is not Meaning.WINDOW:
            yield _gauge(run, ways, metric, metric.title)


def _throughput(run: Run, ways: Sequence[DrawnWay]) -> Panel:
    """Payload that arrived; beside it the payload sent, where the difference is lost."""

    def rate(side: Side) -> Figure:
        return lambda row: sample.bits_per_second if (sample := row.of(side)) is not None else None

    lossy = not started_of(run).transport.reliable
    lines = [
        (way.name("received" if lossy else ""), way.slot, values_of(run, way.direction, arrived_rate))
        for way in ways
    ]
    if lossy:
        lines += [
            (way.name("sent"), way.slot + len(ways), values_of(run, way.direction, rate(Side.SENDER)))
            for way in ways
        ]
    unit, scale = rate_scale(value for _, _, values in lines for value in values)
    traces = (Trace(name, slot, _scaled(values, scale)) for name, slot, values in lines if any_known(values))
    return Panel("Throughput", unit, tuple(traces))


def rate_scale(values: Iterable[Number]) -> tuple[str, float]:
    """The unit for these rates in bit/s, by the largest one, and its size in bit/s."""
    largest = max((value for value in values if value is not None), default=0.0)
    for unit, scale in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if largest >= scale * (10 if unit == "Gbit/s" else 1):
            return unit, scale
    return "kbit/s", 1e3


def _gauge(run: Run, ways: Sequence[DrawnWay], metric: Metric, title: str) -> Panel | None:
    """A gauge; with a band from its minimum to its maximum if it was polled within the interval."""
    scale, unit = _UNITS.get(metric.unit, (1.0, ""))
    traces = []
    for way in ways:
        mean = f"{metric.key}_mean" if metric.spread else metric.key
        values = _scaled(values_of(run, way.direction, first_known(mean, metric.key)), scale)
        if any_known(values):
            lows, highs = (
                _scaled(values_of(run, way.direction, first_known(f"{metric.key}_{end}")), scale)
                if metric.spread
                else ()
                for end in ("min", "max")
            )
            banded = any_known(lows) and any_known(highs)
            traces.append(
                Trace(way.name(), way.slot, values, lows if banded else (), highs if banded else ())
            )
    return Panel(title, unit, tuple(traces)) if traces else None


_UNITS = {Unit.MICROSECONDS: (1e3, "ms"), Unit.BYTES: (1024.0, "KiB"), Unit.PERCENT: (1.0, "%")}
"""Unit of a metric -> its size in that of a page, and the name of the latter."""


def _path_loss(run: Run, ways: Sequence[DrawnWay]) -> Panel | None:
    values = {way: path_loss(run, way.direction) for way in ways}
    traces = tuple(Trace(way.name(), way.slot, one) for way, one in values.items() if any_known(one))
    return Panel("Lost on the path", "%", traces) if traces else None


def _resent(run: Run, ways: Sequence[DrawnWay]) -> Panel | None:
    """Retransmissions by cause, or all together where no cause is known, and where there was none."""
    panel = _shares(run, ways, Meaning.RESENT_CAUSE, "Sent again, by cause")
    if panel is not None and any(any(trace.values) for trace in panel.traces):
        return panel
    return _shares(run, ways, Meaning.RESENT, "Sent again")


def _shares(run: Run, ways: Sequence[DrawnWay], meaning: Meaning, title: str) -> Panel | None:
    """Percentages by cause: those that were above 0 at any time, or the first of them if none was."""
    traces: list[Trace] = []
    for way in ways:
        own = [
            Trace(way.name(name or "sent again"), way.slot + place * len(ways), values)
            for place, (name, values) in enumerate(resent(run, way.direction, meaning).items())
            if any_known(values)
        ]
        traces += [one for one in own if any(one.values)] or own[:1]
    return Panel(title, "%", tuple(traces)) if traces else None


def _windows(run: Run, ways: Sequence[DrawnWay], metrics: Sequence[Metric]) -> Panel | None:
    traces = []
    for way in ways:
        for place, metric in enumerate(metrics):
            values = _scaled(
                values_of(run, way.direction, first_known(f"{metric.key}_mean", metric.key)), 1024.0
            )
            if any_known(values):
                traces.append(Trace(way.name(metric.label), way.slot + place * len(ways), values))
    return Panel("Congestion window", "KiB", tuple(traces)) if traces else None


def _ribbon(run: Run, way: DrawnWay) -> Ribbon | None:
    """The shares of every interval by limit of the sender; None if the sender does not record them."""
    title = f"Limit of the sender, {WAYS[way.direction]}" if way.several else "Limit of the sender"
    return ribbon_of(title, limit_shares(run, way.direction))


def ribbon_of(title: str, shares: Mapping[str, tuple[Number, ...]]) -> Ribbon | None:
    """A ribbon of the limits that held the sender, by name; None if none of them held it for long."""
    order = list(dict.fromkeys((*LIMITS, *shares)))
    lanes = []
    for name in sorted(shares, key=order.index):
        known = [share for share in shares[name] if share is not None]
        if known and sum(known) / len(known) >= LEAST_SHARE:
            lanes.append(LimitShare(name, order.index(name), shares[name]))
    return Ribbon(title, tuple(lanes)) if lanes else None


def _scaled(values: Sequence[Number], scale: float) -> tuple[Number, ...]:
    return tuple(None if value is None else value / scale for value in values)
