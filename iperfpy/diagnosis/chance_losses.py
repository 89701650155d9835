"""A test of chance: do stretches lose what exceeds a rate, or a constant share of any load?

    a rate     of T seconds, a volume R T + B passes, and of that the path loses the share p
    chance     the share p of each stretch is lost

A slow stretch has few datagrams, and losses in bursts may spare it. Then the faster ones lose more than it
did, though none of them exceeded the rate of the path. Both models are fitted by least squares; a rate, which
has two parameters more, must fit better than chance by more than these bring.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iperfpy.diagnosis import random_loss
from iperfpy.diagnosis.stretches import Stretch

_BETTER = 11.8
"""Sum of squares, in variances of chance, by which a rate must fit better: 3 sigma for two parameters."""
_MOST_SPREAD = 15.0
"""Largest variance of the losses over that of independent ones that chance has, as of runs of eight: a
policer that gets its tokens in large parts loses longer ones."""
_RATES, _BURSTS_S, _SHARES = 120, (0.0, 0.03, 0.1, 0.3, 1.0), (0.0, 0.25, 0.5, 0.75, 1.0)
"""Rates that are tried, between the least arrival rate and the highest load; bursts, as time at that rate;
and losses of what passes, as parts of the share of all."""


def are_chance(stretches: Sequence[Stretch]) -> bool:
    """True if the losses of all these stretches, of any load, are a constant share as far as can be told."""
    sent = np.array([one.sent for one in stretches], float)
    lost = np.array([one.lost for one in stretches], float)
    offered = np.array([one.offered for one in stretches])
    seconds = np.array([one.seconds for one in stretches])
    share = float(lost.sum() / max(1.0, sent.sum()))
    if not 0 < share < 1:
        return False
    spread = min(_MOST_SPREAD, random_loss.scatter(random_loss.mean_run_of(stretches)))
    variance = share * (1 - share) * sent * spread
    by_chance = float(((lost - share * sent) ** 2 / variance).sum())
    rates = np.linspace(float((offered * (1 - lost / sent)).min()), float(offered.max()), _RATES)
    best = by_chance
    for burst_s in _BURSTS_S:
        # (rates, stretches)
        passes = np.minimum(1.0, rates[:, None] * (1 + burst_s / seconds) / offered)
        for part in _SHARES:
            expected = sent * (1 - passes * (1 - part * share))
            best = min(best, float(((lost - expected) ** 2 / variance).sum(axis=1).min()))
    return by_chance - best <= _BETTER
