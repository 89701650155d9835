"""The tests of a comparison as data: their lengths, their order, and the end of the rounds. Pure functions.

A round runs every contender in every direction once, in random order, with a rest before each test: a run
depends on the run before it (token buckets, queues, the path's own changes), and the order of a table would
favour some of them in every round (Uta et al., NSDI 2020).

Rounds go on until the interval of each median is narrow enough (CONFIRM, Maricq et al., OSDI 2018), or the
time or the bytes are used up. All tests of a comparison have one length, because they are compared.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from iperfpy.experiments.serial_tests import ACK_SHARE, CONTROL_BYTES
from iperfpy.plan import Direction
from iperfpy.sampling.order_statistics import FEWEST_FOR_MEDIAN, median_interval

DEFAULT_S = 480.0
NARROW = 0.05
"""Width of the interval of a median, as a share of the median, below which no more rounds are needed."""

STARTUP_S, STARTUP_ROUND_TRIPS, STARTUP_SHARE = 1.0, 20.0, 2 / 3
"""Start-up that the steady rate leaves out: 20 round trips, at least 1 s, at most that part of the test."""
STEADY_S, STEADY_ROUND_TRIPS = 3.0, 20.0
"""Time behind the start-up that a test gets if there is time for it."""
LEAST_STEADY_S, LEAST_STEADY_ROUND_TRIPS = 1.0, 10.0
"""Shortest time behind the start-up, for the sake of a further round. Data that waits behind the losses of a
start-up is delivered after it, so a start-up must never be cut for a round."""
SHORTEST_TEST_S = 1.2
"""Shortest test at all, in a comparison that has no time for a round of longer ones: the third of it behind
the start-up has the intervals that a steady rate needs."""
REST_SHARE, LEAST_REST_S, MOST_REST_S = 0.1, 0.2, 1.0
"""Rest before a test, as a share of its length, and its limits in seconds."""
MESSAGE_S, MESSAGE_BYTES, MESSAGES_PER_S = 2.0, 100, 100
"""The messages of a contender in a round: six rounds have enough of them for a 99th percentile."""
LEAST_TEST_BYTES = 1_000_000
"""Bytes of IP packets that each test may send at least, unless even one round of such tests is too much."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One test of the schedule.

    Parameters
    ----------
    contender : its place in the user's order
    direction : of the bulk data; None: the test has messages, which are echoed
    round : 1, 2, ...
    """

    contender: int
    direction: Direction | None
    round: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """The lengths of a comparison, in seconds.

    Parameters
    ----------
    test_s, startup_s, rest_s : each test, its start-up, and the rest before it
    message_s : a test of messages
    pause_s : the part of the rest that is not taken by setting the test up
    round_s : a round
    rounds : number of rounds for which there is time
    """

    test_s: float = 0.0
    startup_s: float = 0.0
    rest_s: float = 0.0
    message_s: float = 0.0
    pause_s: float = 0.0
    round_s: float = 0.0
    rounds: int = 0


def startup_s(rtt_s: float, test_s: float) -> float:
    """The start-up of a test, seconds."""
    return min(_whole_startup_s(rtt_s), STARTUP_SHARE * test_s)


def _whole_startup_s(rtt_s: float) -> float:
    return max(STARTUP_S, STARTUP_ROUND_TRIPS * rtt_s)


def rest_s(test_s: float) -> float:
    """The rest before a test, seconds."""
    return min(MOST_REST_S, max(LEAST_REST_S, REST_SHARE * test_s))


def lengths(time_s: float, bulk: int, messages: int, rtt_s: float, overhead_s: float) -> Lengths:
    """The lengths with which the time holds enough rounds for an interval, or else as many as it can.

    Parameters
    ----------
    time_s : seconds for all rounds
    bulk, messages : number of tests of a round, with bulk data and with messages
    rtt_s : idle round-trip time
    overhead_s : seconds of a test beside its data
    """
    startup = _whole_startup_s(rtt_s)
    wanted = startup + max(STEADY_S, STEADY_ROUND_TRIPS * rtt_s)
    least = least_test_s(rtt_s)

    def round_s(test_s: float) -> float:
        rest = max(overhead_s, rest_s(test_s))
        return bulk * (test_s + rest) + messages * (min(MESSAGE_S, test_s) + rest)

    for rounds in range(FEWEST_FOR_MEDIAN, 0, -1):
        test_s = _largest(lambda test_s: round_s(test_s) <= time_s / rounds, wanted)  # noqa: B023 - called here
        if test_s >= least:
            break
    test_s = max(test_s, SHORTEST_TEST_S)
    rest = rest_s(test_s)
    return Lengths(
        test_s,
        startup_s(rtt_s, test_s),
        rest,
        min(MESSAGE_S, test_s),
        max(0.0, rest - overhead_s),
        round_s(test_s),
        max(1, int(time_s / round_s(test_s) + 1e-6)),
    )


def _largest(fits: Callable[[float], bool], most: float) -> float:
    """The largest value up to `most` that fits, to a millisecond; values below a fitting one fit, too."""
    if fits(most):
        return most
    low, high = 0.0, most
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def round_turns(
    contenders: int, directions: Sequence[Direction], number: int, seed: int, last: Iterable[int] = ()
) -> list[Turn]:
    """The tests of a round, in random order.

    Parameters
    ----------
    last : contenders with bulk data that comes behind all others, because its rate follows theirs
    """
    parts: tuple[Direction | None, ...] = (*directions, None)
    turns = [Turn(each, part, number) for each in range(contenders) for part in parts]
    random.Random(f"{seed} {number}").shuffle(turns)
    behind = set(last)
    return sorted(turns, key=lambda turn: turn.contender in behind and turn.direction is not None)


def converged(rates: Iterable[Sequence[float]]) -> bool:
    """True if the median of every contender in every direction is known well enough.

    Parameters
    ----------
    rates : steady rates of the tests, for each contender and direction
    """
    every = list(rates)
    return bool(every) and all(map(_is_narrow, every))


def _is_narrow(rates: Sequence[float]) -> bool:
    if len(rates) < FEWEST_FOR_MEDIAN:
        return False
    found = median_interval(rates)
    return not found.is_range and found.high - found.low < NARROW * found.median


def least_test_s(rtt_s: float) -> float:
    """Shortest test that outlasts its start-up by enough for a good rate, seconds."""
    return _whole_startup_s(rtt_s) + max(LEAST_STEADY_S, LEAST_STEADY_ROUND_TRIPS * rtt_s)


def limit_bytes_of(budget_bytes: int, contenders: int, wanted_bytes: Sequence[int]) -> tuple[int, ...]:
    """Bytes of IP packets that each test of a direction may send within a budget; 0: no limit.

    The budget is divided into as many rounds as an interval needs, or fewer if the tests would be too small.
    A round is divided by the bytes that the directions need: with equal parts, tests of a slow direction
    could not spend theirs, while those of a fast one ended early, or had fewer rounds.

    Parameters
    ----------
    budget_bytes : for all rounds, 0: no limit
    contenders : with bulk data; each has a test in every direction of a round
    wanted_bytes : for each direction, IP bytes of a test that outlasts its start-up; 0: not known

    Returns
    -------
    tuple of int
        One for each direction.
    """
    if not budget_bytes:
        return (0,) * len(wanted_bytes)
    least = [max(LEAST_TEST_BYTES, one) for one in wanted_bytes]
    for rounds in range(FEWEST_FOR_MEDIAN, 0, -1):
        control_bytes = CONTROL_BYTES * len(least)
        every = (budget_bytes / (rounds * contenders) - control_bytes) / (1 + ACK_SHARE)
        if every >= sum(least):
            break
    return tuple(max(1, int(every * one / sum(least))) for one in least)
