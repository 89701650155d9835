"""Loss of a path that is not overloaded: its share, and its bursts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, floor, lgamma, log, log1p, sqrt

from iperfpy.diagnosis.stretches import Stretch

FEWEST_LOSSES = 5
"""Losses from which on a share is stated."""
NEGLIGIBLE = 1e-3
"""Share below which a handful of losses is told in passing, and is no finding."""
FEWEST_RUNS = 6
"""Runs of losses from which on bursts are told from single losses. The test of chance decides; one event of
the path or of a machine, with its few runs, must not."""
FEWEST_STRETCHES = 3
_CHANCE = 0.00135
"""Probability beyond 3 sigma, one-sided."""
_FLAT_SIGMA, _FLAT = 4.0, 0.5
"""Difference between slow and fast stretches that is chance: standard errors, and parts of the share."""
_LONGER = 1.25
"""Factor by which the mean run exceeds that of independent losses, at least, to be called bursts."""


@dataclass(frozen=True, slots=True)
class RandomLoss:
    """Loss that does not depend on the rate.

    Parameters
    ----------
    sent, lost : datagrams of the calm stretches
    share, error : lost share and its standard error, which allows for bursts
    runs : runs of consecutive losses, None: not known
    mean_run : losses per run
    in_bursts : True if the runs are longer than those of independent losses; None: too few, or not known
    stretches : number of calm stretches
    flat : False if the share differs between slow and fast stretches by more than chance
    """

    sent: int = 0
    lost: int = 0
    share: float = 0.0
    error: float = 0.0
    runs: int | None = None
    mean_run: float = 1.0
    in_bursts: bool | None = None
    stretches: int = 0
    flat: bool = True

    @property
    def present(self) -> bool:
        """True if there is loss, beyond a handful of datagrams."""
        return self.lost >= FEWEST_LOSSES and self.share > 2 * self.error

    @property
    def negligible(self) -> bool:
        """True if some datagrams were lost, and less than `NEGLIGIBLE` of all by two standard errors."""
        return self.lost > 0 and not self.present and self.share + 2 * self.error < NEGLIGIBLE

    @property
    def needed(self) -> int:
        """Losses from which on loss of these runs is `present`."""
        spread = scatter(self.mean_run)
        return max(FEWEST_LOSSES, floor(4 * spread * (1 - self.share)) + 1)


def scatter(mean_run: float) -> float:
    """Variance of the number of losses over that of independent ones: a run of losses is one event, and runs
    of a geometric length of mean m have 2 m - 1."""
    return max(1.0, 2 * mean_run - 1)


def mean_run_of(stretches: Sequence[Stretch]) -> float:
    """Losses per run of consecutive ones; 1 if no run is known."""
    known = [one for one in stretches if one.runs]
    runs = sum(one.runs or 0 for one in known)
    return sum(one.in_runs or 0 for one in known) / runs if runs else 1.0


def measure(calm: Sequence[Stretch]) -> RandomLoss:
    """Measure the loss of stretches below the path's rate."""
    sent, lost = sum(one.sent for one in calm), sum(one.lost for one in calm)
    if not sent:
        return RandomLoss()
    share = lost / sent
    known = [one for one in calm if one.runs is not None]
    runs = sum(one.runs or 0 for one in known) if known else None
    in_runs, mean_run = sum(one.in_runs or 0 for one in known), mean_run_of(calm)
    spread = scatter(mean_run)
    error = sqrt(max(share, 0.5 / sent) * (1 - share) * spread / sent)
    return RandomLoss(
        sent,
        lost,
        share,
        error,
        runs,
        mean_run,
        _in_bursts(runs, in_runs, share),
        len(calm),
        _flat(calm, share, spread),
    )


def _in_bursts(runs: int | None, losses: int, share: float) -> bool | None:
    """Compare the losses that follow a loss with chance: binomial with the share of losses."""
    if runs is None or runs < FEWEST_RUNS:
        return None
    following = losses - runs
    longer = losses / runs > _LONGER / (1 - share)
    return longer and _at_least(following, losses, share) < _CHANCE


def _at_least(least: int, count: int, share: float) -> float:
    """Probability of `least` or more successes among `count`."""
    if least <= 0:
        return 1.0
    if not 0 < share < 1:
        return float(share >= 1)
    total = 0.0
    for number in range(least, count + 1):
        choices = lgamma(count + 1) - lgamma(number + 1) - lgamma(count - number + 1)
        total += exp(choices + number * log(share) + (count - number) * log1p(-share))
    return min(1.0, total)


def _flat(calm: Sequence[Stretch], share: float, spread: float) -> bool:
    """True if the slower and the faster half of the packets lose the same share, but for chance."""
    if len(calm) < FEWEST_STRETCHES or not share:
        return True
    ordered = sorted(calm, key=lambda one: one.offered)
    slow, fast = ordered[: len(ordered) // 2 + 1], ordered[len(ordered) // 2 + 1 :]
    counts = [(sum(one.sent for one in half), sum(one.lost for one in half)) for half in (slow, fast)]
    (sent_slow, lost_slow), (sent_fast, lost_fast) = counts
    if not sent_slow or not sent_fast:
        return True
    difference = abs(lost_slow / sent_slow - lost_fast / sent_fast)
    error = sqrt(share * (1 - share) * spread * (1 / sent_slow + 1 / sent_fast))
    return difference <= max(_FLAT_SIGMA * error, _FLAT * share)
