"""Subtracts cumulative counters: one sampler for one stream at one end.

begin(now)     the first data has come: times begin here
poll(now)      between ticks: looks at the gauges, so that a spread means something
tick(now)      the stretch since the last tick, as a Sample
total(now)     the stretch since the start (or since the end of the omitted one), as a Sample
restart(now)   the omitted stretch is over: times and totals begin again at 0; `omitted` has its counts
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from iperfpy.protocols.metrics import SPREADS, Counters, Kind, Metric, Side, Value, number, ratios
from iperfpy.records import Sample


class Counted(Protocol):
    """The part of a `Channel` that a sampler needs."""

    def counters(self) -> Mapping[str, Value]: ...


@dataclass(slots=True)
class Spread:
    """Minimum, mean and maximum of the values seen; all None before the first."""

    count: int = 0
    sum: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def add(self, value: float) -> None:
        self.low = min(self.low, value) if self.count else value
        self.high = max(self.high, value) if self.count else value
        self.count += 1
        self.sum += value

    def values(self, key: str) -> dict[str, Value]:
        if not self.count:
            return dict.fromkeys((f"{key}_{name}" for name in SPREADS), None)
        figures = (self.low, self.sum / self.count, self.high)
        return {f"{key}_{name}": figure for name, figure in zip(SPREADS, figures, strict=True)}


class _Stretch:
    """Where a stretch of time began, and the gauges seen since."""

    __slots__ = ("record", "spreads", "start_us")

    def __init__(self, record: Counters, start_us: int, spread_keys: Iterable[str]) -> None:
        self.record = record
        self.start_us = start_us
        self.spreads = {key: Spread() for key in spread_keys}

    def look(self, record: Counters) -> None:
        for key, spread in self.spreads.items():
            value = number(record.get(key))
            if value is not None:
                spread.add(value)


class Sampler:
    """Turns the records of one channel into samples.

    Parameters
    ----------
    stream_id : the stream's number in reports
    side : which end of the stream this is; only metrics of that side are computed
    channel : anything with `counters()`
    metrics : the transport's
    started_us : when the test started, on the clock whose readings are given to the methods
    """

    def __init__(
        self, stream_id: int, side: Side, channel: Counted, metrics: Sequence[Metric], started_us: int
    ) -> None:
        self.stream_id = stream_id
        self.side = side
        self._channel = channel
        self._metrics = [metric for metric in metrics if metric.side is side]
        self._spread_keys = [m.key for m in self._metrics if m.kind is Kind.GAUGE and m.spread]
        self.omitted: Mapping[str, Value] = {}
        self._begin_at(started_us, dict(channel.counters()))

    def restart(self, now_us: int) -> None:
        """Begin again: `now_us` is the new 0, and what was counted before goes to `omitted`."""
        record = dict(self._channel.counters())
        self.omitted = {
            metric.key: difference(record.get(metric.key), self._whole.record.get(metric.key))
            for metric in self._metrics
            if metric.kind is Kind.COUNTER
        }
        self._begin_at(now_us, record)

    def _begin_at(self, now_us: int, record: Counters) -> None:
        self._zero_us = now_us
        self._whole = _Stretch(record, now_us, self._spread_keys)
        self._interval = _Stretch(record, now_us, self._spread_keys)

    def begin(self, now_us: int) -> None:
        """`now_us` is the new 0, and nothing is forgotten: the first data has come, and waiting for it is no
        part of the test."""
        self._zero_us = self._whole.start_us = self._interval.start_us = now_us

    def poll(self, now_us: int) -> None:
        """Look at the gauges. Costs one `counters()`; nothing at all when no gauge has a spread."""
        if self._spread_keys:
            self._look()

    def tick(self, now_us: int, omitted: bool = False) -> Sample:
        """What happened since the last tick; the next interval begins at `now_us`."""
        record = self._look()
        sample = self._sample(self._interval, record, now_us, omitted)
        self._interval = _Stretch(record, now_us, self._spread_keys)
        return sample

    def total(self, now_us: int) -> Sample:
        """What happened since the start or the last `restart`. Changes nothing that `tick` reports."""
        record = self._look()
        return self._sample(self._whole, record, now_us, omitted=False)

    def _look(self) -> Counters:
        record = dict(self._channel.counters())
        self._whole.look(record)
        self._interval.look(record)
        return record

    def _sample(self, since: _Stretch, record: Counters, now_us: int, omitted: bool) -> Sample:
        payload = difference(record.get("bytes"), since.record.get("bytes"))
        return Sample(
            stream=self.stream_id,
            side=self.side,
            start_us=since.start_us - self._zero_us,
            end_us=now_us - self._zero_us,
            bytes=int(payload or 0),
            values=self._values(since, record),
            omitted=omitted,
        )

    def _values(self, since: _Stretch, record: Counters) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for metric in self._metrics:
            if metric.kind is Kind.COUNTER:
                values[metric.key] = difference(record.get(metric.key), since.record.get(metric.key))
            elif metric.kind is Kind.GAUGE:
                values[metric.key] = record.get(metric.key)
                if metric.spread:
                    values.update(since.spreads[metric.key].values(metric.key))
        values.update(ratios(self._metrics, values))
        return values


def difference(later: Value, earlier: Value) -> Value:
    """`later - earlier`, or None when either is not available."""
    a, b = number(later), number(earlier)
    return None if a is None or b is None else a - b
