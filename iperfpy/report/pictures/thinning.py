"""Fewer points for a long test: neighbouring intervals become one, and their extremes are kept.

    intervals   . . . : . . . | . . . . : .      six to a bucket
    drawn         least, greatest in the order in which they came

Each bucket becomes two points, so that a peak of one interval stays as high as it was, beside its valley.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import ceil

from iperfpy.report.pictures.page_model import LimitShare, Number, Panel, Ribbon, Timeline, Trace

MOST_POINTS = 2000
"""Points of a series that a picture shows."""

Buckets = Sequence[range]


def thinned(timeline: Timeline, most: int = MOST_POINTS) -> Timeline:
    """The timeline itself, or one with at most `most` intervals and a note that says so."""
    count = len(timeline.starts_s)
    if count <= most:
        return timeline
    width = ceil(count / (most // 2))
    buckets = [range(first, min(first + width, count)) for first in range(0, count, width)]
    starts: list[float] = []
    for bucket in buckets:
        last = bucket[-1]
        end = timeline.starts_s[last + 1] if last + 1 < count else timeline.end_s
        starts += [timeline.starts_s[bucket[0]], (timeline.starts_s[bucket[0]] + end) / 2]
    note = (
        f"{count:,} intervals are drawn as {len(starts):,} points: the least and the greatest of every"
        f" {width} neighbours."
    )
    return replace(
        timeline,
        starts_s=tuple(starts),
        panels=tuple(_panel(panel, buckets) for panel in timeline.panels),
        ribbons=tuple(_ribbon(ribbon, buckets) for ribbon in timeline.ribbons),
        note=" ".join(filter(None, (timeline.note, note))),
    )


def _panel(panel: Panel, buckets: Buckets) -> Panel:
    return replace(panel, traces=tuple(_trace(trace, buckets) for trace in panel.traces))


def _trace(trace: Trace, buckets: Buckets) -> Trace:
    values: list[Number] = []
    for bucket in buckets:
        values += _extremes(trace.values, bucket)
    return replace(
        trace,
        values=tuple(values),
        lows=_doubled(trace.lows, buckets, min),
        highs=_doubled(trace.highs, buckets, max),
    )


def _extremes(values: Sequence[Number], bucket: range) -> tuple[Number, Number]:
    """The least and the greatest value of a bucket, the earlier one first."""
    known = [(value, index) for index in bucket if (value := values[index]) is not None]
    if not known:
        return None, None
    least, greatest = min(known), max(known, key=lambda one: one[0])
    return (least[0], greatest[0]) if least[1] <= greatest[1] else (greatest[0], least[0])


def _doubled(
    values: Sequence[Number], buckets: Buckets, choose: Callable[[Iterable[float]], float]
) -> tuple[Number, ...]:
    """One value per bucket, for both of its points."""
    if not values:
        return ()
    made: list[Number] = []
    for bucket in buckets:
        known = [value for index in bucket if (value := values[index]) is not None]
        made += [choose(known) if known else None] * 2
    return tuple(made)


def _ribbon(ribbon: Ribbon, buckets: Buckets) -> Ribbon:
    def mean(values: Iterable[float]) -> float:
        known = list(values)
        return sum(known) / len(known)

    limits = (
        LimitShare(limit.name, limit.slot, _doubled(limit.shares, buckets, mean)) for limit in ribbon.limits
    )
    return replace(ribbon, limits=tuple(limits))
