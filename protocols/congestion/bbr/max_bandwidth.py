"""BBR.max_bw: the greatest bandwidth sample of two cycles, until losses refute it (draft 5.5.5, 5.5.6).

The draft bounds the bandwidth after losses until the next REFILL and then trusts its filter again. Here a
refuted estimate is replaced, and only newer samples raise it again; a reduction that turns out to be wrong is
undone (congestion_response.py decides which).
"""

from __future__ import annotations

from iperfpy.protocols.congestion.bbr.full_pipe import FULL_PIPE_GROWTH
from iperfpy.protocols.congestion.filters import WindowedMax

# draft 2.10

FILTER_CYCLES = 2
"""BBR.MaxBwFilterLen."""

# not in the draft; chosen by simulation

FEW_SAMPLES = 3
"""Samples of a round up to which the mean of the last round is more reliable."""


class MaxBandwidth:
    """Maximum bandwidth, all rates in segments per second.

    Attributes
    ----------
    value : the estimate (BBR.max_bw); 0.0 before the first sample
    round_best : best sample of the round in progress
    """

    def __init__(self) -> None:
        self.value = 0.0
        self._filter = WindowedMax(FILTER_CYCLES)
        self._cycle = 0  # BBR.cycle_count
        self._reduced_us = -1
        self._overload_us: int | None = None  # departure of the first segment that measures an overload
        self._overload_rate = 0.0  # best sample of these segments
        self._before = 0.0  # the estimate before the reductions that may be undone
        self.round_best = self._last_best = 0.0
        self._sum, self._count, self._last_mean = 0.0, 0, 0.0

    # -- samples

    @property
    def latest_best(self) -> float:
        """Best sample of this round and the last one (BBR.bw_latest)."""
        return max(self.round_best, self._last_best)

    @property
    def latest_mean(self) -> float:
        """Mean of this round's samples, or of the last round's early in a round."""
        return self._sum / self._count if self._count > FEW_SAMPLES else self._last_mean

    @property
    def falls(self) -> bool:
        """True if the mean sample of the round in progress is so much below that of the round before as
        STARTUP's would be above it."""
        return self._count > FEW_SAMPLES and self._sum / self._count * FULL_PIPE_GROWTH < self._last_mean

    def sample(self, rate: float, stamp_us: int, now_us: int) -> bool:
        """Take a sample.

        Parameters
        ----------
        stamp_us : time of departure of the segment that gave the sample. Samples of segments that left before
            the last reduction do not raise the estimate.
        now_us : time of its arrival

        Returns
        -------
        True if the estimate is lower now, because an overload is measured (`measure_overload`).
        """
        if rate > self.round_best:
            self.round_best = rate
        self._sum += rate
        self._count += 1
        if stamp_us > self._reduced_us:
            if self._end_overload(2 * now_us - stamp_us):
                return True
            self.value = self._filter.update(self._cycle, rate)
        elif self._overload_us is not None and stamp_us >= self._overload_us and rate > self._overload_rate:
            self._overload_rate = rate
        return False

    def end_round(self) -> None:
        """End a packet-timed round."""
        if self._count:
            self._last_mean = self._sum / self._count
        self._last_best, self.round_best = self.round_best, 0.0
        self._sum, self._count = 0.0, 0

    def advance(self) -> None:
        """BBRAdvanceMaxBwFilter (5.5.6): end a cycle of probing."""
        self._cycle += 1
        self.value = self._filter.advance(self._cycle)

    # -- reductions

    def reduce(self, rate: float, now_us: int) -> bool:
        """Lower the estimate to `rate`, whatever segments that left before `now_us` deliver.

        Returns
        -------
        False if the estimate is not above `rate`.
        """
        if not 0.0 < rate < self.value:
            return False
        self._before = self._before or self.value
        self._filter.clear()
        self.value = self._filter.update(self._cycle, rate)
        self._reduced_us = now_us
        return True

    def measure_overload(self, last_us: int) -> None:
        """Lower the estimate once more, to the best sample of the segments that left in the last `last_us`
        before the reduction, when all of them have arrived.

        They left at the pace that overloaded the path, so their samples are its rate. Segments that leave
        until a round trip after that do not raise it: a policer has saved tokens in the meantime.
        """
        self._overload_us, self._overload_rate = self._reduced_us - last_us, 0.0

    def _end_overload(self, until_us: int) -> bool:
        """Lower the estimate to the rate of the overload, if it is measured; True if that changes it."""
        if self._overload_us is None:
            return False
        self._overload_us = None
        return self.reduce(self._overload_rate, until_us)

    def commit(self) -> None:
        """Make the reductions so far final."""
        self._before = 0.0

    def restore(self) -> None:
        """Undo the reductions since the last `commit`."""
        if self._before:
            self.value = self._filter.update(self._cycle, self._before)
        self._before = 0.0
