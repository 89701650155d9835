"""Round-trip time as RFC 6298 smooths it, in microseconds.

Reports and time-ordered recovery (rack) use it. Stock KCP's timeout does not: loss_recovery/stock.py computes
its own, with kcp-go's arithmetic in whole milliseconds.
"""

from __future__ import annotations

from typing import NamedTuple


class RttSamples(NamedTuple):
    """Round-trip times of segments that were acknowledged together: how many, their mean and the smallest."""

    segments: int
    mean_us: float
    least_us: int


class RttEstimator:
    """Smoothed RTT, its variation and its minimum; all 0 until the first sample.

    RFC 6298, section 2: the first sample r sets srtt = r, rttvar = r/2; later ones move rttvar by 1/4 and
    srtt by 1/8 of the difference.

    Karn's rule (section 3) is not needed: the echoed stamp names the transmission. The same formulas are in
    RFC 9002, 5.3, without its subtraction of the peer's delay, which KCP does not report.

    Attributes
    ----------
    srtt_us, variation_us, minimum_us : microseconds
    samples, sum_us : number of samples, and their sum
    """

    __slots__ = ("minimum_us", "samples", "srtt_us", "sum_us", "variation_us")

    def __init__(self) -> None:
        self.srtt_us = 0.0
        self.variation_us = 0.0
        self.minimum_us = 0
        self.samples = 0
        self.sum_us = 0

    def update(self, sample_us: int) -> None:
        """Take one sample, at least 1 microsecond (a clock that did not move is not a path of length 0)."""
        sample_us = max(1, sample_us)
        if self.samples == 0:
            self.srtt_us, self.variation_us = float(sample_us), sample_us / 2
            self.minimum_us = sample_us
        else:
            difference = sample_us - self.srtt_us
            self.variation_us += (abs(difference) - self.variation_us) / 4
            self.srtt_us += difference / 8
            self.minimum_us = min(self.minimum_us, sample_us)
        self.samples += 1
        self.sum_us += sample_us

    def timeout_us(self, granularity_us: int, floor_us: int, initial_us: int) -> int:
        """RTO = srtt + max(G, 4 rttvar), not below `floor_us` (RFC 6298, 2.2 to 2.4)."""
        if self.samples == 0:
            return initial_us
        return max(floor_us, int(self.srtt_us + max(granularity_us, 4 * self.variation_us)))


class MeanRtt:
    """The mean RTT of acknowledged segments, smoothed with RFC 6298's weight per segment.

    `RttEstimator` takes the newest segment of an acknowledgement, as a timeout needs it. If a link delivers
    acknowledgements in lumps, the newest segment is the one that waited least; where segments travel two
    ways, it is one of the shorter way. The mean over all of them is the figure for people.

    Attributes
    ----------
    value_us : microseconds, 0 until the first sample
    """

    __slots__ = ("value_us",)

    def __init__(self) -> None:
        self.value_us = 0.0

    def update(self, sample_us: float, segments: int) -> None:
        """Take the mean RTT of so many segments that were acknowledged together. Their order does not count:
        n samples of this value move the mean by 1 - (7/8)^n of the difference."""
        sample_us = max(1.0, sample_us)
        if not self.value_us:
            self.value_us = sample_us
        else:
            self.value_us += (1.0 - 0.875**segments) * (sample_us - self.value_us)
