"""One test over time: throughput, round-trip time, loss, resent by cause, windows; and the limits of its
senders.

A metric finds its panel by its meaning, so that one of a plug-in is drawn as well; a gauge with a title gets
a panel of its own. Directions are named as the client sees them: up and down.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from iperfpy.plan import WAYS, Direction
from iperfpy.protocols.metrics import Kind, Meaning, Metric, Side, Unit, Value, number, with_meaning
from iperfpy.records import Row, RunStarted
from iperfpy.report.pictures.page_model import LimitShare, Number, Panel, Ribbon, Timeline, Trace
from iperfpy.store.stored_run import Interval, Run, figure_of

ROUND_TRIP = "rtt_us"
BINS_PER_INTERVAL = 4
"""Bins of a record of packets that an interval has at least, so that their edges do not matter."""

PATH_LIMIT, APPLICATION_LIMIT = "congestion control", "application"
"""Names of two limits that follow from the time with data to send (`Meaning.SENDER_BUSY`)."""
LIMITS = (
    PATH_LIMIT,
    *("pacing", "congestion window", "send window", "receive window", "send buffer"),
    *(APPLICATION_LIMIT, "processor"),
)
"""Order of the limits in a ribbon. Each has the same colour in all pages. Further labels follow."""
LEAST_SHARE = 0.005
"""A limit with less of the whole time has no lane."""

Figure = Callable[[Row], Number]


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
    yield _path_loss(run, ways, metrics)
    yield _resent(run, ways, metrics)
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
        (way.name("received" if lossy else ""), way.slot, values_of(run, way, arrived_rate)) for way in ways
    ]
    if lossy:
        lines += [
            (way.name("sent"), way.slot + len(ways), values_of(run, way, rate(Side.SENDER))) for way in ways
        ]
    unit, scale = rate_scale(value for _, _, values in lines for value in values)
    traces = (Trace(name, slot, _scaled(values, scale)) for name, slot, values in lines if any_known(values))
    return Panel("Throughput", unit, tuple(traces))


def arrived_rate(row: Row) -> Number:
    """Payload rate at the receiver, or as this end counted it."""
    return (row.of(Side.RECEIVER) or row.local).bits_per_second


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
        values = _scaled(values_of(run, way, first_known(mean, metric.key)), scale)
        if any_known(values):
            lows, highs = (
                _scaled(values_of(run, way, first_known(f"{metric.key}_{end}")), scale)
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


def _path_loss(run: Run, ways: Sequence[DrawnWay], metrics: Sequence[Metric]) -> Panel | None:
    losses = with_meaning(metrics, Meaning.PATH_LOSS)
    if not losses:
        return None
    metric = losses[-1]
    traces = []
    for way in ways:
        values: tuple[Number, ...] | None = None
        if metric.kind is Kind.MISSING:
            values = recorded_shares(run, way) or missing_shares(run, way, metric)
        values = values or values_of(run, way, first_known(metric.key))
        if any_known(values):
            traces.append(Trace(way.name(), way.slot, values))
    return Panel("Lost on the path", "%", tuple(traces)) if traces else None


def recorded_shares(run: Run, way: DrawnWay) -> tuple[Number, ...] | None:
    """The packets that left in each interval and did not arrive, per cent, by the sender's record of them.

    None without a record, or if its bins are too wide for the intervals.
    """
    evidence = next((one for one in run.evidence if one.direction is way.direction), None)
    flights = (
        [path.flight for path in evidence.path if path.flight is not None] if evidence is not None else []
    )
    # Both clocks begin with the data: the first bin with the first interval, also of an omitted period.
    ends_us = list(accumulate(interval.seconds * 1e6 for interval in run.intervals))
    shortest_us = min(interval.seconds * 1e6 for interval in run.intervals)
    if not flights or any(flight.width_us > shortest_us / BINS_PER_INTERVAL for flight in flights):
        return None
    sent, arrived = [0] * len(ends_us), [0] * len(ends_us)
    for flight in flights:
        packets = zip(flight.sent_packets, flight.arrived_packets, strict=True)
        for place, (left, came) in enumerate(packets):
            middle_us = flight.start_us + (place + 0.5) * flight.width_us
            interval = min(bisect_left(ends_us, middle_us), len(ends_us) - 1)
            sent[interval] += int(left)
            arrived[interval] += int(came)
    return tuple(
        100.0 * (1 - came / left) if left else None for left, came in zip(sent, arrived, strict=True)
    )


def missing_shares(run: Run, way: DrawnWay, metric: Metric) -> tuple[Number, ...] | None:
    """A MISSING metric of each interval in per cent, with no packet in flight counted as lost.

    At the end of an interval, sent less arrived is lost or in flight. The latter arrives later and makes the
    difference smaller again, and a loss never does: so the loss until then is at most the least difference
    that any later moment has. None if an interval lacks a counter of either end.
    """
    counts = [_sent_and_missing(interval.sums, way, metric) for interval in run.intervals]
    if any(one is None for one in counts):
        return None
    known = [one for one in counts if one is not None]
    missing = list(accumulate(lacking for _, lacking in known))
    # The counters of the whole test were compared when nothing was in flight any more.
    whole = _sent_and_missing(run.sums, way, metric) if not run.plan.omit_us else None
    bound = missing[-1] if whole is None else min(missing[-1], whole[1])
    lost = [max(0.0, least) for least in accumulate(reversed([*missing[:-1], bound]), min)][::-1]
    return tuple(
        100.0 * min(1.0, (now - before) / sent) if sent else None
        for (sent, _), before, now in zip(known, [0.0, *lost], lost, strict=False)
    )


def _sent_and_missing(rows: Sequence[Row], way: DrawnWay, metric: Metric) -> tuple[float, float] | None:
    """The packets that left, and how many fewer arrived; None: a count is not known."""
    row = next((row for row in rows if row.direction is way.direction), None)
    sender, receiver = (row.of(Side.SENDER), row.of(Side.RECEIVER)) if row is not None else (None, None)
    if sender is None or receiver is None:
        return None
    sent = number(sender.values.get(metric.denominator))
    arrived = number(receiver.values.get(metric.numerator))
    again = number(receiver.values.get(metric.repeated)) if metric.repeated else 0
    return None if sent is None or arrived is None or again is None else (sent, sent - (arrived - again))


def _shares(run: Run, ways: Sequence[DrawnWay], names: Mapping[str, str], title: str) -> Panel | None:
    """Percentages by cause: those that were above 0 at any time, or the first of them if none was.

    names : name of a trace by key of a metric
    """
    traces: list[Trace] = []
    for way in ways:
        own = []
        for place, (key, name) in enumerate(names.items()):
            values = values_of(run, way, first_known(key))
            if any_known(values):
                own.append(Trace(way.name(name), way.slot + place * len(ways), values))
        traces += [one for one in own if any(one.values)] or own[:1]
    return Panel(title, "%", tuple(traces)) if traces else None


def _resent(run: Run, ways: Sequence[DrawnWay], metrics: Sequence[Metric]) -> Panel | None:
    """Retransmissions by cause, or all together where no cause is known, and where there was none."""
    causes = {metric.key: metric.label for metric in with_meaning(metrics, Meaning.RESENT_CAUSE)}
    panel = _shares(run, ways, causes, "Sent again, by cause") if causes else None
    if panel is not None and any(any(trace.values) for trace in panel.traces):
        return panel
    whole = {metric.key: "sent again" for metric in with_meaning(metrics, Meaning.RESENT)}
    return _shares(run, ways, whole, "Sent again") if whole else None


def _windows(run: Run, ways: Sequence[DrawnWay], metrics: Sequence[Metric]) -> Panel | None:
    traces = []
    for way in ways:
        for place, metric in enumerate(metrics):
            values = _scaled(values_of(run, way, first_known(f"{metric.key}_mean", metric.key)), 1024.0)
            if any_known(values):
                traces.append(Trace(way.name(metric.label), way.slot + place * len(ways), values))
    return Panel("Congestion window", "KiB", tuple(traces)) if traces else None


def _ribbon(run: Run, way: DrawnWay) -> Ribbon | None:
    """The shares of every interval by limit of the sender; None if the sender does not record them."""
    metrics = started_of(run).transport.metrics
    by_interval = [_limits(interval, way.direction, metrics) for interval in run.intervals]
    names = list(dict.fromkeys(name for shares in by_interval for name in shares))
    order = list(dict.fromkeys((*LIMITS, *names)))
    names.sort(key=order.index)
    lanes = []
    for name in names:
        shares = tuple(one.get(name) if one else None for one in by_interval)
        known = [share for share in shares if share is not None]
        if known and sum(known) / len(known) >= LEAST_SHARE:
            lanes.append(LimitShare(name, order.index(name), shares))
    title = f"Limit of the sender, {WAYS[way.direction]}" if way.several else "Limit of the sender"
    return Ribbon(title, tuple(lanes)) if lanes else None


def _limits(interval: Interval, direction: Direction, metrics: Sequence[Metric]) -> dict[str, float]:
    """Shares of one interval, over the streams of a direction; empty: not recorded."""
    held: dict[str, float] = {}
    for row in interval.rows:
        sample = row.of(Side.SENDER) if row.direction is direction else None
        if sample is not None:
            for name, us in held_us(metrics, sample.values, sample.seconds * 1e6).items():
                held[name] = held.get(name, 0.0) + us
    whole = sum(held.values())
    return {name: us / whole for name, us in held.items()} if whole else {}


def held_us(metrics: Sequence[Metric], values: Mapping[str, Value], length_us: float) -> dict[str, float]:
    """Microseconds by limit, of one stream in one interval.

    Parameters
    ----------
    metrics, values : of the transport, and the figures of its sender by key
    length_us : length of the interval
    """
    held: dict[str, float] = {}
    for metric in with_meaning(metrics, Meaning.SENDER_LIMIT):
        us = number(values.get(metric.key))
        if us is not None:
            held[metric.label] = float(us)
    for metric in with_meaning(metrics, Meaning.SENDER_BUSY):
        busy = number(values.get(metric.key))
        if busy is not None:
            # The kernel counts in ticks, so that it may count a little more than the interval.
            held[PATH_LIMIT] = max(0.0, min(busy, length_us) - sum(held.values()))
            held[APPLICATION_LIMIT] = max(0.0, length_us - busy)
    return held


def values_of(run: Run, way: DrawnWay, figure: Figure) -> tuple[Number, ...]:
    """A figure of the sum over the streams of a direction, one per interval."""
    found: list[Number] = []
    for interval in run.intervals:
        row = next((row for row in interval.sums if row.direction is way.direction), None)
        found.append(None if row is None else figure(row))
    return tuple(found)


def first_known(*keys: str) -> Figure:
    """The figure of the first of these keys that is known."""

    def figure(row: Row) -> Number:
        known = (number(figure_of(row, key)) for key in keys)
        return next((value for value in known if value is not None), None)

    return figure


def _scaled(values: Sequence[Number], scale: float) -> tuple[Number, ...]:
    return tuple(None if value is None else value / scale for value in values)


def any_known(values: Sequence[Number]) -> bool:
    """True if any of the values was measured."""
    return any(value is not None for value in values)
