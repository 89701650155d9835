"""Documents of tests with random figures: runs that vary, with autocorrelated intervals.

level of a run = rate of the set x (1 + s z)         z normal, or Student's t with 3 degrees, scaled
interval       = level of the run x (1 + 0.02 a)     a an AR(1) series with correlation 0.5, variance 1
rate of a run  = mean of its intervals; s is such that the rates have the standard deviation of the model
RTT of a run   = 40 ms x (1 + 0.03 z), resent = 0.5 % x (1 + 0.2 z), both independent of the rate
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE, RTT_US, RESENT_PERCENT = 20e6, 40_000.0, 0.5
INTERVAL_SD, CORRELATION = 0.02, 0.5


@dataclass(frozen=True, slots=True)
class Model:
    """A set of runs.

    Parameters
    ----------
    runs : number
    run_sd : standard deviation of the rates of the runs, as a share; 0: that of their intervals alone
    seconds : intervals of 1 s
    heavy : True for Student's t with 3 degrees in place of the normal distribution
    """

    runs: int
    run_sd: float = 0.015
    seconds: int = 10
    heavy: bool = False

    @property
    def level_sd(self) -> float:
        """Standard deviation of the levels of the runs: the rest of it comes from the intervals."""
        return math.sqrt(max(0.0, self.run_sd**2 - mean_sd(self.seconds) ** 2))


def mean_sd(intervals: int) -> float:
    """Standard deviation of the mean of so many autocorrelated intervals, as a share."""
    lags = np.arange(1, intervals)
    factor = 1 + 2 * float(((1 - lags / intervals) * CORRELATION**lags).sum())
    return INTERVAL_SD * math.sqrt(factor / intervals)


def documents(model: Model, fall: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Documents of one set; the rate is lower by the share `fall`."""
    return [_document(model, 1 - fall, rng) for _ in range(model.runs)]


def _document(model: Model, level: float, rng: np.random.Generator) -> dict[str, Any]:
    # The variance of Student's t with 3 degrees is 3.
    spread = rng.standard_t(3) / 3**0.5 if model.heavy else rng.standard_normal()
    rate = RATE * level * max(0.01, 1 + model.level_sd * float(spread))
    series = rate * (1 + INTERVAL_SD * autocorrelated(model.seconds, rng))
    rtt = RTT_US * (1 + 0.03 * float(rng.standard_normal()))
    resent = RESENT_PERCENT * max(0.0, 1 + 0.2 * float(rng.standard_normal()))
    mean = float(series.mean())
    return {
        "start": {
            "version": "iperfpy simulated",
            "transport": "kcp-bbr",
            "direction": "reverse",
            "test_start": {"protocol": "KCP-BBR"},
            "connected": [],
        },
        "intervals": [
            {"sum": {"seconds": 1.0, "bits_per_second": float(one), "omitted": False}} for one in series
        ],
        "end": {
            "sum_sent": {"bits_per_second": mean, "rtt_us_mean": rtt, "retrans_percent": resent},
            "sum_received": {"bits_per_second": mean},
        },
    }


def autocorrelated(length: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(length,) values of an AR(1) series of variance 1 in its steady state."""
    values = rng.standard_normal(length)
    for i in range(1, length):
        values[i] = CORRELATION * values[i - 1] + (1 - CORRELATION**2) ** 0.5 * values[i]
    return values
