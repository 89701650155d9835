"""The lines of a comparison about its cost, before the rounds and after the first one."""

from __future__ import annotations

import pytest

from iperfpy.experiments.compare_schedule import Lengths
from iperfpy.experiments.comparison_run import Compare
from iperfpy.experiments.contender import contenders_of
from iperfpy.experiments.measured_contenders import RoundCosts
from iperfpy.experiments.serial_tests import PlannedTest
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.registry import transports
from iperfpy.store.stored_run import Run


def compare(rounds: int, budget_bytes: int = 0) -> Compare:
    made = Compare(
        ClientOptions("192.0.2.7"), contenders_of(["tcp", "kcp"]), limit_s=40.0, budget_bytes=budget_bytes
    )
    made._lengths = Lengths(test_s=3.2, round_s=38.0, rounds=rounds)
    return made


@pytest.mark.parametrize(
    ("rounds", "cost"),
    [
        (1, "1 round of 12 tests of up to 3.2 s: 38 s, about 40 s in all"),
        (9, "up to 9 rounds of 12 tests of up to 3.2 s, 38 s each, about 40 s in all"),
    ],
)
def test_the_first_line_has_the_cost_as_far_as_it_is_known(rounds: int, cost: str) -> None:
    begin = f"the round-trip time is 41.3 ms, {cost}"
    assert compare(rounds)._promise(0.0413, 12, {}) == f"{begin}; the bytes are known after the first round"
    assert compare(rounds, 5 << 20)._promise(0.0413, 12, {}) == f"{begin}, at most 5.00 MiB"
    probed = compare(rounds)._promise(0.0413, 12, {Direction.FORWARD: 10 * 2**20})
    assert probed.startswith(f"{begin}; by a probe of TCP, at least about 8.00 MiB a round, ")


def test_a_round_that_is_longer_than_the_time_promises_no_other_time() -> None:
    made = compare(1)
    made._lengths = Lengths(test_s=1.2, round_s=44.0, rounds=1)
    assert made._promise(0.0413, 12, {}).split("; ")[0].endswith("1 round of 12 tests of up to 1.2 s: 44 s")


class Probed(Compare):
    """A comparison whose tests beside the rounds are noted, and not run."""

    def __init__(self, limit_s: float, budget_bytes: int = 0) -> None:
        contenders = contenders_of(["tcp", "kcp"])
        super().__init__(
            ClientOptions("192.0.2.7"), contenders, limit_s=limit_s, budget_bytes=budget_bytes, seed=1
        )
        plan = Plan("tcp", transports()["tcp"].settings(), Direction.FORWARD, duration_us=300_000)
        self._found.witness = PlannedTest(plan, ClientOptions("192.0.2.7"))
        self.aside: list[PlannedTest] = []

    async def _aside(self, test: PlannedTest, text: str) -> list[Run]:
        self.aside.append(test)
        return []


@pytest.mark.parametrize(
    ("limit_s", "rtt_s", "probed"), [(40.0, 0.17, True), (10.0, 0.04, False), (40.0, 0.3, False)]
)
async def test_a_probe_tells_the_bytes_if_it_takes_a_small_part_of_the_time(
    limit_s: float, rtt_s: float, probed: bool
) -> None:
    made = Probed(limit_s)
    await made._probe(rtt_s)
    assert len(made.aside) == (2 if probed else 1)
    seconds = sum(one.plan.duration_us for one in made.aside) / 1e6
    assert seconds <= 0.07 * limit_s


async def test_a_probe_takes_a_small_part_of_a_budget() -> None:
    made = Probed(60.0, 20_000_000)
    await made._probe(0.04)
    assert [one.plan.direction for one in made.aside] == [Direction.FORWARD, Direction.REVERSE]
    assert all(one.options.longest_us == 500_000 for one in made.aside)
    assert sum(one.plan.total_bytes for one in made.aside) < 20_000_000 / 8


def test_tests_within_a_budget_outlast_their_start_up() -> None:
    """At 20 Mbit/s a sixth of 20 MiB, or a second of it, is sent before the start-up is over."""
    made = Probed(60.0, 20 << 20)
    made._lengths = Lengths(test_s=2.0, startup_s=1.0)
    each = made._test_limit_bytes(0.04, dict.fromkeys((Direction.FORWARD, Direction.REVERSE), 20e6))
    assert all(8 * limit / 20e6 > 1.0 + 0.9 for limit in each.values())
    # Without a rate to go by, six rounds of tests of a megabyte at least.
    assert all(limit < 2_000_000 for limit in made._test_limit_bytes(0.04, {}).values())


def test_a_slow_direction_leaves_its_part_of_a_budget_to_the_fast_one() -> None:
    made = Probed(60.0, 200_000_000)
    made._lengths = Lengths(test_s=2.0, startup_s=1.0)
    made._limit_bytes = made._test_limit_bytes(0.04, {Direction.FORWARD: 100e6, Direction.REVERSE: 1e6})
    fast, slow = (made._planned(made._contenders[0], way) for way in (Direction.FORWARD, Direction.REVERSE))
    assert fast is not None
    assert slow is not None
    assert 8 * fast.limit_bytes / 100e6 > 1.9
    assert fast.limit_bytes > 20 * slow.limit_bytes
    assert 8 * slow.limit_bytes / 1e6 > 1.9
    # A direction whose probe failed may be as fast as the other one.
    first, second = made._test_limit_bytes(0.04, {Direction.FORWARD: 100e6}).values()
    assert first == second


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
