"""The controller's output: window, pacing rate and send quantum (draft-ietf-ccwg-bbr-05, 5.6).

The gains of each phase are in phases.py.
"""

from __future__ import annotations

from math import inf

from iperfpy.protocols.congestion.bbr.ack_aggregation import AckAggregation
from iperfpy.protocols.congestion.bbr.inflight_bound import InflightBound
from iperfpy.protocols.congestion.bbr.loss_floor import LossFloor
from iperfpy.protocols.congestion.bbr.max_bandwidth import MaxBandwidth
from iperfpy.protocols.congestion.bbr.path_delay import PathDelay
from iperfpy.protocols.congestion.bbr.phases import PHASES, Bound, Phase
from iperfpy.protocols.congestion.bbr.probe_rtt import ProbeRtt
from iperfpy.protocols.congestion.bbr.startup_queue import StartupQueue
from iperfpy.protocols.congestion.congestion_control import FOUND_LATE_RTTS, Ack

# draft

MINIMUM_WINDOW = 4
"""BBR.MinPipeCwnd (5.6.4.3), segments."""
PACING_MARGIN = 0.99
"""BBR.PacingMarginPercent (5.6.2): pacing one per cent below the estimate lets queues drain."""
MAX_QUANTUM_US = 1_000.0
"""Longest send quantum (5.6.3)."""
MAX_QUANTUM = 46
"""Largest send quantum, segments: the draft's 64 KB (5.6.3)."""
INITIAL_RTT_US = 1_000
"""Round-trip time assumed for the pacing rate before the first sample (5.6.2)."""
UP_EXTRA_WINDOW = 2
"""Segments added to the window in UP (BBRQuantizationBudget, 5.5.8)."""

# not in the draft; chosen by simulation

MIN_QUANTUM_US, QUANTA_PER_RTT = 250.0, 40
"""Shorter quanta on short paths, which keep the queue of a shallow buffer shallow."""
MAX_PACING_CUT = 0.2
"""Largest share by which CRUISE lowers its pace behind a standing queue."""
FULL_CUT_QUEUE = 32
"""Segments of this flow in the queue from which the full cut applies: flows with fewer yield less, so flows
that share a queue converge to equally many segments in it."""
MIN_CUT_SHARE = 0.15
"""Least share of the cut that is applied, however few segments this flow has in the queue."""
UP_EXTRA_SEGMENTS, MAX_UP_GAIN = 4, 2.0
"""Extra segments per round trip in UP behind a standing queue, and the largest pacing gain from them. An
additive increase makes shares equal over time (Chiu and Jain, 1989); the draft's gain of 1.25 alone keeps
their ratio."""


SMALL_BURST, BURST_CUT = 2, 4
"""Losses without a queue may mean that a burst was longer than the path's buffer. Bursts are then cut by this
factor, before the bandwidth is lowered; a burst of two segments is small."""


class ControlParameters:
    """Window, pacing rate and send quantum.

    Parameters
    ----------
    initial_window : segments

    Attributes
    ----------
    window : most segments in flight (C.cwnd)
    burst_limit : most segments that the path takes at once, as far as its losses have shown
    pacing_rate : segments per second (C.pacing_rate)
    startup_queue : detector of the queue of STARTUP; the pace holds at its first sign
    burst : segments released at once (C.send_quantum); a single one at low rates, where the draft has two
    """

    def __init__(
        self,
        initial_window: int,
        delay: PathDelay,
        loss_floor: LossFloor,
        max_bandwidth: MaxBandwidth,
        inflight_bound: InflightBound,
        ack_aggregation: AckAggregation,
        probe_rtt: ProbeRtt,
        startup_queue: StartupQueue,
    ) -> None:
        self._delay, self._loss_floor, self._max_bandwidth = delay, loss_floor, max_bandwidth
        self._inflight_bound, self._ack_aggregation = inflight_bound, ack_aggregation
        self._probe_rtt, self.startup_queue = probe_rtt, startup_queue
        self._initial_window = initial_window
        self._saved_window = 0.0  # BBR.prior_cwnd
        self.window = float(initial_window)
        self.pacing_rate = PHASES[Phase.STARTUP].pacing_gain * initial_window * (1e6 / INITIAL_RTT_US)
        self.burst = 1
        self.burst_limit = MAX_QUANTUM

    # -- volumes, in segments

    @property
    def bdp(self) -> float:
        """Bandwidth-delay product (BBR.bdp, 5.6.4.2); the initial window before the first sample."""
        rtt_us = self._delay.level_us
        return self._max_bandwidth.value * rtt_us / 1e6 if rtt_us else float(self._initial_window)

    @property
    def needed_inflight(self) -> float:
        """Segments that must be in flight to use the bandwidth: the BDP, and those that have arrived while
        the path or the peer holds their acknowledgements back."""
        return self.bdp + self._ack_aggregation.extra_acked

    @property
    def bound_with_headroom(self) -> float:
        """The long-term bound less the headroom left to other flows."""
        # Lost segments count as in flight until recovery finds them, an eighth of a round trip late.
        found_late = 1.0 + FOUND_LATE_RTTS * self._loss_floor.estimate
        return self._inflight_bound.with_headroom(self.needed_inflight * found_late + 2 * self.burst)

    # -- events

    def start(self, rtt_us: int) -> None:
        """BBRInitPacingRate (5.6.2): pace the initial window over the first round trip that was measured."""
        self.pacing_rate = PHASES[Phase.STARTUP].pacing_gain * self._initial_window * 1e6 / rtt_us

    def restart_from_idle(self) -> None:
        """Pace at the bandwidth after idleness, as there is no queue (5.4.1)."""
        self.pacing_rate = self._max_bandwidth.value * PACING_MARGIN

    def cut_burst(self, lost_burst: int) -> bool:
        """Send smaller bursts than those that lost segments without a queue.

        Returns
        -------
        False if they were small already.
        """
        if lost_burst <= SMALL_BURST:
            return False
        self.burst_limit = max(SMALL_BURST, lost_burst // BURST_CUT)
        return True

    def save_window(self) -> None:
        """BBRSaveCwnd (5.6.4.4)."""
        self._saved_window = max(self._saved_window, self.window)

    def restore_window(self) -> None:
        """BBRRestoreCwnd (5.6.4.4)."""
        self.window = max(self.window, self._saved_window)
        self._saved_window = 0.0

    def minimize_window(self) -> None:
        """BBROnEnterRTO (5.6.4.4)."""
        self.window = float(MINIMUM_WINDOW)

    # -- per ACK

    def update(self, phase: Phase, ack: Ack, pipe_was_full: bool) -> None:
        """BBRUpdateControlParameters (5.2.3), at the end of every ACK.

        Parameters
        ----------
        pipe_was_full : BBR.full_bw_reached
        """
        bdp = self.bdp
        # BBRSetPacingRate (5.6.2): before the pipe was full, the pace falls only if a queue begins.
        rate = self._pacing_gain(phase, bdp) * self._max_bandwidth.value * PACING_MARGIN
        if rate > 0 and (pipe_was_full or self.startup_queue.holding or rate > self.pacing_rate):
            self.pacing_rate = rate
        # BBRSetSendQuantum (5.6.3)
        quantum_us = self._delay.level_us / QUANTA_PER_RTT
        if quantum_us < MIN_QUANTUM_US:
            quantum_us = MIN_QUANTUM_US
        elif quantum_us > MAX_QUANTUM_US:
            quantum_us = MAX_QUANTUM_US
        burst = int(self.pacing_rate * quantum_us / 1e6)
        if phase is Phase.PROBE_RTT:
            self.burst = 1 if self._probe_rtt.suspects is None else SMALL_BURST
        else:
            self.burst = max(1, min(burst, self.burst_limit))
        self._set_window(phase, bdp, ack, pipe_was_full)

    def _pacing_gain(self, phase: Phase, bdp: float) -> float:
        """The phase's pacing gain, adapted to a queue in STARTUP, CRUISE and UP.

        CRUISE subtracts the share of the last round's mean queue: the bandwidth filter keeps the best of many
        samples, so its error is upwards and builds a queue. A flow with few segments there yields less.
        """
        if phase is Phase.PROBE_RTT:
            return self._probe_rtt.pacing_gain
        if phase is Phase.STARTUP and self.startup_queue.holding:
            return PHASES[Phase.CRUISE].pacing_gain
        gain, queue = PHASES[phase].pacing_gain, self._delay.queue_share
        if phase is Phase.CRUISE and queue:
            own_share = min(1.0, max(MIN_CUT_SHARE, queue * bdp / FULL_CUT_QUEUE))
            return gain - min(MAX_PACING_CUT, queue) * own_share
        # A flow with a small share of the queue probes for a larger one.
        if phase is Phase.UP and self._delay.queue_stands and bdp:
            return max(gain, min(MAX_UP_GAIN, 1.0 + UP_EXTRA_SEGMENTS / bdp))
        return gain

    def _set_window(self, phase: Phase, bdp: float, ack: Ack, pipe_was_full: bool) -> None:
        """BBRSetCwnd (5.6.4.6) and BBRBoundCwndForModel (5.6.4.7)."""
        gains, window, longterm = PHASES[phase], self.window, self._inflight_bound.longterm
        # BBRUpdateMaxInflight (5.6.4.2)
        most = max(
            bdp * gains.window_gain + self._ack_aggregation.extra_acked, 2 * self.burst, MINIMUM_WINDOW
        )
        if phase is Phase.UP:
            most += UP_EXTRA_WINDOW
        if pipe_was_full:
            window += ack.acked
            if window > most:
                window = most
        elif window < most or ack.delivered < self._initial_window:
            # The draft adds the delivered segments. With losses the window would then not double per round
            # trip, so the share that the path loses is added, too.
            window += ack.acked / (1.0 - self._loss_floor.estimate)
        if longterm < inf:
            if gains.bound is Bound.WHOLE:
                window = min(window, max(longterm, self.needed_inflight))
            elif gains.bound is Bound.HEADROOM:
                window = min(window, self.bound_with_headroom)
        self.window = window if window > MINIMUM_WINDOW else MINIMUM_WINDOW
