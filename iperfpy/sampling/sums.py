"""Adds samples up: streams of one interval into a sum, periods of one stream into a longer one.

The declaration of a metric decides how its figures are added:

    counter                 added
    ratio, across, missing  computed anew from the added counters, never averaged
    gauge of a time or %    mean over the streams that have it
    gauge of a rate         added over streams
    gauge that is a text    the text, if all streams have the same
    any other gauge         None over several streams: two windows are not one window
    spread of a gauge       the outermost minimum and maximum, the mean of the means

Over time (`merge`) a gauge keeps its value at the end, and a spread covers both periods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from iperfpy.plan import Direction
from iperfpy.protocols.metrics import SPREADS, Kind, Metric, Side, Unit, Value, number, ratios
from iperfpy.records import Row, Sample

_AVERAGED = (Unit.MICROSECONDS, Unit.PERCENT)
_ACROSS = (Kind.ACROSS, Kind.MISSING)


def total(rows: Sequence[Row], metrics: Sequence[Metric] = ()) -> Row:
    """The sum over the streams of one direction: a `Row` with `stream` 0.

    The peer's part is None unless every row has one. Figures that no metric describes are left out, and so is
    a figure across both ends that was withheld from the rows. Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("a sum needs at least one row")
    peers = [row.peer for row in rows if row.peer is not None]
    together = Row(
        stream=0,
        local=_over_streams([row.local for row in rows], metrics),
        peer=_over_streams(peers, metrics) if len(peers) == len(rows) else None,
        direction=rows[0].direction,
    )
    compared = [one for one in metrics if one.kind in _ACROSS and not _is_withheld(one, rows)]
    summed = without_across(across(together, compared), [one for one in metrics if one not in compared])
    return without_whole_test(summed, [one for one in metrics if one.whole_test and _is_withheld(one, rows)])


def _is_withheld(metric: Metric, rows: Sequence[Row]) -> bool:
    """True if every row has an empty figure of this metric, which was not computed."""
    ends = [row.of(metric.side) for row in rows]
    return all(end is not None and end.values.get(metric.key, 0) is None for end in ends)


def without_across(row: Row, metrics: Sequence[Metric]) -> Row:
    """The row with empty figures in place of those that compare both ends, which are not of one period."""
    if row.peer is None:
        return row
    return _blanked(row, [metric for metric in metrics if metric.kind in _ACROSS])


def without_whole_test(row: Row, metrics: Sequence[Metric]) -> Row:
    """The row of an interval with empty figures in place of those that need a whole test."""
    return _blanked(row, [metric for metric in metrics if metric.whole_test])


def _blanked(row: Row, withheld: Sequence[Metric]) -> Row:
    def blanked(sample: Sample) -> Sample:
        blank = {metric.key: None for metric in withheld if metric.side is sample.side}
        return replace(sample, values={**sample.values, **blank})

    if not withheld:
        return row
    return replace(row, local=blanked(row.local), peer=None if row.peer is None else blanked(row.peer))


def across(row: Row, metrics: Sequence[Metric]) -> Row:
    """The row with the figures that need a counter of each end, if both are known."""
    sender, receiver = row.of(Side.SENDER), row.of(Side.RECEIVER)
    if sender is None or receiver is None:
        return row
    figures: dict[Side, dict[str, Value]] = {Side.SENDER: {}, Side.RECEIVER: {}}
    for metric in metrics:
        if metric.kind in _ACROSS:
            figures[metric.side][metric.key] = _between(metric, sender.values, receiver.values)
    ends = {end.side: replace(end, values={**end.values, **figures[end.side]}) for end in (sender, receiver)}
    other = Side.RECEIVER if row.local.side is Side.SENDER else Side.SENDER
    return replace(row, local=ends[row.local.side], peer=ends[other])


def _between(metric: Metric, sender: Mapping[str, Value], receiver: Mapping[str, Value]) -> float | None:
    """One figure across both ends. Their intervals are not the same moments: more may arrive in one than was
    sent in it, so a missing share is never below 0."""
    part, whole = number(receiver.get(metric.numerator)), number(sender.get(metric.denominator))
    if part is None or not whole:
        return None
    part -= number(receiver.get(metric.repeated)) or 0
    share = part / whole if metric.kind is Kind.ACROSS else max(0.0, 1.0 - part / whole)
    return share * (100.0 if metric.unit is Unit.PERCENT else 1.0)


def by_direction(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows in groups of one direction each, in order of appearance; `total` takes one group."""
    groups: dict[Direction, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.direction, []).append(row)
    return list(groups.values())


def merge(a: Sample, b: Sample, metrics: Sequence[Metric] = ()) -> Sample:
    """Join two successive periods of one stream, `a` the earlier; so a runt interval joins its neighbour.

    Figures that no metric describes keep their later value.
    """
    values = dict(b.values)  # a gauge keeps its later value
    ours = [metric for metric in metrics if metric.side is b.side]
    for metric in ours:
        if metric.kind is Kind.COUNTER:
            values[metric.key] = _sum([a.values.get(metric.key), b.values.get(metric.key)])
        elif metric.spread:
            weights = (a.end_us - a.start_us, b.end_us - b.start_us)
            values.update(_spread(metric.key, [a.values, b.values], weights))
    values.update(ratios(ours, values))
    return Sample(b.stream, b.side, a.start_us, b.end_us, a.bytes + b.bytes, values, a.omitted and b.omitted)


def _over_streams(samples: Sequence[Sample], metrics: Sequence[Metric]) -> Sample:
    first = samples[0]
    records = [sample.values for sample in samples]
    ours = [metric for metric in metrics if metric.side is first.side]
    values: dict[str, Value] = {}
    # Ratios are computed anew from the sums, after the loop: an average of ratios would be wrong.
    for metric in ours:
        figures = [record.get(metric.key) for record in records]
        if metric.kind is Kind.COUNTER:
            values[metric.key] = _sum(figures)
        elif metric.kind is Kind.GAUGE:
            values[metric.key] = _gauge(metric.unit, figures)
            if metric.spread:
                values.update(_spread(metric.key, records, [1] * len(records)))
    values.update(ratios(ours, values))
    return Sample(
        stream=0,
        side=first.side,
        start_us=min(sample.start_us for sample in samples),
        end_us=max(sample.end_us for sample in samples),
        bytes=sum(sample.bytes for sample in samples),
        values=values,
        omitted=first.omitted,
    )


def _sum(figures: Sequence[Value]) -> Value:
    known = [figure for figure in map(number, figures) if figure is not None]
    return sum(known) if len(known) == len(figures) else None


def _gauge(unit: Unit, figures: Sequence[Value]) -> Value:
    if unit is Unit.BITS_PER_SECOND:
        return _sum(figures)
    if unit in _AVERAGED:
        known = [figure for figure in map(number, figures) if figure is not None]
        return sum(known) / len(known) if known else None
    agreed = len(figures) == 1 or (unit is Unit.TEXT and all(figure == figures[0] for figure in figures))
    return figures[0] if agreed else None


def _spread(key: str, records: Sequence[Mapping[str, Value]], weights: Sequence[int]) -> dict[str, Value]:
    """The outermost minimum and maximum, and the weighted mean of the means; None without any."""
    lows, means, highs = (
        [
            (number(record.get(f"{key}_{name}")), weight)
            for record, weight in zip(records, weights, strict=True)
        ]
        for name in SPREADS
    )
    # A long period counts for more than a short one; streams of one interval count alike.
    weighed = [(mean, weight) for mean, weight in means if mean is not None]
    weight_sum = sum(weight for _, weight in weighed)
    return {
        f"{key}_min": min((low for low, _ in lows if low is not None), default=None),
        f"{key}_mean": sum(mean * weight for mean, weight in weighed) / weight_sum if weight_sum else None,
        f"{key}_max": max((high for high, _ in highs if high is not None), default=None),
    }
