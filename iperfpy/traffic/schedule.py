"""The times at which the intervals of a test end. Pure: times in, times out."""

from __future__ import annotations


class Schedule:
    """The ends of the intervals: of the omitted period first, then of the measured one.

    Boundaries are multiples of the interval from the period's start, so that lateness does not add up. A
    boundary that would leave a runt (less than a tenth of the interval) before a known end is left out.

    Parameters
    ----------
    interval_us : 0: only the ends of the periods
    omit_us : length of the omitted period
    duration_us : length of the measured period, 0 if its end is not known here
    """

    def __init__(self, started_us: int, interval_us: int, omit_us: int, duration_us: int) -> None:
        self.omit_end_us = started_us + omit_us if omit_us else None
        self.end_us = started_us + omit_us + duration_us if duration_us else None
        self._interval_us = interval_us
        self._start_us = started_us
        self._count = 0

    def begin(self, now_us: int) -> None:
        """Move the whole schedule: the first data came at `now_us`."""
        later_us, self._start_us = now_us - self._start_us, now_us
        if self.omit_end_us is not None:
            self.omit_end_us += later_us
        if self.end_us is not None:
            self.end_us += later_us

    @property
    def started_us(self) -> int:
        """Start of the present period."""
        return self._start_us

    @property
    def omitting(self) -> bool:
        """True until the omitted period is over."""
        return self.omit_end_us is not None

    @property
    def next_us(self) -> int | None:
        """Time of the next tick, None if only the end of the test is left."""
        period_end = self.omit_end_us if self.omitting else self.end_us
        if self._interval_us:
            boundary = self._start_us + (self._count + 1) * self._interval_us
            if period_end is None or boundary <= period_end - self._interval_us // 10:
                return boundary
        return self.omit_end_us

    def ticked(self, now_us: int) -> bool:
        """Note a tick. True if it ended the omitted period: times begin again at `now_us`."""
        if self.omit_end_us is not None and now_us >= self.omit_end_us:
            if self.end_us is not None:
                self.end_us += now_us - self.omit_end_us
            self.omit_end_us, self._start_us, self._count = None, now_us, 0
            return True
        if self._interval_us:
            self._count = max(self._count + 1, (now_us - self._start_us) // self._interval_us)
        return False
