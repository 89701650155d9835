"""The path's round-trip time without queues, and when to measure it again (draft 5.3.4 and 5.5.7).

Where this differs from the draft:

* What shows an empty queue is a round whose samples on average lie within 1/16 of the minimum above the least
  such average, after one that lay higher, and not one in which we were filling the queue. It renews the
  minimum: a flow that keeps no queue never has to stop for PROBE_RTT (the draft asks for a lower sample).
  Averages, because on a path with jitter most samples lie above the minimum, and because in a queue that
  others keep full single ones come near it. Rounds that never leave the least only put PROBE_RTT off, to the
  filter's ten seconds: so looks a path without a queue, a policer for one, but also a full queue. When they
  leave it at last, the five seconds begin: a STARTUP longer than that is not interrupted by its first queue.
* A minimum that falls by more than 1/16, at once or little by little, was one behind a queue: of the path's
  own nothing has been seen then.
* When every round trip of two rounds, and of four times the minimum, lies far above the minimum, PROBE_RTT
  comes at once instead of after five seconds. If emptying our own share of the queue changes nothing, the
  path has become longer, and the new value replaces the old one there and then. If it does, we sent more than
  the path delivers: control.py takes the rate of those rounds for the bandwidth, where the draft lets the
  filter forget in two cycles.
* Others that fill a deep queue hide the minimum for good. What PROBE_RTT sees then is believed in the end, as
  it is all that can be measured, but the value before is remembered: as long as PROBE_RTT sees several times
  that, the path is `contested`, and nothing is gained by yielding to the queue (controls.py).
* PROBE_RTT comes when the clock shows a multiple of five seconds, which is 2.5 to 7.5 after the minimum was
  seen: flows of one host stop together, and so see behind the queue that they keep together. Clocks of
  several hosts differ, and so do the moments at which their flows stop.
"""

from __future__ import annotations

from math import ceil, inf

PROBE_INTERVAL_US = 5_000_000
PROBE_INTERVAL_ROUNDS = 32
"""On long paths: STARTUP, DRAIN and the first probe come before there is a round without a queue."""
FILTER_US = 10_000_000
DEEP, CONTESTED_PROBES = 2.5, 2
"""Flows like this one have two BDP in flight at most, by estimates that may be a fourth too high. A single
probe is not enough: flows that start together see each other's queue until they stop together."""
_FILLING, _FILLING_US = 0.5, 10_000
"""A queue that neither jitter nor a busy host explains: a share of the minimum, and no less than so much."""
_JITTER_US = 500.0
_HOSTS_US = 1_000
_ENOUGH = 16
"""Samples whose average says something on a path with jitter."""
_RAISED = 1.25
_RAISED_RTTS, _RAISED_ROUNDS = 4, 2
_UNCHANGED = 0.95


class MinRtt:
    """`us` is the estimate; 0.0 before the first sample."""

    def __init__(self) -> None:
        self.us = 0.0
        self.tolerance_us = _JITTER_US
        """How far above the minimum a sample still shows an empty queue."""
        self.round_least_us = inf
        """Least sample of the round in progress."""
        self.last_round_us = 0.0
        """Least sample of the round before."""
        self.latest_us = 0.0
        self.seen_empty = False
        """Has the queue been seen to build and to drain again?"""
        self._floor_us = 0.0  # the minimum that is remembered while others hide it
        self._deep_probes = 0  # that saw a deep queue of others, in a row
        self._anchor_us = 0.0  # the minimum when `update` last said that the path is shorter
        self._sum_us, self._samples, self._rounds_loaded = 0, 0, False  # of the rounds since `_compare`
        self._emptiest_us, self._fullest_us = inf, 0.0  # averages of rounds
        self._seen_us = 0  # when the queue was last seen to be empty
        self._raised_rounds = 0
        self.before_us = 0.0
        """Least sample of the last round before PROBE_RTT."""
        self._probe_least_us = inf
        self._met_us = 0  # when a sample was last near the minimum
        self._interval_us = PROBE_INTERVAL_US
        self._probed_us = -PROBE_INTERVAL_US  # the last PROBE_RTT

    def _believe(self, us: float) -> None:
        self.us = us
        self.tolerance_us = max(us / 16, _JITTER_US)
        self._interval_us = PROBE_INTERVAL_US * ceil(PROBE_INTERVAL_ROUNDS * us / PROBE_INTERVAL_US)

    def _begin(self) -> None:
        """The path is another than was thought: of its queue nothing has been seen."""
        self._anchor_us = self.us
        self.seen_empty = False
        self._emptiest_us, self._fullest_us = inf, 0.0

    def near(self, rtt_us: float) -> bool:
        """Does this round-trip time show an empty queue?"""
        return rtt_us <= self.us + self.tolerance_us

    @property
    def empty(self) -> bool:
        """Does the last sample show an empty queue? Where one was seen, it need not be better than that one
        was on average. Hosts alone make a millisecond's difference."""
        base_us = self._emptiest_us if self.seen_empty else self.us
        return self.latest_us <= base_us + max(self.tolerance_us, _HOSTS_US)

    @property
    def queue_share(self) -> float:
        """The queue that the last round never fell below, as a share of the minimum."""
        return max(0.0, self.last_round_us / self.us - 1.0) if self.us else 0.0

    @property
    def contested(self) -> bool:
        """Do others keep a queue that is deeper than flows like this one build? PROBE_RTT saw it twice."""
        return self._deep_probes >= CONTESTED_PROBES

    @property
    def filling(self) -> bool:
        """Does every sample of the round in progress show a queue?"""
        least_us = self.round_least_us if self._samples >= _ENOUGH else 0.0
        return inf > least_us > self.us + max(self.us * _FILLING, _FILLING_US)

    def update(self, rtt_us: int, now_us: int) -> bool:
        """Take a sample. True when the path is shorter than was thought: what looked like an empty queue was
        none."""
        self.latest_us = float(rtt_us)
        if rtt_us < self.round_least_us:
            self.round_least_us = float(rtt_us)
        self._sum_us += rtt_us
        self._samples += 1
        if rtt_us < self._probe_least_us:
            self._probe_least_us = float(rtt_us)
        shorter = False
        if not self.us or rtt_us < self.us:
            shorter = rtt_us + self.tolerance_us < self._anchor_us
            first = not self.us
            self._believe(float(rtt_us))
            if first or rtt_us < self._floor_us:
                self._floor_us = self.us
            if shorter or first:
                self._begin()
            self._seen_us = now_us
        if self.near(rtt_us):
            self._met_us = now_us
        return shorter

    def end_round(self, loaded: bool) -> None:
        """A round is over; `loaded` when we were building a queue ourselves."""
        if self.round_least_us == inf:
            return
        self.last_round_us, self.round_least_us = self.round_least_us, inf
        self._rounds_loaded = self._rounds_loaded or loaded
        if self._samples >= _ENOUGH:
            self._compare(self._sum_us / self._samples, self._rounds_loaded)
            self._sum_us, self._samples, self._rounds_loaded = 0, 0, False
        raised = self.last_round_us > self.us * _RAISED + _JITTER_US
        if not raised:
            self._raised_rounds = 0
        elif not loaded:
            self._raised_rounds += 1

    def _compare(self, mean_us: float, loaded: bool) -> None:
        """The average of a round, or of a few short ones, with those of others."""
        self._emptiest_us = min(self._emptiest_us, mean_us)
        if mean_us <= self._emptiest_us + self.tolerance_us:
            if not loaded:
                self.seen_empty = self.seen_empty or mean_us + self.tolerance_us < self._fullest_us
                if self.seen_empty:
                    self._seen_us = self._met_us
        elif self._fullest_us <= self._emptiest_us + self.tolerance_us:
            self._seen_us = max(self._seen_us, self._met_us)  # until then it was empty
        self._fullest_us = max(self._fullest_us, mean_us)

    def stale(self, now_us: int) -> bool:
        """Is it time for PROBE_RTT?"""
        if not self.us:
            return False
        unseen_us = now_us - now_us % self._interval_us - self._seen_us
        if unseen_us > self._interval_us / 2 and (unseen_us >= FILTER_US or not self.empty):
            return True
        if self._raised_rounds < _RAISED_ROUNDS or self.contested:
            return False
        raised_us = self._raised_rounds * self.last_round_us
        return raised_us >= _RAISED_RTTS * self.us and now_us - self._probed_us > PROBE_INTERVAL_US

    def begin_probe(self) -> None:
        """PROBE_RTT begins."""
        self.before_us = self.last_round_us or self.latest_us

    def hold(self) -> None:
        """In flight has come down: samples from here on count."""
        self._probe_least_us = inf

    def end_probe(self, now_us: int, losing: bool) -> bool:
        """PROBE_RTT is over: believe what it saw when emptying our queue made no difference, or when the old
        value has been missed for a whole filter length. `losing`: more was lost than the path's noise
        explains while the round-trip times were high; so looks a full queue that others keep, and not a
        longer path, and that takes three filter lengths to believe. Returns whether the rounds before stood
        behind a queue that was ours at least in part, on a path that is not contested."""
        seen, before = self._probe_least_us, self.before_us
        self._seen_us = self._probed_us = now_us
        self._raised_rounds = 0
        if seen == inf:
            return False
        ours = before > self.us * _RAISED + _JITTER_US and seen < _UNCHANGED * before
        unchanged = seen >= _UNCHANGED * before and not losing
        deep = seen > DEEP * self._floor_us and (self.contested or not unchanged)
        self._deep_probes = self._deep_probes + 1 if deep else 0
        missed = now_us - self._met_us > FILTER_US * (3 if losing else 1)
        if (unchanged or missed) and not self.near(seen):
            self._believe(seen)
            if not deep:
                self._floor_us = seen
            self._begin()
            self._met_us = now_us
        return ours and not self.contested

    def excuse(self, now_us: int) -> None:
        """After idleness the queue is known to be empty (draft 5.3.4.2)."""
        self._seen_us = now_us
