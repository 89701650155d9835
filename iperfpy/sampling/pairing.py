"""Pairs this end's samples with the peer's, interval by interval.

Both ends tick on the same schedule, so an interval here goes with those there that end at the same boundary,
or at one that this end has skipped: an end that stands still skips boundaries. A row waits until

    the peer's part has arrived, or the wait for it is over, and
    it is certain that no runt follows: a last interval shorter than a tenth of the others is added to the
    one before.

The test ends at the peer half a round trip later than here. The peer's samples after our last interval are
added to the last row, so that the rows of a stream add up to its total.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Metric
from iperfpy.records import Row, Sample
from iperfpy.sampling.sums import across, merge, without_across, without_whole_test

LONGEST_RUNT_WAIT_US = 1_000_000
MOST_UNEQUAL = 2
"""Ratio of the lengths of two samples up to which they are compared: a tick may be late."""

Emit = Callable[[tuple[Row, ...]], None]


Position = tuple[bool, int]
"""True in the measured period, False in the omitted one; and the number of the boundary in that period."""
_BEGIN: Position = (False, 0)


@dataclass(slots=True)
class _Waiting:
    """An interval that is not reported yet; it ends at `last`."""

    last: Position
    samples: tuple[Sample, ...]
    since_us: int


class RowPairing:
    """The rows of one test on their way to the sinks.

    Parameters
    ----------
    directions : stream id -> direction of its payload
    interval_us : report interval
    wait_us : longest wait for the peer's part of a row; 0: there will be none
    emit : called with the rows of one interval, one per stream

    Attributes
    ----------
    peer_totals, peer_omitted : stream id -> the peer's samples of the measured, and of the omitted, period
        added up
    """

    def __init__(
        self,
        directions: Mapping[int, Direction],
        metrics: Sequence[Metric],
        interval_us: int,
        wait_us: int,
        emit: Emit,
    ) -> None:
        self._directions = directions
        self._metrics = metrics
        self._interval_us = interval_us
        self._runt_us = interval_us // 10
        self._wait_us = wait_us
        self._emit = emit
        self._waiting: list[_Waiting] = []
        self._own_last = self._peer_last = self._emitted = _BEGIN
        self._peer: dict[Position, Mapping[int, Sample]] = {}
        self.peer_totals: dict[int, Sample] = {}
        self.peer_omitted: dict[int, Sample] = {}

    def own(self, samples: tuple[Sample, ...], now_us: int) -> None:
        """Take this end's samples of the next interval."""
        self._own_last = self._position(self._own_last, samples[0])
        self._waiting.append(_Waiting(self._own_last, samples, now_us))
        self.release(now_us)

    def own_last(self, samples: tuple[Sample, ...], now_us: int) -> None:
        """Take this end's samples of the interval that ended with the test; it may be a runt, or empty."""
        self._own_last = self._position(self._own_last, samples[0])
        length_us = max(sample.end_us - sample.start_us for sample in samples)
        # A runt joins the interval before, but not across the end of the omitted period.
        if self._waiting and length_us < self._runt_us and not self._waiting[-1].samples[0].omitted:
            before = self._waiting[-1]
            before.last = self._own_last
            before.samples = tuple(map(self._merge, before.samples, samples))
        elif length_us > 0:
            self._waiting.append(_Waiting(self._own_last, samples, now_us))

    def peer(self, samples: Mapping[int, Sample], now_us: int) -> None:
        """Take the peer's samples of the next interval."""
        if samples:
            self._peer_last = self._position(self._peer_last, next(iter(samples.values())))
            if self._peer_last > self._emitted:
                self._peer[self._peer_last] = samples
        for stream, sample in samples.items():
            sums = self.peer_omitted if sample.omitted else self.peer_totals
            before = sums.get(stream)
            sums[stream] = sample if before is None else self._merge(before, sample)
        self.release(now_us)

    def release(self, now_us: int) -> None:
        """Report the rows that need not wait any longer."""
        while self._waiting and self._ready(self._waiting[0], now_us):
            self._report(self._waiting.pop(0))

    def release_all(self) -> None:
        """Report all rows: the test is over."""
        if self._waiting:
            self._waiting[-1].last = max(self._waiting[-1].last, self._peer_last)
        for row in self._waiting:
            self._report(row)
        self._waiting.clear()

    def _ready(self, row: _Waiting, now_us: int) -> bool:
        age_us = now_us - row.since_us
        if row is self._waiting[-1] and age_us < min(self._runt_us, LONGEST_RUNT_WAIT_US):
            return False
        return self._peer_last >= row.last or age_us >= self._wait_us

    def _report(self, row: _Waiting) -> None:
        parts = [self._peer.pop(position) for position in sorted(self._peer) if position <= row.last]
        self._emitted = row.last
        self._emit(tuple(self._row(sample, parts) for sample in row.samples))

    def _position(self, before: Position, sample: Sample) -> Position:
        """The position at which the sample's interval ends, later than `before`. A tick is never early."""
        measured, passed = not sample.omitted, sample.end_us // max(1, self._interval_us)
        return measured, max(passed, before[1] + 1) if measured is before[0] else passed

    def _row(self, sample: Sample, parts: Sequence[Mapping[int, Sample]]) -> Row:
        peer = None
        for part in parts:
            found = part.get(sample.stream)
            if found is not None and (peer is None or found.omitted == peer.omitted):
                peer = found if peer is None else self._merge(peer, found)
        row = Row(sample.stream, sample, peer, self._directions[sample.stream])
        # An end that stood still gives one sample of several intervals: what it counted is not of this one.
        compare = across if peer is None or _alike(sample, peer) else without_across
        return without_whole_test(compare(row, self._metrics), self._metrics)

    def _merge(self, earlier: Sample, later: Sample) -> Sample:
        return merge(earlier, later, self._metrics)


def _alike(a: Sample, b: Sample) -> bool:
    """True if the two periods have about the same length."""
    lengths = (a.end_us - a.start_us, b.end_us - b.start_us)
    return max(lengths) <= MOST_UNEQUAL * min(lengths)
