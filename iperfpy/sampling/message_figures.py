"""Figures of a message test: percentiles, jitter, lateness, losses, overhead, and both ways of a round trip.

    figures(times, ...)   of one test, or of several pooled
    ways(times, clock)    (there, back) of each answered message, for a difference of the clocks

A percentile is given only if at least `BEYOND` samples lie beyond it: P99 from 1,000 answered messages on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from iperfpy.records import UNANSWERED, MessageTimes, RoundTrips
from iperfpy.sampling.clock_difference import Basis, ClockDifference, split

BEYOND = 10
"""Least number of samples beyond a percentile."""
PERCENTILES: Mapping[str, float] = {"p50_us": 50.0, "p90_us": 90.0, "p99_us": 99.0, "p999_us": 99.9}
"""Field of `MessageFigures` -> percentile."""
LATE_US = 200_000
"""A message is late if it was not answered within this time."""

Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MessageFigures:
    """The figures of one message test, or of several pooled. Times are microseconds; None: not known.

    Parameters
    ----------
    due, sent, answered : messages that were to be sent, that the transport took, and that were echoed
    lost : messages that were due and not echoed
    repeated : echoes that had arrived before
    p50_us ... p999_us : percentiles of the round trips of answered messages
    jitter_us : mean difference between the round trips of successive answered messages, without sign
    late_percent : messages that were not answered within `LATE_US`, lost ones included, per cent of those due
    lost_percent : lost messages, per cent of those due
    wire_ratio : bytes of IP packets per byte of messages and echoes, both directions together
    held_p99_us : percentile of the time from which a message was due until the transport took it
    there_p50_us, there_p99_us, back_p50_us, back_p99_us : percentiles of the two ways of a round trip, for a
        known difference of the clocks
    """

    due: int
    sent: int
    answered: int
    lost: int
    repeated: int
    min_us: float | None = None
    mean_us: float | None = None
    p50_us: float | None = None
    p90_us: float | None = None
    p99_us: float | None = None
    p999_us: float | None = None
    max_us: float | None = None
    stdev_us: float | None = None
    jitter_us: float | None = None
    late_percent: float | None = None
    lost_percent: float | None = None
    wire_ratio: float | None = None
    held_p99_us: float | None = None
    there_p50_us: float | None = None
    there_p99_us: float | None = None
    back_p50_us: float | None = None
    back_p99_us: float | None = None

    def record(self) -> dict[str, float | int | None]:
        """Every figure by name."""
        return asdict(self)


def round_trips(times: RoundTrips) -> Times:
    """Round trips of the answered messages, (n,) float64, microseconds, in the order of their numbers."""
    trips: Times = times.round_trip_us[times.round_trip_us != UNANSWERED].astype(np.float64)
    return trips


def percentile(samples: Times, percent: float) -> float | None:
    """The percentile of (n,) samples, or None if fewer than `BEYOND` of them lie beyond it."""
    if len(samples) * (100.0 - percent) < 100.0 * BEYOND * (1 - 1e-9):
        return None
    return float(np.percentile(samples, percent))


def late_percent(trips: Times, due: int) -> float | None:
    """Messages that were not answered within `LATE_US`, per cent of those due; None if none was due.

    Parameters
    ----------
    trips : (n,) round trips of the answered messages, microseconds
    due : messages that were to be sent; one without an answer is late
    """
    return 100.0 * (due - int(np.count_nonzero(trips <= LATE_US))) / due if due else None


def ways(test: MessageTimes, clock: ClockDifference) -> tuple[Times, Times]:
    """(there, back) of the answered messages, (n,) each, microseconds, for a difference of the clocks.

    An estimated difference may be a little wrong: then no way is shorter than nothing, or longer than both.
    """
    there, back = split(test, clock)
    if clock.basis is not Basis.SYMMETRIC:
        return there, back
    trips = there + back
    there = np.clip(there, 0.0, trips)
    return there, trips - there


def figures(*tests: MessageTimes, clocks: Sequence[ClockDifference | None] = ()) -> MessageFigures:
    """The figures of one test, or of several pooled.

    Parameters
    ----------
    tests : of the same transport, size and rate
    clocks : the difference of the clocks for each test, for the two ways; empty: they are left out
    """
    trips = np.concatenate([round_trips(one) for one in tests]) if tests else np.empty(0)
    due, answered = sum(len(one.round_trip_us) for one in tests), len(trips)
    steps = [np.abs(np.diff(round_trips(one))) for one in tests]
    jumps = np.concatenate(steps) if steps else np.empty(0)
    known = {name: percentile(trips, percent) for name, percent in PERCENTILES.items()}
    held = np.concatenate([one.held_us for one in tests]).astype(np.float64) if tests else np.empty(0)
    return MessageFigures(
        due=due,
        sent=sum(one.sent for one in tests),
        answered=answered,
        lost=due - answered,
        repeated=sum(one.repeated for one in tests),
        min_us=float(trips.min()) if answered else None,
        mean_us=float(trips.mean()) if answered else None,
        max_us=float(trips.max()) if answered else None,
        stdev_us=float(trips.std(ddof=1)) if answered > 1 else None,
        jitter_us=float(jumps.mean()) if len(jumps) else None,
        late_percent=late_percent(trips, due),
        lost_percent=100.0 * (due - answered) / due if due else None,
        wire_ratio=_wire_ratio(tests),
        held_p99_us=percentile(held, 99.0),
        **known,
        **_ways(tests, clocks),
    )


def _wire_ratio(tests: Sequence[RoundTrips]) -> float | None:
    wire, payload = 0, 0
    for one in tests:
        if one.wire_bytes is None:
            return None
        wire += sum(one.wire_bytes)
        payload += one.size_bytes * (one.sent + int(np.count_nonzero(one.round_trip_us != UNANSWERED)))
    return wire / payload if payload else None


def _ways(tests: Sequence[MessageTimes], clocks: Sequence[ClockDifference | None]) -> dict[str, float | None]:
    pairs = zip(tests, clocks, strict=bool(clocks))
    known = [ways(one, clock) for one, clock in pairs if clock is not None]
    if not known:
        return {}
    found: dict[str, float | None] = {}
    for name, parts in (("there", [one[0] for one in known]), ("back", [one[1] for one in known])):
        samples = np.concatenate(parts)
        found |= {f"{name}_p{percent:g}_us": percentile(samples, percent) for percent in (50.0, 99.0)}
    return found
