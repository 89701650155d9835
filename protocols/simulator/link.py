"""One direction of a path, shared by any number of flows.

    arrival -> length -> policer -> [loss before] -> queue and serialiser -> [loss behind]
            -> duplication, corruption -> delay, jitter, detour -> inbox

All times are computed when a batch enters the link, in microseconds as floats. `bottleneck.py` holds the
queue, `inbox.py` the order of arrival.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.simulator.bottleneck import Admitted, Bottleneck
from iperfpy.protocols.simulator.inbox import DatagramRun, Inbox, Rows, Times
from iperfpy.protocols.simulator.loss import GilbertElliott, Uniform
from iperfpy.protocols.simulator.path import OVERHEAD_BYTES, Path
from iperfpy.protocols.simulator.truth import Truth

_NONE: Times = np.empty(0)


class Link:
    """One direction of a path, with the state of its queue and of its policer.

    Random loss, burst loss, faults (duplication and corruption) and delays each draw from a generator of
    their own, so that enabling one does not change the draws of the others.
    """

    def __init__(self, path: Path, seed: np.random.SeedSequence) -> None:
        self.path = path
        loss, bursts, faults, delays = (np.random.default_rng(child) for child in seed.spawn(4))
        self._loss, self._delays, self._faults = Uniform(loss), Uniform(delays), faults
        self._bursts_rng = bursts
        self._bursts = GilbertElliott(path.bursts, bursts) if path.bursts else None
        self._bottleneck = Bottleneck()
        self._tokens = float(path.bucket_bytes)
        self._filled_us = 0.0

    # -- state

    def backlog_bytes(self, now_us: float) -> float:
        """Bytes in the queue, including the rest of the datagram in service."""
        return self._bottleneck.backlog_bytes(now_us, self.path.rate_bits_per_s)

    def change(self, now_us: float, path: Path) -> None:
        """Take the properties of `path` from now on; queued datagrams are served at its rate."""
        before, after = self.path.rate_bits_per_s, path.rate_bits_per_s
        if before and before != after:
            # Remaining times scale with the service time; without a bottleneck they end now.
            self._bottleneck.change(now_us, before / after if after else 0.0)
        if path.police_bits_per_s and not self.path.police_bits_per_s:
            self._tokens, self._filled_us = float(path.bucket_bytes), now_us
        if path.bursts != self.path.bursts:
            self._bursts = GilbertElliott(path.bursts, self._bursts_rng) if path.bursts else None
        self.path = path

    # -- datagrams

    def carry(
        self, now_us: float, batch: DatagramBatch, inbox: Inbox, truth: Truth, detour_us: float
    ) -> None:
        """Send a batch to `inbox`; `detour_us` is added to the path's propagation for this flow."""
        count, stride = batch.count, batch.stride
        if batch.last_size != stride and count:
            count -= 1
        if count:
            rows = batch.data[: count * stride].reshape(count, stride)
            self._carry(now_us, rows, inbox, truth, detour_us)
        if count < batch.count:
            last = batch.data[count * stride : count * stride + batch.last_size].reshape(1, -1)
            self._carry(now_us, last, inbox, truth, detour_us)

    def _carry(self, now_us: float, rows: Rows, inbox: Inbox, truth: Truth, detour_us: float) -> None:
        truth.sent += len(rows)
        truth.sent_bytes += rows.size
        if self.path.down:
            truth.outage += len(rows)
            return
        if self.path.maxlen is not None and rows.shape[1] > self.path.maxlen:
            truth.too_long += len(rows)
            return
        if self.path.police_bits_per_s:
            rows = self._police(now_us, rows, truth)
        if self.path.loss_before:
            rows = rows[self._surviving(len(rows), truth)]
        departs, admitted = self._pass_bottleneck(now_us, rows, truth)
        rows = rows[: len(departs)]
        # The rows are copied in both branches: the sender may reuse its buffer when `carry` returns.
        if not self.path.loss_before and (self.path.loss or self._bursts):
            keep = self._surviving(len(rows), truth)
            rows, departs = rows[keep], departs[keep]
        else:
            rows = rows.copy()
        if not len(rows):
            return
        runs = self._deliver(rows, departs, inbox, truth, detour_us)
        if admitted is not None:
            admitted.runs, admitted.inbox = runs, inbox

    def _pass_bottleneck(self, now_us: float, rows: Rows, truth: Truth) -> tuple[Times, Admitted | None]:
        """Departure times of the first datagrams, as many as find room, and their place in the queue."""
        if not self.path.rate_bits_per_s or not len(rows):
            return np.full(len(rows), now_us), None
        size = rows.shape[1] + OVERHEAD_BYTES
        admitted = self._bottleneck.enter(now_us, len(rows), size, self.path, truth)
        return (_NONE, None) if admitted is None else (admitted.departs, admitted)

    def _police(self, now_us: float, rows: Rows, truth: Truth) -> Rows:
        """Drop the datagrams that exceed the token bucket; none waits (Flach et al., SIGCOMM 2016)."""
        path, size = self.path, rows.shape[1] + OVERHEAD_BYTES
        assert path.police_bits_per_s is not None
        earned = (now_us - self._filled_us) * path.police_bits_per_s / 8e6
        self._tokens = min(float(path.bucket_bytes), self._tokens + earned)
        self._filled_us = now_us
        # The small term undoes the rounding of sums of floats, which would drop one datagram too many.
        passed = min(len(rows), int(self._tokens / size + 1e-9))
        self._tokens -= passed * size
        truth.policed += len(rows) - passed
        return rows[:passed]

    def _surviving(self, count: int, truth: Truth) -> NDArray[np.bool_]:
        """(count,) bool: False for each datagram that random loss or burst loss takes."""
        keep = self._loss.take(count) >= self.path.loss
        if self._bursts:
            keep &= ~self._bursts.take(count)
        truth.lost += count - int(np.count_nonzero(keep))
        return keep

    def _deliver(
        self, rows: Rows, departs: Times, inbox: Inbox, truth: Truth, detour_us: float
    ) -> list[DatagramRun]:
        """Add faults, delay, jitter and reordering to datagrams that left the queue; return their runs."""
        path, runs = self.path, []
        earliest = departs + (path.delay_us + detour_us)
        if path.duplicate or path.corrupt:
            rows, departs, earliest = self._fault(rows, departs, earliest, truth)
        if path.jitter_us:
            earliest = earliest + self._delays.take(len(earliest)) * path.jitter_us
        loose: NDArray[np.bool_] | None = None
        if path.reorder:
            loose = self._delays.take(len(earliest)) < path.reorder
            earliest = earliest + np.where(loose, self._delays.take(len(earliest)) * path.reorder_us, 0.0)
        if path.jitter_us and path.jitter_reorders:
            loose = np.ones(len(earliest), np.bool_)
        if loose is not None and loose.any():
            truth.reordered += int(np.count_nonzero(loose))
            run = DatagramRun(rows[loose], departs[loose], earliest[loose], truth)
            inbox.add_loose(run)
            runs.append(run)
            rows, departs, earliest = rows[~loose], departs[~loose], earliest[~loose]
        if len(rows):
            run = DatagramRun(rows, departs, earliest, truth)
            inbox.add(run, ascending=not path.jitter_us)
            runs.append(run)
        return runs

    def _fault(self, rows: Rows, departs: Times, exits: Times, truth: Truth) -> tuple[Rows, Times, Times]:
        """Duplicate and corrupt some of the datagrams."""
        path = self.path
        if path.duplicate:
            twice = self._faults.random(len(rows)) < path.duplicate
            truth.duplicated += int(np.count_nonzero(twice))
            copies = 1 + twice.astype(np.int64)
            rows, departs, exits = rows.repeat(copies, 0), departs.repeat(copies), exits.repeat(copies)
        if path.corrupt:
            for i in np.flatnonzero(self._faults.random(len(rows)) < path.corrupt):
                truth.corrupted += 1
                rows[i, self._faults.integers(rows.shape[1])] ^= self._faults.integers(1, 256, dtype=np.uint8)
        return rows, departs, exits
