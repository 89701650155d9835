"""Time-ordered loss recovery (RACK-TLP, RFC 8985) over KCP's echoed stamps.

Every transmission is appended to a flight log; stamps are unique and ascend. An acknowledgement that echoes
stamp T proves that a transmission which left more than the reordering window before T, and is still missing,
is lost, whether it was the first of its segment or a later one. One pointer walks the log. It passes entries
that miss nothing, and waits only for an entry that does, so that a timer runs only while something may be
lost.

Differences from RFC 8985:

* There is no SACK scoreboard to search: the echo names the very transmission, and section 6.2 steps 2 and 3
  become one lookup.
* The reordering window follows the displacement that was really seen, also by the transmission of which a
  copy came first, instead of counting DSACK rounds (section 6.2 step 4).
* The first hole of a full window, once lost several times, is sent again before it is found lost: hardly
  anything leaves after it that could tell.
* A probe (section 7) waits two smoothed round trips, but without the worst-case delayed ACK of 7.2: a KCP
  receiver delays none. Until there is a sample, it comes after KCP's first timeout in place of 7.2's second.
* The timer is RFC 6298's with a floor of 200 ms in place of 2.4's second; its doubling (5.5) ends at 1 s.

RFC 9002 is close. Its time threshold (6.1.2) is 9/8 of the larger of srtt and the latest sample, and leaves
queueing inside the margin; the eighth used here is of the minimum RTT, where RFC 8985 has a quarter, and
grows only with displacement. Where the window is the bound, the earlier repair makes a tenth more of it. Its
packet threshold (6.1.1) is not used at all: three later segments say nothing on a path that reorders. Its
probe timeout (6.2) stands for probe and timer together and gives nothing up; here the timer does (RFC 8985,
6.3), because a KCP sender must not hold a full window for lost data.
"""

from __future__ import annotations

from collections import deque
from typing import ClassVar

import numpy as np

from iperfpy.protocols.congestion.congestion_control import Flight
from iperfpy.protocols.kcp.loss_recovery.flight_log import Entry, FlightLog
from iperfpy.protocols.kcp.loss_recovery.recovery import Cause, Detected, Resend
from iperfpy.protocols.kcp.loss_recovery.recovery_timer import RecoveryTimer
from iperfpy.protocols.kcp.loss_recovery.reordering_window import ReorderingWindow
from iperfpy.protocols.kcp.rtt_estimator import RttEstimator
from iperfpy.protocols.kcp.send_window import SendWindow
from iperfpy.protocols.kcp.wire import Int64s

OFTEN_LOST, REPEAT_RTTS = 4, 0.5
"""From this many transmissions on, and this long after the last, the first hole of a full window is sent once
more though it may still arrive: nothing new can leave, and one datagram holds everything up. MPTCP calls that
opportunistic retransmission (Raiciu et al., NSDI 2012, section 4.2)."""


COPY_RTTS, SHORTEST_COPY_US = 1 / 16, 2_000
"""Distance of the two copies of a thin stream's retransmission: what loses one of them has often passed."""


class Rack:
    """`Recovery` for kcp-bbr.

    Attributes
    ----------
    in_flight, spurious, spurious_losses : see `Recovery`
    reordering : the tolerance for reordering
    timer : probe and timeout
    """

    obeys_limits: ClassVar[bool] = True

    def __init__(self, window: SendWindow, rtt: RttEstimator) -> None:
        self.in_flight = self.spurious = self.spurious_losses = 0
        self._given_up = 0
        self.reordering = ReorderingWindow(rtt)
        self.timer = RecoveryTimer(rtt)
        self._window, self._rtt = window, rtt
        self._log = FlightLog()
        self._waiting_entry_us = -1  # stamp of the log's head entry if that is known to miss segments
        self._newest_us = 0  # newest stamp known to have arrived
        self._newest_rtt_us = 0
        self._pending: deque[Resend] = deque()
        self._last_due_us = -1  # time of the last call of `due`
        self._probes: dict[int, int] = {}
        """Serial number -> stamp of its tail loss probe: the transmission before it was not given up."""

    @property
    def thin(self) -> bool:
        """True if the stream is thin, see `Recovery`."""
        return self.reordering.thin

    @thin.setter
    def thin(self, thin: bool) -> None:
        self.reordering.thin = thin

    # -- transmissions

    def sent(self, first: int, last: int, flight: Flight) -> None:
        self._append(Entry(flight, first, last), last - first)

    def resent(self, resend: Resend, flight: Flight) -> None:
        numbers = resend.numbers
        entry = Entry(flight, int(numbers[0]), int(numbers.max()) + 1, numbers)
        probe = resend.cause is Cause.EARLY
        self._append(entry, self._replaced_by_probe(numbers, flight) if probe else len(numbers))

    def _replaced_by_probe(self, numbers: Int64s, flight: Flight) -> int:
        """Count the segments that join those in flight: each counts once, however many copies are there."""
        window, lost = self._window, self._window.state.lost
        remembered = window.end - window.capacity
        self._probes = {number: at for number, at in self._probes.items() if number >= remembered}
        self._probes.update(dict.fromkeys(numbers.tolist(), flight.stamp_us))
        rows = numbers & window.mask
        joining = int(np.count_nonzero(lost[rows]))
        lost[rows] = False
        return joining

    def _append(self, entry: Entry, segments: int) -> None:
        self.timer.sent(entry.flight.stamp_us, first=self.in_flight == 0)
        self.in_flight += segments
        self._log.append(entry)

    # -- acknowledgements

    def acknowledged(self, fresh: Int64s, echoes_us: Int64s, now_us: int) -> None:
        window, rows = self._window, fresh & self._window.mask
        given_up = window.state.lost[rows]
        window.state.lost[rows] = False
        self.in_flight -= len(fresh) - int(np.count_nonzero(given_up))
        # The very transmission that was given up is echoed; for an earlier one see `found_spurious`.
        arrived = given_up & (echoes_us >= window.state.sent_us[rows])
        self.spurious_losses += int(np.count_nonzero(arrived))
        self.timer.progressed(now_us)
        self._note_displacement(echoes_us, now_us)

    def _note_displacement(self, echoes_us: Int64s, now_us: int) -> None:
        """Note by how much the oldest of these transmissions took longer than the newest acknowledged before.

        The times of departure differ by less: on a slow path, nothing may leave in most of that time.
        """
        oldest_us = int(echoes_us.min())
        if oldest_us < self._newest_us:
            self.reordering.displaced(now_us - oldest_us - self._newest_rtt_us, now_us)

    def acks_arrived(self, numbers: Int64s, echoes_us: Int64s) -> None:
        """Do nothing: time decides here, not a count of ACKs."""

    def found_spurious(self, numbers: Int64s, echoes_us: Int64s, now_us: int) -> None:
        self.spurious += len(numbers)
        self.spurious_losses += len(numbers)
        if self._probes:
            # Whatever left before a probe was not given up when the probe replaced it.
            for number, echo_us in zip(numbers.tolist(), echoes_us.tolist(), strict=True):
                self.spurious_losses -= echo_us < self._probes.get(number, 0)
        # A peer may report more repeats than there were; the path's losses do not become negative.
        self.spurious_losses = min(self.spurious_losses, self._given_up)
        # A copy was acknowledged before the transmission that had been given up. If the window is so narrow
        # that every segment of the longer of two ways is sent again, nothing else widens it.
        self._note_displacement(echoes_us, now_us)

    def advanced(self, segments: int, lost: int, now_us: int) -> None:
        self.in_flight -= segments - lost
        self.spurious_losses += lost
        self.timer.progressed(now_us)

    def echoed(self, stamp_us: int, now_us: int) -> Flight | None:
        """RFC 8985, 6.2 step 2."""
        flight = self._log.flight(stamp_us)
        if flight is not None:
            self._newest_us = stamp_us
            self._newest_rtt_us = now_us - stamp_us
        return flight

    # -- losses

    def detect(self, now_us: int) -> Detected | None:
        if self.in_flight > 0 and self.timer.probing and now_us >= self.timer.timeout_at_us():
            return self._time_out(now_us)
        self.reordering.forget(now_us)
        # RFC 8985, 6.2 step 5: sent before the newest delivered one, and overdue by the reordering window.
        limit_us = min(self._newest_us - 1, now_us - self._newest_rtt_us - self.reordering.width_us)
        log, una = self._log, self._window.una
        stamps, head, after_loss = log.stamps, log.head, log.after_loss
        segments, runs, flight = 0, 0, None
        while head < len(stamps):
            entry, stamp_us, lost_first, lost_last = log.entries[head], stamps[head], False, False
            if entry.last > una:
                # Not overdue: stop, unless it may be passed because it misses nothing. That is looked up
                # once per entry (`_waiting_entry_us`), and only below the newest stamp that arrived.
                if stamp_us > limit_us and (
                    stamp_us >= self._newest_us or stamp_us == self._waiting_entry_us
                ):
                    break
                missing = entry.missing(self._window)
                if len(missing):
                    if stamp_us > limit_us:
                        self._waiting_entry_us = stamp_us
                        break
                    self._give_up(missing, Cause.FAST)
                    new, lost_first, lost_last = entry.runs(missing, after_loss)
                    segments, runs, flight = segments + len(missing), runs + new, entry.flight
            log.ends.follow(stamp_us, before_lost=after_loss, first_lost=lost_first)
            head, after_loss = head + 1, lost_last
        log.pass_to(head, after_loss=after_loss)
        return Detected(segments, runs, flight, False, *log.ends.take()) if segments else None

    def _give_up(self, numbers: Int64s, cause: Cause) -> None:
        if len(numbers):
            self._window.state.lost[numbers & self._window.mask] = True
            self.in_flight -= len(numbers)
            self._given_up += len(numbers)
            self._pending.append(Resend(numbers, cause))

    def due(self, now_us: int, limit: int, admitting: int) -> list[Resend]:
        chosen: list[Resend] = []
        window, lost, repeat_us = self._window, self._window.state.lost, self._repeat_at_us()
        while limit > 0 and self._pending:
            resend = self._pending.popleft()
            # Some may have arrived since they were given up, or left as a probe.
            numbers = resend.numbers[resend.numbers >= window.una]
            numbers = numbers[lost[numbers & window.mask]]
            if len(numbers) > limit:
                self._pending.appendleft(Resend(numbers[limit:], resend.cause))
                numbers = numbers[:limit]
            if len(numbers):
                limit -= len(numbers)
                lost[numbers & window.mask] = False
                chosen.append(Resend(numbers, resend.cause))
        if repeat_us is not None and now_us >= repeat_us:
            chosen.append(Resend(np.array([window.una]), Cause.EARLY))
        self._last_due_us = now_us
        return chosen

    def _repeat_at_us(self) -> int | None:
        """The time at which to send the first hole of a full window once more; None for not.

        After a timeout the timer goes on alone. New data that filled the window just now leaves first.
        """
        window = self._window
        row, state = window.una & window.mask, window.state
        if self.thin and window.nxt > window.una and not self.timer.backoff:
            return self._second_copy_at_us(row)
        if window.nxt - window.una < window.limit or self.timer.backoff:
            return None
        if state.transmissions[row] < OFTEN_LOST or state.lost[row]:
            return None
        after_us = int(state.sent_us[row]) + int(self._rtt.minimum_us * REPEAT_RTTS)
        return max(after_us, self._last_due_us + 1)

    def _second_copy_at_us(self, row: int) -> int | None:
        """The time at which a thin stream sends its first hole a second time after each retransmission; None
        for not. All later messages wait for it, and a copy costs little beside a further round trip."""
        state = self._window.state
        # 2: sent again once. The copy makes it 3, and a further loss 4.
        if state.transmissions[row] % 2 or state.lost[row] or state.acked[row]:
            return None
        after_us = int(state.sent_us[row]) + max(int(self._rtt.minimum_us * COPY_RTTS), SHORTEST_COPY_US)
        return max(after_us, self._last_due_us + 1)

    @property
    def pending(self) -> bool:
        return bool(self._pending)

    # -- the clock

    def _time_out(self, now_us: int) -> Detected:
        """RFC 6298, 5.4 to 5.6. The first outstanding segment is given up, and all that left more than a
        round trip and the reordering window ago (RFC 8985, 6.3)."""
        window, state = self._window, self._window.state
        numbers = window.outstanding(window.una, window.nxt)
        rows = numbers & window.mask
        overdue = state.sent_us[rows] <= now_us - self._newest_rtt_us - self.reordering.width_us
        numbers = numbers[~state.lost[rows] & (overdue | (numbers == window.una))]
        newest = self._log.newest()
        self._give_up(numbers, Cause.TIMEOUT)
        self.timer.expired(now_us)
        return Detected(len(numbers), min(1, len(numbers)), newest, timeout=True)

    def path_changed(self, now_us: int) -> int:
        window, state = self._window, self._window.state
        numbers = window.outstanding(window.una, window.nxt)
        numbers = numbers[~state.lost[numbers & window.mask]]
        self._give_up(numbers, Cause.TIMEOUT)
        self.timer.progressed(now_us)
        return len(numbers)

    def probe_due(self, now_us: int) -> bool:
        if self.timer.probing or self.in_flight <= 0 or now_us < self.timer.probe_at_us():
            return False
        self.timer.probed(now_us)
        return True

    def deadline_us(self) -> int | None:
        if self.in_flight <= 0:
            return None
        at_us = self.timer.deadline_us()
        oldest_us = self._log.oldest_us()
        if oldest_us is not None and oldest_us < self._newest_us:
            at_us = min(at_us, oldest_us + self._newest_rtt_us + self.reordering.width_us)
        repeat_us = self._repeat_at_us()
        return at_us if repeat_us is None else min(at_us, repeat_us)
