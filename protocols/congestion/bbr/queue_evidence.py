"""Evidence about the bottleneck's queue, from the mean round-trip times of rounds and from PROBE_RTT.

Means of rounds are used instead of single samples for two reasons. On a path with jitter most samples lie
above the minimum although there is no queue. In a queue that other flows keep full, single samples come near
the minimum although the queue never drains.
"""

from __future__ import annotations

import enum
from math import inf

# not in the draft; chosen by simulation

DEEP_QUEUE_FACTOR = 2.5
"""PROBE_RTT sees a deep queue if its round-trip time exceeds this many times the path's. Flows that run this
controller keep at most two BDP in flight, by estimates that may be a fourth too high."""
CONTESTED_PROBES = 2
"""Probes in a row that must see a deep queue. One is not enough: flows that start together see each other's
queue until they enter PROBE_RTT together."""


class QueueSign(enum.Enum):
    """A round's evidence about the queue."""

    DRAINED = "the queue is empty, and has been seen to build and drain"
    APPEARED = "the first round with a queue"
    NONE = "nothing new"


class QueueDrain:
    """Detects that the queue has built up and drained again, from the mean round-trip times of rounds.

    A mean within `tolerance_us` of the lowest mean, after one that lay higher, shows an empty queue. As long
    as all means are equal there may be no queue (a policer, for instance, has none), or a queue that never
    drains.

    Attributes
    ----------
    seen : True if the queue has been seen to build and to drain
    lowest_us : lowest mean so far
    """

    def __init__(self) -> None:
        self.seen = False
        self.lowest_us = inf
        self._highest_us = 0.0

    def reset(self) -> None:
        """Forget all rounds: the path has changed."""
        self.seen = False
        self.lowest_us, self._highest_us = inf, 0.0

    def end_round(self, mean_us: float, tolerance_us: float, *, self_queued: bool) -> QueueSign:
        """Compare the mean of a round, or of a few short ones, with the rounds before.

        Parameters
        ----------
        self_queued : True if this flow was building a queue, so that the round proves nothing
        """
        sign = QueueSign.NONE
        self.lowest_us = min(self.lowest_us, mean_us)
        if mean_us <= self.lowest_us + tolerance_us:
            if not self_queued:
                self.seen = self.seen or mean_us + tolerance_us < self._highest_us
                if self.seen:
                    sign = QueueSign.DRAINED
        elif self._highest_us <= self.lowest_us + tolerance_us:
            sign = QueueSign.APPEARED
        self._highest_us = max(self._highest_us, mean_us)
        return sign


class ContestedQueue:
    """Detects that other flows keep a deep queue, which hides the path's own round-trip time.

    The minimum round-trip time of such a path is replaced in the end by the one that PROBE_RTT measures,
    since nothing lower can be measured any more. This class remembers the minimum from before. As long as
    PROBE_RTT measures several times that, the path is contested, and yielding to the queue gains nothing.

    Attributes
    ----------
    contested : True if the last `CONTESTED_PROBES` probes saw a deep queue of other flows
    """

    def __init__(self) -> None:
        self.contested = False
        self._path_us = 0.0  # least round-trip time not measured behind such a queue
        self._deep_probes = 0

    def note_minimum(self, rtt_us: float) -> None:
        """Take a new minimum round-trip time."""
        if not self._path_us or rtt_us < self._path_us:
            self._path_us = rtt_us

    def end_probe(self, rtt_us: float, *, path_longer: bool) -> bool:
        """Take the round-trip time that PROBE_RTT measured; True if it is that of a deep queue.

        Parameters
        ----------
        path_longer : True if the probe indicates a longer path instead of a queue
        """
        deep = rtt_us > DEEP_QUEUE_FACTOR * self._path_us and (self.contested or not path_longer)
        self._deep_probes = self._deep_probes + 1 if deep else 0
        self.contested = self._deep_probes >= CONTESTED_PROBES
        return deep

    def replace_minimum(self, rtt_us: float) -> None:
        """Take the round-trip time of a path that has become longer."""
        self._path_us = rtt_us
