"""Turns cumulative counters into samples: one sampler per stream and end. The only place that subtracts.

begin(now)     the first data has arrived: time counts from here
poll(now, record)   between ticks: take the gauges, which makes minimum, mean and maximum meaningful
tick(now)      a Sample of the period since the last tick
total(now)     a Sample of the period since the start, or since the end of the omitted period
restart(now)   the omitted period is over: times and totals begin again at 0; `omitted` has its counts, and
               payload that waits behind a hole belongs to it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from iperfpy.protocols.metrics import SPREADS, Counters, Kind, Metric, Side, Value, number, ratios
from iperfpy.records import RTT_KEY, RTT_P95_KEY, Sample

if TYPE_CHECKING:
    from iperfpy.protocols.log_histogram import LogHistogram


class Counted(Protocol):
    """The part of a `Channel` that a sampler needs."""

    def counters(self) -> Mapping[str, Value]:
        """Cumulative counters and gauges, by `Metric.key`."""


@dataclass(slots=True)
class Spread:
    """Minimum, mean and maximum of the values added; all None before the first."""

    count: int = 0
    sum: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def add(self, value: float) -> None:
        """Take one more value into account."""
        self.low = min(self.low, value) if self.count else value
        self.high = max(self.high, value) if self.count else value
        self.count += 1
        self.sum += value

    def values(self, key: str) -> dict[str, Value]:
        """The three figures of the gauge `key`, by their keys."""
        if not self.count:
            return dict.fromkeys((f"{key}_{name}" for name in SPREADS), None)
        figures = (self.low, self.sum / self.count, self.high)
        return {f"{key}_{name}": figure for name, figure in zip(SPREADS, figures, strict=True)}


class _Period:
    """The counters at the start of a period, and the gauges read since."""

    __slots__ = ("record", "spreads", "start_us")

    def __init__(self, record: Counters, start_us: int, spread_keys: Iterable[str]) -> None:
        self.record = record
        self.start_us = start_us
        self.spreads = {key: Spread() for key in spread_keys}

    def read_gauges(self, record: Counters) -> None:
        for key, spread in self.spreads.items():
            value = number(record.get(key))
            if value is not None:
                spread.add(value)


class Sampler:
    """Turns the counters of one channel into samples.

    Parameters
    ----------
    stream_id : stream number in reports
    side : the end of the stream that measures; only metrics of that side are computed
    channel : anything with `counters()`
    metrics : of the transport
    started_us : start of the test, on the clock of `now_us`
    opening : counters from which the first sample counts; None: those of now

    Attributes
    ----------
    omitted : counts of the omitted period, by metric; empty without one
    """

    def __init__(
        self,
        stream_id: int,
        side: Side,
        channel: Counted,
        metrics: Sequence[Metric],
        started_us: int,
        opening: Counters | None = None,
    ) -> None:
        self.stream_id = stream_id
        self.side = side
        self._channel = channel
        self._metrics = [metric for metric in metrics if metric.side is side]
        self._spread_keys = [m.key for m in self._metrics if m.kind is Kind.GAUGE and m.spread]
        self.omitted: Mapping[str, Value] = {}
        self._least_bytes = 0
        self._begin_at(started_us, dict(channel.counters() if opening is None else opening))

    def restart(self, now_us: int, held_bytes: int = 0) -> None:
        """Begin again: `now_us` is the new 0, and the counts until now go to `omitted`. `held_bytes`: payload
        that has arrived and will be counted only when a hole before it is filled."""
        # Else a hole that is filled in the first measured interval makes the path look faster than it is.
        self._least_bytes = int(number(self._channel.counters().get("bytes")) or 0) + held_bytes
        record = self._read()
        self.omitted = {
            metric.key: difference(record.get(metric.key), self._whole.record.get(metric.key))
            for metric in self._metrics
            if metric.kind is Kind.COUNTER
        }
        self._begin_at(now_us, record)

    def _begin_at(self, now_us: int, record: Counters) -> None:
        self._zero_us = now_us
        self._whole = _Period(record, now_us, self._spread_keys)
        self._interval = _Period(record, now_us, self._spread_keys)
        self._round_trips = _histogram() if RTT_KEY in self._spread_keys else None

    def begin(self, now_us: int) -> None:
        """Let `now_us` be the new 0 and keep all counts: the first data has arrived, and the wait for it is
        no part of the test."""
        self._zero_us = self._whole.start_us = self._interval.start_us = now_us

    def poll(self, now_us: int, record: Counters) -> None:
        """Take the gauges of a record that was just read."""
        if self._spread_keys:
            self._take_gauges(record)

    def tick(self, now_us: int, omitted: bool = False) -> Sample:
        """The sample since the last tick; the next one begins at `now_us`."""
        record = self._read_gauges()
        sample = self._sample(self._interval, record, now_us, omitted)
        self._interval = _Period(record, now_us, self._spread_keys)
        return sample

    def total(self, now_us: int, since_us: int | None = None) -> Sample:
        """The sample since the start or the last `restart`. It changes nothing that `tick` reports.

        since_us : time before which this stream could not carry anything; None: the same
        """
        record = self._read_gauges()
        whole = self._sample(self._whole, record, now_us, omitted=False)
        if self._round_trips is not None and self._round_trips.count:
            whole = replace(whole, values={**whole.values, RTT_P95_KEY: self._round_trips.percentile(95)})
        waited_us = max(0, min(since_us or 0, now_us) - self._whole.start_us)
        return replace(whole, start_us=whole.start_us + waited_us) if waited_us else whole

    def _read(self) -> Counters:
        """The channel's record. `bytes` is no less than what had arrived when the omitted period ended."""
        record = dict(self._channel.counters())
        record["bytes"] = max(int(number(record.get("bytes")) or 0), self._least_bytes)
        return record

    def _read_gauges(self) -> Counters:
        record = self._read()
        self._take_gauges(record)
        return record

    def _take_gauges(self, record: Counters) -> None:
        self._whole.read_gauges(record)
        self._interval.read_gauges(record)
        if self._round_trips is not None and (rtt_us := number(record.get(RTT_KEY))) is not None:
            self._round_trips.add(rtt_us)

    def _sample(self, since: _Period, record: Counters, now_us: int, omitted: bool) -> Sample:
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

    def _values(self, since: _Period, record: Counters) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for metric in self._metrics:
            if metric.kind is Kind.COUNTER:
                values[metric.key] = difference(record.get(metric.key), since.record.get(metric.key))
            elif metric.kind is Kind.GAUGE:
                values[metric.key] = record.get(metric.key)
                if metric.spread:
                    values.update(since.spreads[metric.key].values(metric.key))
        # Ratios come last: they divide the differences found above.
        values.update(ratios(self._metrics, values))
        return values


def difference(later: Value, earlier: Value) -> Value:
    """`later - earlier`, or None if either is not available."""
    a, b = number(later), number(earlier)
    return None if a is None or b is None else a - b


def _histogram() -> LogHistogram:
    """A distribution of bounded size: a test may last for days."""
    from iperfpy.protocols.log_histogram import LogHistogram  # numpy: not for every import of this module

    return LogHistogram()
