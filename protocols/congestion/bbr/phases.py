"""BBR's phases and what moves between them, as tables (draft-ietf-ccwg-bbr-05, 5.1.1 and 5.6.1).

        STARTUP -> DRAIN -> DOWN -> CRUISE -> REFILL -> UP -> DOWN ...
        any of them -> PROBE_RTT -> CRUISE, or STARTUP when the pipe was never full

Where this differs from the draft's table:

* DOWN paces at 0.75 of the bandwidth instead of 0.90, and ends as soon as the queue is gone. It drains
  what UP built in about the time UP took, and it is the one moment of a cycle at which the path is
  certainly not overdriven: the loss seen then is the path's own (see noise.py). What is still queued after
  four rounds is not ours, and DOWN ends all the same, as DRAIN does.
* REFILL gives up as UP does when it loses too much: the estimate it refills to is too high.
* STARTUP ends with the first round without growth when the queue grows instead: on a long path three rounds
  with a deep buffer's queue in them last seconds.
* STARTUP may keep 2.77 BDP in flight instead of 2: acknowledgements of lossy paths come in lumps.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Phase(enum.Enum):
    __hash__ = object.__hash__  # Enum's hashes the name, at every look into a table

    STARTUP = "startup"
    DRAIN = "drain"
    DOWN = "down"
    CRUISE = "cruise"
    REFILL = "refill"
    UP = "up"
    PROBE_RTT = "probe rtt"


class Event(enum.Enum):
    PIPE_FULL = "the delivery rate stopped growing, or losses exceed the path's own"
    DRAINED = "no more in flight than the path holds"
    PROBE_TIME = "the wait for the next bandwidth probe is over"
    ROUND_OVER = "one packet-timed round since the phase began"
    SATURATED = "sending faster brings a queue or losses instead of bandwidth"
    RTT_STALE = "the minimum round-trip time has not been seen for too long"
    RTT_KNOWN = "it was measured again, and the pipe has been full before"
    RTT_KNOWN_EARLY = "it was measured again, and the pipe was never full"


class Drive(enum.Enum):
    """How hard a phase drives the path, as far as the loss floor is concerned."""

    BELOW = "below what it carries"
    AT = "at what it is believed to carry"
    ABOVE = "above"
    SEARCHING = "unknown yet"


class Bound(enum.Enum):
    """Which part of the long-term inflight bound holds (draft 5.6.4.7)."""

    NONE = "none"
    WHOLE = "all of it"
    HEADROOM = "less the headroom left to others"


@dataclass(frozen=True, slots=True)
class PhaseGains:
    """A phase: gains on bandwidth and on the bandwidth-delay product, and which bounds hold.

    `probing` phases answer losses by lowering the bound on what is in flight, the others by lowering the
    bandwidth.
    """

    pacing_gain: float
    window_gain: float
    bound: Bound
    probing: bool
    load: Drive


PHASES: dict[Phase, PhaseGains] = {
    Phase.STARTUP: PhaseGains(2.77, 2.77, Bound.NONE, True, Drive.SEARCHING),
    Phase.DRAIN: PhaseGains(0.5, 2.0, Bound.NONE, False, Drive.BELOW),
    Phase.DOWN: PhaseGains(0.75, 2.0, Bound.WHOLE, False, Drive.BELOW),
    Phase.CRUISE: PhaseGains(1.0, 2.0, Bound.HEADROOM, False, Drive.AT),
    Phase.REFILL: PhaseGains(1.0, 2.0, Bound.WHOLE, True, Drive.AT),
    Phase.UP: PhaseGains(1.25, 2.25, Bound.WHOLE, True, Drive.ABOVE),
    Phase.PROBE_RTT: PhaseGains(1.0, 0.5, Bound.HEADROOM, False, Drive.BELOW),
}

TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.STARTUP, Event.PIPE_FULL): Phase.DRAIN,
    (Phase.DRAIN, Event.DRAINED): Phase.DOWN,
    (Phase.DOWN, Event.DRAINED): Phase.CRUISE,
    (Phase.DOWN, Event.PROBE_TIME): Phase.REFILL,
    (Phase.CRUISE, Event.PROBE_TIME): Phase.REFILL,
    (Phase.REFILL, Event.ROUND_OVER): Phase.UP,
    (Phase.REFILL, Event.SATURATED): Phase.DOWN,
    (Phase.UP, Event.SATURATED): Phase.DOWN,
    (Phase.STARTUP, Event.RTT_STALE): Phase.PROBE_RTT,
    (Phase.DOWN, Event.RTT_STALE): Phase.PROBE_RTT,
    (Phase.CRUISE, Event.RTT_STALE): Phase.PROBE_RTT,
    (Phase.REFILL, Event.RTT_STALE): Phase.PROBE_RTT,
    (Phase.UP, Event.RTT_STALE): Phase.PROBE_RTT,
    (Phase.PROBE_RTT, Event.RTT_KNOWN): Phase.CRUISE,
    (Phase.PROBE_RTT, Event.RTT_KNOWN_EARLY): Phase.STARTUP,
}
"""A pair that is not here changes nothing. DRAIN is over in four rounds: a stale minimum waits so long."""
