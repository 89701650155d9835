"""The controller: ACKs and losses update the model, the model moves the phase, the phase sets the controls.

The order of the steps matters, since each uses the results of the steps above it:

    on_loss(Loss)         losses are only counted, for the epoch in which they were sent
    on_ack(Ack)           BBRUpdateOnACK (5.2.3)
      |
      |  _recover                  after a timeout: restore the window, do not count the losses
      |  rounds.update             does this ACK start a round?
      |  delay.update              the RTT of the segments acknowledged
      |  _update_bandwidth         loss_floor.epochs    needs to know if this sample met a queue
      |                            max_bandwidth        needs the loss floor
      |  ack_aggregation.update    needs the bandwidth
      |
      |  _end_round                only if a round starts
      |    |  probe_wait.end_round
      |    |  delay.end_round            the mean RTT of the round; on a shorter path, loss_floor.reset
      |    |  _watch_queue               the rate that the path carried while a queue stood
      |    |  full_pipe.end_round        in probing phases: has the bandwidth stopped growing?
      |    |  _update_congestion_signals
      |    |    |  response.end_round       the losses of the round
      |    |    |  in STARTUP               loss_floor.startup: rounds that may turn out to be below capacity
      |    |    |  in CRUISE                loss_floor.scatter, response.cruise_excess
      |    |    |  loss_floor.update        the steps above have used the loss floor of the last round
      |    |    |  _undo_explained          a bound that the new loss floor explains
      |    |    |  response.recent_excess   the rest: leave STARTUP, reduce, or examine in PROBE_RTT
      |    |  max_bandwidth.advance      once per cycle, in DOWN
      |    |  max_bandwidth.end_round, samples.end_round
      |
      |  response.on_ack           losses into blocks; at the end of a round, recent_excess has used those
      |                            of the ACKs before this one
      |  _watch_probe              REFILL, UP: end the probe on congestion, or raise the inflight bound
      |  _check_phase              the events of this ACK, each along phases.TRANSITIONS
      |  controls.update           window, pacing rate and burst for the phase
      v
    window, pacing_rate, burst

The draft (5.2.3) updates the round-trip time after the state machine. Here it comes first, because the loss
floor counts only segments that met no queue.

Sections refer to draft-ietf-ccwg-bbr-05. Differences from it are stated where they are implemented, here and
in the other files of this folder. The main one is the meaning of bandwidth. The draft's bandwidth is the rate
at which data is *delivered*. Here it is the rate that the path *carries*: of the n transmissions that left
between two acknowledged ones, the delivered ones and the share that the path loses anyway,
min(n, delivered / (1 - loss floor)), per second. Without losses the two rates are equal. With random losses,
pacing at the carried rate fills the path. Since n bounds it, a lucky round with few losses cannot push the
estimate above the rate that was really sent.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import ClassVar

from iperfpy.protocols.congestion.bbr.ack_aggregation import AckAggregation
from iperfpy.protocols.congestion.bbr.bandwidth_probe import BandwidthProbe
from iperfpy.protocols.congestion.bbr.congestion_response import CongestionResponse
from iperfpy.protocols.congestion.bbr.control_parameters import MINIMUM_WINDOW, SMALL_BURST, ControlParameters
from iperfpy.protocols.congestion.bbr.full_pipe import FullPipe
from iperfpy.protocols.congestion.bbr.inflight_bound import InflightBound
from iperfpy.protocols.congestion.bbr.loss_floor import LOSS_THRESHOLD, LossFloor
from iperfpy.protocols.congestion.bbr.loss_tally import RELIABLE_SAMPLE, LossTally
from iperfpy.protocols.congestion.bbr.max_bandwidth import MaxBandwidth
from iperfpy.protocols.congestion.bbr.path_delay import RAISED_FACTOR, PathDelay
from iperfpy.protocols.congestion.bbr.phases import PHASES, TRANSITIONS, Phase, PhaseEvent
from iperfpy.protocols.congestion.bbr.probe_rtt import ProbeRtt
from iperfpy.protocols.congestion.bbr.probe_wait import ProbeWait
from iperfpy.protocols.congestion.bbr.rounds import Rounds, RoundSamples
from iperfpy.protocols.congestion.bbr.standing_queue import StandingQueue
from iperfpy.protocols.congestion.bbr.startup_queue import StartupQueue
from iperfpy.protocols.congestion.congestion_control import Ack, Flight, Loss

# draft 5.6.4.1

INITIAL_WINDOW = 10
"""Segments (RFC 6928)."""

# not in the draft; chosen by simulation

MAX_LEARNING_ROUNDS = 6.0
"""Longest DOWN that waits for enough transmissions to measure the loss floor."""
MAX_DRAIN_ROUNDS = 4
"""Longest DRAIN or DOWN otherwise: a queue that is still there belongs to other flows."""
LOSS_EXIT_ROUNDS, LOSS_EXIT_ROUNDS_UNKNOWN = 1, 2
"""Rounds without growth in which losses end STARTUP: with and without a loss floor to compare them with."""


class Bbr:
    """The BBR congestion controller with a loss floor.

    Parameters
    ----------
    seed : seed of the random part of the time between two probes for bandwidth, which keeps flows out of step
    initial_window : segments
    """

    name: ClassVar[str] = "bbr"

    def __init__(self, seed: int = 0, initial_window: int = INITIAL_WINDOW) -> None:
        self.phase = Phase.STARTUP
        # the model
        self.delay, self.loss_floor, self.max_bandwidth = PathDelay(), LossFloor(), MaxBandwidth()
        self.inflight_bound, self.ack_aggregation = InflightBound(), AckAggregation()
        self.full_pipe = FullPipe()
        self.response = CongestionResponse(self.delay, self.loss_floor, self.max_bandwidth)
        # the round, the cycle and the probe in progress
        self.rounds, self._samples = Rounds(), RoundSamples()
        self.probe_wait, self._probe, self._probe_rtt = ProbeWait(seed), BandwidthProbe(), ProbeRtt()
        self._phase_rounds = 0  # rounds since the phase began
        self._cycle_advanced = True  # the bandwidth filter has moved to the present cycle
        self._timed_out = False  # nothing was acknowledged since a timeout
        self._idle = False  # BBR.idle_restart
        self._standing = StandingQueue()
        self._on_entry: dict[Phase, Callable[[int], None]] = {
            Phase.DRAIN: self._enter_drain,
            Phase.DOWN: self._enter_down,
            Phase.REFILL: self._enter_refill,
            Phase.UP: self._enter_up,
            Phase.PROBE_RTT: self._enter_probe_rtt,
        }
        self.controls = ControlParameters(
            initial_window,
            self.delay,
            self.loss_floor,
            self.max_bandwidth,
            self.inflight_bound,
            self.ack_aggregation,
            self._probe_rtt,
            StartupQueue(),
        )

    # -- output

    @property
    def window(self) -> int:
        return int(self.controls.window)

    @property
    def pacing_rate(self) -> float:
        return self.controls.pacing_rate

    @property
    def burst(self) -> int:
        return self.controls.burst

    def state(self) -> dict[str, float | int | str | None]:
        longterm = self.inflight_bound.longterm
        return {
            "phase": self.phase.value,
            "bandwidth_segments_per_s": self.max_bandwidth.value,
            "min_rtt_us": int(self.delay.least_us) or None,
            "noise_percent": 100.0 * self.loss_floor.estimate,
            "pacing_segments_per_s": self.pacing_rate,
            "window_segments": self.window,
            "inflight_bound_segments": longterm if longterm < inf else None,
            "delay_spread_us": self.delay.upper_spread_us or None,
            "lump_us": self._lump_us,
        }

    @property
    def _lump_us(self) -> float | None:
        """Time for which acknowledgements are held back, by the segments that arrive at once beyond the
        bandwidth; None before the bandwidth is known."""
        bandwidth = self.max_bandwidth.value
        return self.ack_aggregation.extra_acked * 1e6 / bandwidth if bandwidth else None

    # -- input

    def on_sent(self, now_us: int, segments: int, in_flight: int) -> None:
        if not self._samples.window_full:
            self._samples.window_full = in_flight >= self.window
        if self.phase is Phase.PROBE_RTT:
            self._probe_rtt.on_sent(segments, window_full=in_flight >= self.window)

    def on_idle(self, now_us: int) -> None:
        """BBRHandleRestartFromIdle (5.4.1)."""
        self._idle = True
        self.ack_aggregation.restart(now_us)
        # In PROBE_RTT the pace stays low until it has measured: an empty path answers none of its questions.
        if self.full_pipe.reached and self.phase is not Phase.PROBE_RTT:
            self.controls.restart_from_idle()

    def on_timeout(self, now_us: int) -> None:
        """BBROnEnterRTO (5.6.4.4). Losses of a silent path are neither loss floor nor congestion."""
        if not self._timed_out:
            self.controls.save_window()
        self._timed_out = True
        self.controls.minimize_window()

    def on_loss(self, loss: Loss) -> None:
        """Count losses for the epoch in which they were sent; `on_ack` decides if they are too many."""
        if loss.flight is None or self._timed_out:
            return
        self._probe.lost_flight = loss.flight
        self.loss_floor.epochs.on_lost(loss.flight.stamp_us, loss.segments)
        if self.phase is Phase.PROBE_RTT:
            self._probe_rtt.on_lost(loss.flight.stamp_us, loss)

    def on_ack(self, ack: Ack) -> None:
        """BBRUpdateOnACK (5.2.3). The file's head shows why the steps come in this order."""
        if self._timed_out:
            self._recover(ack)
        self.rounds.update(ack)
        if ack.rtt_mean_us is not None and ack.rtt_min_us is not None:
            if not self.delay.level_us:
                self.controls.start(ack.rtt_min_us)
            self.delay.update(ack.rtt_mean_us, ack.rtt_min_us, ack.rtt_samples, ack.now_us)
        self._update_bandwidth(ack)
        # Only the delivered part of the bandwidth comes back as ACKs.
        delivery_rate = self.max_bandwidth.value * (1.0 - self.loss_floor.estimate)
        self.ack_aggregation.update(
            ack, delivery_rate, self.controls.window, self.rounds.count, self.delay.level_us
        )
        if self.rounds.started:
            self._end_round(ack)
        self.response.on_ack(ack, self.window, self.controls.burst)
        self._watch_probe(ack)
        self._check_phase(ack)
        self.controls.update(self.phase, ack, self.full_pipe.reached)
        self._idle = False

    # -- the model

    def _update_bandwidth(self, ack: Ack) -> None:
        """BBRUpdateMaxBw (5.5.5), the loss floor's count of deliveries, and the round's samples."""
        flight = ack.flight
        stamp_us = None if flight is None else flight.stamp_us
        queued = not self.delay.queue_empty
        self.loss_floor.epochs.on_delivered(stamp_us, ack.acked, queued=queued)
        if flight is None:
            return
        if flight.limited:
            self.loss_floor.note_limited(ack.now_us)
        if not ack.interval_us:
            return
        # The carried rate: see the file's head. Nothing bounds it if the transport counts no transmissions.
        sent = flight.sent - flight.newest_sent
        carried = (ack.delivered - flight.delivered) / (1.0 - self.loss_floor.estimate)
        if sent and sent < carried:
            carried = float(sent)
        rate = carried * 1e6 / ack.interval_us
        samples = self._samples
        # A sample limited by the application counts only if it raises the estimate (5.5.4).
        if rate >= self.max_bandwidth.value or not flight.app_limited:
            if self.max_bandwidth.sample(rate, flight.stamp_us, ack.now_us):
                self.response.restart(ack.now_us)
            if ack.delivery_rate > samples.best_delivery_rate:
                samples.best_delivery_rate = ack.delivery_rate
        if carried > samples.inflight_latest:
            samples.inflight_latest = carried
        send_rate = sent * 1e6 / ack.interval_us
        if send_rate > samples.send_rate:
            samples.send_rate = send_rate

    def _end_round(self, ack: Ack) -> None:
        """End a packet-timed round."""
        self._phase_rounds += 1
        self.probe_wait.end_round()
        probing = PHASES[self.phase].probing
        if self.max_bandwidth.value:
            self.delay.service_us = 1e6 / self.max_bandwidth.value
        if self.delay.end_round(ack.now_us, self_queued=probing or self.phase is Phase.DRAIN):
            self.loss_floor.reset(ack.now_us)
        # A plateau of the application's rate says nothing of the path (5.3.1.2, is_app_limited), and neither
        # does that of a pace that is held.
        limited = ack.flight is not None and ack.flight.app_limited
        if probing and not limited and self.controls.startup_queue.tries(ack):
            self.full_pipe.end_round(self.max_bandwidth.round_best, ack.delivered)
        self._watch_queue(ack)
        self._update_congestion_signals(ack)
        # The filter moves on when UP's samples have come back. A limited round delivers less for another
        # reason than the path's, so the maximum of the cycle before is still needed.
        if self.phase is Phase.DOWN and not self._cycle_advanced and not _limited(ack):
            self._cycle_advanced = True
            self.max_bandwidth.advance()
        self.max_bandwidth.end_round()
        self._samples.end_round()

    def _watch_queue(self, ack: Ack) -> None:
        """Lower the bandwidth to the rate that the path carried while a queue stood (standing_queue.py)."""
        rate = self._standing.end_round(ack, self.delay, self.loss_floor.estimate)
        if rate and self.phase is not Phase.STARTUP and self.max_bandwidth.reduce(rate, ack.now_us):
            self.response.change_rate(ack.now_us)
            self.probe_wait.hasten()

    def _update_congestion_signals(self, ack: Ack) -> None:
        """BBRUpdateCongestionSignals (5.5.10.3), once per round."""
        tally, now_us = self.response.end_round(ack), ack.now_us
        if self.phase is Phase.STARTUP:
            # A round with a queue may have overloaded the path, at whatever rate the path delivers later.
            if self.delay.near(self.delay.last_round_us):
                self.loss_floor.startup.add_round(self._samples.send_rate, tally.sent, tally.lost)
            self.loss_floor.note_delivery_rate(self._samples.best_delivery_rate, now_us)
        elif self.phase is Phase.CRUISE and self._phase_rounds > 1:
            self.loss_floor.scatter.add(tally.lost, tally.sent)
            losses = self.response.cruise_excess(tally, now_us)
            if losses is not None:
                self._answer(losses, now_us)
        self.loss_floor.update(now_us, self.delay.drained)
        self._undo_explained()
        recent = self.response.recent_excess(now_us, rounds=2)
        if recent is None:
            return
        if self.phase is Phase.STARTUP:
            self._check_startup_high_loss(recent, ack)
        elif not PHASES[self.phase].probing:
            self._answer(recent, now_us)

    def _answer(self, losses: LossTally, now_us: int) -> None:
        """Lower the bandwidth because of excess losses, or examine whether they are the path's own."""
        if self.phase is Phase.PROBE_RTT:
            return
        # A queue proves congestion. A small excess costs less than its examination.
        small = losses.loss_rate < self.loss_floor.estimate + LOSS_THRESHOLD
        if small or not self.response.queue_empty:
            self.response.reduce_bandwidth(losses, now_us)
        elif self.delay.may_examine(now_us):
            self._probe_rtt.suspect(losses, self.controls.burst)
            self._happen(PhaseEvent.PROBE_RTT_DUE, now_us)
        elif self.response.congestive:  # the last answer holds until the path may be asked again
            self.response.reduce_bandwidth(losses, now_us)

    def _undo_explained(self) -> None:
        """Undo the effects of losses that the present loss floor explains."""
        losses = self.inflight_bound.reducing_losses
        if losses is not None and not self.loss_floor.excessive(losses.lost, losses.sent):
            self.inflight_bound.remove()
            if self.delay.drained:
                self.probe_wait.skip_first_wait()

    def _check_startup_high_loss(self, recent: LossTally, ack: Ack) -> None:
        """BBRCheckStartupHighLoss (5.3.1.3).

        The draft asks for a round of recovery and six gaps. Here losses end STARTUP only together with a
        standing queue or with rounds that do not grow, since losses alone may be the path's own. With a known
        floor, a round that delivers clearly less than the one before, though more was sent, is enough.
        """
        known = self.loss_floor.known
        flat_rounds = LOSS_EXIT_ROUNDS if known else LOSS_EXIT_ROUNDS_UNKNOWN
        flat = self.full_pipe.flat_rounds >= flat_rounds or (known and self.max_bandwidth.falls)
        if self.delay.queue_stands or flat:
            self.full_pipe.reached = True
            inflight = max(self.controls.bdp, self._samples.inflight_latest)
            self.inflight_bound.lower(inflight, 0.0, recent)
            if self.max_bandwidth.falls and not _limited(ack):
                self.response.reduce_after_startup(ack.now_us)

    def _recover(self, ack: Ack) -> None:
        """Restore the window after a timeout (BBRRestoreCwnd): the path answers again, and the silence has
        not made the model wrong. Pacing bounds the rate of the segments that follow."""
        self._timed_out = False
        self.controls.restore_window()
        self.response.skip_losses(ack)

    # -- the probe for bandwidth

    def _watch_probe(self, ack: Ack) -> None:
        """BBRHandleLostPacket (5.5.10.2) and BBRAdaptLongTermModel (5.3.3.6), once per block of losses."""
        if self.phase is not Phase.UP and self.phase is not Phase.REFILL:
            return
        if ack.flight is None or self.response.rate_change_pending:
            return
        evaluated, excess = self.response.probe_excess(ack.now_us)
        # The result of a block holds until the next block is complete.
        if evaluated:
            self._probe.losing = excess is not None
        if excess is not None and self._probe.open:
            self._end_probe(self._probe.lost_flight or ack.flight, excess, ack.now_us)
        elif not self._probe.losing:
            limiting = self.phase is Phase.UP and self._bound_limits
            self.inflight_bound.grow(
                ack.flight.in_flight, ack.acked, self.controls.window, limiting, self.rounds.started
            )

    def _end_probe(self, flight: Flight, losses: LossTally, now_us: int) -> None:
        """BBRHandleInflightTooHigh (5.5.10.2): end the probe because of its losses."""
        self._probe.open = False
        if not flight.app_limited and not (self.response.queue_empty and self.controls.burst > SMALL_BURST):
            target = min(self.controls.bdp, self.controls.window)
            self.inflight_bound.lower(flight.in_flight, target, losses)
        if self.response.queue_empty and self.controls.cut_burst(self.controls.burst):
            pass  # smaller bursts may be enough
        elif self.phase is Phase.UP:
            self.response.reduce_after_probe(losses, now_us)
        else:  # REFILL sends at the estimate, so the estimate is too high
            self.response.reduce_bandwidth(losses, now_us)
        self._happen(PhaseEvent.SATURATED, now_us)

    @property
    def _bound_limits(self) -> bool:
        """True if the long-term bound keeps the sender from sending more."""
        return self._samples.window_limited and self.controls.window > self.inflight_bound.longterm - 1.0

    def _saturated(self, ack: Ack) -> bool:
        """True if UP is over (BBRIsTimeToGoDown, 5.3.3.6), or the queue grows and the bandwidth does not."""
        best = self.max_bandwidth.latest_best
        if self.response.beyond_proven_rate:
            return True
        if self.rounds.started and self._probe.raise_baseline(best):
            return False
        if self._bound_limits:  # the bound, not the path, keeps the bandwidth from growing
            self.full_pipe.reset(best)
            return False
        if self.full_pipe.now:
            return True
        # The queue is not evaluated before the first round of UP is over: its segments left before UP.
        if self._phase_rounds < 1 or ack.rtt_mean_us is None:
            return False
        return self._probe.builds_queue(best, ack.rtt_mean_us, self.delay)

    # -- the phases

    def _check_phase(self, ack: Ack) -> None:
        """Apply the events of this ACK."""
        now_us = ack.now_us
        if self.phase is Phase.CRUISE:  # nearly always
            if self._time_to_probe(now_us):
                self._happen(PhaseEvent.PROBE_DUE, now_us)
        else:
            self._check_other_phase(ack, now_us)
        # BBRCheckProbeRTT (5.3.4.3)
        if self.phase is Phase.PROBE_RTT:
            self._hold_probe_rtt(ack)
        elif self._idle:  # idleness has drained the queue
            self.delay.confirm(now_us)
        elif (
            self.delay.stale(now_us)
            or self.delay.raised(now_us)
            or (self.full_pipe.reached and self.delay.of_startup)
        ):
            self._happen(PhaseEvent.PROBE_RTT_DUE, now_us)

    def _check_other_phase(self, ack: Ack, now_us: int) -> None:
        """Apply the events of all phases but CRUISE and PROBE_RTT."""
        pipe = self.full_pipe
        if self.phase is Phase.STARTUP:
            full = self.controls.startup_queue.update(ack, self.delay, self.max_bandwidth.value)
            full = full or (pipe.flat_rounds > 0 and self.delay.queue_fills)
            if pipe.reached or pipe.now or full:
                pipe.reached = True
                self._happen(PhaseEvent.PIPE_FULL, now_us)
        if self.phase is Phase.DRAIN or self.phase is Phase.DOWN:
            self._check_drained(ack)
        # The phase may have changed above, so DOWN and CRUISE are both possible here.
        if (self.phase is Phase.DOWN or self.phase is Phase.CRUISE) and self._time_to_probe(now_us):
            self._happen(PhaseEvent.PROBE_DUE, now_us)
        elif self.phase is Phase.REFILL and self._phase_rounds >= 1:
            self._happen(PhaseEvent.ROUND_OVER, now_us)
        elif self.phase is Phase.UP and self._saturated(ack):
            self._happen(PhaseEvent.SATURATED, now_us)

    def _happen(self, event: PhaseEvent, now_us: int) -> None:
        """Move along the table of transitions; an event without an entry changes nothing."""
        target = TRANSITIONS.get((self.phase, event))
        if target is None:
            return
        self.controls.startup_queue.release(now_us)
        self.phase = target
        self._phase_rounds = 0
        self.response.start_phase()
        self.delay.change_rate(now_us)
        self.loss_floor.epochs.change_load(PHASES[target].offered_load, now_us)
        if target in self._on_entry:
            self._on_entry[target](now_us)

    def _enter_drain(self, now_us: int) -> None:
        """BBREnterDrain (5.3.2)."""
        self.response.change_rate(now_us)
        self._probe.open = False

    def _enter_down(self, now_us: int) -> None:
        """BBRStartProbeBW_DOWN (5.3.3.6)."""
        self._cycle_advanced = False
        self.response.change_rate(now_us)
        self.probe_wait.start(now_us, self.controls.bdp, self.delay.level_us, self.response.policed)

    def _enter_refill(self, now_us: int) -> None:
        """BBRStartProbeBW_REFILL (5.3.3.6)."""
        self.probe_wait.start_probe()
        self.inflight_bound.start_probe(self.controls.window)
        self.response.start_probe()
        self._probe.open = True

    def _enter_up(self, now_us: int) -> None:
        """BBRStartProbeBW_UP (5.3.3.6)."""
        self.inflight_bound.start_probe(self.controls.window)
        self._probe.start_up(self.max_bandwidth.value, max(self.delay.level_us, self.delay.last_round_us))
        self.full_pipe.reset(self.max_bandwidth.value)

    def _enter_probe_rtt(self, now_us: int) -> None:
        """BBREnterProbeRTT (5.3.4.3)."""
        self.controls.save_window()
        self.response.change_rate(now_us)
        self.rounds.restart()
        by_clock = not self.delay.raised(now_us)
        rtt_us, bandwidth = self.delay.last_round_us, self.max_bandwidth.latest_best
        self._probe_rtt.enter(now_us, rtt_us, bandwidth, by_clock=by_clock)

    def _check_drained(self, ack: Ack) -> None:
        """BBRCheckDrainDone (5.3.2) and BBRIsTimeToCruise (5.3.3.6).

        A round-trip time near its minimum shows the same as an inflight below the BDP, without a model.
        """
        bdp = self.controls.bdp
        drained = ack.in_flight <= max(bdp, MINIMUM_WINDOW) or self.delay.near(self.delay.latest_us)
        if self.phase is Phase.DOWN:
            # The loss floor of a lossy path is measured in DOWN, which takes a round at least. If the queue
            # was never seen to drain, nothing else tells the path's own loss from a policer's, and DOWN lasts
            # until it has enough transmissions.
            rounds = 1.0
            if not self.delay.drained:
                rounds = max(1.0, min(MAX_LEARNING_ROUNDS, 2 * RELIABLE_SAMPLE / max(bdp, 1.0)))
            if self.loss_floor.lossy and self._phase_rounds < rounds:
                return
            drained = drained and ack.in_flight <= self.controls.bound_with_headroom
        if drained or self._phase_rounds >= MAX_DRAIN_ROUNDS:
            self._happen(PhaseEvent.DRAINED, ack.now_us)

    def _time_to_probe(self, now_us: int) -> bool:
        """True if a probe is due (BBRIsTimeToProbeBW, 5.3.3.5.3) and this is not the first round of DOWN."""
        if self.phase is Phase.DOWN and self._phase_rounds < 1:
            return False
        return self.probe_wait.due(now_us, self.response.policed)

    # -- PROBE_RTT

    def _hold_probe_rtt(self, ack: Ack) -> None:
        """BBRHandleProbeRTT (5.3.4.3)."""
        probe, floor = self._probe_rtt, self.loss_floor.estimate
        rate = probe.on_ack(ack, self.delay, floor, round_started=self.rounds.started)
        if rate:
            self.max_bandwidth.reduce(rate, ack.now_us)
        if probe.over:
            self._exit_probe_rtt(ack.now_us)

    def _judge_losses(self, now_us: int) -> None:
        """Compare the losses that led to PROBE_RTT with those in it (probe_rtt.py)."""
        before, found = self._probe_rtt.suspects, self._probe_rtt.losses
        if before is None or not found.sent:
            return
        between = (before.loss_rate + self._probe_rtt.expected_loss(self.loss_floor.estimate)) / 2
        self.response.congestive = False
        if self._probe_rtt.overflow:
            # The floor was measured in the same queue, or behind the same policer.
            self.loss_floor.reset(now_us)
            self.response.congestive = True
            self.response.reduce_by_excess(before, now_us)
        elif found.loss_rate > between:
            self.loss_floor.restart(found, now_us)
            self.max_bandwidth.restore()
            self.probe_wait.hasten()
        # Bursts, and not the rate, may have been too much for the path's buffer.
        elif not self.controls.cut_burst(self._probe_rtt.suspected_burst):
            self.response.congestive = True
            self.response.reduce_by_excess(before, now_us)

    def _exit_probe_rtt(self, now_us: int) -> None:
        """BBRCheckProbeRTTDone and BBRExitProbeRTT (5.3.4.4).

        The draft drops its short-term bounds here. A reduction is kept here: a pause does not refute losses,
        and behind a policer it fills the token bucket, which the old rate would empty again.
        """
        probe, before_us = self._probe_rtt, self.delay.level_us
        lasted_us = probe.lasted_us(now_us)
        if self.delay.end_probe(probe.measured, now_us, lasted_us=lasted_us, settled=probe.settled):
            # Behind a standing queue the path has delivered all that it can.
            self.max_bandwidth.reduce(probe.bandwidth_before, now_us)
        self._judge_losses(now_us)
        if self.delay.level_us > before_us:
            self.inflight_bound.remove()  # it was measured on a shorter path
        if self.delay.level_us > before_us * RAISED_FACTOR:
            self.max_bandwidth.restore()  # the window of the shorter path was too small for the bandwidth
        self.controls.restore_window()
        self._enter_down(now_us)
        full = self.full_pipe.reached
        self._happen(PhaseEvent.MIN_RTT_MEASURED if full else PhaseEvent.MIN_RTT_MEASURED_EARLY, now_us)


def _limited(ack: Ack) -> bool:
    """True if something else than the path limited the acknowledged segments."""
    return ack.flight is not None and ack.flight.limited
