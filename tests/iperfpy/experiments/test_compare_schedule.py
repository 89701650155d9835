"""The schedule of a comparison: its lengths within the time, its order, its end."""

from __future__ import annotations

from collections import Counter
from itertools import product
from random import Random

import pytest

from iperfpy.experiments import compare_schedule as schedule
from iperfpy.experiments.bulk_figures import FEWEST_POINTS
from iperfpy.experiments.check_schedule import DIRECTIONS, Timing
from iperfpy.experiments.compare_schedule import (
    DEFAULT_S,
    LEAST_TEST_BYTES,
    MESSAGE_S,
    Lengths,
    converged,
    lengths,
    limit_bytes_of,
    rest_s,
    round_turns,
)
from iperfpy.experiments.serial_tests import ACK_SHARE, CONTROL_BYTES
from iperfpy.experiments.step_plans import INTERVAL_US
from iperfpy.sampling.order_statistics import FEWEST_FOR_MEDIAN

TIMING = Timing()


def planned(time_s: float, contenders: int, rtt_s: float) -> Lengths:
    return lengths(time_s, 2 * contenders, contenders, rtt_s, TIMING.overhead_s(rtt_s))


@pytest.mark.parametrize("contenders", [2, 4, 6])
def test_the_rounds_fit_the_time_unless_one_is_too_long(contenders: int) -> None:
    for rtt_ms, time_s in product((0.1, 10, 40, 100, 170, 300), (30, 120, DEFAULT_S, 3600)):
        found = planned(time_s, contenders, rtt_ms / 1e3)
        assert found.rounds >= 1
        assert found.rounds * found.round_s <= time_s + 0.1 or found.test_s == schedule.SHORTEST_TEST_S
        assert 0 < found.startup_s <= schedule.STARTUP_SHARE * found.test_s + 1e-9
        assert found.message_s == min(MESSAGE_S, found.test_s)
        assert found.pause_s <= found.rest_s


@pytest.mark.parametrize("rtt_ms", [0.1, 20, 100, 170])
def test_the_default_time_holds_enough_rounds_for_an_interval(rtt_ms: float) -> None:
    found = planned(DEFAULT_S, 4, rtt_ms / 1e3)
    assert found.rounds >= FEWEST_FOR_MEDIAN
    assert found.startup_s == pytest.approx(max(1.0, 20 * rtt_ms / 1e3), rel=0.01)


def test_more_time_gives_more_rounds_and_not_longer_tests() -> None:
    short, long = planned(DEFAULT_S, 4, 0.04), planned(10 * DEFAULT_S, 4, 0.04)
    assert long.test_s == short.test_s
    assert long.rounds > 9 * short.rounds


def test_little_time_gives_fewer_rounds_rather_than_a_cut_start_up() -> None:
    found = planned(60, 4, 0.085)
    assert found.startup_s == pytest.approx(20 * 0.085)
    assert found.test_s >= 30 * 0.085
    assert found.rounds < FEWEST_FOR_MEDIAN


def test_a_rest_grows_with_the_test() -> None:
    assert [rest_s(length) for length in (0.3, 5.0, 60.0)] == [0.2, 0.5, 1.0]


def test_a_round_has_every_part_of_every_contender_once() -> None:
    turns = round_turns(4, DIRECTIONS, 3, seed=5)
    assert {turn.round for turn in turns} == {3}
    parts = Counter((turn.contender, turn.direction) for turn in turns)
    assert parts == Counter((each, part) for each in range(4) for part in (*DIRECTIONS, None))


def test_the_order_is_random_and_follows_from_the_seed() -> None:
    orders = [
        [(turn.contender, turn.direction) for turn in round_turns(4, DIRECTIONS, n, 5)] for n in range(20)
    ]
    assert len({tuple(order) for order in orders}) == 20
    again = [(turn.contender, turn.direction) for turn in round_turns(4, DIRECTIONS, 7, 5)]
    assert again == orders[7]
    # Every contender comes first about as often as the others.
    first = Counter(round_turns(4, DIRECTIONS, n, 5)[0].contender for n in range(400))
    assert min(first.values()) > 60


def test_a_rate_that_follows_others_comes_last() -> None:
    turns = round_turns(4, DIRECTIONS, 1, seed=1, last=[1])
    assert [turn.contender for turn in turns[-2:]] == [1, 1]
    assert all(turn.direction is not None for turn in turns[-2:])


def test_rounds_end_when_every_median_is_known() -> None:
    narrow, wide = [1.0, 1.01, 1.0, 1.0, 0.99, 1.0, 1.0], [1.0, 1.2, 1.0, 1.0, 0.8, 1.0, 1.0]
    assert converged([narrow, narrow])
    assert not converged([narrow, wide])
    assert not converged([narrow, narrow[:5]])
    assert not converged([])
    assert not converged([[0.0] * 7])


@pytest.mark.parametrize(("spread", "most"), [(0.005, 6), (0.02, 20), (0.05, 90)])
def test_a_quiet_path_needs_fewer_rounds(spread: float, most: int) -> None:
    """In virtual time: rounds of four contenders until all medians are known."""
    counts = []
    for seed in range(20):
        draws = Random(seed)
        rates: list[list[float]] = [[] for _ in range(8)]
        while not converged(rates):
            for one in rates:
                one.append(draws.gauss(20e6, spread * 20e6))
        counts.append(len(rates[0]))
    assert min(counts) >= FEWEST_FOR_MEDIAN
    assert sorted(counts)[10] <= most


@pytest.mark.parametrize("budget", [5_000_000, 50_000_000, 10**9])
def test_six_rounds_fit_the_budget_unless_tests_would_be_tiny(budget: int) -> None:
    each, back = limit_bytes_of(budget, 4, (0, 0))
    assert each == back
    round_bytes = 8 * (each * (1 + ACK_SHARE) + CONTROL_BYTES)
    assert round_bytes <= budget
    if budget >= 100_000_000:
        assert FEWEST_FOR_MEDIAN * round_bytes <= budget
    assert limit_bytes_of(0, 4, (0, 0)) == (0, 0)


def test_there_are_fewer_rounds_rather_than_tests_that_end_in_their_start_up() -> None:
    budget, contenders = 20_000_000, 4
    (each,) = limit_bytes_of(budget, contenders, (2_000_000,))
    assert each >= 2_000_000
    assert limit_bytes_of(budget, contenders, (0,)) < (2_000_000,)
    # A single round is planned even if its tests are too small.
    assert limit_bytes_of(budget, contenders, (10**8,)) == limit_bytes_of(budget, contenders, (3_000_000,))


def test_directions_of_different_speed_have_bytes_for_as_many_rounds() -> None:
    """100 and 1 Mbit/s: two seconds of the fast direction need 26 MB, those of the slow one 0.26 MB."""
    budget, contenders, wanted = 700_000_000, 4, (26_000_000, 260_000)
    fast, slow = limit_bytes_of(budget, contenders, wanted)
    assert slow >= LEAST_TEST_BYTES
    assert fast >= 26_000_000
    assert limit_bytes_of(budget, contenders, wanted[::-1]) == (slow, fast)
    # Six rounds spend the budget, though a test of the slow direction sends no more than it needs.
    for rounds, fits in ((6, True), (7, False)):
        spent = rounds * contenders * (fast * (1 + ACK_SHARE) + slow * (1 + ACK_SHARE) + 2 * CONTROL_BYTES)
        assert (spent <= budget) is fits
    # Equal parts end three rounds earlier, because a fast test needs its bytes.
    assert 3 * contenders * 2 * 26_000_000 <= budget < 4 * contenders * 2 * 26_000_000


def test_the_shortest_test_has_enough_intervals_behind_its_start_up() -> None:
    found = planned(5, 4, 0.04)
    assert found.test_s == schedule.SHORTEST_TEST_S
    assert (found.test_s - found.startup_s) * 1e6 >= FEWEST_POINTS * INTERVAL_US - 1
