"""BBR.max_bw: the greatest bandwidth sample of two cycles, until losses refute it (draft 5.5.5, 5.5.6).

The draft bounds the bandwidth after losses until the next REFILL and then trusts its filter again. Here a
refuted estimate is replaced, and only newer samples raise it again; a reduction that turns out to be wrong is
undone (congestion_response.py decides which).
"""

from __future__ import annotations

from dataclasses import dataclass

from iperfpy.protocols.congestion.bbr.loss_tally import LossTally
from iperfpy.protocols.congestion.filters import WindowedMax

# draft 2.10

FILTER_CYCLES = 2
"""BBR.MaxBwFilterLen."""

# not in the draft; chosen by simulation

FEW_SAMPLES = 3
"""Samples of a round up to which the mean of the last round is more reliable."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """A reduction of the estimate that may still be undone.

    Parameters
    ----------
    losses : the losses that caused it
    tolerance : loss above the loss floor that they exceeded
    before : the estimate before it, segments per second
    """

    losses: LossTally
    tolerance: float
    before: float

    def merged(self, later: Reduction) -> Reduction:
        """Return both reductions as one."""
        losses = LossTally()
        losses.add(self.losses)
        losses.add(later.losses)
        return Reduction(losses, max(self.tolerance, later.tolerance), self.before)


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
        self._reductions: list[Reduction] = []  # those that may be undone, the last one at the end
        self._confirmed = True  # the last reduction has helped
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

    def sample(self, rate: float, stamp_us: int) -> None:
        """Take a sample.

        Parameters
        ----------
        stamp_us : time of departure of the segment that gave the sample. Samples of segments that left before
            the last reduction do not raise the estimate.
        """
        if rate > self.round_best:
            self.round_best = rate
        self._sum += rate
        self._count += 1
        if stamp_us > self._reduced_us:
            self.value = self._filter.update(self._cycle, rate)

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

    @property
    def last_reduction(self) -> Reduction | None:
        """The last reduction that may be undone."""
        return self._reductions[-1] if self._reductions else None

    def reduce(self, rate: float, now_us: int = -1, reduction: Reduction | None = None) -> None:
        """Lower the estimate to `rate`, whatever segments that left before `now_us` deliver.

        Parameters
        ----------
        reduction : record to undo it by; None if the reduction is final
        """
        if not 0.0 < rate < self.value:
            return
        if reduction is None:
            self.commit()
        elif self._confirmed:
            self._reductions.append(reduction)
        else:
            # The one before has not helped yet: they stand or fall together.
            self._reductions.append(self._reductions.pop().merged(reduction))
        self._confirmed = not self._reductions
        self._filter.clear()
        self.value = self._filter.update(self._cycle, rate)
        self._reduced_us = now_us

    def confirm(self) -> None:
        """Note that the last reduction helped: the next one is evaluated separately."""
        self._confirmed = True

    def undo(self) -> None:
        """Undo the last reduction."""
        if self._reductions:
            self.value = self._filter.update(self._cycle, self._reductions.pop().before)
            self._confirmed = True

    def commit(self) -> None:
        """Make all reductions final."""
        self._reductions.clear()
        self._confirmed = True
