"""The response of the bandwidth estimate to losses above the loss floor (draft 5.5.10.3).

    on_ack          losses into blocks (recent_losses.py)
    end_round       losses of the round, losses since a standing queue formed
    recent_excess   the last round trips lost too much?   -> reduce_bandwidth         outside of probes
    probe_excess    the last round trip lost too much?    -> reduce_after_probe       in UP
    on_cruise_round the whole CRUISE lost too much?       -> a reduction by the excess

Reductions. The path carries no more than the rate it delivered, or the rate that was sent less the excess
losses. The draft bounds the bandwidth until the next REFILL and then trusts its filter again. Here a reduced
estimate stays reduced until UP finds more. The rate that a policer's saved tokens let through once is
therefore not sent again, and flows that share a full queue come down for good.

Undoing a reduction. Losses above the floor may still be the path's own. A reduction is undone in two cases:
the loss floor has been measured better and explains the losses; or less was sent for the rest of the CRUISE,
about the same share was lost, and there was no queue. In the second case nothing is reduced until the next
probe, except for losses above the highest plausible loss floor: when flows share a full queue and one of them
sends less, it also goes on losing the same share. A reduction that helped is confirmed, and the next one is
evaluated separately. The next probe makes all reductions of a CRUISE final.

Losses count under two conditions. They are compared with the rate at which they were sent, so after a change
of rate nothing is evaluated until the segments sent before it are resolved. And if there is no queue, losses
in longer runs than an overloaded path produces are bursts and do not count.
"""

from __future__ import annotations

from math import inf

from iperfpy.protocols.congestion.bbr.loss_floor import LOSS_THRESHOLD, LossFloor
from iperfpy.protocols.congestion.bbr.loss_tally import (
    MIN_LOSS_SAMPLE,
    RELIABLE_SAMPLE,
    LossTally,
    LossTotals,
)
from iperfpy.protocols.congestion.bbr.max_bandwidth import MaxBandwidth, Reduction
from iperfpy.protocols.congestion.bbr.min_rtt import MinRtt
from iperfpy.protocols.congestion.bbr.recent_losses import MAX_CONGESTION_RUN, RecentLosses
from iperfpy.protocols.congestion.congestion_control import Ack

# not in the draft; chosen by simulation

CRUISE_TOLERANCE = 0.005
"""Loss above the floor that a whole CRUISE may show. It may be small, because yielding by so
little costs little."""
UNPROVEN_FACTOR = 1.2
"""Factor by which UP may exceed the rate at which losses without a queue ended an earlier UP, until a whole
CRUISE has shown that the path carries it: a policer's token bucket lets any rate through for a while."""
MIN_REDUCTION = 0.02
"""Share by which less must have been sent before the effect of a reduction can be evaluated."""
RESOLVE_RTTS = 1 / 4
"""Losses are evaluated again once a segment is acknowledged that left this many round trips after a change of
rate. Recovery waits an eighth of a round trip for a reordered segment, and longer on a path that reorders, so
all segments sent before the change are resolved by then."""
WORSENED_ERRORS = 2.0
"""Standard errors by which the losses after a reduction must exceed those before it to show that it was made
too early, before all of the loss was seen."""


class CruiseLosses:
    """Losses of the CRUISE in progress.

    Attributes
    ----------
    total : losses since the CRUISE began, or since the last reduction in it
    previous : total of the phase before the present one
    """

    def __init__(self) -> None:
        self.total, self.previous = LossTally(), LossTally()
        self._rounds = 0

    def start_phase(self) -> None:
        self.previous = self.total
        self.restart()

    def restart(self) -> None:
        self.total, self._rounds = LossTally(), 0

    def add_round(self, tally: LossTally) -> bool:
        """Add a round; False for the first one, which still resolves segments sent before."""
        self._rounds += 1
        if self._rounds < 2:
            return False
        self.total.add(tally)
        return True


class StandingQueueLosses:
    """Losses since a queue began to stand."""

    def __init__(self) -> None:
        self._total = LossTally()
        self._floor_before = 0.0  # the loss floor before the queue

    def end_round(self, tally: LossTally, loss_floor: float, *, queue_stands: bool) -> None:
        if queue_stands:
            self._total.add(tally)
        else:
            self._total, self._floor_before = LossTally(), loss_floor

    @property
    def excessive(self) -> bool:
        """True if more was lost than the loss floor known before the queue explains."""
        return self._total.loss_rate > self._floor_before + LOSS_THRESHOLD


class CongestionResponse:
    """Evaluates losses and lowers the bandwidth estimate.

    `min_rtt` and `max_bandwidth` must have taken an ACK before it comes here, since losses are compared with
    their present values. bbr.py shows the order.
    """

    def __init__(self, min_rtt: MinRtt, loss_floor: LossFloor, max_bandwidth: MaxBandwidth) -> None:
        self._min_rtt, self._loss_floor, self._max_bandwidth = min_rtt, loss_floor, max_bandwidth
        self._recent, self._block_complete = RecentLosses(), False
        self._totals = LossTotals()  # at the end of the last round
        self._cruise, self._queued = CruiseLosses(), StandingQueueLosses()
        self._longest_run = MAX_CONGESTION_RUN
        self._rate_changed_us: int | None = None  # until the segments sent before are resolved
        # for UP behind a policer, segments per second
        self._cruise_rate = 0.0  # sustained by the last CRUISE
        self._policed_rate = inf  # at which losses without a queue ended an UP

    # -- input

    def on_ack(self, ack: Ack, window: int, burst: int) -> None:
        """Take an ACK. `window` and `burst` are in segments."""
        # The segments of one burst may be lost together in any queue.
        self._longest_run = MAX_CONGESTION_RUN + burst
        if self._rate_changed_us is not None and ack.flight is not None:
            self._block_complete = False
            if ack.flight.stamp_us < self._rate_changed_us + self._min_rtt.us * RESOLVE_RTTS:
                return
            self._rate_changed_us = None
            self._recent.restart(ack.delivered, ack.lost, ack.lost_runs)
        self._block_complete = self._recent.update(ack.delivered, ack.lost, ack.lost_runs, window, ack.now_us)

    def end_round(self, ack: Ack) -> LossTally:
        """End a packet-timed round and return the transmissions resolved in it."""
        tally = self._totals.advance(ack)
        self._queued.end_round(tally, self._loss_floor.estimate, queue_stands=self._min_rtt.queue_stands)
        return tally

    def skip_losses(self, ack: Ack) -> None:
        """Do not count the losses up to this ACK: they belong to a timeout."""
        self._recent.restart(ack.delivered, ack.lost, ack.lost_runs)
        self._totals.skip(ack)

    def start_phase(self) -> None:
        """Note that a phase begins."""
        self._cruise.start_phase()

    def change_rate(self, now_us: int) -> None:
        """Note that the sending rate changes now."""
        self._rate_changed_us = now_us

    # -- evaluation

    @property
    def rate_change_pending(self) -> bool:
        """True if segments sent before the last change of rate are still being resolved."""
        return self._rate_changed_us is not None

    def recent_excess(self, now_us: int, rounds: int) -> LossTally | None:
        """Return the losses of the last round trips if they are congestion, else None."""
        if self._rate_changed_us is not None:
            return None
        recent = self._recent.since(now_us - rounds * int(self._min_rtt.us))
        return recent if recent and self._congestive(recent, LOSS_THRESHOLD) else None

    def probe_excess(self, now_us: int) -> tuple[bool, LossTally | None]:
        """Evaluate the last round trip if the last ACK completed a block.

        Returns
        -------
        evaluated : False if there was no new block, or too few
        losses : the last round trip's losses if they are congestion, else None
        """
        if not self._block_complete:
            return False, None
        recent = self._recent.since(now_us - int(self._min_rtt.us))
        if recent is None:
            return False, None
        return True, recent if self._congestive(recent, LOSS_THRESHOLD) else None

    def _congestive(self, tally: LossTally, tolerance: float) -> bool:
        """True if the losses exceed floor and tolerance and do not come in bursts."""
        bursty = not self._min_rtt.queue_stands and tally.lost > self._longest_run * tally.runs
        return not bursty and self._loss_floor.excessive(tally.lost, tally.sent, tolerance)

    @property
    def losing_in_queue(self) -> bool:
        """True if, since a standing queue formed, more was lost than the loss floor before it explains."""
        return self._queued.excessive

    # -- policers

    @property
    def _queue_empty(self) -> bool:
        """True if round-trip times show no queue.

        With excessive losses, this is the sign of a policer, which drops at once whatever exceeds its rate
        and leaves the round-trip time as it was (Flach et al., An Internet-Wide Analysis of Traffic Policing,
        SIGCOMM 2016, table 1).
        """
        min_rtt = self._min_rtt
        return min_rtt.near(max(min_rtt.latest_us, min_rtt.last_round_us))

    @property
    def policed(self) -> bool:
        """True if losses without a queue ended the last probe, and no queue stands now."""
        return self._policed_rate < inf and not self._min_rtt.queue_stands

    @property
    def beyond_proven_rate(self) -> bool:
        """True if UP has gone as far as it may before a CRUISE proves the rate."""
        return self._max_bandwidth.value > self._policed_rate * UNPROVEN_FACTOR

    # -- effect on the bandwidth

    def start_probe(self) -> None:
        """Settle the reductions of the CRUISE that ends with REFILL: undo the last if it did not help, and
        make the others final."""
        cruise = self._cruise.previous
        if self._reduction_helped(cruise) is False:
            self._max_bandwidth.undo()
        self._max_bandwidth.commit()
        bandwidth = self._max_bandwidth.value
        # UP's losses do not lower the bandwidth below the rate that CRUISE has just sustained.
        self._cruise_rate = bandwidth * (1.0 - max(0.0, cruise.loss_rate - self._loss_floor.estimate))
        if bandwidth > self._policed_rate:
            self._policed_rate = inf  # CRUISE has proved more than the policer seemed to allow

    def on_cruise_round(self, tally: LossTally, now_us: int) -> None:
        """Add a round of CRUISE: small excess losses over a long time show only in the sum."""
        if not self._cruise.add_round(tally):
            return
        total = self._cruise.total
        if total.sent < RELIABLE_SAMPLE or not self._congestive(total, CRUISE_TOLERANCE):
            return
        if self._may_reduce(total):
            losses = self._worst_losses(total, tally, now_us)
            self._reduce(self._rate_without_excess(losses), losses, CRUISE_TOLERANCE, now_us)

    def _worst_losses(self, total: LossTally, last: LossTally, now_us: int) -> LossTally:
        """Return the losses of the whole CRUISE, or of its end if more was lost there.

        A policer's token bucket may have been full when the CRUISE began, and then only the end shows the
        policer's rate.
        """
        worst, recent = total, self.recent_excess(now_us, rounds=2)
        if recent and recent.loss_rate > worst.loss_rate:
            worst = recent
        worse = last.sent >= RELIABLE_SAMPLE and last.loss_rate > worst.loss_rate + worst.error
        if worse and self._congestive(last, CRUISE_TOLERANCE):
            worst = last
        return worst

    def undo_explained(self) -> None:
        """Undo reductions, the last one first, as long as the present loss floor explains their losses."""
        reduction = self._max_bandwidth.last_reduction
        while reduction is not None:
            losses = reduction.losses
            if self._loss_floor.excessive(losses.lost, losses.sent, reduction.tolerance):
                return
            self._max_bandwidth.undo()
            reduction = self._max_bandwidth.last_reduction

    def reduce_bandwidth(self, recent: LossTally, now_us: int) -> None:
        """BBRAdaptLowerBoundsFromCongestion (5.5.10.3): lower the bandwidth to the rate delivered of late, or
        to the rate sent less the excess losses, whichever is greater."""
        if self._may_reduce(recent):
            rate = max(self._max_bandwidth.latest_mean, self._rate_without_excess(recent))
            self._reduce(rate, recent, LOSS_THRESHOLD, now_us)

    def reduce_after_probe(self, recent: LossTally, now_us: int) -> None:
        """Lower the bandwidth after an UP that lost too much without a queue.

        The extra bandwidth that UP saw then came from a policer's saved tokens, not from the path. The rate
        that CRUISE sustained before still holds. With a queue, UP's samples are real and nothing is lowered.
        """
        if not self._queue_empty:
            return
        without_excess = self._rate_without_excess(recent)
        rate = max(self._cruise_rate, self._max_bandwidth.latest_mean, without_excess)
        self._reduce(rate, recent, LOSS_THRESHOLD, now_us)
        self._policed_rate = self._max_bandwidth.value

    def _rate_without_excess(self, losses: LossTally) -> float:
        """The bandwidth less the share of losses above the loss floor."""
        return self._max_bandwidth.value * (1.0 - (losses.loss_rate - self._loss_floor.estimate))

    def _may_reduce(self, since: LossTally) -> bool:
        """True unless the last reduction did not help.

        A reduction that helped is confirmed here. Otherwise the next one would be merged with it, and
        compared with the heavy losses of an UP long ago, any reduction would seem to have helped.
        """
        helped = self._reduction_helped(since)
        if helped:
            self._max_bandwidth.confirm()
        return helped is not False

    def _reduction_helped(self, since: LossTally) -> bool | None:
        """Evaluate the last reduction by the losses since.

        If only the share `less` is sent, a full path still delivers as much, so its loss rate falls. A path
        that loses of its own accord keeps its loss rate. The middle between the two expected loss rates
        decides.

        Returns
        -------
        True if it helped, False if it did not, None if that cannot be said yet.
        """
        reduction = self._max_bandwidth.last_reduction
        if reduction is None or since.sent < MIN_LOSS_SAMPLE:
            return None
        before = reduction.losses
        less = since.sent_per_s / max(before.sent_per_s, 1e-9)
        if less > 1.0 - MIN_REDUCTION:
            return None  # something else limits the sender
        if not self._loss_floor.excessive(since.lost, since.sent, reduction.tolerance):
            return True
        if since.loss_rate > before.loss_rate + WORSENED_ERRORS * before.error:
            return None  # more is lost now than when the estimate was lowered: too early to say
        if not self._loss_floor.plausible(since.lost, since.sent, self._min_rtt.queue.seen):
            return None  # other flows may have taken the capacity that this one left
        if_full = max(self._loss_floor.estimate, 1.0 - (1.0 - before.loss_rate) / less)
        return since.loss_rate < (before.loss_rate + if_full) / 2

    def _reduce(self, rate: float, losses: LossTally, tolerance: float, now_us: int) -> None:
        self._cruise.restart()
        self._rate_changed_us = now_us
        # A queue proves congestion. Without one, the reduction may still have to be undone.
        proved = not self._min_rtt.near(self._min_rtt.last_round_us)
        reduction = None if proved else Reduction(losses, tolerance, self._max_bandwidth.value)
        self._max_bandwidth.reduce(rate, now_us, reduction)
