"""A bottleneck with a trace of opportunities, by the accounting of mahimahi (Netravali et al., 2015).

Its slots are bytes: opportunity k offers the bytes from k x 1504 on, and the datagrams that wait take them
one after another, so a datagram departs at the opportunity that has its last byte. An opportunity offers
nothing to a datagram that arrives at its time or later, and bytes that no datagram takes are lost.

mahimahi's buffer holds the datagrams that it has not begun to serve; so does this one, unlike that of a
bottleneck with a rate. mahimahi refuses packets of more than 1,504 bytes (with its header of 4); here they
take several opportunities.
"""

from __future__ import annotations

import numpy as np

from iperfpy.protocols.simulator.bottleneck import Bottleneck
from iperfpy.protocols.simulator.inbox import Slots, Times
from iperfpy.protocols.simulator.path import Path
from iperfpy.protocols.simulator.rate_trace import OPPORTUNITY_BYTES, TRACE_HEADER_BYTES, RateTrace

_COUNT = np.arange(1, 4_097, dtype=np.float64)


class TraceBottleneck(Bottleneck):
    """Serves the opportunities of a trace, which begins at `start_us` and repeats."""

    header_bytes = TRACE_HEADER_BYTES

    def __init__(self, trace: RateTrace, start_us: float) -> None:
        super().__init__(0.0)
        self.trace, self._start_us = trace, start_us
        self._looked_us, self._given = -1.0, 0.0

    def begin(self, arrived_us: float) -> float:
        return max(self.free, self.given(arrived_us))

    def ends(self, begin: float, count: int, size: int) -> Slots:
        return _COUNT[:count] * size + begin

    def leave_us(self, slots: Slots) -> Times:
        return self._start_us + self.trace.times_us((slots - 1) // OPPORTUNITY_BYTES)

    def leaves_us(self, slot: float) -> float:
        return self._start_us + self.trace.time_us(int(slot - 1) // OPPORTUNITY_BYTES)

    def start_us(self, slots: Slots) -> Times:
        return self._start_us + self.trace.times_us(slots // OPPORTUNITY_BYTES)

    def given(self, now_us: float) -> float:
        # One batch asks several times for the same moment.
        if now_us != self._looked_us:
            self._looked_us = now_us
            self._given = float(self.trace.count(now_us - self._start_us) * OPPORTUNITY_BYTES)
        return self._given

    def served_us(self, times_us: Times) -> Times:
        return self.trace.counts(times_us - self._start_us) * self.trace.mean_interval_us

    def ahead_bytes(self, slots: Slots, now_us: float) -> Times:
        return slots - self.given(now_us)

    def after_bytes(self, ahead_bytes: Times, now_us: float) -> Slots:
        return self.given(now_us) + np.ceil(ahead_bytes)

    def opportunities(self, from_us: float, until_us: float) -> Times:
        first, last = (self.trace.count(time_us - self._start_us) for time_us in (from_us, until_us))
        return self._start_us + self.trace.times_us(np.arange(first, last, dtype=np.float64))

    def _untouched(self, now_us: float) -> tuple[int, float]:
        """Number and bytes of the planned datagrams before their service."""
        self._forget(now_us)
        given, waiting = self.given(now_us), self._planned
        for admitted in self._queue:
            if admitted.begin >= given:
                # From here on, services follow each other without gaps.
                return waiting, self.free - admitted.begin
            begun = 1 + int(admitted.slots[:-1].searchsorted(given))
            if begun < len(admitted.slots):
                return waiting - begun, self.free - float(admitted.slots[begun - 1])
            waiting -= len(admitted.slots)
        return 0, 0.0

    def _free_places(
        self, now_us: float, size: int, path: Path, ahead: int, ahead_bytes: float
    ) -> int | None:
        if path.buffer_bytes is None and path.buffer_datagrams is None:
            return None
        count, size_bytes = self._untouched(now_us)
        if path.buffer_datagrams is not None:
            return max(0, path.buffer_datagrams - count - ahead)
        assert path.buffer_bytes is not None
        free = path.buffer_bytes - size_bytes - ahead_bytes - ahead * self.header_bytes
        return max(0, int(free // size))
