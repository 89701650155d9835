"""Loss recovery as stock KCP does it: a timer per segment, counted ACKs, no order in time.

The two stock implementations, skywind3000/kcp ("ikcp") and xtaci/kcp-go, differ. This follows kcp-go 5.6,
the version that kcptun and iperf-go run:

* Every ACK counts, repeats included, for segments stamped no later than its echo (ikcp: only the highest ACK
  of each datagram, whatever it echoes).
* Retransmissions are decided in a flush: at a tick, when a timer runs out, when una moves, when new data
  leaves (ikcp: at ticks only). A segment passed by `resend` ACKs is sent again fast, as often as that happens
  (ikcp: five times). One passed by fewer is sent again early, by a flush that admits nothing new (ikcp:
  never).
* The timer backs off by the path's timeout, and starts anew with a fast or early retransmission.

Differences from kcp-go: stamps are microseconds, while timers start at whole milliseconds; ticks at which
there is nothing to do are skipped; data that the application has not read does not shrink the receive
window. tests/protocols/kcp/equivalence.py compares the three.

RFC 6298 is kept as far as `Timeout` says; its section 5.5 doubles the timer of the connection, KCP only the
segment's own. RFC 9002, 6.1.1 has a threshold of three later packets, counted once each; here it is two ACKs
in every preset, duplicates included. Nothing here is RFC 8985: see rack.py.

Missing segments below the highest acknowledged one ("holes") are kept in an array of their own, so that the
cost of an acknowledgement depends on the number of holes, not on the window.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from iperfpy.protocols.congestion.congestion_control import Flight
from iperfpy.protocols.kcp.loss_recovery.recovery import Cause, Detected, Resend
from iperfpy.protocols.kcp.send_window import SendWindow
from iperfpy.protocols.kcp.tick_clock import TickClock
from iperfpy.protocols.kcp.wire import Int64s

INITIAL_TIMEOUT_US = 200_000
LARGEST_TIMEOUT_US = 60_000_000
_NONE: Int64s = np.empty(0, np.int64)


class Timeout:
    """The timeout of kcp-go 5.6, in the whole milliseconds that it counts in: srtt + max(interval, 4 rttvar).

    As RFC 6298, 2.2 and 2.3, except that a sample below the usual range moves the variation by 1/32 instead
    of 1/4, and that every division rounds down. Both matter on long paths: with the RFC's arithmetic a window
    of 512 segments at 20 Mb/s and 170 ms sends up to 29 % fewer retransmissions than kcp-go does. The RTT in
    reports is `RttEstimator`'s, which knows nothing of this.
    """

    def __init__(self, interval_us: int, *, nodelay: bool) -> None:
        self._interval_ms, self._floor_us = interval_us // 1_000, 30_000 if nodelay else 100_000
        self._srtt_ms = self._variation_ms = 0
        self.us = INITIAL_TIMEOUT_US

    def sample(self, stamp_us: int, now_us: int) -> None:
        """Take an RTT sample: the transmission of `stamp_us` is acknowledged now."""
        rtt_ms = now_us // 1_000 - stamp_us // 1_000
        if not self._srtt_ms:
            self._srtt_ms, self._variation_ms = rtt_ms, rtt_ms >> 1
        else:
            difference = rtt_ms - self._srtt_ms
            self._srtt_ms += difference >> 3
            weight = 5 if rtt_ms < self._srtt_ms - self._variation_ms else 2
            self._variation_ms += (abs(difference) - self._variation_ms) >> weight
        timeout_us = 1_000 * (self._srtt_ms + max(self._interval_ms, 4 * self._variation_ms))
        self.us = min(max(timeout_us, self._floor_us), LARGEST_TIMEOUT_US)


class StockRecovery:
    """`Recovery` for kcp.

    Parameters
    ----------
    nodelay : the floor of the timeout is 30 ms instead of 100 ms, and it backs off by half instead of whole
    interval_us : distance of ticks
    resend : ACKs that pass a segment before it is sent again fast; 0 for never
    early : True if a flush that admits nothing new sends again early, as kcp-go's does and ikcp's does not

    Attributes
    ----------
    in_flight, spurious, spurious_losses : see `Recovery`
    """

    obeys_limits: ClassVar[bool] = False

    def __init__(
        self, window: SendWindow, *, nodelay: bool, interval_us: int, resend: int, early: bool = True
    ) -> None:
        self._early = early
        self._window, self._timeout = window, Timeout(interval_us, nodelay=nodelay)
        self._nodelay, self._resend = nodelay, resend
        self._holes = _NONE
        self._passed = window.una  # one past the highest acknowledged one by one
        self._earliest_us: int | None = None  # no segment times out before
        self._ticks = TickClock(interval_us)
        self._flushed_una = window.una
        self._found = Detected(0, 0, None, timeout=False)
        self.in_flight = self.spurious = self.spurious_losses = 0
        self.thin = False  # of no effect here

    # -- transmissions

    def sent(self, first: int, last: int, flight: Flight) -> None:
        timeout_us = self._timeout_us()
        resend_us = _whole_ms(flight.stamp_us) + timeout_us
        state = self._window.state
        for start, stop in self._window.pieces(first, last):
            state.rto_us[start:stop] = timeout_us
            state.resend_us[start:stop] = resend_us
            state.fastack[start:stop] = 0
        self.in_flight += last - first
        self._expect(resend_us)

    def resent(self, resend: Resend, flight: Flight) -> None:
        """Do nothing: the timers were set when the segments were chosen."""

    # -- acknowledgements

    def acknowledged(self, fresh: Int64s, echoes_us: Int64s, now_us: int) -> None:
        window = self._window
        self.in_flight -= len(fresh)
        highest = int(fresh[-1]) + 1
        if highest > self._passed:
            skipped = window.outstanding(self._passed, highest)
            self._passed = highest
            self._holes = np.concatenate((self._holes, skipped))
        self._close_holes()

    def acks_arrived(self, numbers: Int64s, echoes_us: Int64s) -> None:
        """Count for each hole the ACKs of later segments that echo a stamp no older than its own, repeats
        included."""
        holes, window, state = self._holes, self._window, self._window.state
        # On a long path most were sent again since the newest of these stamps: nothing passes them.
        holes = holes[state.sent_us[holes & window.mask] <= echoes_us.max()]
        if not len(holes):
            return
        rows = holes & window.mask
        passing = len(numbers) - np.searchsorted(np.sort(numbers), holes, side="right")
        sent_us = state.sent_us[rows]
        late = np.flatnonzero(sent_us > echoes_us.min())  # few: sent again since some of these ACKs' stamps
        if len(late):
            later = (numbers > holes[late, None]) & (echoes_us >= sent_us[late, None])
            passing[late] = later.sum(axis=1)
        state.fastack[rows] += passing.astype(np.int32)

    def found_spurious(self, numbers: Int64s, echoes_us: Int64s, now_us: int) -> None:
        self.spurious += len(numbers)
        self.spurious_losses = self.spurious

    def advanced(self, segments: int, lost: int, now_us: int) -> None:
        self.in_flight -= segments
        self._passed = max(self._passed, self._window.una)
        self._close_holes()

    def echoed(self, stamp_us: int, now_us: int) -> Flight | None:
        self._timeout.sample(stamp_us, now_us)
        return None

    def _close_holes(self) -> None:
        window = self._window
        if len(self._holes) and self._holes[0] < window.una:
            self._holes = self._holes[np.searchsorted(self._holes, window.una) :]
        if len(self._holes) and window.sacked:
            known = window.state.acked[self._holes & window.mask]
            if known.any():
                self._holes = self._holes[~known]

    # -- losses

    def detect(self, now_us: int) -> Detected | None:
        found, self._found = self._found, Detected(0, 0, None, timeout=False)
        return found if found.segments else None

    def due(self, now_us: int, limit: int, admitting: int) -> list[Resend]:
        """kcp-go's flush: at a tick, when a timer runs out, when una moved, when new data leaves."""
        expiring = self._earliest_us is not None and now_us >= self._earliest_us
        ticking = self._ticks.ticks(now_us, early=expiring)
        chosen: list[Resend] = []
        if ticking or admitting or self._window.una != self._flushed_una:
            self._flushed_una = self._window.una
            chosen = self._flush(now_us, admitting, expiring)
        self._ticks.awaited = len(self._holes) > 0
        return chosen

    def _flush(self, now_us: int, admitting: int, expiring: bool) -> list[Resend]:
        """Choose the segments to send again, and set their timers."""
        chosen = []
        if len(self._holes):
            counts = self._window.state.fastack[self._holes & self._window.mask]
            fast = counts >= self._resend if self._resend else np.zeros(len(counts), np.bool_)
            chosen.append(Resend(self._holes[fast], Cause.FAST))
            if self._early and not admitting:  # early retransmit: nothing new draws further ACKs
                chosen.append(Resend(self._holes[(counts > 0) & ~fast], Cause.EARLY))
            for resend in chosen:
                self._rearm(resend.numbers, now_us, self._timeout_us())
        if expiring:
            chosen.append(Resend(self._expired(now_us), Cause.TIMEOUT))
        chosen = [resend for resend in chosen if len(resend.numbers)]
        if chosen:
            segments = sum(len(resend.numbers) for resend in chosen)
            self._found = Detected(
                segments,
                segments,
                None,
                timeout=any(resend.cause is Cause.TIMEOUT for resend in chosen),
            )
        return chosen

    def _rearm(self, numbers: Int64s, now_us: int, timeouts_us: int | Int64s) -> None:
        if not len(numbers):
            return
        rows, state = numbers & self._window.mask, self._window.state
        state.fastack[rows] = 0
        state.rto_us[rows] = timeouts_us
        state.resend_us[rows] = _whole_ms(now_us) + timeouts_us
        self._expect(_whole_ms(now_us) + int(np.min(timeouts_us)))

    def _expired(self, now_us: int) -> Int64s:
        """Segments with an expired timer, rearmed with backoff. This searches the whole window, and is called
        again only when the earliest timer that is left runs out."""
        window, state = self._window, self._window.state
        numbers = window.outstanding(window.una, window.nxt)
        rows = numbers & window.mask
        expired: Int64s = numbers[state.resend_us[rows] <= now_us]
        step_us = self._timeout_us() // (2 if self._nodelay else 1)
        backed_off = np.minimum(state.rto_us[expired & window.mask] + step_us, LARGEST_TIMEOUT_US)
        self._rearm(expired, now_us, backed_off)
        self._earliest_us = int(state.resend_us[rows].min()) if len(rows) else None
        return expired

    def path_changed(self, now_us: int) -> int:
        """Let every timer run out now."""
        numbers = self._window.outstanding(self._window.una, self._window.nxt)
        self._rearm(numbers, now_us - self._timeout_us(), self._timeout_us())
        return 0

    def _expect(self, at_us: int) -> None:
        self._earliest_us = at_us if self._earliest_us is None else min(self._earliest_us, at_us)

    def _timeout_us(self) -> int:
        return self._timeout.us

    # -- the clock

    def probe_due(self, now_us: int) -> bool:
        return False

    @property
    def pending(self) -> bool:
        return len(self._holes) > 0

    def deadline_us(self) -> int | None:
        at_us = self._earliest_us if self.in_flight else None
        if len(self._holes):
            at_us = self._ticks.at_us if at_us is None else min(at_us, self._ticks.at_us)
        return at_us


def _whole_ms(at_us: int) -> int:
    """Round down to milliseconds, which stock KCP counts in: timers run from the start of one."""
    return at_us // 1_000 * 1_000
