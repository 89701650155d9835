"""The schedule of a diagnosis: within its time, within its bytes, and fair to each transport."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iperfpy.experiments import path_check
from iperfpy.experiments.check_schedule import (
    BULK,
    BULK_ROUND_TRIPS,
    DIRECTIONS,
    FULL,
    LADDER,
    QUICK,
    TCP,
    TELLING,
    UDP,
    CheckStep,
    Form,
    Scale,
    StepPart,
    Timing,
    bytes_of,
    cost_s,
    idle_step,
    lengths,
    limited,
    opening,
    opening_within,
    remainder,
    remainder_within,
    replanned,
    seconds_of,
    usable,
)
from iperfpy.experiments.serial_tests import ACK_SHARE, CONTROL_BYTES, SHORTEST_S, TrafficBudget
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction

TIMING = Timing()
CAPACITY = {Direction.FORWARD: 20e6, Direction.REVERSE: 100e6}


def whole(scale: Scale, rtt_s: float) -> tuple[list[CheckStep], float]:
    """Return every step of a diagnosis, and its seconds."""
    planned = lengths(scale, rtt_s, TIMING)
    steps = [idle_step(scale), *opening(planned), *remainder(planned, scale)]
    return steps, seconds_of(steps, TIMING.overhead_s(rtt_s))


@pytest.mark.parametrize("rtt_ms", [0.1, 5, 20, 50, 100, 149, 151, 170, 250, 300, 600])
def test_a_diagnosis_takes_the_promised_time(rtt_ms: float) -> None:
    _, seconds = whole(FULL, rtt_ms / 1e3)
    promised = 60 if rtt_ms <= 150 else 120
    assert 0.7 * promised <= seconds <= promised + 0.01


@pytest.mark.parametrize("rtt_ms", [0.1, 20, 50, 100, 150, 170])
def test_a_quick_one_takes_twenty_seconds(rtt_ms: float) -> None:
    _, seconds = whole(QUICK, rtt_ms / 1e3)
    assert 16 <= seconds <= 20.01


def test_a_path_that_is_too_long_for_the_time_gets_the_least_tests() -> None:
    steps, seconds = whole(QUICK, 2.0)
    assert seconds > 20
    assert len(steps) == 1 + 2 * usable(BULK)[-1].tests


@pytest.mark.parametrize("rtt_ms", [0.1, 50])
def test_a_short_path_gets_the_whole_ladder_and_three_rounds(rtt_ms: float) -> None:
    steps, _ = whole(FULL, rtt_ms / 1e3)
    for way in DIRECTIONS:
        own = [step for step in steps if step.direction is way]
        assert sorted(step.share for step in own if step.part is StepPart.RUNG) == list(LADDER)
        for number in (1, 2, 3):
            tests = [step.transport for step in own if step.round == number]
            assert sorted(tests) == sorted((*BULK, UDP))
            assert tests[0] == TCP


def test_every_test_is_long_enough_for_its_path() -> None:
    for rtt_s in (0.0001, 0.05, 0.15, 0.17, 0.6):
        steps, _ = whole(FULL, rtt_s)
        assert min(step.seconds for step in steps if step.part is StepPart.RUNG) >= max(0.5, 4 * rtt_s)
        assert min(step.seconds for step in steps if step.part is StepPart.BULK) >= max(0.8, 15 * rtt_s)


def test_a_rung_that_overloads_the_path_comes_after_a_pause() -> None:
    steps, _ = whole(FULL, 0.02)
    for step in steps:
        assert step.pause_s == (1.0 if step.part is StepPart.RUNG and step.share > 0.95 else 0.0)
    assert cost_s(steps[0], 0.2) == steps[0].seconds + 0.2
    assert cost_s(replace(steps[0], pause_s=1.0), 0.2) == steps[0].seconds + 1.0


def test_there_is_time_for_a_further_rung_of_each_direction() -> None:
    steps, seconds = whole(FULL, 0.02)
    further = next(step for step in steps if step.pause_s)
    assert seconds + 2 * cost_s(further, TIMING.overhead_s(0.02)) <= 60.01


def test_the_order_of_a_round_alternates() -> None:
    steps, _ = whole(FULL, 0.02)
    last = {step.round: step.transport for step in steps if step.direction is Direction.FORWARD}
    assert last[1] == last[3] == UDP
    assert last[2] == BULK[1]


def test_the_ladder_is_shuffled_by_its_seed_alone() -> None:
    planned = lengths(FULL, 0.02, TIMING)
    one, same, other = (
        [step.share for step in remainder(planned, FULL, seed) if step.part is StepPart.RUNG]
        for seed in (1, 1, 2)
    )
    assert one == same != other
    assert one[:8] not in (sorted(one[:8]), sorted(one[:8], reverse=True))


def test_a_server_without_kcp_gets_rounds_without_it() -> None:
    planned = lengths(FULL, 0.02, TIMING, (TCP,))
    assert {step.transport for step in [*opening(planned), *remainder(planned, FULL)]} == {TCP, UDP}


def test_a_slow_start_shortens_the_ladder_and_keeps_the_length_of_a_round() -> None:
    planned = lengths(FULL, 0.02, TIMING)
    late = replanned(planned, 36.0, 0.4, FULL, 0.02)
    assert late.bulk == planned.bulk
    assert late.form.rounds == 3
    assert late.form.tests < planned.form.tests or late.rung < planned.rung
    overdue = replanned(planned, -5.0, 0.4, FULL, 0.02)
    assert overdue.rung == FULL.least_rung


@pytest.mark.parametrize("overhead_s", [0.7, 0.8, 0.9])
def test_a_slow_machine_keeps_three_rounds_of_shorter_tests(overhead_s: float) -> None:
    """On a path of 60 ms: without three rounds UDP is not compared with TCP."""
    rtt_s = 0.06
    planned = lengths(FULL, rtt_s, TIMING)
    begun_s = 2.5 + seconds_of(opening(planned), overhead_s)
    late = replanned(planned, FULL.total - begun_s, overhead_s, FULL, rtt_s)
    assert late.form.rounds == 3
    assert late.bulk >= BULK_ROUND_TRIPS * rtt_s
    assert late.rung >= FULL.least_rung
    rest_s = seconds_of(remainder(late, FULL), overhead_s)
    assert begun_s + rest_s <= FULL.total + 1e-6


# -- the budget


def planned_within(total_bytes: int) -> tuple[list[CheckStep], list[CheckStep], TrafficBudget]:
    budget = TrafficBudget(total_bytes)
    kept, out = remainder_within(remainder(lengths(FULL, 0.02, TIMING), FULL), budget, CAPACITY)
    return kept, out, budget


def test_without_a_budget_nothing_is_limited() -> None:
    kept, out, budget = planned_within(0)
    assert not out
    assert not any(step.limit_bytes for step in kept)
    assert limited(kept[0], budget) == kept[0]
    assert not budget.spent


@pytest.mark.parametrize("total_bytes", [10_000_000, 30_000_000, 100_000_000, 10_000_000_000])
def test_the_limits_of_all_steps_fit_into_the_budget(total_bytes: int) -> None:
    kept, out, _ = planned_within(total_bytes)
    assert kept
    assert sum(step.limit_bytes + CONTROL_BYTES for step in kept) <= total_bytes
    assert all(step.seconds >= SHORTEST_S for step in kept)
    assert bool(out) == (total_bytes < 100_000_000)


def test_a_small_budget_leaves_out_rounds_before_rungs() -> None:
    kept, out, _ = planned_within(30_000_000)
    assert {step.round for step in out} <= {2, 3}
    assert all(step.part is StepPart.RUNG or step.round == 2 for step in kept)


def test_a_smaller_one_keeps_the_overload_and_the_rates_far_below() -> None:
    kept, _, _ = planned_within(12_000_000)
    for way in DIRECTIONS:
        assert {1.25, 0.50} <= {step.share for step in kept if step.direction is way}
    assert not any(step.share == 0.10 for step in kept)
    assert set(TELLING) == set(LADDER)


def test_a_tiny_budget_leaves_out_everything() -> None:
    kept, out, _ = planned_within(1_000)
    assert not kept
    assert len(out) == len(remainder(lengths(FULL, 0.02, TIMING), FULL))


def test_the_first_rounds_get_a_part_of_the_budget() -> None:
    budget = TrafficBudget(6_000_000)
    steps = opening_within(opening(lengths(FULL, 0.02, TIMING)), budget)
    assert {step.limit_bytes for step in steps} == {500_000 - CONTROL_BYTES}


def test_a_step_may_not_send_more_than_is_left() -> None:
    budget = TrafficBudget(1_000_000)
    step = CheckStep(StepPart.BULK, Direction.FORWARD, TCP, 1.0, 1, limit_bytes=600_000)
    assert limited(step, budget).limit_bytes == 600_000
    budget.spend(600_000)
    assert budget.left_bytes == 400_000 - CONTROL_BYTES
    assert limited(step, budget).limit_bytes == 400_000 - 2 * CONTROL_BYTES
    assert limited(replace(step, limit_bytes=0), budget).limit_bytes == 400_000 - 2 * CONTROL_BYTES
    budget.spend(400_000)
    assert budget.spent
    assert budget.left_bytes == 0


def test_acknowledgements_are_a_part_of_the_budget() -> None:
    plain, acknowledged = TrafficBudget(), TrafficBudget()
    plain.spend(1_000_000)
    acknowledged.spend(1_000_000, acknowledged=True)
    assert acknowledged.spent_bytes - plain.spent_bytes == 1_000_000 * ACK_SHARE


def test_expected_bytes_follow_rate_and_time() -> None:
    steps = [
        CheckStep(StepPart.RUNG, Direction.FORWARD, UDP, 2.0, share=0.5),
        CheckStep(StepPart.BULK, Direction.REVERSE, TCP, 1.0, 1),
        CheckStep(StepPart.IDLE, Direction.FORWARD, UDP, 5.0),
    ]
    assert bytes_of(steps, CAPACITY) == 2.0 * 10e6 / 8 + 100e6 / 8


def test_forms_get_smaller() -> None:
    assert [form.tests for form in usable(BULK)] == sorted(
        (form.tests for form in usable(BULK)), reverse=True
    )
    assert Form(2, (0.5, 1.0), (TCP,), udp=False).tests == 4


def test_progress_names_directions_and_shares_as_the_result_does() -> None:
    assert path_check.described(CheckStep(StepPart.RUNG, Direction.FORWARD, UDP, 2.0, share=1.25)) == (
        "up: UDP at 125 % of the estimate"
    )
    assert path_check.described(CheckStep(StepPart.UDP, Direction.REVERSE, UDP, 2.0, 1, share=0.9)) == (
        "down: round 1, UDP at 90 % of TCP's rate"
    )
    assert (
        path_check.described(CheckStep(StepPart.BULK, Direction.REVERSE, TCP, 2.0, 1)) == "down: round 1, tcp"
    )


def test_the_first_line_has_the_numbers_of_a_direction() -> None:
    planned = lengths(FULL, 0.02, TIMING)
    line = path_check.PathCheck(ClientOptions("192.0.2.7"))._promise(0.02, planned)
    rates, rounds = len(planned.form.ladder), planned.form.rounds
    assert f"(per direction, at most {rates} rates of UDP and {rounds} rounds;" in line


def test_the_announced_numbers_are_those_of_the_steps() -> None:
    planned = lengths(FULL, 0.02, TIMING)
    steps = remainder(replanned(planned, 36.0, 0.4, FULL, 0.02), FULL)
    rungs = sum(step.part is StepPart.RUNG for step in steps)
    assert path_check._counted(steps) == f"{rungs} rates of UDP, 4 more rounds"
    assert rungs < 2 * len(planned.form.ladder)
    assert path_check._counted([step for step in steps if step.part is not StepPart.RUNG]) == "4 more rounds"
