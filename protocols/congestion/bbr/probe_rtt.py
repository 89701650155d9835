"""PROBE_RTT: a stretch at half the bandwidth, which tells what is the path's own (draft 5.3.4).

What does not change when less is sent is the path's own; what does is ours. The draft's PROBE_RTT sends less
to see the path's round-trip time behind this flow's queue. The same stretch answers the same question about
losses and about the rate:

    round-trip time    near the level; or no longer falling, even at a quarter of the bandwidth, and at least
                       half of the increase remains: the path's. Else it was a queue of ours.
    losses             as many as before: the path's. Fewer: ours (bbr.py compares them). If bursts of two
                       lose the second segment more often than the first, a full queue or a policer drops
                       them, and they are not the path's.
    rate               if less arrives than half the bandwidth, the path carries less than was assumed; the
                       bandwidth is lowered, and the stretch begins again.

The draft reduces the window to half the BDP for 200 ms. Here the pace is halved: on a path with varying delay
a window does not set the sending rate. The stretch lasts until round-trip times settle. It ends with the
first round that answers the question, unless it was due by the clock: flows of one host then send less for
200 ms together.
"""

from __future__ import annotations

from iperfpy.protocols.congestion.bbr.loss_tally import RELIABLE_SAMPLE, LossTally
from iperfpy.protocols.congestion.bbr.path_delay import DelaySamples, PathDelay
from iperfpy.protocols.congestion.bbr.phases import PHASES, Phase
from iperfpy.protocols.congestion.congestion_control import Ack, Loss

# draft 2.13

PROBE_RTT_DURATION_US = 200_000
"""BBR.ProbeRTTDuration."""

# not in the draft; chosen by simulation

_PACING_GAIN = PHASES[Phase.PROBE_RTT].pacing_gain
_NONE_YET = -1
"""Number of means before the first round has ended, whose segments left at the former pace."""
MAX_MEANS = 6
"""Means after which PROBE_RTT ends without an answer: the queue belongs to other flows."""
MAX_ROUNDS = 24
"""Round trips after which PROBE_RTT ends in any case. Among flows that overload a path, its segments are few
and their round-trip times scattered, so that a mean may take seconds. With four segments in flight,
`MAX_MEANS` means take as many round trips."""
UNCHANGED_FACTOR = 0.95
"""Round-trip times have settled if a round's mean is at least this share of the mean of the round before."""
SATURATED_SHARE = 0.7
"""Share of the segments sent below which the path carries less than was sent. Lumps of ACKs move a few tenths
of a round from one round into the next."""
TAIL_ERRORS = 3.0
"""Standard errors by which bursts must lose their last segment more often than their first to show a full
queue."""


class ProbeRtt:
    """The PROBE_RTT in progress, or the last one.

    Attributes
    ----------
    pacing_gain : factor on the bandwidth, at present
    over : True if it has lasted long enough
    settled : True if the round-trip times of `measured` are the path's own
    measured : round-trip times of the last round
    losses : transmissions sent in it and resolved so far
    bandwidth_before : best bandwidth sample of the last two rounds before it, segments per second
    suspects : losses that it examines; None if it examines round-trip times only
    suspected_burst : segments that were sent back to back when they were lost
    """

    def __init__(self) -> None:
        self.suspects: LossTally | None = None
        self.suspected_burst, self._suspected = 0, False
        self.enter(0, 0.0, 0.0, by_clock=False)

    def suspect(self, losses: LossTally, burst: int) -> None:
        """Examine these losses in the PROBE_RTT that begins next."""
        self.suspects, self.suspected_burst, self._suspected = losses, burst, True

    def enter(self, now_us: int, rtt_us: float, bandwidth: float, *, by_clock: bool) -> None:
        """BBREnterProbeRTT (5.3.4.3).

        Parameters
        ----------
        rtt_us : mean round-trip time before it
        bandwidth : best bandwidth sample of the last two rounds, segments per second
        by_clock : True if no increase of round-trip times is to be examined
        """
        if not self._suspected:
            self.suspects = None
        self._suspected = False
        self.bandwidth_before = bandwidth
        self.over = self.settled = False
        self.measured, self.losses = DelaySamples(), LossTally()
        self._since_us, self._before_us, self._last_mean_us = now_us, rtt_us, rtt_us
        self._by_clock = by_clock and self.suspects is None
        self._rounds, self._means, self.pacing_gain = 0, _NONE_YET, _PACING_GAIN
        self._start_round(now_us)

    def _start_round(self, now_us: int) -> None:
        self._samples, self._round_us = DelaySamples(), now_us
        self._sent = self._acked = 0
        self._window_full = False

    def on_sent(self, segments: int, *, window_full: bool) -> None:
        """Count transmissions. `window_full`: the window, and not the pace, limits the sender."""
        self._sent += segments
        self._window_full = window_full

    def on_lost(self, stamp_us: int, loss: Loss) -> None:
        """Count losses. `stamp_us`: time of departure."""
        if stamp_us > self._since_us:
            self.losses.sent += loss.segments
            self.losses.lost += loss.segments
            self.losses.heads += loss.heads
            self.losses.tails += loss.tails

    def lasted_us(self, now_us: int) -> int:
        """Time since it began."""
        return now_us - self._since_us

    @property
    def overflow(self) -> bool:
        """True if a full queue, or a policer, lost the segments."""
        return self.losses.tail_errors > TAIL_ERRORS

    def expected_loss(self, loss_floor: float) -> float:
        """Loss rate to expect of PROBE_RTT if all that exceeds the floor is congestion.

        An overloaded path delivers the same rate when less is sent. One that is sent ten times its rate loses
        nine tenths, and four fifths at half the pace.
        """
        suspects = self.suspects.loss_rate if self.suspects else 0.0
        return max(loss_floor, 1.0 - (1.0 - suspects) / _PACING_GAIN)

    def on_ack(self, ack: Ack, delay: PathDelay, loss_floor: float, *, round_started: bool) -> float:
        """Take an ACK.

        Returns
        -------
        The rate that the path carries, segments per second, if it is less than half the bandwidth; else 0.0
        """
        if ack.rtt_mean_us is not None:
            self._samples.add(ack.rtt_mean_us, ack.rtt_samples)
        if ack.flight is not None and ack.flight.stamp_us > self._since_us:
            self.losses.sent += ack.acked
        self._acked += ack.acked
        return self._end_round(ack, delay, loss_floor) if round_started else 0.0

    def _end_round(self, ack: Ack, delay: PathDelay, loss_floor: float) -> float:
        self._rounds += 1
        if self._rounds >= MAX_ROUNDS:
            self.over = True
            return 0.0
        if self._means == _NONE_YET:
            self._means = 0
            self._start_round(ack.now_us)
            return 0.0
        if not self._samples.suffices:
            return 0.0
        self._means += 1
        self.over = self._means >= MAX_MEANS
        self.measured, mean_us, carried = self._samples, self._samples.mean_us, 0.0
        falling, self._last_mean_us = mean_us < UNCHANGED_FACTOR * self._last_mean_us, mean_us
        # By the clock, flows that share a queue send less together: the level may hold that queue.
        self.settled = delay.mean_near(mean_us) and not (self._by_clock and falling)
        if not self.settled and not falling:
            carried = self._acked / (1.0 - loss_floor)
            # A full window hides the difference: it lets leave as much as arrives.
            if self._window_full or carried < SATURATED_SHARE * self._sent:
                self._means, self.over = _NONE_YET, False
            else:
                carried = 0.0
                unchanged = mean_us - delay.level_us >= self._before_us - mean_us
                # The rate may have fallen to just what is sent now, and then the queue stays as it is.
                self.settled = unchanged and self.pacing_gain < _PACING_GAIN
                self.pacing_gain = _PACING_GAIN / 2
        lasted = not self._by_clock or self.lasted_us(ack.now_us) > PROBE_RTT_DURATION_US
        known = self.suspects is None or self.losses.sent >= RELIABLE_SAMPLE
        self.over = self.over or (self.settled and lasted and known)
        rate = carried * 1e6 / max(1, ack.now_us - self._round_us)
        self._start_round(ack.now_us)
        return rate
