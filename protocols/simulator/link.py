"""One direction of a path, shared by any number of flows.

    arrival -> length -> policer -> [loss before] -> queue and serialiser -> [loss behind]
            -> duplication, corruption -> delay, jitter, detour -> second way, or lumps -> inbox

`bottleneck.py` plans the departures when a batch enters the link; only a queue with CoDel (`codel_queue.py`)
decides later. `inbox.py` keeps the order of arrival.
"""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.simulator.bottleneck import Admitted, Bottleneck
from iperfpy.protocols.simulator.codel_queue import CoDelQueue, Waiting
from iperfpy.protocols.simulator.inbox import DatagramRun, Inbox, Rows, Times
from iperfpy.protocols.simulator.loss import GilbertElliott, Uniform
from iperfpy.protocols.simulator.path import OVERHEAD_BYTES, Path
from iperfpy.protocols.simulator.release_moments import ReleaseMoments
from iperfpy.protocols.simulator.truth import Truth
from iperfpy.protocols.simulator.walking_rate import WalkingRate

Mask = NDArray[np.bool_]

_LOOSE, _SECOND = np.int8(1), np.int8(2)
"""Bits of the kind of a datagram: it keeps no order; it takes the second way."""


class Link:
    """One direction of a path, with the state of its queue and of its policer.

    Random loss, burst loss, faults (duplication and corruption), delays, the second way, lumps and the walk
    of the rate each draw from a generator of their own, so that enabling one does not change the draws of
    the others.

    overhead_bytes : bytes on the path of each datagram beside those of its row. It is negative for rows with
        a header that the path's sizes leave out, such as that of Ethernet.
    """

    def __init__(
        self, path: Path, seed: np.random.SeedSequence, *, overhead_bytes: int = OVERHEAD_BYTES
    ) -> None:
        self.path, self._overhead_bytes = Path(), overhead_bytes
        # A new generator is appended: the draws of the others then stay as they are for a seed.
        loss, self._bursts_rng, self._faults, delays, second, self._lumps_rng, self._walk_rng = (
            np.random.default_rng(child) for child in seed.spawn(7)
        )
        self._loss, self._delays, self._second = Uniform(loss), Uniform(delays), Uniform(second)
        self._second_parity = 0
        self._bursts: GilbertElliott | None = None
        self._moments: ReleaseMoments | None = None
        self._bottleneck, self._codel = Bottleneck(None), CoDelQueue()
        self._tokens = 0.0
        self._filled_us = 0.0
        self.change(0.0, path)

    # -- state

    def backlog_bytes(self, now_us: float) -> float:
        """Bytes in the queue, including the rest of the datagram in service."""
        return self._bottleneck.backlog_bytes(now_us, self.path.rate_bits_per_s) + self._codel.bytes

    def served_us(self, times_us: Times) -> Times:
        """Give the service, (n,) float64, that the bottleneck can have given by each time, (n,), microseconds
        of service at the mean rate: the times themselves, unless the rate walks."""
        walk = self._bottleneck.walk
        return times_us if walk is None else walk.given(times_us)

    def due_us(self) -> float:
        """Time at which `serve` must run next, microseconds; infinity if it need not.

        No datagram on which the queue has not decided yet arrives before that time.
        """
        return self._bottleneck.busy_us + self.path.delay_us if self._codel else inf

    def serve(self, now_us: float) -> None:
        """Decide on the datagrams that have begun their service by now, in a queue with CoDel."""
        self._serve(now_us, self.path)

    def change(self, now_us: float, path: Path) -> None:
        """Take the properties of `path` from now on; queued datagrams are served at its rate."""
        old, rate = self.path, path.rate_bits_per_s
        self._serve(now_us, old)
        if self._codel and not (rate and path.codel):
            # Without CoDel the departures of all that wait are planned, and then follow the change of rate.
            self._serve(now_us, old.with_(codel=None))
        before, walk = old.rate_bits_per_s, self._bottleneck.walk
        if path.rate_walk != old.rate_walk:
            walk = WalkingRate(path.rate_walk, self._walk_rng, now_us) if path.rate_walk else None
        if before and (before != rate or walk is not self._bottleneck.walk):
            # Remaining times scale with the service time; without a bottleneck they end now.
            self._bottleneck.change(now_us, before / rate if rate else 0.0, walk)
        self._bottleneck.walk = walk
        if path.police_bits_per_s and not old.police_bits_per_s:
            self._tokens, self._filled_us = float(path.bucket_bytes), now_us
        if path.bursts != old.bursts:
            self._bursts = GilbertElliott(path.bursts, self._bursts_rng) if path.bursts else None
        if path.lumps != old.lumps:
            self._moments = ReleaseMoments(path.lumps, self._lumps_rng, now_us) if path.lumps else None
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
            self.carry_rows(now_us, rows, inbox, truth, detour_us)
        if count < batch.count:
            last = batch.data[count * stride : count * stride + batch.last_size].reshape(1, -1)
            self.carry_rows(now_us, last, inbox, truth, detour_us)

    def carry_rows(self, now_us: float, rows: Rows, inbox: Inbox, truth: Truth, detour_us: float) -> None:
        """Send datagrams of one size, (n, bytes) uint8, as `carry` does; the caller may reuse the array."""
        path, size = self.path, rows.shape[1] + self._overhead_bytes
        truth.sent += len(rows)
        truth.sent_bytes += rows.size
        if path.down:
            truth.outage += len(rows)
            return
        if path.maxlen is not None and size > path.maxlen + OVERHEAD_BYTES:
            truth.too_long += len(rows)
            return
        if path.police_bits_per_s:
            rows = self._police(now_us, rows, size, truth)
        if path.loss_before:
            rows = rows[self._surviving(len(rows), truth)]
        if not len(rows):
            return
        if not path.rate_bits_per_s:
            self._leave(rows, np.full(len(rows), now_us), None, inbox, truth, detour_us)
        elif path.codel:
            self._wait(now_us, rows, size, inbox, truth, detour_us)
        else:
            admitted = self._bottleneck.enter(now_us, len(rows), size, path, truth)
            if admitted is not None:
                departs = admitted.departs
                self._leave(rows[: len(departs)], departs, admitted, inbox, truth, detour_us)

    def _wait(
        self, now_us: float, rows: Rows, size: int, inbox: Inbox, truth: Truth, detour_us: float
    ) -> None:
        """Append to the queue with CoDel as many of the datagrams as find room."""
        path = self.path
        self._serve(now_us, path)
        codel = self._codel
        count = self._bottleneck.room(now_us, len(rows), size, path, truth, codel.count, codel.bytes)
        if count:
            codel.add(Waiting(rows[:count].copy(), size, now_us, inbox, truth, detour_us))
            self._serve(now_us, path)

    def _serve(self, now_us: float, path: Path) -> None:
        if not self._codel:
            return
        rate = path.rate_bits_per_s
        assert rate
        for served in self._codel.serve(now_us, self._bottleneck, rate, path.codel):
            group, admitted = served.group, served.admitted
            self._leave(served.rows, admitted.departs, admitted, group.inbox, group.truth, group.detour_us)

    def _leave(
        self,
        rows: Rows,
        departs: Times,
        admitted: Admitted | None,
        inbox: Inbox,
        truth: Truth,
        detour_us: float,
    ) -> None:
        """Take datagrams behind the bottleneck: lose some of them, and deliver the others."""
        # The rows are copied in both branches: the sender may reuse its buffer when `carry` returns.
        if not self.path.loss_before and (self.path.loss or self._bursts):
            keep = self._surviving(len(rows), truth)
            rows, departs = rows[keep], departs[keep]
        else:
            rows = rows.copy()
        if len(rows):
            runs = self._deliver(rows, departs, inbox, truth, detour_us)
            if admitted is not None:
                admitted.runs, admitted.inbox = runs, inbox

    def _police(self, now_us: float, rows: Rows, size: int, truth: Truth) -> Rows:
        """Drop the datagrams that exceed the token bucket; none waits (Flach et al., SIGCOMM 2016)."""
        path = self.path
        assert path.police_bits_per_s is not None
        earned = (now_us - self._filled_us) * path.police_bits_per_s / 8e6
        self._tokens = min(float(path.bucket_bytes), self._tokens + earned)
        self._filled_us = now_us
        # The small term undoes the rounding of sums of floats, which would drop one datagram too many.
        passed = min(len(rows), int(self._tokens / size + 1e-9))
        self._tokens -= passed * size
        truth.policed += len(rows) - passed
        return rows[:passed]

    def _surviving(self, count: int, truth: Truth) -> Mask:
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
        path = self.path
        earliest = departs + (path.delay_us + detour_us)
        if path.duplicate or path.corrupt:
            rows, departs, earliest = self._fault(rows, departs, earliest, truth)
        if path.jitter_us:
            earliest = earliest + self._delays.take(len(earliest)) * path.jitter_us
        loose: Mask | None = None
        if path.reorder:
            loose = self._delays.take(len(earliest)) < path.reorder
            earliest = earliest + np.where(loose, self._delays.take(len(earliest)) * path.reorder_us, 0.0)
        if path.jitter_us and path.jitter_reorders:
            loose = np.ones(len(earliest), np.bool_)
        if loose is None and path.second_way is None:
            run = DatagramRun(rows, departs, earliest, truth, self._moments)
            inbox.add(run, ascending=not path.jitter_us)
            return [run]
        return self._deliver_apart(rows, departs, earliest, loose, inbox, truth)

    def _deliver_apart(
        self, rows: Rows, departs: Times, earliest: Times, loose: Mask | None, inbox: Inbox, truth: Truth
    ) -> list[DatagramRun]:
        """Send datagrams of one batch by two ways, or without order; return a run for each kind."""
        kinds = np.zeros(len(rows), np.int8)
        if loose is not None:
            kinds += _LOOSE * loose
        if self.path.second_way is not None:
            second = self._by_second_way(len(rows))
            earliest = earliest + second * self.path.second_way.extra_us
            kinds += _SECOND * second
        truth.reordered += int(np.count_nonzero(kinds))
        runs: list[DatagramRun] = []
        # A small batch often has one kind, and is not cut then.
        present = sorted(set(kinds.tolist()))
        for kind in present:
            part = (rows, departs, earliest)
            if len(present) > 1:
                chosen = kinds == kind
                part = rows[chosen], departs[chosen], earliest[chosen]
            run = DatagramRun(*part, truth, None if kind & _SECOND else self._moments)
            if kind & _LOOSE:
                inbox.add_loose(run)
            else:
                inbox.add(run, ascending=not self.path.jitter_us, second_way=bool(kind & _SECOND))
            runs.append(run)
        return runs

    def _by_second_way(self, count: int) -> Mask:
        """(count,) bool: True for each datagram that takes the second way."""
        assert self.path.second_way is not None
        if self.path.second_way.share is not None:
            return self._second.take(count) < self.path.second_way.share
        numbers = self._second_parity + np.arange(count)
        self._second_parity = (self._second_parity + count) % 2
        every_second: Mask = numbers % 2 == 0
        return every_second

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
