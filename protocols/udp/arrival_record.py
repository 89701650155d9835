"""A receiver's record of the path: the datagrams of a stream by the time at which they left.

Every datagram has its number and the sender's time. Numbers that are missing left between the datagrams
around them: their times are spread evenly over that gap. One that comes late makes up for a loss, and splits
the gap or shortens it.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.flight_recorder import FIRST_WIDTH_US, FlightRecorder
from iperfpy.protocols.log_histogram import LogHistogram
from iperfpy.protocols.path_evidence import PathEvidence

MOST_SPREAD, MOST_SKIPPED = 1 << 12, 1 << 32
"""Most places over which the datagrams of one gap are spread, and most datagrams of a gap: numbers may be
forged."""
STEP_US = FIRST_WIDTH_US // 2
"""Datagrams that leave within this time, without a gap, are recorded together: half a bin."""
_NEVER = -(1 << 62)
LATE, REPEATED = -1, -2
"""Steps of a datagram that came after one with a higher number, and of one that had come before."""

Int64s = NDArray[np.int64]


class ArrivalRecord:
    """Keeps the fate of the datagrams of one stream: any thread may add and read."""

    __slots__ = (
        "_datagrams", "_displacements", "_flights", "_gaps", "_late", "_left_us", "_lock", "_newest_us",
        "_reads", "_skipped", "_step", "_step_us",
    )  # fmt: skip

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights = FlightRecorder(one_way=True)
        self._displacements = LogHistogram()
        self._newest_us: int | None = None  # the sender's time of the newest datagram
        self._left_us = self._step_us = _NEVER  # the latest time recorded; the beginning of the step
        self._step: list[float] = [0, 0, 0, 0.0]  # batches, datagrams, bytes, sum of their transit times
        self._reads = self._datagrams = 0
        self._gaps = self._skipped = self._late = 0

    def add_run(self, skipped: int, sent_us: int, count: int, size_bytes: int, transit_us: float) -> None:
        """Take datagrams that left together, with successive numbers.

        Parameters
        ----------
        skipped : numbers missing before the first of them
        transit_us : arrival by this machine's clock minus departure by the sender's
        """
        # Several batches of a fast stream share a step: then this is all.
        with self._lock:
            if skipped or not self._step_us <= sent_us < self._step_us + STEP_US:
                self._keep_step()
                if skipped:
                    self._skip(skipped, sent_us, size_bytes // count)
                self._step_us = sent_us
            step = self._step
            step[0] += 1
            step[1] += count
            step[2] += size_bytes
            step[3] += count * transit_us
            if self._newest_us is None or sent_us > self._newest_us:
                self._newest_us = sent_us

    def _keep_step(self) -> None:
        """Record the datagrams of the present step, by the time of the first of them."""
        step_us, (reads, count, size, transit_us) = self._step_us, self._step
        if not reads:
            return
        self._step = [0, 0, 0, 0.0]
        self._reads += int(reads)
        self._datagrams += int(count)
        if step_us < self._left_us:
            # A clock that was set back: `sent` takes times that do not fall.
            numbers = (np.array([number], np.int64) for number in (step_us, count, size))
            self._flights.sent_at(*numbers)
        else:
            self._flights.sent(step_us, int(count), int(size))
        self._left_us = max(self._left_us, step_us)
        self._flights.arrived_together(step_us, step_us, int(count), int(size), transit_us / count)

    def add(
        self, steps: Int64s, sent_us: Int64s, size_bytes: int, transit_us: NDArray[np.float64], gaps: int
    ) -> None:
        """Take datagrams in the order of their arrival, (n,) each, n > 0.

        Parameters
        ----------
        steps : numbers skipped before each one, or `LATE`, or `REPEATED`
        size_bytes : bytes of all of them
        gaps : change of the number of gaps by those that are late
        """
        each, fresh, ahead = size_bytes // len(steps), steps > REPEATED, steps >= 0
        with self._lock:
            self._keep_step()
            self._step_us = _NEVER
            self._reads += len(steps)
            self._datagrams += len(steps)
            # The newest time before each datagram, and at last.
            newest_us = np.concatenate(([self._before(int(sent_us[0]))], np.where(ahead, sent_us, 0)))
            np.maximum.accumulate(newest_us, out=newest_us)
            for place in np.flatnonzero(steps > 0).tolist():
                self._skip(int(steps[place]), int(sent_us[place]), each, int(newest_us[place]))
            if ahead.any():
                leaving_us = sent_us[ahead]
                ones = np.ones(len(leaving_us), np.int64)
                self._flights.sent_at(leaving_us, ones, each * ones)
            if fresh.any():
                self._flights.arrived(sent_us[fresh], each, transit_us[fresh])
            late = steps == LATE
            for by_us in (newest_us[:-1][late] - sent_us[late]).tolist():
                self._late += 1
                self._displacements.add(max(0, by_us))
            self._gaps += gaps
            self._newest_us = self._left_us = int(newest_us[-1])

    def _before(self, sent_us: int) -> int:
        """The time of the newest datagram so far; if there was none, this one."""
        return sent_us if self._newest_us is None else self._newest_us

    def _skip(self, count: int, sent_us: int, size: int, before_us: int | None = None) -> None:
        """Count datagrams that left before one of this time, and did not arrive so far."""
        count = min(count, MOST_SKIPPED)
        self._gaps += 1
        self._skipped += count
        first_us = self._before(sent_us) if before_us is None else before_us
        if sent_us - first_us <= self._flights.width_us:
            # They are of this bin or the one before. A fast stream has thousands of such gaps a second.
            self._flights.sent(sent_us, count, size * count)
            return
        places = min(count, MOST_SPREAD)
        stamps_us = np.linspace(min(first_us, sent_us), sent_us, places + 2)[1:-1].astype(np.int64)
        packets = np.full(places, count // places)
        packets[: count % places] += 1
        self._flights.sent_at(stamps_us, packets, size * packets)

    def evidence(self, headers_bytes: int, kernel_drops: int | None) -> PathEvidence | None:
        """The record so far; None if nothing has arrived.

        Parameters
        ----------
        headers_bytes : of IP and UDP, in each packet
        kernel_drops : units that the socket had no room for, None: not known. A unit may be a GRO batch
        """
        with self._lock:
            if self._newest_us is None:
                return None
            self._keep_step()
            extra = {}
            if kernel_drops is not None:
                # A batch that was dropped had about as many datagrams as one that was read.
                drops = round(kernel_drops * self._datagrams / max(1, self._reads))
                extra["kernel_drops"] = min(drops, max(kernel_drops, self._skipped - self._late))
            lost = max(0, self._skipped - self._late)
            return PathEvidence(
                flight=self._flights.bins(self._newest_us, headers_bytes),
                loss_runs=min(lost, max(0, self._gaps)),
                lost_in_runs=lost,
                displaced_packets=self._late,
                displacement_us=self._displacements.percentile(95) if self._late else None,
                extra=extra,
            )
