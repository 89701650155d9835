"""One direction of a path, shared by any number of flows.

    arrival -> length -> policer -> [loss before] -> queue and serialiser -> [loss behind]
            -> duplication, corruption -> delay, jitter, detour -> second way, or lumps -> inbox

`bottleneck.py` plans the departures when a batch enters the link, by a rate (`rate_bottleneck.py`) or by the
opportunities of a trace (`trace_bottleneck.py`); only a queue with CoDel (`codel_queue.py`) decides later.
`inbox.py` keeps the order of arrival, and `link_log.py` writes down what the queue does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.simulator.bottleneck import Admitted, Bottleneck
from iperfpy.protocols.simulator.codel_queue import CoDelQueue, Waiting
from iperfpy.protocols.simulator.inbox import DatagramRun, Inbox, Rows, Slots, Times
from iperfpy.protocols.simulator.link_log import LinkLog
from iperfpy.protocols.simulator.loss import GilbertElliott, Uniform
from iperfpy.protocols.simulator.path import OVERHEAD_BYTES, CoDel, Path
from iperfpy.protocols.simulator.rate_bottleneck import RateBottleneck
from iperfpy.protocols.simulator.release_moments import ReleaseMoments
from iperfpy.protocols.simulator.trace_bottleneck import TraceBottleneck
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
        self._bottleneck: Bottleneck = RateBottleneck(None, None)
        self._codel = CoDelQueue()
        self._walk: WalkingRate | None = None
        self._log: LinkLog | None = None
        self._tokens = 0.0
        self._filled_us = 0.0
        self.change(0.0, path)

    # -- state

    def backlog_bytes(self, now_us: float) -> float:
        """Bytes in the queue, including the rest of the datagram in service."""
        return self._bottleneck.backlog_bytes(now_us) + self._codel.bytes

    def served_us(self, times_us: Times) -> Times:
        """Give the service, (n,) float64, that the bottleneck can have given by each time, (n,), microseconds
        of service at the mean rate: the times themselves if the rate is constant."""
        return self._bottleneck.served_us(times_us)

    def due_us(self) -> float:
        """Time at which `serve` must run next, microseconds; infinity if it need not.

        No datagram on which the queue has not decided yet arrives before that time.
        """
        return self._codel.start_us(self._bottleneck) + self.path.delay_us

    def serve(self, now_us: float) -> None:
        """Decide on the datagrams that have begun their service by now, in a queue with CoDel."""
        self._serve(now_us, self.path.codel)

    def change(self, now_us: float, path: Path) -> None:
        """Take the properties of `path` from now on; queued datagrams are served at its rate."""
        old = self.path
        self._serve(now_us, old.codel)
        if self._codel and not (path.codel and path.mean_bits_per_s):
            # Without CoDel the departures of all that wait are planned, and then follow the change of rate.
            self._serve(now_us, None)
        if path.rate_walk != old.rate_walk:
            walk = WalkingRate(path.rate_walk, self._walk_rng, now_us) if path.rate_walk else None
        else:
            walk = self._walk
        rate, trace = path.rate_bits_per_s, path.trace
        if (rate, trace) != (old.rate_bits_per_s, old.trace) or walk is not self._walk:
            # The opportunities and departures until now are those of the old service.
            self.write_log(now_us)
            before = self._bottleneck
            self._bottleneck = RateBottleneck(rate, walk) if trace is None else TraceBottleneck(trace, now_us)
            self._bottleneck.take_over(before, now_us)
        self._walk = walk
        if path.police_bits_per_s and not old.police_bits_per_s:
            self._tokens, self._filled_us = float(path.bucket_bytes), now_us
        if path.bursts != old.bursts:
            self._bursts = GilbertElliott(path.bursts, self._bursts_rng) if path.bursts else None
        if path.lumps != old.lumps:
            self._moments = ReleaseMoments(path.lumps, self._lumps_rng, now_us) if path.lumps else None
        self.path = path

    def keep_log(self, log: LinkLog) -> None:
        """Report arrivals, drops and departures of the queue to a log from now on."""
        self._log = self._bottleneck.log = self._codel.log = log

    def write_log(self, now_us: float) -> None:
        """Write the events up to now into the log."""
        if self._log is not None:
            self._bottleneck.log_departures(now_us)
            since_us = self._log.written_us
            self._log.write(now_us, self._bottleneck.opportunities(since_us, now_us))

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
        if not path.rate_bits_per_s and path.trace is None:
            if self._log is not None:
                self._log.passed(now_us, len(rows), size)
            self._leave(rows, np.full(len(rows), now_us), None, inbox, truth, detour_us)
        elif path.codel:
            self._wait(now_us, rows, size, inbox, truth, detour_us)
        else:
            size += self._bottleneck.header_bytes
            admitted = self._bottleneck.enter(now_us, len(rows), size, path, truth)
            if admitted is not None:
                slots = admitted.slots
                self._leave(rows[: len(slots)], slots, admitted, inbox, truth, detour_us)
        if self._log is not None and self._log.full:
            self.write_log(now_us)

    def _wait(
        self, now_us: float, rows: Rows, size: int, inbox: Inbox, truth: Truth, detour_us: float
    ) -> None:
        """Append to the queue with CoDel as many of the datagrams as find room."""
        path = self.path
        self._serve(now_us, path.codel)
        codel, served = self._codel, size + self._bottleneck.header_bytes
        count = self._bottleneck.room(now_us, len(rows), served, path, truth, codel.count, codel.bytes)
        if count:
            codel.add(Waiting(rows[:count].copy(), size, now_us, inbox, truth, detour_us))
            self._serve(now_us, path.codel)

    def _serve(self, now_us: float, law: CoDel | None) -> None:
        if not self._codel:
            return
        for served in self._codel.serve(now_us, self._bottleneck, law):
            group, admitted = served.group, served.admitted
            self._leave(served.rows, admitted.slots, admitted, group.inbox, group.truth, group.detour_us)

    def _leave(
        self,
        rows: Rows,
        slots: Slots,
        admitted: Admitted | None,
        inbox: Inbox,
        truth: Truth,
        detour_us: float,
    ) -> None:
        """Take datagrams behind the bottleneck: lose some of them, and deliver the others."""
        # The rows are copied in both branches: the sender may reuse its buffer when `carry` returns.
        if not self.path.loss_before and (self.path.loss or self._bursts):
            keep = self._surviving(len(rows), truth)
            rows, slots = rows[keep], slots[keep]
        else:
            rows = rows.copy()
        if len(rows):
            runs = self._deliver(rows, slots, inbox, truth, detour_us)
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
        self, rows: Rows, slots: Slots, inbox: Inbox, truth: Truth, detour_us: float
    ) -> list[DatagramRun]:
        """Add faults, delay, jitter and reordering to datagrams that left the queue; return their runs."""
        path = self.path
        earliest = self._bottleneck.leave_us(slots) + (path.delay_us + detour_us)
        if path.duplicate or path.corrupt:
            rows, slots, earliest = self._fault(rows, slots, earliest, truth)
        if path.jitter_us:
            earliest = earliest + self._delays.take(len(earliest)) * path.jitter_us
        loose: Mask | None = None
        if path.reorder:
            loose = self._delays.take(len(earliest)) < path.reorder
            earliest = earliest + np.where(loose, self._delays.take(len(earliest)) * path.reorder_us, 0.0)
        if path.jitter_us and path.jitter_reorders:
            loose = np.ones(len(earliest), np.bool_)
        if loose is None and path.second_way is None:
            run = DatagramRun(rows, slots, earliest, truth, self._moments)
            inbox.add(run, ascending=not path.jitter_us)
            return [run]
        return self._deliver_apart(rows, slots, earliest, loose, inbox, truth)

    def _deliver_apart(
        self, rows: Rows, slots: Slots, earliest: Times, loose: Mask | None, inbox: Inbox, truth: Truth
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
            part = (rows, slots, earliest)
            if len(present) > 1:
                chosen = kinds == kind
                part = rows[chosen], slots[chosen], earliest[chosen]
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

    def _fault(self, rows: Rows, slots: Slots, exits: Times, truth: Truth) -> tuple[Rows, Times, Times]:
        """Duplicate and corrupt some of the datagrams."""
        path = self.path
        if path.duplicate:
            twice = self._faults.random(len(rows)) < path.duplicate
            truth.duplicated += int(np.count_nonzero(twice))
            copies = 1 + twice.astype(np.int64)
            rows, slots, exits = rows.repeat(copies, 0), slots.repeat(copies), exits.repeat(copies)
        if path.corrupt:
            for i in np.flatnonzero(self._faults.random(len(rows)) < path.corrupt):
                truth.corrupted += 1
                rows[i, self._faults.integers(rows.shape[1])] ^= self._faults.integers(1, 256, dtype=np.uint8)
        return rows, slots, exits
