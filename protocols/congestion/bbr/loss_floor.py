"""The path's own loss: what it loses when it is not overdriven.

As the least round-trip time of a window is the path's delay and the greatest delivery rate its bandwidth,
the least loss rate is its noise. Every transmission belongs to an epoch, by what the sender was doing when
it left: driving the path *below* what it carries (DOWN, DRAIN, PROBE_RTT, and rounds of STARTUP that
were outgrown later) or *at* it (CRUISE, REFILL). What is done again within half a second belongs to the same
epoch: on a path of microseconds a phase lasts no longer. Of the epochs of the last `MEMORY_US`:

* Those below, from the least lossy up, are pooled as long as the next is not significantly worse: that is the
  minimum of a window, with chance taken out. A round that was meant to be below but was not (the
  bandwidth was overestimated) stays out of it. Those at capacity likewise.
* Those at capacity make the estimate sharp, for most transmissions are theirs, but they count less the more
  their loss exceeds the loss below, measured in standard errors. A sender that overdrives a policer would
  otherwise talk itself into taking the drops for noise at any rate: this pulls it back every time it
  slows down and loses less.
* Nothing is learnt while the round-trip time says that there is a queue. So where a queue was seen to build
  and to drain, losses at capacity are hardly doubted: a sender that overdrives the path would see it. Where
  none was seen, no more than a tenth is believed: whoever comes to a queue that others keep full sees nothing
  but its top. Three tenths or four are believed as long as STARTUP goes on, and where the application or a
  window of KCP bounds what is sent: such a sender makes no queue, and so may never see one.

Not in the draft. It has a fixed tolerance (LossThresh, 2 %) in the place of `excessive`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import sqrt
from typing import TypeVar

from iperfpy.protocols.congestion.bbr.loss_tally import Tally, standard_error
from iperfpy.protocols.congestion.bbr.phases import Drive

MEMORY_US = 10_000_000
TOLERANCE = 0.02
"""Loss above the noise that is still no sign of congestion (BBR.LossThresh, draft 2.4)."""
ENOUGH = 100
"""Transmissions that make a pool worth believing."""
_SIGNIFICANT = 3.0
_DISBELIEVED, _DISBELIEVED_WITH_QUEUE = 2.5, 6.0
"""Standard errors above the loss below at which loss at capacity does not count at all."""
_LEAST_DIFFERENCE = 0.01
_LEAST_POOL = 30
_EPOCH_US = 500_000
_CHANGES = 16
"""How many changes of load are remembered: what left before them all counts as sent under the oldest."""
_STARTUP_ROUNDS = 32
_UPDATE_US = 10_000
"""An estimate over seconds is worked out no more often: rounds may be much shorter."""
_MOST = 0.6
_UNPROVEN = 0.1
"""The most that is believed as long as no queue was seen to drain. When every sample shows the same
round-trip time there may be no queue, or many flows keep a full one, and their losses look like noise."""
_UNPROVEN_SEARCHING, _UNPROVEN_OUTGROWN, _OUTGROWN = 0.3, 0.4, 200
"""The same of who is limited, and in STARTUP. That grows by 1.97 per round trip at 2.77 times what is
carried, but at 40 % loss of which a tenth is believed by 1.51: it would take half as long again. The second
from so many transmissions of outgrown rounds on: what doubles its rate again and again and loses no more is
not in a full queue."""
_SCATTER_ROUND = 100
_QUEUES = 1_024
"""How many times a queue came or went are remembered: at the first sign of one it may with every second
acknowledgement, and what was lost then is missed up to a round trip later."""
_T = TypeVar("_T")
_BURSTIEST = 50.0


def _since(changes: deque[tuple[int, _T]], at_us: int) -> _T:
    """What held then."""
    for since_us, what in reversed(changes):
        if since_us <= at_us:
            return what
    return changes[0][1]


class LossFloor:
    """`estimate` is the share of transmissions that the path loses of itself."""

    def __init__(self) -> None:
        self.estimate = 0.0
        self.burstiness = 1.0
        """How much more the losses per round scatter than independent ones would (1: they do not)."""
        self._changes: deque[tuple[int, Tally]] = deque([(0, Tally(Drive.SEARCHING))], _CHANGES)
        """From when on what leaves belongs to which epoch."""
        self._queued: deque[tuple[int, bool]] = deque([(0, False)], _QUEUES)
        """From when on what leaves meets a queue, or none."""
        self._newest_us = 0  # when the newest that was delivered left
        self._epochs: dict[Drive, deque[Tally]] = {load: deque() for load in Drive}
        self._startup: deque[tuple[float, Tally]] = deque(maxlen=_STARTUP_ROUNDS)
        self._updated_us = self._limited_until_us = -_UPDATE_US
        self._below, self._at = Tally(), Tally()
        self._doubt = 0.0  # how far the estimate may be off
        self._scatter = Tally()
        self._last_rate: float | None = None
        self._dispersion = 1.0

    # -- what was sent when, and what became of it

    def drive(self, load: Drive, now_us: int) -> None:
        """From now on the path is driven so."""
        epochs = self._epochs[load]
        if not epochs or epochs[-1].since_us < now_us - _EPOCH_US:
            epochs.append(Tally(load, now_us))
        if self._changes[-1][1] is not epochs[-1]:
            self._changes.append((now_us, epochs[-1]))

    def _epoch(self, stamp_us: int) -> Tally:
        return _since(self._changes, stamp_us)

    def delivered(self, stamp_us: int | None, segments: int, *, queued: bool) -> None:
        """Segments were acknowledged, the newest of them sent at `stamp_us`, or no newer than before
        (None). `queued`: it met a queue, and so did what left since the newest before it."""
        if stamp_us is not None:
            if queued is not self._queued[-1][1]:
                self._queued.append((self._newest_us + 1, queued))
            self._newest_us = stamp_us
        if not self._queued[-1][1]:
            self._epoch(self._newest_us).sent += segments

    def lost(self, stamp_us: int, segments: int) -> None:
        """Segments were found lost (fewer than none: found delivered after all). They met a queue if what was
        delivered of their time did: they are missed a round trip later, when it may have drained."""
        if not _since(self._queued, stamp_us):
            epoch = self._epoch(stamp_us)
            epoch.sent += segments
            epoch.lost += segments

    def forget(self, now_us: int) -> None:
        """The path is shorter than was thought: what was learnt was learnt behind a queue."""
        for epochs in self._epochs.values():
            epochs.clear()
        self._startup.clear()
        self.estimate = self._doubt = 0.0
        load = self._changes[-1][1].load
        self._changes.clear()
        self._epochs[load].append(Tally(load, now_us))
        self._changes.append((now_us, self._epochs[load][-1]))
        self._below, self._at = Tally(), Tally()

    def note_limited(self, now_us: int) -> None:
        """The application or a window of KCP bounds what is sent. Remembered as long as losses are: who gave
        way is bound by the controller until he has caught up."""
        self._limited_until_us = now_us + MEMORY_US

    def note_startup_round(self, rate: float, sent: int, lost: int) -> None:
        """A round of STARTUP that sent `rate` segments per second. Whether that was below what the path
        carries is known once more than that has been delivered. The first few are too short to say anything
        alone: whoever comes to a full queue may lose nine of his first ten."""
        if sent <= 0:
            return
        if self._startup and self._startup[-1][1].sent < _LEAST_POOL:
            before, tally = self._startup.pop()
            sent, lost, rate = sent + tally.sent, lost + tally.lost, max(rate, before)
        self._startup.append((rate, Tally(Drive.BELOW, 0, sent, lost)))

    def outgrown(self, delivered_rate: float, now_us: int) -> None:
        """The path delivers `delivered_rate`, so rounds sent more slowly did not overdrive it."""
        for entry in list(self._startup):
            if entry[0] > delivered_rate or entry[1].sent < _LEAST_POOL:
                continue
            entry[1].since_us = now_us
            self._epochs[Drive.BELOW].append(entry[1])
            self._startup.remove(entry)

    # -- what follows

    @property
    def known(self) -> bool:
        """Has the path been seen below its capacity for long enough?"""
        return self._below.sent >= ENOUGH

    @property
    def lossy(self) -> bool:
        """Is there loss that needs telling apart?"""
        return max(self._at.rate, self._below.rate) > TOLERANCE / 4

    def update(self, now_us: int, seen_empty: bool) -> float:
        """Work out the estimate; once per round. `seen_empty`: see rtt.py."""
        if now_us < self._updated_us + _UPDATE_US:
            return self.estimate
        self._updated_us = now_us
        for epochs in self._epochs.values():
            while len(epochs) > 1 and epochs[1].since_us < now_us - MEMORY_US:
                epochs.popleft()
        if self._changes[-1][1].load is Drive.AT:
            self.drive(Drive.AT, now_us)
        below = self._below = self._lowest(self._epochs[Drive.BELOW])
        self._at = self._lowest(self._epochs[Drive.AT])
        if not below.sent:
            self.estimate = self._doubt = 0.0
            return 0.0
        both = Tally(Drive.AT, 0, below.sent + self._at.sent, below.lost + self._at.lost)
        disbelieved = _DISBELIEVED_WITH_QUEUE if seen_empty else _DISBELIEVED
        doubt = max(0.0, self._distance(self._at, below)) / disbelieved
        trust = max(0.0, 1.0 - doubt * doubt)
        rate = below.rate + trust * (both.rate - below.rate)
        sent = below.sent + trust * self._at.sent
        error = sqrt(self.burstiness) * standard_error(rate * sent, sent)
        self._doubt = min(TOLERANCE, 3.0 * error)
        self.estimate = min(self._most(seen_empty), max(0.0, rate - error))
        return self.estimate

    def _most(self, seen_empty: bool) -> float:
        if seen_empty:
            return _MOST
        limited = self._updated_us < self._limited_until_us
        if self._changes[-1][1].load is not Drive.SEARCHING and not limited:
            return _UNPROVEN
        return _UNPROVEN_OUTGROWN if self._below.sent >= _OUTGROWN else _UNPROVEN_SEARCHING

    def credible(self, lost: int, sent: int, seen_empty: bool) -> bool:
        """Could so many losses be the path's own, whatever has been learnt?"""
        return lost <= self._most(seen_empty) * sent

    def _lowest(self, epochs: Iterable[Tally]) -> Tally:
        """The least lossy ones that chance alone may tell apart, together."""
        pool = Tally()
        some = [epoch for epoch in epochs if epoch.sent > 0]
        if not any(epoch.lost for epoch in some):  # as usual: nothing to tell apart
            pool.sent = sum(epoch.sent for epoch in some)
            return pool
        for epoch in sorted(some, key=lambda epoch: epoch.rate):
            if pool.sent >= _LEAST_POOL and self._distance(epoch, pool) > _SIGNIFICANT:
                break
            pool.add(epoch)
        return pool

    def _distance(self, high: Tally, low: Tally) -> float:
        """By how many standard errors one loss rate is above another; 0 when it hardly is."""
        if not high.sent or high.rate - low.rate < _LEAST_DIFFERENCE:
            return 0.0
        common = (max(0, high.lost) + max(0, low.lost) + 1) / (high.sent + low.sent + 1)
        spread = self.burstiness * common * (1.0 - common) * (1.0 / high.sent + 1.0 / low.sent)
        return (high.rate - low.rate) / sqrt(spread) if spread > 0 else 0.0

    def excessive(self, lost: int, sent: int, tolerance: float = TOLERANCE) -> bool:
        """Are `lost` of `sent` transmissions more than the noise, `tolerance` and chance explain? By chance
        the sample may be off by two standard errors, and the noise by three, but no more than two per cent:
        in a queue shared by many, losses scatter too much to be called a doubt."""
        expected = self.estimate * sent
        scatter = sqrt(self.burstiness * max(expected * (1.0 - self.estimate), 0.25))
        chance = sqrt((2.0 * scatter) ** 2 + (self._doubt * sent) ** 2)
        return lost > expected + tolerance * sent + chance

    def note_cruise(self, lost: int, sent: int) -> None:
        """What was resolved since the last call, while cruising: how far losses scatter. Neighbours are
        compared (von Neumann 1941), for a rate that changes its level once is not a bursty one."""
        self._scatter.sent += sent
        self._scatter.lost += lost
        if self._scatter.sent < _SCATTER_ROUND:
            return
        rate, count = max(0.0, self._scatter.rate), self._scatter.sent
        if self._last_rate is not None:
            mean = (rate + self._last_rate) / 2
            spread = mean * (1.0 - mean) / count
            if spread > 0.0:
                self._dispersion += ((rate - mean) ** 2 * 2 / spread - self._dispersion) / 16
        self._last_rate = rate
        self.burstiness = min(_BURSTIEST, max(1.0, self._dispersion))
        self._scatter = Tally()
