"""The controller: what it hears changes the model, the model the phase, the phase the controls.

Sections refer to draft-ietf-ccwg-bbr-05. What differs from it is said where it is done, here and in the files
beside it; the chief difference is what bandwidth means. The draft's is the rate at which data is *delivered*.
Here it is the rate that the path *carries*: of the n transmissions that left between two acknowledged ones,
those delivered and the share that the path loses anyway, min(n, delivered / (1 - noise)), per second. Without
losses the two are equal. With random losses the carried rate is what fills the path, and as n bounds it,
chance (a lucky round with few losses) cannot push it above what was really sent.
"""

from __future__ import annotations

from math import inf
from typing import ClassVar

from iperfpy.protocols.congestion.bbr.ack_aggregation import AckAggregation
from iperfpy.protocols.congestion.bbr.congestion_response import QUEUED, SMALLEST_SAMPLE, CongestionResponse
from iperfpy.protocols.congestion.bbr.control_parameters import MINIMUM_WINDOW, ControlParameters
from iperfpy.protocols.congestion.bbr.full_pipe import FullPipe
from iperfpy.protocols.congestion.bbr.inflight_bound import InflightBound
from iperfpy.protocols.congestion.bbr.loss_floor import ENOUGH, LossFloor
from iperfpy.protocols.congestion.bbr.loss_tally import Tally
from iperfpy.protocols.congestion.bbr.max_bandwidth import MaxBandwidth
from iperfpy.protocols.congestion.bbr.min_rtt import MinRtt
from iperfpy.protocols.congestion.bbr.phases import PHASES, TRANSITIONS, Event, Phase
from iperfpy.protocols.congestion.bbr.probe_wait import ProbeWait
from iperfpy.protocols.congestion.bbr.rounds import Rounds
from iperfpy.protocols.congestion.congestion_control import Ack, Flight, Loss

INITIAL_WINDOW = 10
"""RFC 6928."""
LONGEST_LESSON = 6.0
"""Rounds of DOWN."""
LONGEST_DRAIN = 4
"""Rounds of DRAIN or DOWN; a lesson may take longer."""
PROBE_RTT_US = 200_000
_UP_GROWTH = 1.1
_PROBES, _DRAINS = (Phase.REFILL, Phase.UP), (Phase.DRAIN, Phase.DOWN)


class Bbr:
    """Parameters
    ----------
    seed : of the dither in the time between two probes for bandwidth, which keeps flows out of step
    initial_window : segments
    """

    name: ClassVar[str] = "bbr"

    def __init__(self, seed: int = 0, initial_window: int = INITIAL_WINDOW) -> None:
        self.phase = Phase.STARTUP
        self.rtt, self.noise, self.bounds = MinRtt(), LossFloor(), InflightBound()
        self.rounds, self.pipe, self.aggregation = Rounds(), FullPipe(), AckAggregation()
        self.model = MaxBandwidth()
        self.judge = CongestionResponse(self.rtt, self.noise, self.model)
        self.controls = ControlParameters(
            initial_window, self.rtt, self.noise, self.model, self.bounds, self.aggregation
        )
        self.next_probe = ProbeWait(seed)
        self._advanced = True
        self._delivered_best = 0.0
        self._held = self._was_held = False  # the window was used up, in this round and in the last
        # the round in progress
        self._send_rate = 0.0
        self._volume_latest = 0.0
        self._growth_best, self._growth_from = 0.0, 0
        # the phase in progress
        self._phase_rounds = 0
        self._probe_open = False  # this probe has not yet answered a loss
        self._losing = False
        self._lost_flight: Flight | None = None
        self._base_rtt_us = 0.0
        self._up_rate = 0.0
        self._hold_until_us: int | None = None
        self._hold_round_over = False
        self._before_probe_rtt = 0.0
        self._timed_out = False
        self._idle = False

    # ------------------------------------------------------------- what it says

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
        return {
            "phase": self.phase.value,
            "bandwidth_segments_per_s": self.model.value,
            "min_rtt_us": int(self.rtt.us) or None,
            "noise_percent": 100.0 * self.noise.estimate,
            "pacing_segments_per_s": self.pacing_rate,
            "window_segments": self.window,
            "inflight_bound_segments": self._inflight_bound,
        }

    @property
    def _inflight_bound(self) -> float | None:
        """BBR.inflight_longterm; None for none."""
        bound = self.bounds.inflight_long
        return bound if bound < inf else None

    # ------------------------------------------------------------ what it hears

    def on_sent(self, now_us: int, segments: int, in_flight: int) -> None:
        self._held = self._held or in_flight >= self.window

    def on_idle(self, now_us: int) -> None:
        """BBRHandleRestartFromIdle (5.4.1)."""
        self._idle = True
        self.aggregation.restart(now_us)
        if self.pipe.reached and self.phase is not Phase.PROBE_RTT:
            self.controls.restart()
        elif self.phase is Phase.PROBE_RTT:
            self._maybe_leave_probe_rtt(now_us)

    def on_timeout(self, now_us: int) -> None:
        """BBROnEnterRTO (5.6.4.4). What the silence lost says nothing about noise or congestion."""
        if not self._timed_out:
            self.controls.save()
        self._timed_out = True
        self.controls.collapse()

    def on_loss(self, loss: Loss) -> None:
        """Losses count for the epoch they were sent in; whether they are too many is judged in `on_ack`."""
        if loss.flight is None or self._timed_out:
            return
        self._lost_flight = loss.flight
        self.noise.lost(loss.flight.stamp_us, loss.segments)

    def on_ack(self, ack: Ack) -> None:
        """BBRUpdateOnACK (5.2.3)."""
        if self._timed_out:
            self._resume(ack)
        self.rounds.update(ack)
        if ack.rtt_us is not None:
            if not self.rtt.us:
                self.controls.begin(ack.rtt_us)
            if self.rtt.update(ack.rtt_us, ack.now_us):
                self.noise.forget(ack.now_us)
        self._sample(ack)
        delivering = self.model.value * (1.0 - self.noise.estimate)
        self.aggregation.update(ack, delivering, self.controls.window, self.rounds.count, self.rtt.us)
        if self.rounds.started:
            self._end_round(ack)
        self.judge.on_ack(ack, self.window, self.controls.burst)
        self._watch_probe(ack)
        self._check_phase(ack)
        self.controls.update(self.phase, ack, self.pipe.reached)
        self._idle = False

    # ---------------------------------------------------------------- the model

    def _sample(self, ack: Ack) -> None:
        """BBRUpdateMaxBw (5.5.5) and what the rounds need."""
        flight = ack.flight
        stamp_us = None if flight is None else flight.stamp_us
        self.noise.delivered(stamp_us, ack.acked, queued=not self.rtt.empty)
        if flight is None:
            return
        if flight.limited:
            self.noise.note_limited(ack.now_us)
        if not ack.interval_us:
            return
        delivered = ack.delivered - flight.delivered
        sent = flight.sent - flight.newest_sent
        carried = delivered / (1.0 - self.noise.estimate)
        if sent and sent < carried:
            carried = float(sent)
        rate = carried * 1e6 / ack.interval_us
        if rate >= self.model.value or not flight.app_limited:
            self.model.sample(rate, flight.stamp_us)
            if ack.delivery_rate > self._delivered_best:
                self._delivered_best = ack.delivery_rate
        if carried > self._volume_latest:
            self._volume_latest = carried
        send_rate = sent * 1e6 / ack.interval_us
        if send_rate > self._send_rate:
            self._send_rate = send_rate

    def _end_round(self, ack: Ack) -> None:
        """Once per packet-timed round."""
        self._phase_rounds += 1
        self.next_probe.end_round()
        probing = PHASES[self.phase].probing
        self.rtt.end_round(loaded=probing or self.phase is Phase.DRAIN)
        if probing:
            self._watch_growth(ack)
        self._judge_losses(ack)
        if self.phase is Phase.DOWN and not self._advanced and not _limited(ack):
            self._advanced = True
            self.model.advance()
        self.model.end_round()
        self._send_rate = self._volume_latest = 0.0
        self._held, self._was_held = False, self._held

    def _watch_growth(self, ack: Ack) -> None:
        """BBRCheckFullBWReached (5.3.1.2), once per round, or once in several when a round has too few
        transmissions for its losses not to look like a plateau."""
        self._growth_best = max(self._growth_best, self.model.round_best)
        if ack.delivered - self._growth_from >= SMALLEST_SAMPLE and self._growth_best:
            self.pipe.update(self._growth_best)
            self._growth_best, self._growth_from = 0.0, ack.delivered

    def _watch_probe(self, ack: Ack) -> None:
        """BBRHandleLostPacket (5.5.10.2) and BBRAdaptLongTermModel (5.3.3.6), a block at a time."""
        if self.phase not in _PROBES or ack.flight is None or self.judge.waiting:
            return
        news, recent = self.judge.probe_excess(ack.now_us)
        if news:
            self._losing = recent is not None
        if recent is not None and self._probe_open:
            self._too_much(self._lost_flight or ack.flight, recent, ack.now_us)
        elif not self._losing:
            held = self._bound_holds and self.phase is Phase.UP
            self.bounds.raise_long_term(
                ack.flight.in_flight, ack.acked, self.controls.window, held, self.rounds.started
            )

    def _judge_losses(self, ack: Ack) -> None:
        """BBRUpdateCongestionSignals (5.5.10.3), once per round."""
        tally, now_us = self.judge.end_round(ack), ack.now_us
        if self.phase is Phase.STARTUP:
            if self.rtt.near(self.rtt.last_round_us):
                self.noise.note_startup_round(self._send_rate, tally.sent, tally.lost)
            self.noise.outgrown(self._delivered_best, now_us)
        elif self.phase is Phase.CRUISE and self._phase_rounds > 1:
            self.noise.note_cruise(tally.lost, tally.sent)
            self.judge.cruise(tally, now_us)
        self.noise.update(now_us, self.rtt.seen_empty)
        reason = self.bounds.because
        if reason is not None and not self.noise.excessive(reason.lost, reason.sent):
            self.bounds.forget_long_term()
            if self.rtt.seen_empty:
                self.next_probe.hasten()
        self.judge.reconsider()
        recent = self.judge.excess(now_us, rounds=2)
        if recent is None:
            return
        if self.phase is Phase.STARTUP:
            self._leave_startup_for_losses(recent)
        elif not PHASES[self.phase].probing:
            self.judge.refute(recent, now_us)

    def _leave_startup_for_losses(self, recent: Tally) -> None:
        """BBRCheckStartupHighLoss (5.3.1.3). The draft wants a round of recovery and six gaps; here a queue
        must come with it, or a round without growth, two as long as the noise is not known: losses alone
        may be noise."""
        queued = self.rtt.queue_share > QUEUED
        if queued or self.pipe.flat_rounds >= (1 if self.noise.known else 2):
            self.pipe.reached = True
            self.bounds.lower_long_term(max(self.controls.bdp, self._volume_latest), 0.0, recent)

    def _too_much(self, flight: Flight, recent: Tally, now_us: int) -> None:
        """BBRHandleInflightTooHigh (5.5.10.2)."""
        self._probe_open = False
        if not flight.app_limited:
            target = min(self.controls.bdp, self.controls.window)
            self.bounds.lower_long_term(flight.in_flight, target, recent)
        if self.phase is Phase.UP:
            self.judge.refute_probe(recent, now_us)
        else:
            self.judge.refute(recent, now_us)
        self._happen(Event.SATURATED, now_us)

    def _resume(self, ack: Ack) -> None:
        """The path answers again after a timeout: back to where we were (BBRRestoreCwnd), as the model is no
        worse for the silence; pacing still bounds what follows."""
        self._timed_out = False
        self.controls.restore()
        self.judge.restart(ack)

    # --------------------------------------------------------------- the phases

    def _check_phase(self, ack: Ack) -> None:
        now_us = ack.now_us
        if self.phase is Phase.CRUISE:  # nearly always
            if self._time_to_probe(now_us):
                self._happen(Event.PROBE_TIME, now_us)
        else:
            self._check_other_phase(ack, now_us)
        if self.phase is not Phase.PROBE_RTT and self.rtt.stale(now_us):
            if self._idle:
                self.rtt.excuse(now_us)
            else:
                self._happen(Event.RTT_STALE, now_us)
        if self.phase is Phase.PROBE_RTT:
            self._hold_probe_rtt(ack)

    def _check_other_phase(self, ack: Ack, now_us: int) -> None:
        full = self.pipe.reached or self.pipe.now or (self.pipe.flat_rounds > 0 and self.rtt.filling)
        if self.phase is Phase.STARTUP and full:
            self.pipe.reached = True
            self._happen(Event.PIPE_FULL, now_us)
        if self.phase in _DRAINS:
            self._check_drained(ack)
        if self.phase in (Phase.DOWN, Phase.CRUISE) and self._time_to_probe(now_us):
            self._happen(Event.PROBE_TIME, now_us)
        elif self.phase is Phase.REFILL and self._phase_rounds >= 1:
            self._happen(Event.ROUND_OVER, now_us)
        elif self.phase is Phase.UP and self._saturated(ack):
            self._happen(Event.SATURATED, now_us)

    def _happen(self, event: Event, now_us: int) -> None:
        """Move along the table."""
        target = TRANSITIONS.get((self.phase, event))
        if target is None:
            return
        self.phase = target
        self._phase_rounds = 0
        self.judge.begin_phase()
        self.noise.drive(PHASES[target].load, now_us)
        enter = getattr(self, f"_enter_{target.name.lower()}", None)
        if enter is not None:
            enter(now_us)

    def _enter_drain(self, now_us: int) -> None:
        self.judge.change_rate(now_us)
        self._probe_open = False

    def _enter_down(self, now_us: int) -> None:
        """BBRStartProbeBW_DOWN (5.3.3.6)."""
        self._advanced = False
        self.judge.change_rate(now_us)
        self.next_probe.wait(now_us, self.controls.bdp, self.rtt.us, self.judge.policed)

    def _enter_refill(self, now_us: int) -> None:
        self.next_probe.begin()
        self.bounds.begin_probe(self.controls.window)
        self.judge.begin_probe()
        self._probe_open = True

    def _enter_up(self, now_us: int) -> None:
        self.bounds.begin_probe(self.controls.window)
        self._probe_open = True
        self._up_rate = self.model.value
        self.pipe.reset(self.model.value)
        self._base_rtt_us = max(self.rtt.us, self.rtt.last_round_us)

    def _enter_probe_rtt(self, now_us: int) -> None:
        """BBREnterProbeRTT (5.3.4.3)."""
        self.controls.save()
        self._hold_until_us = None
        self._before_probe_rtt = self.model.latest_best
        self.rtt.begin_probe()

    def _check_drained(self, ack: Ack) -> None:
        """BBRCheckDrainDone (5.3.2), BBRIsTimeToCruise (5.3.3.6). A round-trip time near its minimum says
        the same as in flight below the BDP, and needs no model. On a lossy path DOWN lasts a round at
        least, because the floor is learnt there; where no queue ever shows, nothing else tells noise from a
        policer, and it lasts until enough was sent to tell."""
        bdp = self.controls.bdp
        empty = ack.in_flight <= max(bdp, MINIMUM_WINDOW) or self.rtt.near(self.rtt.latest_us)
        if self.phase is Phase.DOWN:
            rounds = 1.0 if self.rtt.seen_empty else min(LONGEST_LESSON, 2 * ENOUGH / max(bdp, 1.0))
            learning = self.noise.lossy and self._phase_rounds < max(1.0, rounds)
            if learning:
                return
            empty = empty and ack.in_flight <= self.controls.with_headroom
        if empty or self._phase_rounds >= LONGEST_DRAIN:
            self._happen(Event.DRAINED, ack.now_us)

    def _time_to_probe(self, now_us: int) -> bool:
        if self.phase is Phase.DOWN and self._phase_rounds < 1:
            return False
        return self.next_probe.due(now_us, self.judge.policed)

    def _saturated(self, ack: Ack) -> bool:
        """BBRIsTimeToGoDown (5.3.3.6), and a queue that grows while the bandwidth does not."""
        best = self.model.latest_best
        if self.judge.beyond_proof:
            return True
        if self.rounds.started and best >= self._up_rate * 1.25:
            self._up_rate = best
            return False
        if self._bound_holds:
            self.pipe.reset(best)
            return False
        if self.pipe.now:
            return True
        if self._phase_rounds < 1 or best >= self._up_rate * _UP_GROWTH or ack.rtt_us is None:
            return False
        return ack.rtt_us > self._base_rtt_us + max(self.rtt.us / 8, self.rtt.tolerance_us)

    @property
    def _bound_holds(self) -> bool:
        """Is the long-term bound what keeps us from sending more?"""
        return (self._held or self._was_held) and self.controls.window > self.bounds.inflight_long - 1.0

    def _hold_probe_rtt(self, ack: Ack) -> None:
        """BBRHandleProbeRTT (5.3.4.3)."""
        if self._hold_until_us is None:
            if ack.in_flight <= self.controls.probe_rtt_window:
                self._hold_until_us = ack.now_us + PROBE_RTT_US
                self._hold_round_over = False
                self.rounds.restart(ack.delivered)
                self.rtt.hold()
            return
        self._hold_round_over = self._hold_round_over or self.rounds.started
        if self._hold_round_over:
            self._maybe_leave_probe_rtt(ack.now_us)

    def _maybe_leave_probe_rtt(self, now_us: int) -> None:
        """BBRCheckProbeRTTDone, BBRExitProbeRTT (5.3.4.4). The draft forgets the short-term bounds here; a
        pause refutes no loss, and behind a policer it fills a bucket that the same rate would empty again."""
        if self._hold_until_us is None or now_us <= self._hold_until_us:
            return
        before_us = self.rtt.us
        if self.rtt.end_probe(now_us, self.judge.losing):
            self.model.lower(self._before_probe_rtt)  # behind a standing queue the path delivered what it can
        if self.rtt.us > before_us:
            self.bounds.forget_long_term()  # it was in flight on a shorter path
        self.controls.restore()
        self._enter_down(now_us)
        self._happen(Event.RTT_KNOWN if self.pipe.reached else Event.RTT_KNOWN_EARLY, now_us)


def _limited(ack: Ack) -> bool:
    """Does that this round delivered no more say nothing about the path?"""
    return ack.flight is not None and ack.flight.limited
