"""The goodput that a path allows, exactly: rate x (1 - loss) x share of the payload, integrated over time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from tests.studies.odd_paths.drawing import OddPath
from tests.studies.paths.cases import window_share
from tests.studies.paths.watched import PAYLOAD_SHARE, SECOND


class Limit:
    """The limit of one path as a function of time, bits per second of payload.

    An outage counts as rate 0. Company counts with the rate that it leaves over. KCP's window of 65,535
    segments caps the rate (`window_share`), by the path's largest mean RTT without a queue.
    """

    def __init__(self, path: OddPath) -> None:
        pieces: dict[float, float] = {0.0: 0.0}
        way = path.forward
        for at_us, fields in ((0, {}), *((change.at_us, change.fields) for change in way.changes)):
            way = way.with_(**fields)
            rate = 0.0 if way.down else way.rate_bits_per_s or 0.0
            pieces[at_us / SECOND] = rate * (1 - way.loss)
        self._times, rates = list(pieces), list(pieces.values())
        if path.company_bits_per_s:
            self._times, rates = _beside_company(path, rates[0])
        window = _share_of_window(path)
        self._times.append(path.seconds)
        self._sums = [0.0]
        for (start, end), rate in zip(pairwise(self._times), rates, strict=True):
            self._sums.append(self._sums[-1] + (end - start) * rate * PAYLOAD_SHARE * window)

    def bits(self, from_s: float, to_s: float) -> float:
        """Payload that the path carries between two times, bits."""
        first, last = np.interp((from_s, to_s), self._times, self._sums)
        return float(last - first)

    def mean(self, from_s: float, to_s: float) -> float:
        """Mean limit between two times, bits per second."""
        return self.bits(from_s, to_s) / (to_s - from_s)


def _share_of_window(path: OddPath) -> float:
    """Compute the share of the path that KCP's window can use, by the largest loss and the mean rate."""
    losses = [path.forward.loss, *(change.fields.get("loss", 0.0) for change in path.forward.changes)]
    return window_share(path.forward.rate_bits_per_s or 0.0, path.mean_rtt_us, max(losses))


def _beside_company(path: OddPath, rate: float) -> tuple[list[float], list[float]]:
    """Give times and rates that are left over by company which is on for the first half of each period."""
    halves = int(2 * path.seconds / path.company_period_s)
    times = [path.company_period_s / 2 * at for at in range(halves)]
    return times, [rate - path.company_bits_per_s * (1 - at % 2) for at in range(halves)]
