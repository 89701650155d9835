"""The response of the bandwidth estimate to losses above the loss floor (draft 5.5.10.3).

    on_ack          losses into blocks (recent_losses.py)
    end_round       losses of the round
    recent_excess   the last round trips lost too much?   -> reduce_bandwidth, or PROBE_RTT; not in UP
    cruise_excess   the whole CRUISE lost too much?       -> the same
    probe_excess    the last round trip lost too much?    -> reduce_after_probe in UP

Reductions. The path carries no more than the rate it delivered, or the rate that was sent less the excess
losses. The draft bounds the bandwidth until the next REFILL and then trusts its filter again. Here a reduced
estimate stays reduced until UP finds more. The rate that a policer's saved tokens let through once is
therefore not sent again, and flows that share a full queue come down for good.

Whose losses. Losses with a queue are congestion, and so is a small excess, since yielding to it costs little.
Other losses may be the path's own: PROBE_RTT examines them (probe_rtt.py, `Bbr._judge_losses`). If the path
loses as much when less is sent, the loss floor is measured anew and the reductions since the last probe for
bandwidth are undone. Else the bandwidth is lowered. The next probe makes all reductions final.

Losses count under two conditions. They are compared with the rate at which they were sent, so after a change
of rate nothing is evaluated until the segments sent before it are resolved. And if there is no queue, losses
in longer runs than an overloaded path produces are bursts and do not count.
"""

from __future__ import annotations

from math import inf

from iperfpy.protocols.congestion.bbr.loss_floor import LOSS_THRESHOLD, LossFloor
from iperfpy.protocols.congestion.bbr.loss_tally import (
    RELIABLE_SAMPLE,
    LossTally,
    LossTotals,
)
from iperfpy.protocols.congestion.bbr.max_bandwidth import MaxBandwidth
from iperfpy.protocols.congestion.bbr.path_delay import PathDelay
from iperfpy.protocols.congestion.bbr.recent_losses import MAX_CONGESTION_RUN, RecentLosses
from iperfpy.protocols.congestion.congestion_control import Ack

# not in the draft; chosen by simulation

CRUISE_TOLERANCE = 0.005
"""Loss above the floor that a whole CRUISE may show. It may be small, because yielding by so
little costs little."""
UNPROVEN_FACTOR = 1.2
"""Factor by which UP may exceed the rate at which losses without a queue ended an earlier UP, until a whole
CRUISE has shown that the path carries it: a policer's token bucket lets any rate through for a while."""
RESOLVE_RTTS = 1 / 4
"""Losses are evaluated again once a segment is acknowledged that left this many round trips after a change of
rate. Recovery waits an eighth of a round trip for a reordered segment, and longer on a path that reorders, so
all segments sent before the change are resolved by then."""
OVERLOAD_RTTS = 1 / 2
"""Round trips before the end of STARTUP whose segments tell the rate of an overloaded path: all that arrived
while they were on the way had left after the losses began."""


class CruiseLosses:
    """Losses of the CRUISE in progress.

    Attributes
    ----------
    total : losses since the CRUISE began, or since the last reduction in it
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self, *, in_round: bool = False) -> None:
        """Begin anew, at the end of a round or in it."""
        self.total, self._skipped = LossTally(), 2 if in_round else 1

    def add_round(self, tally: LossTally) -> bool:
        """Add a round. True if it counts; False if it still resolves segments sent before the beginning."""
        if self._skipped:
            self._skipped -= 1
            return False
        self.total.add(tally)
        return True


class CongestionResponse:
    """Evaluates losses and lowers the bandwidth estimate.

    `delay` and `max_bandwidth` must have taken an ACK before it comes here, since losses are compared with
    their present values. bbr.py shows the order.

    Attributes
    ----------
    congestive : True if the losses that PROBE_RTT examined last were congestion
    """

    def __init__(self, delay: PathDelay, loss_floor: LossFloor, max_bandwidth: MaxBandwidth) -> None:
        self._delay, self._loss_floor, self._max_bandwidth = delay, loss_floor, max_bandwidth
        self._recent, self._block_complete = RecentLosses(), False
        self._totals = LossTotals()  # at the end of the last round
        self._cruise = CruiseLosses()
        self._longest_run, self.congestive = MAX_CONGESTION_RUN, False
        self._rate_changed_us: int | None = None  # until the segments sent before are resolved
        # for UP behind a policer, segments per second
        self._policed_rate = inf  # at which losses without a queue ended an UP

    # -- input

    def on_ack(self, ack: Ack, window: int, burst: int) -> None:
        """Take an ACK. `window` and `burst` are in segments."""
        # The segments of one burst may be lost together in any queue.
        self._longest_run = MAX_CONGESTION_RUN + burst
        if self._rate_changed_us is not None and ack.flight is not None:
            self._block_complete = False
            if ack.flight.stamp_us < self._rate_changed_us + self._delay.level_us * RESOLVE_RTTS:
                return
            self._rate_changed_us = None
            self._recent.restart(ack.delivered, ack.lost, ack.lost_runs)
        self._block_complete = self._recent.update(ack.delivered, ack.lost, ack.lost_runs, window, ack.now_us)

    def end_round(self, ack: Ack) -> LossTally:
        """End a packet-timed round and return the transmissions resolved in it."""
        return self._totals.advance(ack)

    def skip_losses(self, ack: Ack) -> None:
        """Do not count the losses up to this ACK: they belong to a timeout."""
        self._recent.restart(ack.delivered, ack.lost, ack.lost_runs)
        self._totals.skip(ack)

    def start_phase(self) -> None:
        """Note that a phase begins."""
        self._cruise.restart()

    def change_rate(self, now_us: int) -> None:
        """Note that the sending rate changes now."""
        self._rate_changed_us = now_us

    def restart(self, now_us: int) -> None:
        """Note that the bandwidth became lower in the middle of a round, and drop the losses before."""
        self._cruise.restart(in_round=True)
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
        recent = self._recent.since(now_us - rounds * int(self._delay.level_us))
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
        recent = self._recent.since(now_us - int(self._delay.level_us))
        if recent is None:
            return False, None
        return True, recent if self._congestive(recent, LOSS_THRESHOLD) else None

    def _congestive(self, tally: LossTally, tolerance: float) -> bool:
        """True if the losses exceed floor and tolerance and do not come in bursts."""
        bursty = not self._delay.queue_stands and tally.lost > self._longest_run * tally.runs
        # Behind a policer that is sent many times its rate, single segments separate long runs.
        bursty = bursty and tally.sent - tally.lost > 2 * tally.runs
        return not bursty and self._loss_floor.excessive(tally.lost, tally.sent, tolerance)

    # -- policers

    @property
    def queue_empty(self) -> bool:
        """True if round-trip times show no queue.

        With excessive losses, this is the sign of a policer, which drops at once whatever exceeds its rate
        and leaves the round-trip time as it was (Flach et al., An Internet-Wide Analysis of Traffic Policing,
        SIGCOMM 2016, table 1).
        """
        delay = self._delay
        return delay.near(max(delay.latest_us, delay.last_round_us))

    @property
    def policed(self) -> bool:
        """True if losses without a queue ended the last probe, and no queue stands now."""
        return self._policed_rate < inf and not self._delay.queue_stands

    @property
    def beyond_proven_rate(self) -> bool:
        """True if UP has gone as far as it may before a CRUISE proves the rate."""
        return self._max_bandwidth.value > self._policed_rate * UNPROVEN_FACTOR

    # -- effect on the bandwidth

    def start_probe(self) -> None:
        """Make the reductions of the CRUISE that ends with REFILL final."""
        self._max_bandwidth.commit()
        if self._max_bandwidth.value > self._policed_rate:
            self._policed_rate = inf  # CRUISE has proved more than the policer seemed to allow

    def cruise_excess(self, tally: LossTally, now_us: int) -> LossTally | None:
        """Add a round of CRUISE: small excess losses over a long time show only in the sum."""
        if not self._cruise.add_round(tally):
            return None
        total = self._cruise.total
        if total.sent < RELIABLE_SAMPLE or not self._congestive(total, CRUISE_TOLERANCE):
            return None
        return self._worst_losses(total, tally, now_us)

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

    def reduce_bandwidth(self, recent: LossTally, now_us: int) -> None:
        """BBRAdaptLowerBoundsFromCongestion (5.5.10.3): lower the bandwidth to the rate delivered of late, or
        to the rate sent less the excess losses, whichever is greater."""
        rate = max(self._max_bandwidth.latest_mean, self._rate_without_excess(recent))
        self._reduce(rate, now_us)

    def reduce_by_excess(self, losses: LossTally, now_us: int) -> None:
        """Lower the bandwidth by the losses above the loss floor."""
        self._reduce(self._rate_without_excess(losses), now_us)

    def reduce_after_probe(self, recent: LossTally, now_us: int) -> None:
        """Lower the bandwidth after an UP that lost too much without a queue.

        The extra bandwidth that UP saw then came from a policer's saved tokens, not from the path. With a
        queue, UP's samples are real and nothing is lowered.
        """
        if not self.queue_empty:
            return
        self.reduce_bandwidth(recent, now_us)
        self._policed_rate = self._max_bandwidth.value

    def reduce_after_startup(self, now_us: int) -> None:
        """Lower the bandwidth after a STARTUP that lost too much without a queue.

        Its greatest samples may come from a policer's saved tokens. The rate of the last round may still hold
        a part of them; the segments that have left since then tell the rest.
        """
        if self.queue_empty and self._reduce(self._max_bandwidth.latest_mean, now_us):
            self._max_bandwidth.measure_overload(int(self._delay.level_us * OVERLOAD_RTTS))

    def _rate_without_excess(self, losses: LossTally) -> float:
        """The bandwidth less the share of losses above the loss floor."""
        return self._max_bandwidth.value * (1.0 - (losses.loss_rate - self._loss_floor.estimate))

    def _reduce(self, rate: float, now_us: int) -> bool:
        self._cruise.restart()
        reduced = self._max_bandwidth.reduce(rate, now_us)
        if reduced:
            self._rate_changed_us = now_us
        return reduced
