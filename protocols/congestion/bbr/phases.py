"""BBR's phases, their gains, and the transitions between them (draft-ietf-ccwg-bbr-05, 5.1.1 and 5.6.1).

        STARTUP -> DRAIN -> DOWN -> CRUISE -> REFILL -> UP -> DOWN ...
        DOWN -> REFILL                  if the wait for a probe ends before the queue is gone
        REFILL -> DOWN                  if REFILL already loses too much
        all but DRAIN -> PROBE_RTT -> CRUISE, or STARTUP if the pipe was never full

DOWN, CRUISE, REFILL and UP are the draft's ProbeBW_DOWN, ProbeBW_CRUISE, ProbeBW_REFILL and ProbeBW_UP.

Differences from the draft's table:

* DOWN paces at 0.75 of the bandwidth instead of 0.90 and ends as soon as the queue is gone. It drains the
  queue that UP built in about the time UP took to build it. It is also the one phase of each cycle that
  certainly sends below the path's capacity, so the loss measured in it is the path's own (loss_floor.py).
  A queue that remains after four rounds belongs to other flows; DOWN and DRAIN then end all the same.
* REFILL ends, as UP does, when it loses too much: the estimate that it refills to is too high.
* STARTUP ends with the first round without growth if that round also shows a growing queue. On a long path
  with a deep buffer, the draft's three rounds would last several seconds.
* STARTUP holds its pace at the first sign of a queue, and ends if the queue is its own (startup_queue.py).
* PROBE_RTT sends at half the bandwidth, with the window of CRUISE: probe_rtt.py.
* STARTUP may keep 2.77 BDP in flight instead of 2, because ACKs arrive in bursts on lossy paths.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Phase(enum.Enum):
    """The draft's BBR.state."""

    __hash__ = object.__hash__  # Enum hashes the member's name, on every dict look-up

    STARTUP = "startup"
    DRAIN = "drain"
    DOWN = "down"
    CRUISE = "cruise"
    REFILL = "refill"
    UP = "up"
    PROBE_RTT = "probe rtt"


class PhaseEvent(enum.Enum):
    """An observation that may end a phase."""

    PIPE_FULL = "the delivery rate stopped growing, or losses exceed the loss floor"
    DRAINED = "no more in flight than the path holds without a queue"
    PROBE_DUE = "the wait for the next bandwidth probe is over"
    ROUND_OVER = "one packet-timed round since the phase began"
    SATURATED = "sending faster brings a queue or losses instead of bandwidth"
    PROBE_RTT_DUE = "the round-trip time was not confirmed for too long, or a change is to be examined"
    MIN_RTT_MEASURED = "PROBE_RTT is over, and the pipe was full before"
    MIN_RTT_MEASURED_EARLY = "PROBE_RTT is over, and the pipe was never full"


class OfferedLoad(enum.Enum):
    """The sending rate of a phase relative to the path's capacity, as far as the loss floor is concerned."""

    BELOW_CAPACITY = "below the estimated bandwidth"
    AT_CAPACITY = "at the estimated bandwidth"
    ABOVE_CAPACITY = "above the estimated bandwidth"
    UNKNOWN = "the bandwidth is not known yet"


class Bound(enum.Enum):
    """The part of the long-term inflight bound that applies in a phase (draft 5.6.4.7)."""

    NONE = "none"
    WHOLE = "all of it"
    HEADROOM = "the bound less the headroom left to other flows"


@dataclass(frozen=True, slots=True)
class PhaseGains:
    """Gains and bounds of one phase.

    Parameters
    ----------
    pacing_gain : factor on the bandwidth (BBR.pacing_gain)
    window_gain : factor on the bandwidth-delay product (BBR.cwnd_gain)
    bound : part of the long-term inflight bound that applies
    probing : True if losses lower the bound on inflight; in the other phases they lower the bandwidth
    offered_load : sending rate relative to the path's capacity
    """

    pacing_gain: float
    window_gain: float
    bound: Bound
    probing: bool
    offered_load: OfferedLoad


_BELOW, _AT = OfferedLoad.BELOW_CAPACITY, OfferedLoad.AT_CAPACITY

PHASES: dict[Phase, PhaseGains] = {
    # draft: pacing 2.77 (BBR.StartupPacingGain)
    # not in the draft; chosen by simulation: window 2.77 instead of 2
    Phase.STARTUP: PhaseGains(2.77, 2.77, Bound.NONE, True, OfferedLoad.UNKNOWN),
    # draft
    Phase.DRAIN: PhaseGains(0.5, 2.0, Bound.NONE, False, _BELOW),
    # draft: window
    # not in the draft; chosen by simulation: pacing 0.75 instead of 0.90
    Phase.DOWN: PhaseGains(0.75, 2.0, Bound.WHOLE, False, _BELOW),
    # draft
    Phase.CRUISE: PhaseGains(1.0, 2.0, Bound.HEADROOM, False, _AT),
    Phase.REFILL: PhaseGains(1.0, 2.0, Bound.WHOLE, True, _AT),
    Phase.UP: PhaseGains(1.25, 2.25, Bound.WHOLE, True, OfferedLoad.ABOVE_CAPACITY),
    # not in the draft; chosen by simulation: half the pace, where the draft halves the window
    Phase.PROBE_RTT: PhaseGains(0.5, 2.0, Bound.HEADROOM, False, _BELOW),
}

TRANSITIONS: dict[tuple[Phase, PhaseEvent], Phase] = {
    (Phase.STARTUP, PhaseEvent.PIPE_FULL): Phase.DRAIN,
    (Phase.DRAIN, PhaseEvent.DRAINED): Phase.DOWN,
    (Phase.DOWN, PhaseEvent.DRAINED): Phase.CRUISE,
    (Phase.DOWN, PhaseEvent.PROBE_DUE): Phase.REFILL,
    (Phase.CRUISE, PhaseEvent.PROBE_DUE): Phase.REFILL,
    (Phase.REFILL, PhaseEvent.ROUND_OVER): Phase.UP,
    (Phase.REFILL, PhaseEvent.SATURATED): Phase.DOWN,
    (Phase.UP, PhaseEvent.SATURATED): Phase.DOWN,
    (Phase.STARTUP, PhaseEvent.PROBE_RTT_DUE): Phase.PROBE_RTT,
    (Phase.DOWN, PhaseEvent.PROBE_RTT_DUE): Phase.PROBE_RTT,
    (Phase.CRUISE, PhaseEvent.PROBE_RTT_DUE): Phase.PROBE_RTT,
    (Phase.REFILL, PhaseEvent.PROBE_RTT_DUE): Phase.PROBE_RTT,
    (Phase.UP, PhaseEvent.PROBE_RTT_DUE): Phase.PROBE_RTT,
    (Phase.PROBE_RTT, PhaseEvent.MIN_RTT_MEASURED): Phase.CRUISE,
    (Phase.PROBE_RTT, PhaseEvent.MIN_RTT_MEASURED_EARLY): Phase.STARTUP,
}
"""(phase, event) -> next phase. A pair that is not listed changes nothing. DRAIN lasts four rounds at most,
so a stale minimum waits until DRAIN is over."""
