"""Pairs what this end measured with what the other end did, interval by interval.

Both ends tick on the same schedule, so the k-th interval here goes with the k-th there. A row is held until

    the other end's part is there, or has been waited for long enough, and
    it is certain that no runt follows: the last interval, when it is shorter than a tenth of the others,
    joins the one before.

What the other end measured after our last interval (the test ends there half a round trip later) is added
to the last row, so that the rows of a stream add up to its total.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Metric
from iperfpy.records import Row, Sample
from iperfpy.sampling.sums import across, merge

LONGEST_RUNT_HOLD_US = 1_000_000

Emit = Callable[[tuple[Row, ...]], None]


@dataclass(slots=True)
class _Held:
    """An interval that has not been reported. `last` is the number of its last tick."""

    first: int
    last: int
    samples: tuple[Sample, ...]
    since_us: int


class RowPairing:
    """The rows of one test on their way to the sinks.

    Parameters
    ----------
    directions : stream id -> direction of its payload
    wait_us : how long a row waits for the other end's part; 0: there will be none
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
        self._runt_us = interval_us // 10
        self._wait_us = wait_us
        self._emit = emit
        self._held: list[_Held] = []
        self._ticks = 0
        self._peer: dict[int, Mapping[int, Sample]] = {}
        self._peer_ticks = 0
        self._emitted = 0
        self.peer_totals: dict[int, Sample] = {}

    def own(self, samples: tuple[Sample, ...], now_us: int) -> None:
        """The next interval at this end."""
        self._held.append(_Held(self._ticks, self._ticks, samples, now_us))
        self._ticks += 1
        self.release(now_us)

    def own_last(self, samples: tuple[Sample, ...], now_us: int) -> None:
        """The interval that ended with the test; it may be a runt, or empty."""
        length_us = max(sample.end_us - sample.start_us for sample in samples)
        if self._held and length_us < self._runt_us and not self._held[-1].samples[0].omitted:
            before = self._held[-1]
            before.last = self._ticks
            before.samples = tuple(map(self._merge, before.samples, samples))
        elif length_us > 0:
            self._held.append(_Held(self._ticks, self._ticks, samples, now_us))
        self._ticks += 1

    def peer(self, samples: Mapping[int, Sample], now_us: int) -> None:
        """The next interval at the other end."""
        if self._peer_ticks >= self._emitted:
            self._peer[self._peer_ticks] = samples
        self._peer_ticks += 1
        for stream, sample in samples.items():
            if not sample.omitted:
                before = self.peer_totals.get(stream)
                self.peer_totals[stream] = sample if before is None else self._merge(before, sample)
        self.release(now_us)

    def release(self, now_us: int) -> None:
        """Report what need not be held any longer."""
        while self._held and self._ready(self._held[0], now_us):
            self._report(self._held.pop(0))

    def release_all(self) -> None:
        """Report everything: the test is over."""
        if self._held:
            self._held[-1].last = max(self._held[-1].last, self._peer_ticks - 1)
        for held in self._held:
            self._report(held)
        self._held.clear()

    def _ready(self, held: _Held, now_us: int) -> bool:
        age_us = now_us - held.since_us
        if held is self._held[-1] and age_us < min(self._runt_us, LONGEST_RUNT_HOLD_US):
            return False
        return self._peer_ticks > held.last or age_us >= self._wait_us

    def _report(self, held: _Held) -> None:
        parts = [self._peer.pop(tick, {}) for tick in range(held.first, held.last + 1)]
        self._emitted = held.last + 1
        self._emit(tuple(self._row(sample, parts) for sample in held.samples))

    def _row(self, sample: Sample, parts: Sequence[Mapping[int, Sample]]) -> Row:
        peer = None
        for part in parts:
            found = part.get(sample.stream)
            if found is not None and (peer is None or found.omitted == peer.omitted):
                peer = found if peer is None else self._merge(peer, found)
        return across(Row(sample.stream, sample, peer, self._directions[sample.stream]), self._metrics)

    def _merge(self, earlier: Sample, later: Sample) -> Sample:
        return merge(earlier, later, self._metrics)
