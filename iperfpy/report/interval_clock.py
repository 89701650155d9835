"""The time of day at which an interval ended: the start of the test and the time since then."""

from __future__ import annotations

from iperfpy.records import Sample


class IntervalClock:
    """Follows the intervals of one test.

    Parameters
    ----------
    unix_time : seconds since the epoch at which the test began
    """

    def __init__(self, unix_time: float) -> None:
        self._unix_time = unix_time
        self._omitted_s = 0.0
        self.seconds = 0.0
        """Since the test began, at the end of the latest interval."""

    def ended(self, sample: Sample) -> float:
        """Seconds since the epoch at the end of an interval. `sample`: of one stream at this end; intervals
        come in their order."""
        end_s = sample.end_us / 1e6
        # After the omitted period the times of samples begin at 0 again.
        if sample.omitted:
            self._omitted_s = end_s
            self.seconds = end_s
        else:
            self.seconds = self._omitted_s + end_s
        return self.unix_time

    @property
    def unix_time(self) -> float:
        """Seconds since the epoch at the end of the latest interval, or at the start of the test."""
        return self._unix_time + self.seconds
