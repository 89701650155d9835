"""What follows from losses beyond the path's noise.

While probing (REFILL, UP) the losses of the last round trip end the probe. Otherwise those of the last two
round trips, and those of the whole CRUISE, refute the bandwidth: the path carries what it delivered, or what
was sent less the excess, and no more. Where the draft (5.5.10.3) bounds the bandwidth until the next REFILL
and then believes its filter again, here a refuted estimate stays refuted, and only UP can raise it: what a
policer's bucket let through once is not sent again, and flows that share a full queue come down for good.

Refuting is undone when it was wrong: when the noise, learnt better, explains the losses, or when less was
sent for the rest of the CRUISE and about as much was lost, with no queue. Then it was the path's own loss,
and until the next probe nothing is lowered again; unless more is lost than a path without a queue is believed
to lose, for flows that share a full queue see the same when one of them gives way. Within a CRUISE every
verdict stands for itself once lowering helped, and the next probe settles them all.

Losses are judged against the rate they were sent at: after a change of rate, nothing is until what was sent
before it has been resolved. Without a queue, losses in longer runs than an overdriven path makes are bursts,
and say nothing.
"""

from __future__ import annotations

from math import inf

from iperfpy.protocols.congestion.bbr.loss_floor import ENOUGH, TOLERANCE, LossFloor
from iperfpy.protocols.congestion.bbr.loss_tally import Tally
from iperfpy.protocols.congestion.bbr.max_bandwidth import MaxBandwidth, Verdict
from iperfpy.protocols.congestion.bbr.min_rtt import MinRtt
from iperfpy.protocols.congestion.bbr.recent_losses import LONGEST_RUN, RecentLosses
from iperfpy.protocols.congestion.congestion_control import Ack

SETTLING_TOLERANCE = 0.005
"""Loss above the noise that a whole CRUISE may show: what it costs to yield too much is as little."""
PROVING = 1.2
"""How far UP may go beyond the rate at which losses without a queue ended an earlier one, until a whole
CRUISE has shown that the path carries it: a policer's bucket lets any rate through for a while."""
QUEUED = 0.25
"""Queue, as a share of the minimum round-trip time, that cannot be chance."""
TRIED = 0.02
"""How much less must have been sent before it can be said that it did not help."""
SMALLEST_SAMPLE = 20
"""Transmissions below which a loss rate says nothing."""


class CongestionResponse:
    """Hears every acknowledgement, and each round's end, after `rtt`, `noise` and `bandwidth` have."""

    def __init__(self, rtt: MinRtt, noise: LossFloor, bandwidth: MaxBandwidth) -> None:
        self._rtt, self._noise, self._bandwidth = rtt, noise, bandwidth
        self._recent = RecentLosses()
        self._block = False  # the last acknowledgement completed one
        self._delivered = self._lost = self._runs = 0
        self._longest_run = LONGEST_RUN
        self._changed_us: int | None = None
        self._ended_us = 0  # the last round
        self._cruise, self._cruise_rounds = Tally(), 0
        self._before_probe = Tally()
        self._least = 0.0
        self._ceiling = inf
        self._raised, self._raised_noise = Tally(), 0.0

    # -- what it hears

    def on_ack(self, ack: Ack, window: int, burst: int) -> None:
        self._longest_run = LONGEST_RUN + burst
        if self._changed_us is not None and ack.flight is not None:
            # What was sent before is resolved a round trip and the reordering window later: an eighth,
            # and more where the path reorders.
            self._block = False
            if ack.flight.stamp_us < self._changed_us + self._rtt.us / 4:
                return
            self._changed_us = None
            self._recent.restart(ack.delivered, ack.lost, ack.lost_runs)
        self._block = self._recent.update(ack.delivered, ack.lost, ack.lost_runs, window, ack.now_us)

    def end_round(self, ack: Ack) -> Tally:
        """What was resolved since the last one."""
        lost = ack.lost - self._lost
        tally = Tally(sent=ack.delivered - self._delivered + lost, lost=lost)
        tally.runs = ack.lost_runs - self._runs
        self._delivered, self._lost, self._runs = ack.delivered, ack.lost, ack.lost_runs
        tally.us, self._ended_us = ack.now_us - self._ended_us, ack.now_us
        if self._rtt.queue_share > QUEUED:
            self._raised.add(tally)
        else:
            self._raised, self._raised_noise = Tally(), self._noise.estimate
        return tally

    def restart(self, ack: Ack) -> None:
        """What was lost up to here says nothing."""
        self._recent.restart(ack.delivered, ack.lost, ack.lost_runs)
        self._delivered, self._lost, self._runs = ack.delivered, ack.lost, ack.lost_runs

    def begin_phase(self) -> None:
        self._before_probe = self._cruise
        self._cruise, self._cruise_rounds = Tally(), 0

    def change_rate(self, now_us: int) -> None:
        """What is sent from now on is sent at another rate."""
        self._changed_us = now_us

    # -- what it says

    @property
    def waiting(self) -> bool:
        """Is what was sent at the rate before still being resolved?"""
        return self._changed_us is not None

    def excess(self, now_us: int, rounds: int) -> Tally | None:
        """The losses of the last round trips, when they exceed the noise."""
        if self._changed_us is not None:
            return None
        recent = self._recent.since(now_us - rounds * int(self._rtt.us))
        return recent if recent and self._congestive(recent, TOLERANCE) else None

    def probe_excess(self, now_us: int) -> tuple[bool, Tally | None]:
        """Whether there is news, and if so the last round trip's losses when they exceed the noise."""
        if not self._block:
            return False, None
        recent = self._recent.since(now_us - int(self._rtt.us))
        if recent is None:
            return False, None
        return True, recent if self._congestive(recent, TOLERANCE) else None

    def _congestive(self, tally: Tally, tolerance: float) -> bool:
        """Is that more than noise, and lost as congestion loses?"""
        bursty = self._rtt.queue_share <= QUEUED and tally.lost > self._longest_run * tally.runs
        return not bursty and self._noise.excessive(tally.lost, tally.sent, tolerance)

    @property
    def queueless(self) -> bool:
        """Is there no queue though too much is lost? A policer drops what exceeds its rate at once, and round
        trips stay as they were (Flach et al., An Internet-Wide Analysis of Traffic Policing, SIGCOMM 2016,
        table 1); what saved tokens let through first is no rate that the path carries."""
        return self._rtt.near(max(self._rtt.latest_us, self._rtt.last_round_us))

    @property
    def losing(self) -> bool:
        """Since the queue began to stand, has more been lost than the noise known before explains?"""
        return self._raised.rate > self._raised_noise + TOLERANCE

    @property
    def policed(self) -> bool:
        """Did losses without a queue end the last probe, and is there none yet?"""
        return self._ceiling < inf and self._rtt.queue_share <= QUEUED

    @property
    def beyond_proof(self) -> bool:
        """Has UP gone as far as it may before a CRUISE proves it?"""
        return self._bandwidth.value > self._ceiling * PROVING

    # -- what it does to the bandwidth

    def begin_probe(self) -> None:
        """REFILL: what refuted the bandwidth must have been proved by what came after, and what held
        in CRUISE will not be refuted by what UP loses."""
        before = self._before_probe
        if self._helped(before) is False:
            self._bandwidth.restore()
        self._bandwidth.forget_verdicts()
        self._least = self._bandwidth.value * (1.0 - max(0.0, before.rate - self._noise.estimate))
        if self._bandwidth.value > self._ceiling:
            self._ceiling = inf

    def cruise(self, tally: Tally, now_us: int) -> None:
        """A round of CRUISE: a little too much for long shows only in the sum. The first still resolves what
        was sent before."""
        self._cruise_rounds += 1
        if self._cruise_rounds < 2:
            return
        total = self._cruise
        total.add(tally)
        if total.sent < ENOUGH or not self._congestive(total, SETTLING_TOLERANCE):
            return
        if self._may_lower(total):
            because = self._worst_of(total, tally, now_us)
            rate = self._bandwidth.value * (1.0 - (because.rate - self._noise.estimate))
            self._lower(rate, because, SETTLING_TOLERANCE, now_us)

    def _worst_of(self, total: Tally, last: Tally, now_us: int) -> Tally:
        """A bucket may have been full when the CRUISE began: then its end says more than the whole."""
        because, recent = total, self.excess(now_us, rounds=2)
        if recent and recent.rate > because.rate:
            because = recent
        worse = last.sent >= ENOUGH and last.rate > because.rate + because.error
        if worse and self._congestive(last, SETTLING_TOLERANCE):
            because = last
        return because

    def reconsider(self) -> None:
        """Does the noise, as it is known now, explain what the bandwidth was lowered for?"""
        verdict = self._bandwidth.verdict
        while verdict is not None:
            because = verdict.because
            if self._noise.excessive(because.lost, because.sent, verdict.tolerance):
                return
            self._bandwidth.restore()
            verdict = self._bandwidth.verdict

    def refute(self, recent: Tally, now_us: int) -> None:
        """BBRAdaptLowerBoundsFromCongestion (5.5.10.3): the path carries what it delivered of late, or what
        was sent less the excess, whichever is more."""
        if self._may_lower(recent):
            sent = self._bandwidth.value * (1.0 - (recent.rate - self._noise.estimate))
            self._lower(max(self._bandwidth.latest_mean, sent), recent, TOLERANCE, now_us)

    def refute_probe(self, recent: Tally, now_us: int) -> None:
        """What UP found is none of the path's where there is no queue: a bucket's. What CRUISE found
        before still holds."""
        if not self.queueless:
            return
        sent = self._bandwidth.value * (1.0 - (recent.rate - self._noise.estimate))
        rate = max(self._least, self._bandwidth.latest_mean, sent)
        self._lower(rate, recent, TOLERANCE, now_us)
        self._ceiling = self._bandwidth.value

    def _may_lower(self, since: Tally) -> bool:
        """Not when lowering did not help before. When it did, that is settled, and the next verdict stands
        for itself: beside the losses of an UP long over, any would look as if it had helped."""
        helped = self._helped(since)
        if helped:
            self._bandwidth.settle()
        return helped is not False

    def _helped(self, since: Tally) -> bool | None:
        """Is less lost since the bandwidth was lowered and less was sent? A path that is full delivers as
        much as before; one that loses of itself, as large a share. Half-way between the two decides. None:
        that cannot be said yet."""
        verdict = self._bandwidth.verdict
        if verdict is None or since.sent < SMALLEST_SAMPLE:
            return None
        was, less = verdict.because, since.sent_per_s / max(verdict.because.sent_per_s, 1e-9)
        if less > 1.0 - TRIED:
            return None
        if not self._noise.excessive(since.lost, since.sent, verdict.tolerance):
            return True
        if since.rate > was.rate + 2.0 * was.error:
            return None  # what was seen then was only the beginning
        if not self._noise.credible(since.lost, since.sent, self._rtt.seen_empty):
            return None  # others may have taken what we left
        if_full = max(self._noise.estimate, 1.0 - (1.0 - was.rate) / less)
        return since.rate < (was.rate + if_full) / 2

    def _lower(self, rate: float, because: Tally, tolerance: float, now_us: int) -> None:
        """A queue proves that it was congestion; without one that is still to be seen."""
        self._cruise, self._cruise_rounds = Tally(), 0
        self._changed_us = now_us
        proved = not self._rtt.near(self._rtt.last_round_us)
        verdict = Verdict(because, tolerance, self._bandwidth.value)
        self._bandwidth.lower(rate, now_us, None if proved else verdict)
