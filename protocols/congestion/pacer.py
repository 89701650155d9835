"""Pacing: a token bucket that knows neither clock nor controller.

draft-ietf-ccwg-bbr section 5.6.2 schedules every quantum at `next_send_time`. A bucket of `burst` segments
does the same and tolerates late timers: segments that a late wake-up missed may follow at once, up to
`late_us` worth of them and no more. Time in which a window was closed did not delay a timer, and earns hardly
anything: a path with a short buffer would lose the burst. An idle sender earns a late timer's burst at most.

    pacer.allowance(now_us, rate, burst) -> segments that may go now
    pacer.spend(segments)                   after they went
    pacer.release_us(rate, burst)        -> when a whole quantum may go
"""

from __future__ import annotations

from iperfpy.protocols.congestion.congestion_control import UNLIMITED

SLACK_US = 1_000
"""Tokens that accrue beyond a burst in any case: an event loop may be busy when a timer runs out, and some
sleep in whole milliseconds."""
NO_LIMIT = 1 << 30


class Pacer:
    """A token bucket in segments. Tokens accrue at the rate given with each question, so a change
    of rate holds from the previous question on.

    Parameters
    ----------
    late_us : how late a timer may fire without costing rate

    Attributes
    ----------
    stopped_us : time of the last question if its answer was to wait for a release, else -1. A sender need not
        ask again at that time, but sets it to -1 if an acknowledgement arrives: the rate may have changed.
    """

    __slots__ = ("_late_us", "_tokens", "_updated_us", "stopped_us")

    def __init__(self, late_us: int = SLACK_US) -> None:
        self._late_us = late_us
        self._tokens = 1.0
        self._updated_us: int | None = None
        self.stopped_us = -1

    def allowance(self, now_us: int, rate: float, burst: int, *, late: bool = True) -> int:
        """Segments that may be released at `now_us`: none, or a whole quantum and more.

        Parameters
        ----------
        rate : segments per second, above 0; `UNLIMITED` lifts the limit.
        burst : segments, at least 1: the send quantum.
        late : True if the time since the previous question beyond a burst is a timer's delay.
        """
        self.stopped_us = -1
        if rate == UNLIMITED:
            self._updated_us = now_us
            return NO_LIMIT
        if self._updated_us is None:
            self._tokens = float(burst)
        else:
            earned = max(0, now_us - self._updated_us) * rate / 1e6
            depth = burst + rate * (self._late_us if late else SLACK_US) / 1e6
            self._tokens = min(self._tokens + earned, depth)
        self._updated_us = now_us
        # A release time is in whole microseconds, so a fraction of a segment may be missing.
        whole = self._tokens + 1e-3
        return int(whole) if whole >= burst else 0

    def spend(self, segments: int) -> None:
        """Take tokens for segments that left. A probe may overdraw, and is paid back by waiting."""
        self._tokens -= segments

    def release_us(self, rate: float, burst: int) -> int | None:
        """The time at which a quantum of `burst` segments will be allowed, None when it is already.

        Waiting for a whole quantum keeps batches large at high rates; at low rates `burst` is 1.
        """
        missing = burst - self._tokens
        if rate == UNLIMITED or self._updated_us is None or missing <= 1e-3:
            return None
        self.stopped_us = self._updated_us
        return self._updated_us + max(1, int(missing * 1e6 / rate + 0.999))
