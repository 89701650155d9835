"""The intervals of a test as columns of one direction: rates, loss, retransmissions by cause, and limits.

A figure is found by the meaning of its metric, so that one of a plug-in is found as well.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Kind, Meaning, Metric, Side, Value, number, with_meaning
from iperfpy.records import Row
from iperfpy.store.stored_run import Interval, Run, figure_of

BINS_PER_INTERVAL = 4
"""Bins of a record of packets that an interval has at least, so that their edges do not matter."""
PATH_LIMIT, APPLICATION_LIMIT = "congestion control", "application"
"""Names of two limits that follow from the time with data to send (`Meaning.SENDER_BUSY`)."""

Number = float | None
Figure = Callable[[Row], Number]


def values_of(run: Run, direction: Direction, figure: Figure) -> tuple[Number, ...]:
    """A figure of the sum over the streams of a direction, one per interval."""
    found: list[Number] = []
    for interval in run.intervals:
        row = next((row for row in interval.sums if row.direction is direction), None)
        found.append(None if row is None else figure(row))
    return tuple(found)


def first_known(*keys: str) -> Figure:
    """The figure of the first of these keys that is known."""

    def figure(row: Row) -> Number:
        known = (number(figure_of(row, key)) for key in keys)
        return next((value for value in known if value is not None), None)

    return figure


def arrived_rate(row: Row) -> Number:
    """Payload rate at the receiver, or as this end counted it."""
    return (row.of(Side.RECEIVER) or row.local).bits_per_second


def path_loss(run: Run, direction: Direction) -> tuple[Number, ...]:
    """The share of the packets that the path lost, per cent; empty if the transport has no such figure."""
    losses = with_meaning(_metrics(run), Meaning.PATH_LOSS)
    if not losses or not run.intervals:
        return ()
    metric = losses[-1]
    values: tuple[Number, ...] | None = None
    if metric.kind is Kind.MISSING:
        values = recorded_shares(run, direction) or missing_shares(run, direction, metric)
    return values or values_of(run, direction, first_known(metric.key))


def recorded_shares(run: Run, direction: Direction) -> tuple[Number, ...] | None:
    """The packets that left in each interval and did not arrive, per cent, by the sender's record of them.

    None without a record, or if its bins are too wide for the intervals.
    """
    evidence = next((one for one in run.evidence if one.direction is direction), None)
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


def missing_shares(run: Run, direction: Direction, metric: Metric) -> tuple[Number, ...] | None:
    """A MISSING metric of each interval in per cent, with no packet in flight counted as lost.

    At the end of an interval, sent less arrived is lost or in flight. The latter arrives later and makes the
    difference smaller again, and a loss never does: so the loss until then is at most the least difference
    that any later moment has. None if an interval lacks a counter of either end.
    """
    counts = [_sent_and_missing(interval.sums, direction, metric) for interval in run.intervals]
    if any(one is None for one in counts):
        return None
    known = [one for one in counts if one is not None]
    missing = list(accumulate(lacking for _, lacking in known))
    # The counters of the whole test were compared when nothing was in flight any more.
    whole = _sent_and_missing(run.sums, direction, metric) if not run.plan.omit_us else None
    bound = missing[-1] if whole is None else min(missing[-1], whole[1])
    lost = [max(0.0, least) for least in accumulate(reversed([*missing[:-1], bound]), min)][::-1]
    return tuple(
        100.0 * min(1.0, (now - before) / sent) if sent else None
        for (sent, _), before, now in zip(known, [0.0, *lost], lost, strict=False)
    )


def _sent_and_missing(
    rows: Sequence[Row], direction: Direction, metric: Metric
) -> tuple[float, float] | None:
    """The packets that left, and how many fewer arrived; None: a count is not known."""
    row = next((row for row in rows if row.direction is direction), None)
    sender, receiver = (row.of(Side.SENDER), row.of(Side.RECEIVER)) if row is not None else (None, None)
    if sender is None or receiver is None:
        return None
    sent = number(sender.values.get(metric.denominator))
    arrived = number(receiver.values.get(metric.numerator))
    again = number(receiver.values.get(metric.repeated)) if metric.repeated else 0
    return None if sent is None or arrived is None or again is None else (sent, sent - (arrived - again))


def resent(run: Run, direction: Direction, meaning: Meaning) -> dict[str, tuple[Number, ...]]:
    """Shares of retransmissions, per cent, by the label of the metric, empty for `Meaning.RESENT`."""
    found = with_meaning(_metrics(run), meaning)
    return {metric.label: values_of(run, direction, first_known(metric.key)) for metric in found}


def limit_shares(run: Run, direction: Direction) -> dict[str, tuple[Number, ...]]:
    """The share of each interval, 0 to 1, for which a limit held the sender, by limit; None where the sender
    did not record it."""
    metrics = _metrics(run)
    by_interval = [_limits(interval, direction, metrics) for interval in run.intervals]
    names = dict.fromkeys(name for shares in by_interval for name in shares)
    return {name: tuple(one.get(name) if one else None for one in by_interval) for name in names}


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


def any_known(values: Sequence[Number]) -> bool:
    """True if any of the values was measured."""
    return any(value is not None for value in values)


def _metrics(run: Run) -> tuple[Metric, ...]:
    return run.started.transport.metrics if run.started is not None else ()
