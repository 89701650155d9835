"""Time-ordered loss recovery (RACK-TLP, RFC 8985) over KCP's echoed stamps.

Every transmission is appended to a flight log; stamps are unique and ascend. An acknowledgement that echoes
stamp T proves that whatever left more than the reordering window before T and is still missing is lost,
a first transmission or a later one alike. One pointer walks the log: it passes what misses nothing, and waits
only for an entry that does, so that the clock is asked for no more often than something may be lost.

Where this differs from RFC 8985: there is no SACK scoreboard to search (the echo names the very
transmission, section 6.2 steps 2 and 3 become one lookup), and the reordering window follows the
displacement that was really seen instead of counting DSACK rounds (section 6.2 step 4).
What holds up a full window, and was lost time and again, is sent once more before it is found lost, for
hardly anything leaves after it that could tell.
A probe (section 7) sends new data or the last outstanding segment and waits two smoothed round trips, as
there, but without the worst-case delayed ACK of 7.2: a KCP receiver delays none. Before there is a sample it
comes after KCP's first timeout in place of 7.2's second. The timer is RFC 6298's with a floor of 200 ms in
place of 2.4's second, and its doubling (5.5) ends at a second.

RFC 9002 is close: its time threshold (6.1.2) is 9/8 of the larger of srtt and the latest sample, and leaves
queueing inside the margin; the eighth used here is of the minimum, where RFC 8985 has a quarter, and grows
only with displacement. Where the window is the bound, repairs that come so much sooner make a tenth more of
it. Its packet threshold (6.1.1) is not used at all: three later segments say nothing on a path that reorders.
Its probe timeout (6.2) stands for probe and timer together, without giving anything up; here the timer does
(RFC 8985, 6.3), as a KCP sender must not hold a full window for lost data.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from iperfpy.protocols.congestion.congestion_control import FOUND_LATE_RTTS, Flight
from iperfpy.protocols.kcp.loss_recovery.recovery import Cause, Detected, Resend
from iperfpy.protocols.kcp.rtt_estimator import RttEstimator
from iperfpy.protocols.kcp.send_window import SendWindow
from iperfpy.protocols.kcp.wire import Int64s

INITIAL_TIMEOUT_US = 1_000_000
"""RFC 6298, 2.1."""
FIRST_PROBE_US = 200_000
"""KCP's first timeout (IKCP_RTO_DEF). On a longer path the probe costs one segment, new data if there is any;
where all that was sent first is lost, it saves most of a second. Half of it does harm where the way is short
and the queue full: most that come to it would send one."""
SMALLEST_TIMEOUT_US = 200_000
"""Below the 1 s of RFC 6298, 2.4, as Linux has it; time-ordered detection makes timeouts rare."""
LARGEST_TIMEOUT_US = 1_000_000
"""Backoff ends here (or at 3 smoothed RTTs): a path that comes back is found within a second."""
REORDERING_MEMORY_ROUNDS = 16
"""Rounds without displacement after which the reordering window starts to shrink (RFC 8985, 6.2 step 4)."""

UNLUCKY, AGAIN_RTTS = 4, 0.5
"""From how many transmissions on, and how long after the last, the first hole of a full window is sent once
more though it may still arrive: nothing new can leave, and one datagram holds everything up. MPTCP calls that
opportunistic retransmission (Raiciu et al., NSDI 2012, section 4.2)."""


@dataclass(slots=True)
class _Entry:
    flight: Flight
    first: int
    last: int
    numbers: Int64s | None  # None: all of [first, last)


def _runs(entry: _Entry, missing: Int64s, after_loss: bool) -> tuple[int, bool]:
    """Into how many runs of consecutive transmissions those that are missing fall, besides one that began
    before this entry, when the transmission before it was lost; and whether the last of it was."""
    if entry.numbers is None:
        places, count = missing - entry.first, entry.last - entry.first
    else:
        places, count = np.searchsorted(entry.numbers, missing), len(entry.numbers)
    runs = 1 + int(np.count_nonzero(np.diff(places) > 1))
    joins = after_loss and int(places[0]) == 0
    return runs - joins, int(places[-1]) == count - 1


class Rack:
    """`Recovery` for kcp-bbr."""

    bounded: ClassVar[bool] = True

    def __init__(self, window: SendWindow, rtt: RttEstimator) -> None:
        self._window, self._rtt = window, rtt
        self._stamps: list[int] = []
        self._entries: list[_Entry] = []
        self._head = 0  # entries before it have been judged, or miss nothing
        self._after_loss = False  # the last transmission before the head was lost
        self._missing_us = -1  # the entry at the head misses something, if this is its stamp
        self._newest_us = 0  # newest stamp known to have arrived
        self._newest_rtt_us = 0
        self._pending: deque[Resend] = deque()
        self._progress_us = 0
        self._sent_us = 0
        self._asked_us = -1
        self._backoff = 0
        self._probing = False
        self._probed_us = 0
        self._probes: dict[int, int] = {}
        """Stamps of tail loss probes: whatever left before was not given up when the probe replaced it."""
        self._displacement_us = 0
        self._displaced_us = 0
        self.spurious = self.mistaken = 0
        self.in_flight = 0

    # -- what left

    def sent(self, first: int, last: int, flight: Flight) -> None:
        self._log(_Entry(flight, first, last, None), last - first)

    def resent(self, resend: Resend, flight: Flight) -> None:
        numbers = resend.numbers
        entry = _Entry(flight, int(numbers[0]), int(numbers.max()) + 1, numbers)
        probe = resend.cause is Cause.EARLY
        self._log(entry, self._replaced_by_probe(numbers, flight) if probe else len(numbers))

    def _replaced_by_probe(self, numbers: Int64s, flight: Flight) -> int:
        """How many of these join those in flight: a segment counts once, however many copies are there."""
        window = self._window
        remembered = window.end - window.capacity
        self._probes = {number: at for number, at in self._probes.items() if number >= remembered}
        self._probes.update(dict.fromkeys(numbers.tolist(), flight.stamp_us))
        rows = numbers & window.mask
        joining = int(np.count_nonzero(window.lost[rows]))
        window.lost[rows] = False
        return joining

    def _log(self, entry: _Entry, segments: int) -> None:
        stamp_us = entry.flight.stamp_us
        if self.in_flight == 0:
            self._progress_us = stamp_us
        self.in_flight += segments
        self._sent_us = stamp_us
        self._stamps.append(stamp_us)
        self._entries.append(entry)

    # -- what arrived

    def acknowledged(self, fresh: Int64s, echoes_us: Int64s, now_us: int) -> None:
        window, rows = self._window, fresh & self._window.mask
        given_up = window.lost[rows]
        window.lost[rows] = False
        self.in_flight -= len(fresh) - int(np.count_nonzero(given_up))
        # The mark of the very transmission that is echoed was wrong; for an older one see `unneeded`.
        self.mistaken += int(np.count_nonzero(given_up & (echoes_us >= window.sent_us[rows])))
        self._made_progress(now_us)
        oldest_us = int(echoes_us.min())
        if oldest_us < self._newest_us:
            self._displaced(self._newest_us - oldest_us, now_us)

    def heard(self, numbers: Int64s, echoes_us: Int64s) -> None:
        """Time decides here, not a count."""

    def unneeded(self, numbers: Int64s, echoes_us: Int64s) -> None:
        self.spurious += len(numbers)
        self.mistaken += len(numbers)
        for number, echo_us in zip(numbers.tolist(), echoes_us.tolist(), strict=True) if self._probes else ():
            self.mistaken -= echo_us < self._probes.get(number, 0)

    def advanced(self, segments: int, lost: int, now_us: int) -> None:
        self.in_flight -= segments - lost
        self.mistaken += lost
        self._made_progress(now_us)

    def arrived(self, stamp_us: int, now_us: int) -> Flight | None:
        """RFC 8985, 6.2 step 2."""
        at = bisect_left(self._stamps, stamp_us)
        if at == len(self._stamps) or self._stamps[at] != stamp_us:
            return None
        self._newest_us = stamp_us
        self._newest_rtt_us = now_us - stamp_us
        return self._entries[at].flight

    def _made_progress(self, now_us: int) -> None:
        self._progress_us = now_us
        self._backoff = 0
        self._probing = False

    def _displaced(self, by_us: int, now_us: int) -> None:
        """A transmission was acknowledged after one that left `by_us` later: what the window must cover."""
        by_us = min(by_us, int(self._rtt.srtt_us))  # the window ends there; an echo may be garbage
        if by_us >= self._displacement_us:
            self._displacement_us = by_us
            self._displaced_us = now_us
        elif by_us > self._displacement_us / 2:
            self._displaced_us = now_us

    # -- what is lost

    @property
    def reordering_us(self) -> int:
        """How much later than a newer transmission an older one may be acknowledged before it is lost:
        an eighth of the minimum, or the displacement seen lately and a tenth, never more than srtt."""
        base = int(self._rtt.minimum_us * FOUND_LATE_RTTS)
        return min(max(base, self._displacement_us * 11 // 10), int(self._rtt.srtt_us) or base)

    def detect(self, now_us: int) -> Detected | None:
        if self.in_flight > 0 and self._probing and now_us >= self._timeout_at():
            return self._time_out(now_us)
        self._forget_displacement(now_us)
        # RFC 8985, 6.2 step 5: sent before the newest delivered one, and overdue by the reordering window.
        limit_us = min(self._newest_us - 1, now_us - self._newest_rtt_us - self.reordering_us)
        stamps, head, una = self._stamps, self._head, self._window.una
        segments, runs, flight, after_loss = 0, 0, None, self._after_loss
        while head < len(stamps):
            entry, stamp_us, lost_last = self._entries[head], stamps[head], False
            if entry.last > una:
                if stamp_us > limit_us and (stamp_us >= self._newest_us or stamp_us == self._missing_us):
                    break
                missing = self._missing(entry)
                if len(missing):
                    if stamp_us > limit_us:
                        self._missing_us = stamp_us
                        break
                    self._give_up(missing, Cause.FAST)
                    new, lost_last = _runs(entry, missing, after_loss)
                    segments, runs, flight = segments + len(missing), runs + new, entry.flight
            head, after_loss = head + 1, lost_last
        self._head, self._after_loss = head, after_loss
        if head > 512 and head * 2 > len(stamps):
            del self._stamps[:head], self._entries[:head]
            self._head = 0
        return Detected(segments, runs, flight, timeout=False) if segments else None

    def _missing(self, entry: _Entry) -> Int64s:
        """What this transmission carried and is still missing."""
        window = self._window
        if entry.numbers is None:
            numbers = window.outstanding(entry.first, entry.last)
        else:
            numbers = entry.numbers[entry.numbers >= window.una]
            numbers = numbers[~window.acked[numbers & window.mask]]
        rows = numbers & window.mask
        missing: Int64s = numbers[(window.sent_us[rows] == entry.flight.stamp_us) & ~window.lost[rows]]
        return missing

    def _give_up(self, numbers: Int64s, cause: Cause) -> None:
        if len(numbers):
            self._window.lost[numbers & self._window.mask] = True
            self.in_flight -= len(numbers)
            self._pending.append(Resend(numbers, cause))

    def _forget_displacement(self, now_us: int) -> None:
        memory_us = REORDERING_MEMORY_ROUNDS * self._rtt.srtt_us
        if self._displacement_us and now_us - self._displaced_us > memory_us:
            self._displacement_us //= 2
            self._displaced_us = now_us

    def due(self, now_us: int, limit: int, admitting: int) -> list[Resend]:
        chosen: list[Resend] = []
        window, repeat_us = self._window, self._repeat_at()
        while limit > 0 and self._pending:
            resend = self._pending.popleft()
            numbers = resend.numbers[resend.numbers >= window.una]
            numbers = numbers[window.lost[numbers & window.mask]]
            if len(numbers) > limit:
                self._pending.appendleft(Resend(numbers[limit:], resend.cause))
                numbers = numbers[:limit]
            if len(numbers):
                limit -= len(numbers)
                window.lost[numbers & window.mask] = False
                chosen.append(Resend(numbers, resend.cause))
        if repeat_us is not None and now_us >= repeat_us:
            chosen.append(Resend(np.array([window.una]), Cause.EARLY))
        self._asked_us = now_us
        return chosen

    def _repeat_at(self) -> int | None:
        """When to send the first hole of a full window once more; None for not. Where the timer has expired
        it goes on alone. What filled the window just now comes first."""
        window = self._window
        row = window.una & window.mask
        full = window.nxt - window.una >= window.limit
        if not full or window.transmissions[row] < UNLUCKY or window.lost[row] or self._backoff:
            return None
        after_us = int(window.sent_us[row]) + int(self._rtt.minimum_us * AGAIN_RTTS)
        return max(after_us, self._asked_us + 1)

    @property
    def pending(self) -> bool:
        return bool(self._pending)

    # -- the clock

    def _timeout_us(self) -> int:
        timeout_us = self._rtt.timeout_us(1_000, SMALLEST_TIMEOUT_US, INITIAL_TIMEOUT_US)
        largest_us = max(timeout_us, LARGEST_TIMEOUT_US, int(3 * self._rtt.srtt_us))
        return min(timeout_us << self._backoff, largest_us)

    def _timeout_at(self) -> int:
        """The timer starts again with the probe (RFC 8985, 7.3)."""
        return max(self._progress_us, self._probed_us) + self._timeout_us()

    def _probe_at(self) -> int:
        """RFC 8985, 7.2: two round trips after the last transmission or progress, or when the retransmission
        timer would expire, if that is sooner: a timeout is always preceded by a probe."""
        wait_us = max(2 * int(self._rtt.srtt_us), 10_000) if self._rtt.samples else FIRST_PROBE_US
        return min(max(self._sent_us, self._progress_us) + wait_us, self._progress_us + self._timeout_us())

    def _time_out(self, now_us: int) -> Detected:
        """RFC 6298, 5.4 to 5.6. The first outstanding segment is given up, and all that left more than a
        round trip and the reordering window ago (RFC 8985, 6.3)."""
        window = self._window
        numbers = window.outstanding(window.una, window.nxt)
        rows = numbers & window.mask
        overdue = window.sent_us[rows] <= now_us - self._newest_rtt_us - self.reordering_us
        numbers = numbers[~window.lost[rows] & (overdue | (numbers == window.una))]
        newest = self._entries[-1].flight if self._entries else None
        self._give_up(numbers, Cause.TIMEOUT)
        self._backoff = min(self._backoff + 1, 16)
        self._progress_us = now_us
        return Detected(len(numbers), min(1, len(numbers)), newest, timeout=True)

    def probe_due(self, now_us: int) -> bool:
        if self._probing or self.in_flight <= 0 or now_us < self._probe_at():
            return False
        self._probing = True
        self._probed_us = now_us
        return True

    def deadline_us(self) -> int | None:
        if self.in_flight <= 0:
            return None
        at_us = self._timeout_at() if self._probing else self._probe_at()
        if self._head < len(self._stamps) and self._stamps[self._head] < self._newest_us:
            at_us = min(at_us, self._stamps[self._head] + self._newest_rtt_us + self.reordering_us)
        repeat_us = self._repeat_at()
        return at_us if repeat_us is None else min(at_us, repeat_us)
