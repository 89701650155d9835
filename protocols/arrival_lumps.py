"""The distance of the moments at which packets arrive, where a path carries them in lumps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_MOMENTS = 20


def lump_us(moments_us: NDArray[Any], interval_us: float = 0.0) -> float | None:
    """Distance of the moments at which closely spaced packets arrive, in microseconds.

    It is the median of the distances, each weighted by itself: the distance in which a random moment falls.
    So packets that arrive together count as one moment, and short distances within a lump count little.

    Parameters
    ----------
    moments_us : times of arrival, (n,), microseconds
    interval_us : usual distance at which the packets left; pauses above 8 of them, and above 200 ms, are
        left out, because nothing was sent then, or packets were lost

    Returns None for fewer than `LEAST_MOMENTS` distances.
    """
    gaps = np.diff(np.sort(np.asarray(moments_us, np.float64)))
    gaps = np.sort(gaps[(gaps > 0) & (gaps < max(8 * interval_us, 2e5))])
    if len(gaps) < LEAST_MOMENTS:
        return None
    return float(gaps[np.searchsorted(gaps.cumsum(), gaps.sum() / 2)])
