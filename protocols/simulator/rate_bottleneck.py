"""A bottleneck with a rate, constant or walking, or without one. Its slots are times in microseconds."""

from __future__ import annotations

from math import floor

import numpy as np

from iperfpy.protocols.simulator.bottleneck import Admitted, Bottleneck
from iperfpy.protocols.simulator.inbox import Moved, Slots, Times
from iperfpy.protocols.simulator.path import FULL_PACKET_BYTES, Path
from iperfpy.protocols.simulator.truth import Truth
from iperfpy.protocols.simulator.walking_rate import WalkingRate

_UP_TO = np.arange(1, 4_097, dtype=np.float64)


class RateBottleneck(Bottleneck):
    """Serves `rate` bits per second; with None it queues nothing.

    walk : the variation of the rate, if there is one
    """

    def __init__(self, rate: float | None, walk: WalkingRate | None) -> None:
        super().__init__(0.0)
        self.rate, self.walk = rate, walk

    def begin(self, arrived_us: float) -> float:
        return arrived_us + max(0.0, self.free - arrived_us)

    def ends(self, begin: float, count: int, size: int) -> Slots:
        assert self.rate
        service_us = size * 8e6 / self.rate
        if self.walk is None:
            return _UP_TO[:count] * service_us + begin
        return self.walk.times(self.walk.given(np.array([begin])) + _UP_TO[:count] * service_us)

    def leave_us(self, slots: Slots) -> Times:
        return slots

    def leaves_us(self, slot: float) -> float:
        return slot

    def start_us(self, slots: Slots) -> Times:
        return slots

    def given(self, now_us: float) -> float:
        return now_us

    def served_us(self, times_us: Times) -> Times:
        return times_us if self.walk is None else self.walk.given(times_us)

    def ahead_bytes(self, slots: Slots, now_us: float) -> Times:
        if not self.rate:
            return np.zeros(len(slots))
        if self.walk is None:
            return (slots - now_us) * self.rate / 8e6
        return (self.walk.given(slots) - self.walk.given(np.array([now_us]))) * self.rate / 8e6

    def after_bytes(self, ahead_bytes: Times, now_us: float) -> Slots:
        if not self.rate:
            return np.full(len(ahead_bytes), now_us)
        service_us = ahead_bytes * 8e6 / self.rate
        if self.walk is None:
            return now_us + service_us
        return self.walk.times(self.walk.given(np.array([now_us])) + service_us)

    # The next two give what the general ones do, without arrays for single figures: each datagram asks.

    def backlog_bytes(self, now_us: float) -> float:
        if self.walk is not None:
            return super().backlog_bytes(now_us)
        return (self.free - now_us) * self.rate / 8e6 if self.rate and self.free > now_us else 0.0

    def next_start_us(self, arrived_us: float) -> float:
        return self.begin(arrived_us)

    def opportunities(self, from_us: float, until_us: float) -> Times:
        if not self.rate:
            return np.empty(0)
        unit_us = FULL_PACKET_BYTES * 8e6 / self.rate
        given = self.served_us(np.array([max(0.0, from_us), max(0.0, until_us)]))
        first, last = (floor(one / unit_us) for one in given.tolist())
        service_us = np.arange(first + 1, last + 1) * unit_us
        return service_us if self.walk is None else self.walk.times(service_us)

    def waiting(self, now_us: float) -> int:
        """Number of planned datagrams in the queue, including the one in service."""
        self._forget(now_us)
        if not self._queue:
            return 0
        return self._planned - int(self._queue[0].slots.searchsorted(now_us, "right"))

    def _free_places(
        self, now_us: float, size: int, path: Path, ahead: int, ahead_bytes: float
    ) -> int | None:
        if path.buffer_bytes is not None:
            free = path.buffer_bytes - self.backlog_bytes(now_us) - ahead_bytes
            # The small term undoes the rounding of sums of floats.
            taken = int(free / size + 1e-9)
        elif path.buffer_datagrams is not None:
            taken = path.buffer_datagrams - self.waiting(now_us) - ahead
        else:
            return None
        # An idle link accepts one datagram even if it is larger than the buffer.
        return max(taken, 0 if ahead or self.free > now_us else 1)

    def enter(self, now_us: float, count: int, size: int, path: Path, truth: Truth) -> Admitted | None:
        if self.walk is not None:
            return super().enter(now_us, count, size, path, truth)
        count = self.room(now_us, count, size, path, truth)
        if not count:
            return None
        assert self.rate
        wait_us = max(0.0, self.free - now_us)
        begin_us, service_us = now_us + wait_us, size * 8e6 / self.rate
        departs = _UP_TO[:count] * service_us + begin_us
        # The waits are an arithmetic series.
        truth.queued_us += count * wait_us + service_us * count * (count - 1) / 2
        longest_us = wait_us + (count - 1) * service_us
        return self._plan(now_us, departs, begin_us, size, now_us, truth, longest_us)

    def moves_from(self, before: Bottleneck, now_us: float) -> Moved:
        if not isinstance(before, RateBottleneck):
            return super().moves_from(before, now_us)
        # Remaining times scale with the service time; without a bottleneck they end now.
        factor = (before.rate or 0.0) / self.rate if self.rate else 0.0
        walk, past = self.walk, before.walk

        def moved(times_us: Slots) -> tuple[Slots, Times]:
            ahead = np.maximum(times_us, now_us)
            if past is not None:
                ahead = now_us + past.given(ahead) - past.given(np.array([now_us]))
            ahead = now_us + (ahead - now_us) * factor
            if walk is not None:
                ahead = walk.times(ahead - now_us + walk.given(np.array([now_us])))
            new = np.where(times_us > now_us, ahead, times_us)
            return new, new - times_us

        return moved
