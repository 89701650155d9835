"""BBR.min_rtt: the path's round-trip time without a queue, and when to measure it again (draft 5.3.4, 5.5.7).

    per ACK      update        new minimum, samples of the round in progress
    per round    end_round     queue_evidence: was the queue empty?  Then the minimum is confirmed
                 stale         not confirmed for too long            -> PROBE_RTT (probe_rtt.py)
    PROBE_RTT    end_probe     replace the minimum, or keep it

Differences from the draft:

* Confirmation. The draft confirms the minimum only by a sample that is not above it. Here a round confirms
  it too if its mean shows an empty queue (queue_evidence.py), unless this flow was building a queue in that
  round. A flow that keeps no queue therefore never has to stop for PROBE_RTT.
* No queue seen yet. Rounds that all have the same mean do not confirm the minimum: the path may have no
  queue, but the queue may also be full all the time. They only put PROBE_RTT off, from five seconds to the
  ten of the filter. The five seconds begin with the first round that has a queue, so a STARTUP of more than
  five seconds is not interrupted by its own first queue.
* Shorter path. A minimum that falls by more than 1/16, at once or step by step, shows that the old value was
  measured behind a queue. All evidence about the queue is then dropped.
* Sudden increase. If all samples of two rounds, and of four times the minimum, lie far above the minimum,
  PROBE_RTT begins at once. If emptying this flow's part of the queue changes nothing, the path has become
  longer, and the measured value replaces the minimum immediately. If it lowers the round-trip time, the flow
  sent more than the path delivers; `Bbr` then lowers the bandwidth to the rate of those rounds, where the
  draft waits two cycles until its filter forgets.
* Contested queue. Other flows that keep a deep queue hide the minimum for good: see `ContestedQueue`.
* Common clock. PROBE_RTT begins at multiples of five seconds of the clock, which is 2.5 to 7.5 s after the
  minimum was confirmed. Flows of one host therefore stop together and see behind the queue that they keep
  together. Clocks of several hosts differ, and so do the times at which their flows stop.
"""

from __future__ import annotations

from math import ceil, inf

from iperfpy.protocols.congestion.bbr.queue_evidence import ContestedQueue, QueueDrain, QueueSign

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
"""Share of the minimum that a sample may lie above it without showing a queue."""
MIN_TOLERANCE_US = 500.0
"""Jitter of hosts, below which `TOLERANCE_SHARE` is not applied."""
HOST_DELAY_US = 1_000
"""A single sample may be late by this, because a host was busy, without showing a queue."""
MIN_MEAN_SAMPLES = 16
"""Samples that a mean is taken from, at least: on a path with jitter, the mean of fewer is chance."""
STANDING_QUEUE_SHARE = 0.25
"""Queue, as a share of the minimum, that a whole round did not fall below, and that is not chance."""
FILLING_SHARE, FILLING_MIN_US = 0.5, 10_000
"""Queue, as a share of the minimum and at least this long, that neither jitter nor a busy host explains."""
RAISED_FACTOR = 1.25
"""A round is raised if all its samples exceed the minimum by this factor."""
RAISED_RTTS, RAISED_ROUNDS = 4, 2
"""Length of a sudden increase, in minimum round-trip times and in rounds, that starts PROBE_RTT at once. Both
are needed: rounds are as long as the queue is deep."""
UNCHANGED_FACTOR = 0.95
"""PROBE_RTT changed nothing if it measured at least this share of the round-trip time before it."""
LOSING_FILTERS = 3
"""Filter lengths after which a higher value is accepted although it came with excessive losses."""


class MinRtt:
    """Minimum round-trip time of the path, all times in microseconds.

    Attributes
    ----------
    us : the estimate; 0.0 before the first sample
    tolerance_us : distance above the estimate up to which a sample shows an empty queue
    latest_us : the last sample
    last_round_us : least sample of the last round
    queue : evidence that the queue has been empty
    contention : evidence that other flows keep a deep queue
    """

    def __init__(self) -> None:
        self.us = 0.0
        self.tolerance_us = MIN_TOLERANCE_US
        self.queue, self.contention = QueueDrain(), ContestedQueue()
        self.latest_us = 0.0
        self.last_round_us = 0.0
        # samples of the round in progress, and of the rounds since the last mean
        self._round_us = inf
        self._sum_us, self._samples, self._self_queued = 0, 0, False
        self._raised_rounds = 0
        # age of the estimate
        self._reference_us = 0.0  # the estimate when the path was last found to be another one
        self._near_us = 0  # time of the last sample near the estimate
        self._confirmed_us = 0  # BBR.probe_rtt_min_stamp
        self._probed_us = -PROBE_RTT_INTERVAL_US  # end of the last PROBE_RTT
        self._interval_us = PROBE_RTT_INTERVAL_US

    def _set(self, us: float) -> None:
        self.us = us
        self.tolerance_us = max(us * TOLERANCE_SHARE, MIN_TOLERANCE_US)
        intervals = ceil(PROBE_RTT_INTERVAL_ROUNDS * us / PROBE_RTT_INTERVAL_US)
        self._interval_us = PROBE_RTT_INTERVAL_US * intervals

    def _restart_evidence(self) -> None:
        """Drop the evidence about the queue: the path is another one than assumed."""
        self._reference_us = self.us
        self.queue.reset()

    # -- the queue, as round-trip times show it

    def near(self, rtt_us: float) -> bool:
        """True if this round-trip time shows an empty queue."""
        return rtt_us <= self.us + self.tolerance_us

    @property
    def queue_empty(self) -> bool:
        """True if the last sample shows an empty queue.

        It is compared with the lowest mean of a round if the queue has been seen to drain, else with the
        minimum.
        """
        base_us = self.queue.lowest_us if self.queue.seen else self.us
        return self.latest_us <= base_us + max(self.tolerance_us, HOST_DELAY_US)

    @property
    def queue_share(self) -> float:
        """Queue that the last round never fell below, as a share of the minimum."""
        return max(0.0, self.last_round_us / self.us - 1.0) if self.us else 0.0

    @property
    def queue_stands(self) -> bool:
        """True if the last round never fell below a queue of `STANDING_QUEUE_SHARE`."""
        return self.queue_share > STANDING_QUEUE_SHARE

    @property
    def queue_fills(self) -> bool:
        """True if every sample of the round in progress shows a queue."""
        least_us = self._round_us if self._samples >= MIN_MEAN_SAMPLES else 0.0
        return inf > least_us > self.us + max(self.us * FILLING_SHARE, FILLING_MIN_US)

    # -- the estimate

    def update(self, rtt_us: int, now_us: int) -> bool:
        """BBRUpdateMinRTT (5.5.7): take a sample.

        Returns
        -------
        True if the path is shorter than assumed, so that queues which looked empty were not.
        """
        sample_us = float(rtt_us)
        self.latest_us = sample_us
        if sample_us < self._round_us:
            self._round_us = sample_us
        self._sum_us += rtt_us
        self._samples += 1
        shorter = False
        if not self.us or sample_us < self.us:
            first = not self.us
            # Compared with the reference, so that a minimum which falls step by step is noticed too.
            shorter = sample_us + self.tolerance_us < self._reference_us
            self._set(sample_us)
            self.contention.note_minimum(sample_us)
            if shorter or first:
                self._restart_evidence()
            self._confirmed_us = now_us
        if sample_us <= self.us + self.tolerance_us:
            self._near_us = now_us
        return shorter

    def end_round(self, self_queued: bool) -> None:
        """End a packet-timed round.

        Parameters
        ----------
        self_queued : True if this flow was building or draining a queue of its own
        """
        if self._round_us == inf:
            return
        self.last_round_us, self._round_us = self._round_us, inf
        self._self_queued = self._self_queued or self_queued
        # Short rounds are pooled until they have enough samples for a mean.
        if self._samples >= MIN_MEAN_SAMPLES:
            mean_us = self._sum_us / self._samples
            sign = self.queue.end_round(mean_us, self.tolerance_us, self_queued=self._self_queued)
            if sign is QueueSign.DRAINED:
                self._confirmed_us = self._near_us
            elif sign is QueueSign.APPEARED:  # the queue was empty until now
                self._confirmed_us = max(self._confirmed_us, self._near_us)
            self._sum_us, self._samples, self._self_queued = 0, 0, False
        if self.last_round_us <= self._raised_us:
            self._raised_rounds = 0
        elif not self_queued:
            self._raised_rounds += 1

    @property
    def _raised_us(self) -> float:
        """Round-trip time above which a round is raised."""
        return self.us * RAISED_FACTOR + MIN_TOLERANCE_US

    # -- PROBE_RTT

    def stale(self, now_us: int) -> bool:
        """True if PROBE_RTT is due (BBR.probe_rtt_expired)."""
        if not self.us:
            return False
        # The clock is rounded down to the interval, so that flows of one host stop together.
        age_us = now_us - now_us % self._interval_us - self._confirmed_us
        if age_us > self._interval_us / 2 and (age_us >= MIN_RTT_FILTER_US or not self.queue_empty):
            return True
        # A sudden increase is examined at once, but not again within the interval.
        if self._raised_rounds < RAISED_ROUNDS or self.contention.contested:
            return False
        raised_us = self._raised_rounds * self.last_round_us
        return raised_us >= RAISED_RTTS * self.us and now_us - self._probed_us > PROBE_RTT_INTERVAL_US

    def end_probe(self, before_us: float, measured_us: float, now_us: int, *, losing: bool) -> bool:
        """Evaluate PROBE_RTT.

        The measured value replaces the minimum if emptying this flow's part of the queue made no difference
        (the path is longer), or if the minimum has not been met for a whole filter length.

        Parameters
        ----------
        before_us : least round-trip time of the last round before PROBE_RTT
        measured_us : least round-trip time while the window was reduced; infinite without a sample
        losing : True if losses above the loss floor came with the high round-trip times. They indicate a full
            queue kept by other flows instead of a longer path, so a higher value is accepted only after
            `LOSING_FILTERS` filter lengths.

        Returns
        -------
        True if the queue before PROBE_RTT was at least partly this flow's own, on a path that is not
        contested: the flow had sent more than the path delivers.
        """
        self._confirmed_us = self._probed_us = now_us
        self._raised_rounds = 0  # the increase has been examined
        if measured_us == inf:
            return False
        unchanged = measured_us >= UNCHANGED_FACTOR * before_us
        own_queue = before_us > self._raised_us and not unchanged
        path_longer = unchanged and not losing
        deep = self.contention.end_probe(measured_us, path_longer=path_longer)
        filters = LOSING_FILTERS if losing else 1
        not_met = now_us - self._near_us > MIN_RTT_FILTER_US * filters
        if (path_longer or not_met) and not self.near(measured_us):
            self._set(measured_us)
            if not deep:
                self.contention.replace_minimum(measured_us)
            self._restart_evidence()
            self._near_us = now_us
        return own_queue and not self.contention.contested

    def confirm(self, now_us: int) -> None:
        """Confirm the minimum after idleness: the queue is then known to be empty (draft 5.3.4.2)."""
        self._confirmed_us = now_us
