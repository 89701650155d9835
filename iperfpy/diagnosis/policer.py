"""Detection of a token-bucket policer in the record of one stream.

Flach et al., "An Internet-Wide Analysis of Traffic Policing", SIGCOMM 2016: steps and constants are those of
their detector. It takes packets; this one takes bins, and all packets of a bin have the tokens of its middle.

A policer drops a packet if and only if the bucket is empty. So the tokens, computed from the rate at which
packets passed between the first loss and the last, are near 0 at every loss, and above at the others; and
since nothing waits, the round-trip time before a loss is not inflated.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iperfpy.diagnosis.stretches import bin_times, lost_packets
from iperfpy.protocols.path_evidence import FlightBins

Floats = NDArray[np.float64]

FEWEST_SAMPLES, FEWEST_SLICES = 15, 3
LATEST_FIRST_LOSS = 2_000_000
"""Bytes before the first loss, at most: a larger bucket was not seen."""
_ZERO_AT_LOSS, _ZERO_AT_PASS = 2.0, 0.75
"""Round trips of the rate within which the tokens at a loss, and at a pass, count as 0."""
_LOSSES_OFF, _PASSES_OFF = 0.10, 0.03
_INFLATED, _INFLATED_US, _LOSSES_INFLATED = 1.3, 20e3, 0.20
_WAITED, _WAITED_US = 0.5, 5e3
"""A queue of the burst's size would delay by burst / rate; more than half of that, and 5 ms, is one."""
_TRIMMED = 2
"""Losses left out at either end in the second run."""
CHECKS = 8
_PER_STRETCH, _FEWEST_STRETCHES = 4, 4
"""Losses per stretch of time in which prediction and losses are compared, and number of stretches."""
_AS_CHANCE = 0.4
"""Squared differences of losses and predictions over those of independent losses (Poisson), at most."""


class Code(enum.StrEnum):
    """Result of the detection: the check that failed, or `POLICED`."""

    POLICED = "policed"
    FEW_LOSSES = "few-losses"
    LATE_LOSS = "late-first-loss"
    NEGATIVE_FILL = "negative-fill"
    HIGHER_FILL = "higher-fill-at-losses"
    LOSSES_OFF = "losses-with-tokens"
    PASSES_OFF = "passes-without-tokens"
    INFLATED = "inflated-delay"
    RANDOM = "not-as-predicted"
    NO_DELAY = "delay-not-known"


@dataclass(frozen=True, slots=True)
class PolicerTest:
    """Result for one stream.

    Parameters
    ----------
    losses, passes : packets counted; `FEWEST_SAMPLES` of each are needed
    passed : checks passed, of `CHECKS`
    rate_bits_per_s, burst_bytes : of the bucket, if the code is POLICED
    first_loss_us : time of the first loss
    """

    code: Code
    losses: int
    passes: int = 0
    passed: int = 0
    rate_bits_per_s: float = 0.0
    burst_bytes: float = 0.0
    first_loss_us: float = 0.0

    @property
    def policed(self) -> bool:
        """True if all checks passed."""
        return self.code is Code.POLICED


def detect(flight: FlightBins, min_rtt_us: float | None = None) -> PolicerTest:
    """Look for a policer; a second run leaves the first and last two losses out, if the first one fails.

    min_rtt_us : shortest round-trip time, needed if the record has one-way delays
    """
    test = _detect(flight, min_rtt_us, 0)
    if test.policed or test.losses < FEWEST_SAMPLES:
        return test
    second = _detect(flight, min_rtt_us, _TRIMMED)
    return second if second.policed else test


def _detect(flight: FlightBins, min_rtt_us: float | None, trimmed: int) -> PolicerTest:
    lost = lost_packets(flight)
    losses = int(lost.sum())
    if losses < 2 + 2 * trimmed:
        return PolicerTest(Code.FEW_LOSSES, losses)
    delays = flight.delay_us + (min_rtt_us or 0.0) if flight.one_way else flight.delay_us
    known = ~np.isnan(delays)
    if not known.any() or (flight.one_way and not min_rtt_us):
        return PolicerTest(Code.NO_DELAY, losses)
    count = lost.cumsum()
    first = int(np.searchsorted(count, trimmed, "right"))
    last = int(np.searchsorted(count, losses - trimmed, "left"))
    times = bin_times(flight)
    sent, arrived = (np.asarray(a, np.float64) for a in (flight.sent_bytes, flight.arrived_bytes))
    before = float(sent[:first].sum())
    span_us = float(times[last] - times[first])
    if span_us <= 0:
        return PolicerTest(Code.FEW_LOSSES, losses)
    rate = float(arrived[first:last].sum()) * 8e6 / span_us
    rtts = np.interp(times, times[known], delays[known])
    median_us = float(np.median(np.repeat(rtts, np.minimum(flight.sent_packets, 100))))
    whole = slice(first, last + 1)
    passes = int(flight.arrived_packets[whole].sum())
    first_us = float(times[first] - times[0])
    burst = _burst(sent[:first], rate * flight.width_us / 8e6)
    test = _check(
        tokens=rate / 8e6 * (times[whole] - times[first]) - _passed_before(arrived[whole]),
        lost=lost[whole],
        passed=np.asarray(flight.arrived_packets[whole], np.float64),
        rtts=(rtts[whole], rtts),
        slices=np.unique(((times[whole] - times[first]) // median_us)[lost[whole] > 0]).size,
        rate=rate,
        median_us=median_us,
        burst=burst,
        size=float(arrived[whole].sum() / max(1, passes)),
    )
    if before > LATEST_FIRST_LOSS and test[0] is not Code.FEW_LOSSES:
        test = (Code.LATE_LOSS, 1)
    code, checks = test
    if code in (Code.POLICED, Code.INFLATED):
        # At a constant rate the queue stays full, and the percentile is inflated, too: the least is not.
        rise_us = _median(rtts[whole], lost[whole]) - float(delays[known].min())
        if rise_us > max(_WAITED_US, _WAITED * burst * 8e6 / rate):
            code, checks = Code.INFLATED, CHECKS - 2
    if code is Code.POLICED and not _predicts(flight, lost, first, rate, burst):
        code, checks = Code.RANDOM, CHECKS - 1
    return PolicerTest(code, losses, passes, checks, rate, burst, first_us)


def _burst(sent: Floats, gain: float) -> float:
    """Depth of a bucket that is empty after these bytes per bin, (n,), and was full at some time before.

    gain : bytes that the rate adds per bin. A sender that was slower for a while left the bucket full: the
        paper's intercept, from the first packet on, would be negative then.
    """
    used = np.concatenate(([0.0], (sent - gain).cumsum()))
    return float(used[-1] - used.min())


def _predicts(flight: FlightBins, lost: Floats, first: int, rate: float, burst: float) -> bool:
    """Simulate the bucket from the first loss on, and compare its drops with the losses."""
    sent = np.asarray(flight.sent_bytes[first:], np.float64)
    size = float(sent.sum() / max(1, flight.sent_packets[first:].sum()))
    gain, tokens, dropped = rate * flight.width_us / 8e6, 0.0, 0.0
    drops = np.zeros(len(sent))
    for at, leaving in enumerate(sent.tolist()):
        tokens = min(burst, tokens + gain)
        dropped = max(0.0, leaving - tokens)
        tokens = max(0.0, tokens - leaving)
        drops[at] = dropped / size
    found = lost[first:]
    # Stretches of equal predicted losses: as many losses as a fair comparison of counts needs.
    total = found.sum()
    count = int(total // _PER_STRETCH)
    if count < _FEWEST_STRETCHES or not drops.sum():
        return False
    drops *= total / drops.sum()
    edges = np.searchsorted(drops.cumsum(), np.linspace(0, total, count + 1)[1:-1])
    expected = np.add.reduceat(drops, np.r_[0, edges])
    actual = np.add.reduceat(found, np.r_[0, edges])
    chance = float(expected.sum())
    return float(((actual - expected) ** 2).sum()) < _AS_CHANCE * chance


def _passed_before(arrived: Floats) -> Floats:
    """Bytes that passed before the middle of each bin."""
    total: Floats = arrived.cumsum() - arrived / 2
    return total


def _check(
    *,
    tokens: Floats,
    lost: Floats,
    passed: Floats,
    rtts: tuple[Floats, Floats],
    slices: int,
    rate: float,
    median_us: float,
    burst: float,
    size: float,
) -> tuple[Code, int]:
    """Apply the checks in the paper's order; return the first that fails and the number passed before it.

    tokens : of each bin, (n,) bytes. A packet that passed saw those before itself: half a packet more than
        the mean of its bin
    """
    zero = rate * median_us / 8e6
    if lost.sum() < FEWEST_SAMPLES or passed.sum() < FEWEST_SAMPLES or slices < FEWEST_SLICES:
        return Code.FEW_LOSSES, 0
    if burst < size:
        return Code.NEGATIVE_FILL, 2
    at_loss, at_pass = _median(tokens, lost), _median(tokens, passed) + size / 2
    mean_at_pass = np.average(tokens, weights=passed) + size / 2
    if at_loss >= at_pass or np.average(tokens, weights=lost) >= mean_at_pass:
        return Code.HIGHER_FILL, 3
    if lost[np.abs(tokens - at_loss) > _ZERO_AT_LOSS * zero].sum() > _LOSSES_OFF * lost.sum():
        return Code.LOSSES_OFF, 4
    if passed[tokens - at_loss < -_ZERO_AT_PASS * zero].sum() > _PASSES_OFF * passed.sum():
        return Code.PASSES_OFF, 5
    here, everywhere = rtts
    low = float(np.percentile(everywhere, 10))
    inflated = (here >= median_us) & (here > _INFLATED * low) & (here >= _INFLATED_US)
    if lost[inflated].sum() > _LOSSES_INFLATED * lost.sum():
        return Code.INFLATED, 6
    return Code.POLICED, CHECKS


def _median(values: Floats, weights: Floats) -> float:
    order = values.argsort()
    total = weights[order].cumsum()
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def sentence(test: PolicerTest) -> str:
    """Say in words which check failed, or that none did."""
    if test.policed:
        return f"{CHECKS} of {CHECKS} checks of a token bucket passed"
    if test.code is Code.FEW_LOSSES:
        return f"{test.losses} losses: too few to tell a policer ({FEWEST_SAMPLES} needed)"
    words = {
        Code.LATE_LOSS: "the first loss came after 2 MB",
        Code.NEGATIVE_FILL: "no burst passed before the first loss",
        Code.HIGHER_FILL: "packets were lost while a bucket would have had tokens",
        Code.LOSSES_OFF: "too many packets were lost while a bucket would have had tokens",
        Code.PASSES_OFF: "too many packets passed while a bucket would have been empty",
        Code.INFLATED: "round-trip times rose before the losses",
        Code.RANDOM: "the losses do not come when a bucket would be empty",
        Code.NO_DELAY: "round-trip times are not known",
    }
    return f"no policer: {words[test.code]}"
