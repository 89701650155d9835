"""What the sender obeys: window, pacing rate and send quantum (draft-ietf-ccwg-bbr-05, 5.6)."""

from __future__ import annotations

from math import inf

from iperfpy.protocols.congestion.bbr.ack_aggregation import AckAggregation
from iperfpy.protocols.congestion.bbr.congestion_response import QUEUED
from iperfpy.protocols.congestion.bbr.inflight_bound import InflightBound
from iperfpy.protocols.congestion.bbr.loss_floor import LossFloor
from iperfpy.protocols.congestion.bbr.max_bandwidth import MaxBandwidth
from iperfpy.protocols.congestion.bbr.min_rtt import MinRtt
from iperfpy.protocols.congestion.bbr.phases import PHASES, Bound, Phase
from iperfpy.protocols.congestion.congestion_control import FOUND_LATE_RTTS, Ack

MINIMUM_WINDOW = 4
"""BBR.MinPipeCwnd (5.6.4.3)."""
PACING_MARGIN = 0.99
"""5.6.2: one per cent below the estimate, so that queues drain."""
LARGEST_QUANTUM_US, SMALLEST_QUANTUM_US, QUANTA_PER_RTT = 1_000.0, 250.0, 40
LARGEST_QUANTUM = 46
"""5.6.3 has 1 ms of data and 64 KB; less on short paths keeps a shallow queue shallow."""
LARGEST_CUT, FAIR_QUEUE, SMALLEST_SHARE = 0.2, 32, 0.15
"""While cruising: the most that a standing queue takes off the pace; how many segments of our own in it take
all of that; the least share of it that is taken."""
UP_SEGMENTS, LARGEST_UP = 4, 2.0
"""What UP sends more per round trip behind a standing queue, and the gain that this may come to. Increase by
addition is what makes shares equal in time (Chiu and Jain 1989); the draft's 1.25 alone keeps their ratio."""


class ControlParameters:
    """Parameters
    ----------
    initial_window : segments
    """

    def __init__(
        self,
        initial_window: int,
        rtt: MinRtt,
        noise: LossFloor,
        model: MaxBandwidth,
        bounds: InflightBound,
        aggregation: AckAggregation,
    ) -> None:
        self._rtt, self._noise, self._model = rtt, noise, model
        self._bounds, self._aggregation = bounds, aggregation
        self._initial_window = initial_window
        self.window = float(initial_window)
        """Segments in flight, at most."""
        self._saved_window = 0.0
        self.pacing_rate = PHASES[Phase.STARTUP].pacing_gain * initial_window * 1e3  # 5.6.2: over 1 ms
        """Segments per second."""
        self.burst = 1
        """C.send_quantum (5.6.3), but a single segment at low rates."""

    @property
    def bdp(self) -> float:
        """Segments in flight that fill the path without a queue (5.6.4.2)."""
        return self._model.value * self._rtt.us / 1e6 if self._rtt.us else float(self._initial_window)

    @property
    def with_headroom(self) -> float:
        """The long-term bound, less what is left to others."""
        return self._bounds.with_headroom(
            self.bdp * (1.0 + FOUND_LATE_RTTS * self._noise.estimate) + 2 * self.burst
        )

    @property
    def probe_rtt_window(self) -> float:
        """Half the BDP (5.3.4.3) only where there seems to be no queue. Whoever has one measures from behind
        it, perhaps, and half of a BDP that counts the queue of others is still in it."""
        if not self._rtt.near(self._rtt.before_us):
            return MINIMUM_WINDOW
        return max(MINIMUM_WINDOW, PHASES[Phase.PROBE_RTT].window_gain * self.bdp)

    def begin(self, rtt_us: int) -> None:
        """The first round trip was measured: the initial window over it (5.6.2)."""
        self.pacing_rate = PHASES[Phase.STARTUP].pacing_gain * self._initial_window * 1e6 / rtt_us

    def restart(self) -> None:
        """Idleness is over: at the bandwidth, as there is no queue (5.4.1)."""
        self.pacing_rate = self._model.value * PACING_MARGIN

    def save(self) -> None:
        """BBRSaveCwnd (5.6.4.4)."""
        self._saved_window = max(self._saved_window, self.window)

    def restore(self) -> None:
        """BBRRestoreCwnd."""
        self.window = max(self.window, self._saved_window)
        self._saved_window = 0.0

    def collapse(self) -> None:
        """BBROnEnterRTO."""
        self.window = float(MINIMUM_WINDOW)

    def update(self, phase: Phase, ack: Ack, pipe_was_full: bool) -> None:
        """BBRUpdateControlParameters (5.2.3)."""
        bdp = self.bdp
        pace = self.pacing_rate
        rate = self._pacing_gain(phase, bdp) * self._model.value * PACING_MARGIN
        if rate > 0 and (pipe_was_full or rate > pace):
            self.pacing_rate = pace = rate
        quantum_us = self._rtt.us / QUANTA_PER_RTT
        if quantum_us < SMALLEST_QUANTUM_US:
            quantum_us = SMALLEST_QUANTUM_US
        elif quantum_us > LARGEST_QUANTUM_US:
            quantum_us = LARGEST_QUANTUM_US
        burst = int(pace * quantum_us / 1e6)
        self.burst = LARGEST_QUANTUM if burst > LARGEST_QUANTUM else burst or 1
        self._set_window(phase, bdp, ack, pipe_was_full)

    def _pacing_gain(self, phase: Phase, bdp: float) -> float:
        """The phase's gain; while cruising, less by the queue that the last round never fell below: the
        bandwidth filter keeps the best of many samples, so its error is upwards. Whoever has few segments in
        that queue gives way less, so that flows that share it come to have equally many, and equal rates.
        Nobody gives way to those who never do. In UP, behind a queue, whoever has little asks for more."""
        gain, queue = PHASES[phase].pacing_gain, self._rtt.queue_share
        if phase is Phase.UP and queue > QUEUED and bdp:
            return max(gain, min(LARGEST_UP, 1.0 + UP_SEGMENTS / bdp))
        if phase is Phase.CRUISE and queue and not self._rtt.contested:
            ours = min(1.0, max(SMALLEST_SHARE, queue * bdp / FAIR_QUEUE))
            return gain - min(LARGEST_CUT, queue) * ours
        return gain

    def _set_window(self, phase: Phase, bdp: float, ack: Ack, pipe_was_full: bool) -> None:
        """BBRSetCwnd (5.6.4.6) and BBRBoundCwndForModel (5.6.4.7). The draft's
        STARTUP grows by what was delivered; here, by what was carried, or noise would slow the doubling."""
        row, window = PHASES[phase], self.window
        most = max(bdp * row.window_gain + self._aggregation.extra, 2 * self.burst, MINIMUM_WINDOW)
        if self._rtt.contested:  # two BDP are less than what the queue of others holds back
            most = max(most, self._model.value * self._rtt.last_round_us / 1e6)
        if phase is Phase.UP:
            most += 2
        if pipe_was_full:
            window += ack.acked
            if window > most:
                window = most
        elif window < most or ack.delivered < self._initial_window:
            window += ack.acked / (1.0 - self._noise.estimate)
        if self._bounds.inflight_long < inf:
            if row.bound is Bound.WHOLE:
                window = min(window, self._bounds.inflight_long)
            elif row.bound is Bound.HEADROOM:
                window = min(window, self.with_headroom)
        if phase is Phase.PROBE_RTT:
            window = min(window, self.probe_rtt_window)
        self.window = window if window > MINIMUM_WINDOW else MINIMUM_WINDOW
