"""The path's round-trip time without a queue of ours: its least value, its mean and its spread (draft 5.5.7).

    per ACK      update        the RTT of all segments that it acknowledges
    per round    end_round     the round's mean; if it is near the level, the queue was empty
                 stale         not confirmed for too long, or round trips suddenly longer -> PROBE_RTT
                 of_startup    it may hold the queue of the initial window -> PROBE_RTT
    PROBE_RTT    end_probe     the level is measured anew

The draft takes the least sample for the path's round-trip time. Where delay varies (Wi-Fi, LTE, two ways of
different length), hardly a segment comes near the least sample, and everything beyond it looks like a queue.
Here the **level** is a mean: the least mean of a round in the last one to two intervals. A mean holds the
path's own variation, so the window holds it, and a queue shows as a mean above the level. The level falls at
once, because a queue never makes a round trip shorter. It rises when sending less does not make round trips
shorter (probe_rtt.py), or when no round of two intervals came near the old level.

On a path without variation the level is the least round-trip time and a fraction of a segment's service time.

The estimate is confirmed by a round with an empty queue, unless this flow was building or draining a queue in
that round, so a flow that keeps no queue never has to stop for PROBE_RTT. Rounds that all have the same mean
only put it off: the path may have no queue, or the queue may be full all the time. PROBE_RTT begins at
multiples of the interval on the clock, 2.5 to 7.5 s after the level was confirmed, so that flows of one host
send less together and see behind the queue that they keep together.
"""

from __future__ import annotations

from math import ceil, inf

# draft 2.13

PROBE_RTT_INTERVAL_US = 5_000_000
"""BBR.ProbeRTTInterval."""
MIN_RTT_FILTER_US = 10_000_000
"""BBR.MinRTTFilterLen."""

# not in the draft; chosen by simulation

PROBE_RTT_INTERVAL_ROUNDS = 32
"""The interval on long paths, in round trips: STARTUP, DRAIN and the first probe take that long before there
is a round without a queue."""
TOLERANCE_SHARE = 1 / 16
"""Share of the level that a value may lie above it without showing a queue."""
MIN_TOLERANCE_US = 500.0
"""Jitter of hosts, below which `TOLERANCE_SHARE` is not applied."""
HOST_DELAY_US = 1_000
"""A single sample may be late by this, because a host was busy, without showing a queue."""
SAMPLE_DEVIATIONS, MEAN_DEVIATIONS = 2.5, 0.5
"""Mean deviations above the level that a single sample, and the mean of a round, may lie by chance."""
MIN_MEAN_SAMPLES, MIN_MEAN_ACKS, MAX_MEAN_ACKS = 16, 8, 32
"""Segments and ACKs that a mean is taken from, at least. A path that releases ACKs in lumps gives one sample
per lump, however many segments it acknowledges. The more the samples vary, the more of them are needed."""
MEAN_PRECISION = 1 / 32
"""Standard error of a mean, as a share of it, from which it is precise enough."""
STANDING_QUEUE_SHARE = 0.25
"""Mean queue of a round, as a share of the level, that stands."""
FILLING_SHARE, FILLING_MIN_US = 0.5, 10_000
"""Queue, as a share of the level and at least this long, that neither jitter nor a busy host explains."""
RAISED_FACTOR, RAISED_SEGMENTS = 1.25, 4
"""A round is raised if its mean exceeds the level by this factor and the service time of some segments."""
RAISED_RTTS, RAISED_ROUNDS = 4, 2
"""Length of a sudden increase, in round trips of the path and in rounds, that starts PROBE_RTT at once. Both
are needed: rounds are as long as the queue is deep."""
EXAMINE_US, EXAMINE_RTTS = 1_000_000, 10
"""Least time between two PROBE_RTTs that examine an increase of round trips or of losses."""
PROBE_RTT_REST = 8
"""Time after a PROBE_RTT without an examination, as a multiple of its length. It costs half the bandwidth,
and so examinations cost at most an eighteenth of it. A mean needs a number of samples, however long a slow
path takes to give them: at 50 segments per second, with delays that vary, PROBE_RTT lasts several seconds.
Flows that share a queue need the probes by the clock together, so these have no rest."""
STEADY_RTTS = 2
"""Round trips after a change of the sending rate in which the level does not fall. On a path of two ways,
more segments of the shorter way arrive while the rate rises."""
SMOOTHING = 1 / 8
"""Weight of a new sample in the smoothed round-trip time (RFC 6298)."""


class DelaySamples:
    """Round-trip times of a round, or of a few short ones, in microseconds.

    Attributes
    ----------
    least_us : least sample; infinite before the first
    """

    __slots__ = ("_acks", "_deviation_us", "_segments", "_sum_us", "least_us")

    def __init__(self) -> None:
        self.least_us = inf
        self._acks = self._segments = 0
        self._sum_us = self._deviation_us = 0.0

    def add(self, rtt_us: float, segments: int) -> None:
        """Take the mean round-trip time of the segments that one ACK acknowledges."""
        self._acks += 1
        self._segments += segments
        self._sum_us += rtt_us * segments
        if rtt_us < self.least_us:
            self.least_us = rtt_us
        # The deviation is from the mean so far: the final mean is not known in a single pass.
        self._deviation_us += segments * abs(rtt_us - self._sum_us / self._segments)

    @property
    def suffices(self) -> bool:
        """True if there are enough samples for a mean."""
        if self._segments < MIN_MEAN_SAMPLES or self._acks < MIN_MEAN_ACKS:
            return False
        error_us = MEAN_PRECISION * self.mean_us
        return self._acks >= MAX_MEAN_ACKS or self.deviation_us**2 <= self._acks * error_us**2

    @property
    def mean_us(self) -> float:
        """Mean over the segments; 0.0 without one."""
        return self._sum_us / self._segments if self._segments else 0.0

    @property
    def deviation_us(self) -> float:
        """Mean absolute deviation over the segments; 0.0 without one."""
        return self._deviation_us / self._segments if self._segments else 0.0


class PathDelay:
    """Round-trip time of the path without a queue, all times in microseconds.

    Attributes
    ----------
    least_us : least round-trip time (BBR.min_rtt); 0.0 before the first sample
    level_us : mean round-trip time without a queue; 0.0 before the first sample
    spread_us : mean absolute deviation of the samples from the level, without a queue
    service_us : service time of one segment at the bandwidth; 0.0 until the bandwidth is known
    latest_us, smoothed_us : the last sample, and the samples smoothed
    last_round_us : mean of the last round, or of the last few short ones
    measured : True if the level is the mean of a round, and not of the first ACK
    drained : True if the queue has been seen to build and to drain
    """

    def __init__(self) -> None:
        self.least_us = self.level_us = self.spread_us = self.service_us = 0.0
        self.latest_us = self.smoothed_us = self.last_round_us = 0.0
        self.drained = self.measured = False
        self._round, self._self_queued = DelaySamples(), False
        # The least mean of a round and its deviation, in the present interval and in the one before.
        self._lowest = self._lowest_before = (inf, 0.0)
        self._rotate_us = self._rate_changed_us = 0
        self._highest_us = 0.0  # highest mean since the path was last found to be another one
        self._raised_rounds = 0
        # age of the estimate
        self._near_us = 0  # end of the last round near the level
        self._confirmed_us = 0  # BBR.probe_rtt_min_stamp
        self._rested_us = 0.0  # until then, no examination; 0.0 before the first PROBE_RTT

    # -- the queue, as round-trip times show it

    @property
    def _tolerance_us(self) -> float:
        """Distance from the level that neither hosts nor the sizes of bursts account for."""
        return max(self.level_us * TOLERANCE_SHARE, MIN_TOLERANCE_US)

    @property
    def sample_tolerance_us(self) -> float:
        """Distance above the level up to which a single sample shows an empty queue."""
        return max(self._tolerance_us, SAMPLE_DEVIATIONS * self.spread_us)

    @property
    def mean_tolerance_us(self) -> float:
        """Distance above the level up to which the mean of a round shows an empty queue."""
        return max(self._tolerance_us, MEAN_DEVIATIONS * self.spread_us, self.service_us)

    def near(self, rtt_us: float) -> bool:
        """True if this sample shows an empty queue."""
        return rtt_us <= self.level_us + self.sample_tolerance_us

    def mean_near(self, mean_us: float) -> bool:
        """True if the mean of a round shows an empty queue."""
        return mean_us <= self.level_us + self.mean_tolerance_us

    @property
    def queue_empty(self) -> bool:
        """True if the last sample shows an empty queue."""
        return self.latest_us <= self.level_us + max(self.sample_tolerance_us, HOST_DELAY_US)

    @property
    def queue_share(self) -> float:
        """Mean queue of the last round, as a share of the level; less if the queue has fallen since."""
        if not self.level_us:
            return 0.0
        chance_us = max(MEAN_DEVIATIONS * self.spread_us, self.service_us)
        mean_us = min(self.last_round_us, self.smoothed_us)
        return max(0.0, (mean_us - chance_us) / self.level_us - 1.0)

    @property
    def queue_stands(self) -> bool:
        """True if the last round had a mean queue of `STANDING_QUEUE_SHARE`."""
        return self.queue_share > STANDING_QUEUE_SHARE

    @property
    def queue_fills(self) -> bool:
        """True if every sample of the round in progress shows a queue."""
        if not self._round.suffices:
            return False
        return self._round.least_us > self.level_us + max(self.level_us * FILLING_SHARE, FILLING_MIN_US)

    @property
    def upper_spread_us(self) -> float:
        """Mean of the upper half of the round-trip times without a queue, above the least one."""
        return max(0.0, self.level_us + self.spread_us - self.least_us)

    # -- the estimate

    def update(self, rtt_us: float, least_us: float, segments: int, now_us: int) -> None:
        """BBRUpdateMinRTT (5.5.7): take the samples of an ACK.

        Parameters
        ----------
        rtt_us, least_us : mean and least round-trip time of the segments that it acknowledges
        segments : their number
        """
        self.latest_us = rtt_us
        self.smoothed_us += (rtt_us - self.smoothed_us) * SMOOTHING if self.smoothed_us else rtt_us
        self._round.add(rtt_us, segments)
        if least_us < self.least_us or not self.least_us:
            self.least_us = float(least_us)
        if not self.level_us:
            self.level_us = rtt_us
            self._confirmed_us = now_us

    def change_rate(self, now_us: int) -> None:
        """Note that the sending rate changes now."""
        self._rate_changed_us = now_us

    def end_round(self, now_us: int, *, self_queued: bool) -> bool:
        """End a packet-timed round.

        Parameters
        ----------
        self_queued : True if this flow was building or draining a queue of its own

        Returns
        -------
        True if the path is shorter than assumed, so that queues which looked empty were not.
        """
        self._self_queued = self._self_queued or self_queued
        # Short rounds are pooled until they have enough samples for a mean.
        if not self._round.suffices:
            return False
        mean_us = self.last_round_us = self._round.mean_us
        steady = now_us - self._rate_changed_us > STEADY_RTTS * self.level_us
        shorter = steady and mean_us < self.level_us - self.mean_tolerance_us
        if shorter or not self.measured:
            self._confirmed_us = now_us
        if now_us > self._rotate_us:
            self._lowest_before, self._lowest = self._lowest, (inf, 0.0)
            self._rotate_us = now_us + self._interval_us
        if steady or not self.measured:
            self._lowest = min(self._lowest, (mean_us, self._round.deviation_us))
            self._set_level()
        if shorter:
            self._restart_evidence()
        self._note_queue(mean_us, now_us)
        self._round, self._self_queued = DelaySamples(), False
        return shorter

    def _set_level(self) -> None:
        self.measured = True
        self.level_us, self.spread_us = min(self._lowest_before, self._lowest)

    def _restart_evidence(self) -> None:
        """Drop the evidence about the queue: the path is another one than assumed."""
        self.drained, self._highest_us = False, 0.0

    def _note_queue(self, mean_us: float, now_us: int) -> None:
        """Take a round's evidence about the queue."""
        highest_us = self._highest_us
        if self.mean_near(mean_us):
            self._near_us = now_us
            if not self._self_queued:
                self.drained = self.drained or highest_us > self.level_us + 2 * self.mean_tolerance_us
                # Rounds that are all alike show no empty queue: it may be full all the time.
                if self.drained:
                    self._confirmed_us = now_us
        elif self.mean_near(highest_us):  # the queue was empty until now
            self._confirmed_us = max(self._confirmed_us, self._near_us)
        self._highest_us = max(highest_us, mean_us)
        if mean_us <= self._raised_us:
            self._raised_rounds = 0
        elif not self._self_queued:
            self._raised_rounds += 1

    @property
    def _raised_us(self) -> float:
        """Mean round-trip time above which a round is raised."""
        return self._raised_above(self.level_us, self.spread_us)

    def _raised_above(self, rtt_us: float, spread_us: float) -> float:
        """Mean round-trip time that is raised above `rtt_us`, whose samples vary by `spread_us`."""
        return rtt_us * RAISED_FACTOR + max(MIN_TOLERANCE_US, spread_us, RAISED_SEGMENTS * self.service_us)

    # -- PROBE_RTT

    @property
    def _interval_us(self) -> int:
        """Time between two PROBE_RTTs."""
        # By the least sample, since the level may hold a queue of several flows.
        return PROBE_RTT_INTERVAL_US * ceil(PROBE_RTT_INTERVAL_ROUNDS * self.least_us / PROBE_RTT_INTERVAL_US)

    def stale(self, now_us: int) -> bool:
        """True if the level was not confirmed for too long (BBR.probe_rtt_expired)."""
        if not self.level_us:
            return False
        # The clock is rounded down to the interval, so that flows of one host send less together.
        interval_us = self._interval_us
        age_us = now_us - now_us % interval_us - self._confirmed_us
        return age_us > interval_us / 2 and (age_us >= MIN_RTT_FILTER_US or not self.queue_empty)

    @property
    def of_startup(self) -> bool:
        """True if the level may hold the queue of the first round trips.

        The first rounds measure the level, and on a slow path the initial window is a queue of several round
        trips. The window is two BDP of that level and keeps the queue, so all later rounds are near the level
        and confirm it.
        """
        return not self._rested_us and self.level_us > self._raised_above(self.least_us, 0.0)

    def raised(self, now_us: int) -> bool:
        """True if all round trips of late are far above the level: the path or its rate has changed."""
        if self._raised_rounds < RAISED_ROUNDS:
            return False
        raised_us = self._raised_rounds * self.last_round_us
        return raised_us >= RAISED_RTTS * self.level_us and self.may_examine(now_us)

    def may_examine(self, now_us: int) -> bool:
        """True if the last PROBE_RTT was long enough ago for an examination."""
        return now_us > self._rested_us

    def end_probe(self, measured: DelaySamples, now_us: int, *, lasted_us: int, settled: bool) -> bool:
        """Evaluate PROBE_RTT.

        Parameters
        ----------
        measured : samples of its last round
        lasted_us : its length
        settled : True if they are the path's own

        Returns
        -------
        True if the queue before PROBE_RTT was this flow's own: it had sent more than the path delivers.
        """
        raised = self.last_round_us > self._raised_us
        self._confirmed_us = now_us
        self._rested_us = now_us + max(EXAMINE_US, EXAMINE_RTTS * self.level_us, PROBE_RTT_REST * lasted_us)
        self._raised_rounds = 0  # the increase has been examined
        if not settled or not measured.suffices:
            return raised
        mean_us = measured.mean_us
        own_queue = raised and self.near(mean_us)
        if abs(mean_us - self.level_us) > self.mean_tolerance_us:  # the path has changed
            self.least_us = measured.least_us
            self._restart_evidence()
        self._lowest_before, self._lowest = (inf, 0.0), (mean_us, measured.deviation_us)
        self._rotate_us = now_us + self._interval_us
        self._set_level()
        return own_queue

    def confirm(self, now_us: int) -> None:
        """Confirm the level after idleness: the queue is then known to be empty (draft 5.3.4.2)."""
        self._confirmed_us = now_us
