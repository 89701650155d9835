"""The difference of the clocks of both ends of a message test, which splits a round trip into its two ways.

    symmetric(idle, drift)   by the shortest round trips, as if these took as long there as back
    drift_of(tests)          the drift of the two clocks against each other, over all tests of two hosts
    told(test)               by the clocks that both ends told (--owd): one host, or synchronised hosts
    fault(tests, clocks)     the proof that told clocks do not agree, if there is one

Each end stamps messages with its monotonic clock. Two hosts have two of them, which drift apart: by 50 parts
per million, or 10 ms in 200 s, if nothing steers them.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iperfpy.records import UNANSWERED, MessageTimes

Times = NDArray[np.float64]

BIN_US = 100_000.0
"""Of all messages of this time, the fastest one counts for the drift."""
LEAST_DRIFT_US = 200.0
"""Change of the clocks' difference during all tests below which it is noise."""
LEAST_FAULT_US = 1_000.0
"""Change of synchronised clocks during all tests, or of a wall clock that was set, that proves them wrong."""
FASTEST_SLEW = 500e-6
"""Rate at which NTP and PTP correct a wall clock without setting it (adjtimex of Linux)."""
STEPS_BACK_US = 50.0
"""Time by which a message may arrive before it left: the wall clock is read that exactly."""


class Basis(enum.Enum):
    """The knowledge behind a difference of clocks."""

    SYMMETRIC = "symmetric"
    SAME_HOST = "same-host"
    SYNCHRONISED = "synchronised"


@dataclass(frozen=True, slots=True)
class ClockDifference:
    """The server's clock less the client's: `offset_us` at `from_us`, and `drift` more for each unit of time.

    Parameters
    ----------
    offset_us : microseconds
    drift : change per time, without unit
    from_us : moment of the client's clock, microseconds
    """

    offset_us: float
    drift: float = 0.0
    from_us: int = 0
    basis: Basis = Basis.SYMMETRIC

    def at_us(self, time_us: int) -> float:
        """The difference at a moment of the client's clock, microseconds."""
        return self.offset_us + self.drift * (time_us - self.from_us)

    def at(self, times_us: Times) -> Times:
        """The difference at moments of the client's clock, (n,), microseconds."""
        moments: Times = self.offset_us + self.drift * (times_us - self.from_us)
        return moments


def symmetric(idle: MessageTimes, drift: float = 0.0) -> ClockDifference | None:
    """The difference if the idle path takes equally long both ways; None if nothing was answered.

    It is the mean over the third of the idle messages with the shortest round trips, as Crusader estimates it
    (github.com/Zoxc/crusader). On an asymmetric path half of the difference of its two ways is wrong.

    Parameters
    ----------
    idle : a test without a load
    drift : of the clocks, by `drift_of`
    """
    numbers, trips, there = _answered(idle)
    if not len(trips):
        return None
    shortest = np.argsort(trips, kind="stable")[: max(1, len(trips) // 3)]
    # A large part of the numbers is common to all: their mean would lose precision beside it.
    base = int(there[0])
    left = numbers[shortest] * idle.interval_us
    offsets = (there[shortest] - base) - trips[shortest] / 2 - drift * left
    return ClockDifference(base + float(np.mean(offsets)), drift, idle.begun_us)


def told(test: MessageTimes) -> ClockDifference | None:
    """The difference by the clocks that both ends told; None if one of them told none.

    Two ends of one host have one monotonic clock. Those of two hosts are compared by the wall clocks, which
    must be synchronised.
    """
    if test.clocks is None:
        return None
    own, peers = test.clocks
    if own.host and own.host == peers.host:
        return ClockDifference(0.0, 0.0, test.begun_us, Basis.SAME_HOST)
    # Where the monotonic clock is not steered with the wall clock, the two drift apart during the test.
    drift = (own.wall_step_us - peers.wall_step_us) / _length_us(test)
    return ClockDifference(float(own.wall_us - peers.wall_us), drift, test.begun_us, Basis.SYNCHRONISED)


def fault(tests: Sequence[MessageTimes], clocks: Sequence[ClockDifference | None]) -> str:
    """The reason why told clocks cannot be believed, a sentence; empty if nothing speaks against them.

    Parameters
    ----------
    tests : all tests between the two hosts
    clocks : the difference for each of them, None: not told
    """
    known = [(test, clock) for test, clock in zip(tests, clocks, strict=True) if clock is not None]
    if len(known) < len(tests):
        return "the server does not tell its clock: update its iperfpy"
    for test, clock in known:
        if clock.basis is Basis.SAME_HOST:
            continue  # its wall clock is not used
        assert test.clocks is not None
        for end, place in zip(test.clocks, ("of this host", "of the server"), strict=True):
            if abs(end.wall_step_us) > LEAST_FAULT_US + FASTEST_SLEW * _length_us(test):
                return f"the clock {place} was set by {end.wall_step_us / 1e3:+.1f} ms during a test"
    ways = [split(test, clock) for test, clock in known]
    for place, arrives in (("the server", 0), ("this host", 1)):
        least = min((float(way[arrives].min()) for way in ways if len(way[arrives])), default=0.0)
        if least < -STEPS_BACK_US:
            early = f"messages arrive at {place} up to {-least / 1e3:.2f} ms before they left"
            return f"the clocks are not synchronised: {early}"
    left_us = [_left_us(test) for test in tests]
    ends = [float(moment) for one in left_us if len(one) for moment in (one[0], one[-1])]
    drift = _drift(left_us, [there for there, _ in ways], [back for _, back in ways])
    change_us = abs(drift) * (max(ends) - min(ends)) if ends else 0.0
    if change_us > LEAST_FAULT_US:
        return f"the clocks are not synchronised: they drift by {change_us / 1e3:.1f} ms during the tests"
    return ""


def split(test: MessageTimes, clock: ClockDifference) -> tuple[Times, Times]:
    """(there, back) of the answered messages, (n,) each, microseconds. Either is negative if the difference
    of the clocks is wrong."""
    _, trips, there_us = _answered(test)
    base = int(clock.offset_us)
    there = (there_us - base).astype(np.float64) - (clock.at(_left_us(test)) - base)
    return there, trips - there


def drift_of(tests: Sequence[MessageTimes]) -> float:
    """The drift of the server's clock against the client's, without unit, over all tests; 0.0: none shows."""
    base = next((int(there[0]) for one in tests for there in [_answered(one)[2]] if len(there)), 0)
    ways = [split(one, ClockDifference(base)) for one in tests]
    return _drift([_left_us(one) for one in tests], [one[0] for one in ways], [one[1] for one in ways])


def _drift(left_us: Sequence[Times], there_us: Sequence[Times], back_us: Sequence[Times]) -> float:
    """The drift by the delays of each way, one array per test.

    The fastest messages of each way lie on a line that the drift tilts: the line below all of them that is
    nearest to them in total is an edge of their lower convex hull (Moon, Skelly and Towsley, INFOCOM 1999).
    A drift lengthens one way by as much as it shortens the other one. Changes that do not cancel so are the
    path's, such as a queue of another load.
    """
    if not any(len(one) for one in left_us):
        return 0.0
    moments = np.concatenate(left_us)
    moments = moments - moments.min()
    up, down = (_tilt(moments, np.concatenate(way)) for way in (there_us, back_us))
    drift = (up - down) / 2
    cancels = abs(up + down) < abs(up - down) / 2
    return drift if cancels and abs(drift) * float(moments.max()) > LEAST_DRIFT_US else 0.0


def _length_us(test: MessageTimes) -> float:
    """Time of the messages."""
    return max(1, len(test.round_trip_us)) * test.interval_us


def _left_us(test: MessageTimes) -> Times:
    """Due times of the answered messages by the client's clock, to an interval; (n,), microseconds."""
    numbers, *_ = _answered(test)
    return test.begun_us + numbers.astype(np.float64) * test.interval_us


def _answered(test: MessageTimes) -> tuple[NDArray[np.int64], Times, NDArray[np.int64]]:
    """(number, round trip, there) of the answered messages, (n,) each."""
    answered = test.round_trip_us != UNANSWERED
    numbers = np.flatnonzero(answered).astype(np.int64)
    return numbers, test.round_trip_us[answered].astype(np.float64), test.there_us[answered]


def _tilt(times_us: Times, delays_us: Times) -> float:
    """Slope of the line below all points that is nearest to them in total."""
    bins = (times_us // BIN_US).astype(np.int64)
    order = np.lexsort((delays_us, bins))
    _, first = np.unique(bins[order], return_index=True)
    fastest = order[first]
    x, y = times_us[fastest], delays_us[fastest]
    hull: list[int] = []
    for point in range(len(x)):
        while len(hull) > 1 and _is_above(x, y, hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    middle = float(x.mean())
    for a, b in itertools.pairwise(hull):
        if x[a] <= middle <= x[b]:
            return float((y[b] - y[a]) / (x[b] - x[a]))
    return 0.0


def _is_above(x: Times, y: Times, a: int, b: int, c: int) -> bool:
    """True if b is not below the line from a to c."""
    return bool((y[b] - y[a]) * (x[c] - x[a]) >= (y[c] - y[a]) * (x[b] - x[a]))
