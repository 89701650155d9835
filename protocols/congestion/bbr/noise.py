"""The path's own loss: what it loses when it is not overdriven.

As the least round-trip time of a window is the path's delay and the greatest delivery rate its bandwidth,
the least loss rate is its noise. It is learnt from two pools of transmissions, each of the last
`MEMORY_S` seconds: those sent *below* what the path carries (DOWN, DRAIN, PROBE_RTT, and rounds of
STARTUP that were outgrown later), and those sent *at* it (CRUISE, REFILL).

* Loss below capacity is noise by definition.
* Loss at capacity counts as noise too, and makes the estimate sharp, as long as it is not significantly
  higher than loss below. If it is, the path is being overdriven (a policer, a shallow queue) and only the
  pool below is believed. A controller that overdrives a policer cannot talk itself into taking drops for
  noise: every cycle sends below its own rate for a round, sees less loss there, and comes down.
* Nothing is learnt while the round-trip time says that there is a queue: growing delay vetoes.

Not in the draft. It has a fixed tolerance (LossThresh, 2 %) in the place of `excessive`.
"""

from __future__ import annotations

from collections import deque
from math import sqrt

from protocols.congestion.bbr.phases import Load

MEMORY_S = 10
TOLERANCE = 0.02
"""Loss above the noise that is still no sign of congestion (BBR.LossThresh, draft 2.4)."""
SIGNIFICANT = 3.0
"""Standard errors by which two loss rates must differ before they are taken to differ."""
ENOUGH = 100
"""Transmissions that make a pool worth believing."""
_LEAST_DIFFERENCE = 0.01
_MOST = 0.6
_BURSTIEST = 20.0


class Pool:
    """Transmissions and losses of the last seconds, in one bucket per second."""

    __slots__ = ("_buckets", "lost", "sent")

    def __init__(self) -> None:
        self._buckets: deque[list[int]] = deque()
        self.sent = self.lost = 0

    def add(self, second: int, sent: int, lost: int) -> None:
        if not self._buckets or self._buckets[-1][0] != second:
            self._buckets.append([second, 0, 0])
            self._forget(second)
        self._buckets[-1][1] += sent
        self._buckets[-1][2] += lost
        self.sent += sent
        self.lost += lost

    def _forget(self, second: int) -> None:
        while self._buckets[0][0] <= second - MEMORY_S and len(self._buckets) > 1:
            _, sent, lost = self._buckets.popleft()
            self.sent -= sent
            self.lost -= lost

    @property
    def rate(self) -> float:
        return max(0, self.lost) / self.sent if self.sent > 0 else 0.0

    def variance(self, rate: float) -> float:
        """Of the measured rate, if `rate` is the true one; one more loss than seen, so that it is never 0."""
        return max(rate * (1.0 - rate), 1.0 / (self.sent + 1)) / max(1, self.sent)


class NoiseFloor:
    """`estimate` is the share of transmissions that the path loses of itself."""

    def __init__(self) -> None:
        self.estimate = 0.0
        self.burstiness = 1.0
        """How much more the losses per round scatter than independent ones would (1: they do not)."""
        self._below, self._at = Pool(), Pool()
        self._load = Load.SEARCHING
        self._upcoming: deque[tuple[int, Load]] = deque()
        self._delivered = self._lost = 0
        self._startup: list[tuple[float, int, int]] = []

    # -- what was sent when

    def drive(self, load: Load, now_us: int) -> None:
        """From now on the path is driven so."""
        latest = self._upcoming[-1][1] if self._upcoming else self._load
        if load is not latest:
            self._upcoming.append((now_us, load))

    def resolve(
        self, sent_us: int, delivered: int, lost: int, settle_us: float, queued: bool, now_us: int
    ) -> None:
        """Transmissions up to `sent_us` have been acknowledged or, `settle_us` later, found lost.

        `delivered`, `lost`: totals. `queued`: the round-trip time is well above its minimum.
        """
        while self._upcoming and sent_us >= self._upcoming[0][0] + settle_us:
            self._load = self._upcoming.popleft()[1]
        resolved, missing = delivered - self._delivered + lost - self._lost, lost - self._lost
        self._delivered, self._lost = delivered, lost
        if queued:
            return
        if self._load is Load.BELOW:
            self._below.add(now_us // 1_000_000, resolved, missing)
        elif self._load is Load.AT:
            self._at.add(now_us // 1_000_000, resolved, missing)

    def note_startup_round(self, rate: float, sent: int, lost: int) -> None:
        """A round of STARTUP sent at `rate` (segments per second). Whether that was below what the path
        carries is known once more than that has been delivered."""
        self._startup.append((rate, sent, lost))

    def outgrown(self, delivered_rate: float, now_us: int) -> None:
        """The path delivers `delivered_rate`, so rounds sent more slowly did not overdrive it."""
        for round_ in [entry for entry in self._startup if entry[0] <= delivered_rate]:
            self._below.add(now_us // 1_000_000, round_[1], round_[2])
            self._startup.remove(round_)

    def skip(self, delivered: int, lost: int) -> None:
        """What was resolved up to here says nothing about noise."""
        self._delivered, self._lost = delivered, lost

    # -- what follows

    @property
    def known(self) -> bool:
        """Has the path been seen below its capacity for long enough?"""
        return self._below.sent >= ENOUGH

    @property
    def lossy(self) -> bool:
        """Is there loss that needs telling apart?"""
        return max(self._at.rate, self._below.rate) > TOLERANCE / 4

    def update(self) -> float:
        """Work out the estimate; once per round."""
        below, at = self._below, self._at
        if not below.sent:
            self.estimate = 0.0
            return 0.0
        sent, lost = below.sent, max(0, below.lost)
        if at.sent and not self._higher(at, below):
            sent, lost = sent + at.sent, lost + max(0, at.lost)
        rate = lost / max(1, sent)
        error = sqrt(self.burstiness * rate * (1.0 - rate) / max(1, sent))
        self.estimate = min(_MOST, max(0.0, rate - error))
        return self.estimate

    def _higher(self, at: Pool, below: Pool) -> bool:
        """Is the loss at capacity significantly higher than below it?"""
        common = (max(0, at.lost) + max(0, below.lost)) / (at.sent + below.sent)
        error = sqrt(self.burstiness * (at.variance(common) + below.variance(common)))
        return at.rate - below.rate > max(_LEAST_DIFFERENCE, SIGNIFICANT * error)

    def excessive(self, lost: int, sent: int) -> bool:
        """Are `lost` of `sent` transmissions more than the noise and chance explain?"""
        expected = self.estimate * sent
        scatter = sqrt(self.burstiness * max(expected * (1.0 - self.estimate), 0.25))
        return lost > expected + TOLERANCE * sent + 2.0 * scatter

    def note_round(self, lost: int, sent: int) -> None:
        """A round that did not overdrive the path: how far its losses lie from what was expected."""
        expected = self.estimate * sent
        if expected >= 1.0:
            ratio = (lost - expected) ** 2 / (expected * (1.0 - self.estimate))
            self.burstiness += (min(ratio, 4 * _BURSTIEST) - self.burstiness) / 16
            self.burstiness = min(_BURSTIEST, max(1.0, self.burstiness))
