"""The loss floor: the share of transmissions that the path loses although it is not overloaded.

Minimum round-trip time, maximum delivery rate and minimum loss rate are estimated by the same idea: the least
round-trip time of a window is the path's delay, the greatest delivery rate its bandwidth, and the least loss
rate its loss floor. Only loss above the floor is treated as congestion. The draft has no loss floor; it has a
fixed tolerance (BBR.LossThresh, 2 %).

    epochs, startup     transmissions and losses per offered load   (loss_epochs.py, startup_losses.py)
        |
    _lowest             pool the least lossy epochs of the last 10 s
        |
    update              below capacity: the estimate's base
                        at capacity: refines it, as far as it does not exceed the base
        |
    estimate  ------->  excessive(lost, sent)     is this more than the floor, tolerance and chance explain?

Rules, each with its reason:

* Transmissions below capacity (DOWN, DRAIN, PROBE_RTT, and rounds of STARTUP that were slower than the path)
  are the base. Their epochs are pooled, from the least lossy one up, until the next is significantly worse:
  the minimum of a window, with chance taken out. An epoch in which the bandwidth was overestimated, so that
  the path was overloaded after all, thereby stays out.
* Transmissions at capacity (CRUISE, REFILL) are pooled in the same way. They are the majority and make the
  estimate precise. Their weight falls with the distance of their loss rate from the base, in standard errors:
  a sender that overloads a policer would otherwise take the policer's drops for the path's own loss, at any
  rate. With the weight, the estimate falls whenever the sender slows down and loses less.
* Transmissions that met a queue are not counted (loss_epochs.py). If the queue has been seen to build and
  drain, an overload would therefore show as a queue, and losses at capacity keep their weight up to a greater
  distance.
* If more than the floor is lost without a queue, PROBE_RTT sends less and compares (`Bbr._judge_losses`). If
  as much is lost then, the path has changed, and the evidence before is dropped: `restart`.
* The estimate is capped as long as neither a queue has been seen to drain nor losses were examined: see
  `MAX_FLOOR_NO_DRAIN`.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt

from iperfpy.protocols.congestion.bbr.loss_epochs import Epoch, LossEpochs
from iperfpy.protocols.congestion.bbr.loss_scatter import LossScatter
from iperfpy.protocols.congestion.bbr.loss_tally import RELIABLE_SAMPLE, LossTally, standard_error
from iperfpy.protocols.congestion.bbr.phases import OfferedLoad
from iperfpy.protocols.congestion.bbr.startup_losses import StartupLosses

# draft 2.7

LOSS_THRESHOLD = 0.02
"""BBR.LossThresh: loss above the floor that is not yet congestion."""

# not in the draft; chosen by simulation

WINDOW_US = 10_000_000
"""Length of the window: as long as the minimum round-trip time's."""
SIGNIFICANT_ERRORS = 3.0
"""Standard errors beyond which two loss rates count as different."""
IGNORED_ERRORS, IGNORED_ERRORS_DRAINED = 2.5, 6.0
"""Standard errors above the base at which losses at capacity have no weight: before and after a queue was
seen to drain."""
MIN_DIFFERENCE = 0.01
"""Difference of two loss rates below which they count as equal, however many transmissions support it."""
MIN_POOL = 30
"""Transmissions that are pooled in any case: fewer are no base for a comparison."""
UPDATE_INTERVAL_US = 10_000
"""Least time between two estimates. Rounds may be much shorter, and the window is 10 s."""
MAX_FLOOR = 0.6
"""Upper limit of the estimate: the sender then paces at 2.5 times the rate that the path delivers."""
MAX_FLOOR_NO_DRAIN = 0.1
"""Upper limit while no queue has been seen to drain. If all round-trip times are equal there may be no queue,
or many flows keep a full queue, and a newcomer's losses at the top of it look like a loss floor."""
MAX_FLOOR_LIMITED = 0.3
"""The same limit in STARTUP, and for senders that the application or a window of KCP limits. Such a sender
builds no queue and may never see one drain. STARTUP grows by 1.97 per round trip at 2.77 times the bandwidth;
on a path with 40 % loss and a limit of 0.1 it would grow by 1.51 and take two thirds longer."""
MAX_FLOOR_SUPPORTED, SUPPORTING_SAMPLE = 0.4, 200
"""That limit once this many transmissions below capacity support the estimate: a flow that doubles its rate
again and again and loses no larger share is not in a full queue."""
LOSSY_SHARE = 1 / 4
"""Loss rate, as a share of `LOSS_THRESHOLD`, from which a path counts as lossy."""
SAMPLE_ERRORS, FLOOR_ERRORS = 2.0, 3.0
"""Standard errors that chance may account for: in the sample, and in the estimate."""


class LossFloor:
    """Estimator of the loss floor.

    Attributes
    ----------
    estimate : share of transmissions, 0.0 to `MAX_FLOOR`
    epochs : transmissions per offered load
    startup : rounds of STARTUP that may have been sent below capacity
    scatter : variability of the losses in CRUISE
    """

    def __init__(self) -> None:
        self.estimate = 0.0
        self.epochs, self.startup, self.scatter = LossEpochs(), StartupLosses(), LossScatter()
        self._examined = False  # sending less has shown that the path loses by itself
        self._error = 0.0  # possible error of the estimate, from chance
        self._below, self._at = LossTally(), LossTally()  # pools of the last update
        self._updated_us = self._limited_until_us = -UPDATE_INTERVAL_US

    # -- input

    def reset(self, now_us: int) -> None:
        """Drop everything: the path is shorter than assumed, so the losses were counted behind a queue."""
        self.epochs.clear(now_us)
        self.startup.clear()
        self.estimate = self._error = 0.0
        self._below, self._at = LossTally(), LossTally()
        self._examined = False

    def restart(self, losses: LossTally, now_us: int) -> None:
        """Replace all evidence by the losses of PROBE_RTT: the path now loses as much whatever is sent."""
        self.epochs.clear(now_us)
        self.startup.clear()
        self.epochs.add_below_capacity(Epoch(OfferedLoad.BELOW_CAPACITY, now_us, losses.sent, losses.lost))
        self._examined = True
        self._updated_us = now_us - UPDATE_INTERVAL_US
        self.update(now_us, True)

    def note_limited(self, now_us: int) -> None:
        """Note that the application or a window of KCP limits the sender.

        It counts for as long as the losses of this time do. A flow that was limited for a moment and yielded
        is limited by the controller until it has recovered its share.
        """
        self._limited_until_us = now_us + WINDOW_US

    def note_delivery_rate(self, rate: float, now_us: int) -> None:
        """Use the rounds of STARTUP that were sent more slowly than the path delivers, in segments/s."""
        for epoch in self.startup.take_exceeded(rate, now_us):
            self.epochs.add_below_capacity(epoch)

    # -- estimate

    @property
    def known(self) -> bool:
        """True if enough transmissions were sent below capacity to support the estimate."""
        return self._below.sent >= RELIABLE_SAMPLE

    @property
    def lossy(self) -> bool:
        """True if the path loses enough for the loss floor to matter."""
        return max(self._at.loss_rate, self._below.loss_rate) > LOSS_THRESHOLD * LOSSY_SHARE

    def update(self, now_us: int, drain_seen: bool) -> float:
        """Compute the estimate, once per round, and return it.

        Parameters
        ----------
        drain_seen : True if the queue has been seen to build and to drain (path_delay.py)
        """
        if now_us < self._updated_us + UPDATE_INTERVAL_US:
            return self.estimate
        self._updated_us = now_us
        self.epochs.expire(now_us - WINDOW_US)
        # A long CRUISE is divided into epochs, so that its old losses can expire.
        if self.epochs.offered_load is OfferedLoad.AT_CAPACITY:
            self.epochs.change_load(OfferedLoad.AT_CAPACITY, now_us)
        below = self._below = self._lowest(self.epochs.at_load(OfferedLoad.BELOW_CAPACITY))
        at = self._at = self._lowest(self.epochs.at_load(OfferedLoad.AT_CAPACITY))
        if not below.sent:
            self.estimate = self._error = 0.0
            return 0.0
        both = LossTally(below.sent + at.sent, below.lost + at.lost)
        # The weight of losses at capacity falls with the square of their distance from the base.
        distance = max(0.0, self._distance(at, below))
        distance /= IGNORED_ERRORS_DRAINED if drain_seen else IGNORED_ERRORS
        weight = max(0.0, 1.0 - distance * distance)
        rate = below.loss_rate + weight * (both.loss_rate - below.loss_rate)
        sent = below.sent + weight * at.sent
        error = sqrt(self.scatter.factor) * standard_error(rate * sent, sent)
        # In a queue shared by many flows the losses scatter so much that the possible error must be limited.
        self._error = min(LOSS_THRESHOLD, FLOOR_ERRORS * error)
        # The estimate errs on the low side: too high a floor would hide congestion.
        self.estimate = min(self._limit(drain_seen), max(0.0, rate - error))
        return self.estimate

    def _limit(self, drain_seen: bool) -> float:
        """Upper limit of the estimate."""
        if drain_seen or self._examined:
            return MAX_FLOOR
        limited = self._updated_us < self._limited_until_us
        if self.epochs.offered_load is not OfferedLoad.UNKNOWN and not limited:
            return MAX_FLOOR_NO_DRAIN
        return MAX_FLOOR_SUPPORTED if self._below.sent >= SUPPORTING_SAMPLE else MAX_FLOOR_LIMITED

    def _lowest(self, epochs: Iterable[LossTally]) -> LossTally:
        """Pool the least lossy epochs, as long as they differ only by chance."""
        pool = LossTally()
        used = [epoch for epoch in epochs if epoch.sent > 0]
        if not any(epoch.lost for epoch in used):  # the usual case: no sorting needed
            pool.sent = sum(epoch.sent for epoch in used)
            return pool
        for epoch in sorted(used, key=lambda epoch: epoch.loss_rate):
            if pool.sent >= MIN_POOL and self._distance(epoch, pool) > SIGNIFICANT_ERRORS:
                break
            pool.add(epoch)
        return pool

    def _distance(self, high: LossTally, low: LossTally) -> float:
        """Standard errors by which one loss rate exceeds another (two-proportion z-test, pooled).

        0.0 if the difference is below `MIN_DIFFERENCE`.
        """
        if not high.sent or high.loss_rate - low.loss_rate < MIN_DIFFERENCE:
            return 0.0
        common = (max(0, high.lost) + max(0, low.lost) + 1) / (high.sent + low.sent + 1)
        variance = self.scatter.factor * common * (1.0 - common) * (1.0 / high.sent + 1.0 / low.sent)
        return (high.loss_rate - low.loss_rate) / sqrt(variance) if variance > 0 else 0.0

    # -- tests of a sample

    def excessive(self, lost: int, sent: int, tolerance: float = LOSS_THRESHOLD) -> bool:
        """True if a sample has more losses than floor, tolerance and chance explain.

        Chance may account for two standard errors of the sample and three of the estimate; the latter are
        limited to 2 % (see `update`).
        """
        expected = self.estimate * sent
        scatter = sqrt(self.scatter.factor * max(expected * (1.0 - self.estimate), 0.25))
        chance = sqrt((SAMPLE_ERRORS * scatter) ** 2 + (self._error * sent) ** 2)
        return lost > expected + tolerance * sent + chance
