"""The rate that the path carries: the best sample of two cycles of probing, until losses refute it."""

from __future__ import annotations

from dataclasses import dataclass

from iperfpy.protocols.congestion.bbr.loss_tally import Tally
from iperfpy.protocols.congestion.filters import WindowedMax

CYCLES = 2
_FEW = 3
"""Samples of a round, up to which the last round's say more."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The estimate was `before` segments per second, and was lowered for these losses, which exceeded the
    noise by more than `tolerance`."""

    because: Tally
    tolerance: float
    before: float

    def joined(self, later: Verdict) -> Verdict:
        """Both at once, from where this one began."""
        because = Tally()
        because.add(self.because)
        because.add(later.because)
        return Verdict(because, max(self.tolerance, later.tolerance), self.before)


class MaxBandwidth:
    """BBR.max_bw (draft 5.5.5, 5.5.6), in segments per second."""

    def __init__(self) -> None:
        self._filter = WindowedMax(CYCLES)
        self.value = 0.0
        self._cycle = 0
        self._lowered_us = -1
        self._verdicts: list[Verdict] = []
        self._settled = True
        self.round_best = self._last_best = 0.0
        self._sum, self._count, self._last_mean = 0.0, 0, 0.0

    @property
    def verdict(self) -> Verdict | None:
        """Why the estimate is lower than it was, as long as that may turn out to be wrong: the last reason
        that is in doubt."""
        return self._verdicts[-1] if self._verdicts else None

    @property
    def latest_best(self) -> float:
        """The best sample of this round and the last."""
        return max(self.round_best, self._last_best)

    @property
    def latest_mean(self) -> float:
        """Of this round's samples or, early in it, of the last round's."""
        return self._sum / self._count if self._count > _FEW else self._last_mean

    def sample(self, rate: float, stamp_us: int) -> None:
        """A sample, taken when what left at `stamp_us` was acknowledged. What left before the estimate was
        lowered has been judged, and raises it no more."""
        if rate > self.round_best:
            self.round_best = rate
        self._sum += rate
        self._count += 1
        if stamp_us > self._lowered_us:
            self.value = self._filter.update(self._cycle, rate)

    def end_round(self) -> None:
        """Once per packet-timed round."""
        if self._count:
            self._last_mean = self._sum / self._count
        self._last_best, self.round_best = self.round_best, 0.0
        self._sum, self._count = 0.0, 0

    def advance(self) -> None:
        """A cycle of probing is over (BBRAdvanceMaxBwFilter, 5.5.6)."""
        self._cycle += 1
        self.value = self._filter.advance(self._cycle)

    def lower(self, rate: float, now_us: int = -1, verdict: Verdict | None = None) -> None:
        """The path carries no more than this, whatever was measured of what left before `now_us`. `verdict`:
        this may be wrong. As long as the one before is not settled they are one."""
        if not 0.0 < rate < self.value:
            return
        if verdict is None:
            self.forget_verdicts()
        elif self._settled:
            self._verdicts.append(verdict)
        else:
            self._verdicts.append(self._verdicts.pop().joined(verdict))
        self._settled = not self._verdicts
        self._filter.clear()
        self.value = self._filter.update(self._cycle, rate)
        self._lowered_us = now_us

    def settle(self) -> None:
        """Lowering helped: what follows is judged by itself."""
        self._settled = True

    def restore(self) -> None:
        """The last verdict was wrong."""
        if self._verdicts:
            self.value = self._filter.update(self._cycle, self._verdicts.pop().before)
            self._settled = True

    def forget_verdicts(self) -> None:
        """None of them is in doubt any longer."""
        self._verdicts.clear()
        self._settled = True
