"""The lines of a comparison about its cost, before the rounds and after the first one."""

from __future__ import annotations

import pytest

from iperfpy.experiments.compare_schedule import Lengths
from iperfpy.experiments.comparison_run import Compare
from iperfpy.experiments.contender import contenders_of
from iperfpy.experiments.measured_contenders import RoundCosts
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction


def compare(rounds: int, budget_bytes: int = 0) -> Compare:
    made = Compare(
        ClientOptions("192.0.2.7"), contenders_of(["tcp", "kcp"]), limit_s=40.0, budget_bytes=budget_bytes
    )
    made._lengths = Lengths(test_s=3.2, round_s=38.0, rounds=rounds)
    return made


@pytest.mark.parametrize(
    ("rounds", "cost"),
    [
        (1, "1 round of 12 tests of up to 3.2 s: 38 s, at most 40 s"),
        (9, "up to 9 rounds of 12 tests of up to 3.2 s, 38 s each, at most 40 s"),
    ],
)
def test_the_first_line_has_the_cost_as_far_as_it_is_known(rounds: int, cost: str) -> None:
    begin = f"the round-trip time is 41.3 ms, {cost}"
    assert compare(rounds)._promise(0.0413, 12, {}) == f"{begin}; the bytes are known after the first round"
    assert compare(rounds, 5 << 20)._promise(0.0413, 12, {}) == f"{begin} and 5.00 MiB"
    probed = compare(rounds)._promise(0.0413, 12, {Direction.FORWARD: 10 * 2**20})
    assert probed.startswith(f"{begin}; by a probe of TCP, at least about 8.00 MiB a round, ")


@pytest.mark.parametrize(
    ("first_s", "further"),
    [
        (41.0, "no time for another whole round; single tests follow"),
        (20.0, "up to 1 more round, 3.00 MiB"),
        (10.0, "up to 3 more rounds, 9.00 MiB"),
    ],
)
def test_the_line_after_the_first_round_has_the_cost_of_the_others(first_s: float, further: str) -> None:
    costs = RoundCosts()
    costs.end(first_s, 3 << 20)
    begin = f"the first round took {first_s:.0f} s and sent 3.00 MiB"
    assert compare(9)._cost(costs) == f"{begin}: {further}"
