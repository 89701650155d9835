"""Tables of the rules that end a test: complete, and consistent with the knowledge of each end."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from iperfpy.plan import Direction, EndCondition, Plan, Role
from iperfpy.protocols.settings import Settings
from iperfpy.traffic.ending import END, PEER, STOPS_BY_CLOCK, EndEvent, EndRule

CASES = list(product(Role, EndCondition, Direction))
PLANS: dict[EndCondition, dict[str, Any]] = {
    EndCondition.TIME: {"duration_us": 1_000_000},
    EndCondition.AMOUNT: {"duration_us": 0, "total_bytes": 1000},
    EndCondition.INTERRUPT: {"duration_us": 0},
}


def plan_of(condition: EndCondition, direction: Direction, omit_us: int = 0) -> Plan:
    return Plan("any", Settings(), direction, omit_us=omit_us, **PLANS[condition])


def rule(
    role: Role,
    condition: EndCondition,
    direction: Direction,
    *,
    stock: bool = False,
    omit_us: int = 0,
    may_lose: bool = False,
) -> EndRule:
    plan = plan_of(condition, direction, omit_us)
    return EndRule.of(role, plan, peer_is_iperfpy=not stock, may_lose=may_lose)


def test_the_tables_have_every_case_and_no_other() -> None:
    assert set(END) == set(CASES)
    assert set(PEER) == set(product(Role, (True, False)))
    assert set(CASES) >= STOPS_BY_CLOCK


@pytest.mark.parametrize(("condition", "direction"), list(product(EndCondition, Direction)))
def test_the_client_decides_and_the_server_waits_for_test_end(
    condition: EndCondition, direction: Direction
) -> None:
    client = END[Role.CLIENT, condition, direction]
    server = END[Role.SERVER, condition, direction]
    assert EndEvent.TEST_END not in client
    assert server[0] is EndEvent.TEST_END
    assert plan_of(condition, direction).ends_by is condition
    assert rule(Role.CLIENT, condition, direction).knows_end
    assert not rule(Role.SERVER, condition, direction).knows_end


@pytest.mark.parametrize("direction", Direction)
def test_an_amount_is_complete_at_its_receiver(direction: Direction) -> None:
    server_receives = direction is not Direction.REVERSE
    assert (EndEvent.SETTLED in END[Role.SERVER, EndCondition.AMOUNT, direction]) is server_receives
    client = END[Role.CLIENT, EndCondition.AMOUNT, direction]
    assert (EndEvent.ALL_SENT in client) is (direction is not Direction.REVERSE)
    assert (EndEvent.ALL_RECEIVED in client) is (direction is not Direction.FORWARD)


@pytest.mark.parametrize(("role", "condition", "direction"), CASES)
def test_only_a_server_that_only_receives_stops_by_its_clock(
    role: Role, condition: EndCondition, direction: Direction
) -> None:
    expected = (role, condition, direction) == (Role.SERVER, EndCondition.TIME, Direction.FORWARD)
    assert rule(role, condition, direction).stops_by_clock is expected


@pytest.mark.parametrize("direction", [Direction.REVERSE, Direction.BIDIRECTIONAL])
def test_a_server_sends_a_stock_client_more_than_the_amount_only_if_it_may_be_lost(
    direction: Direction,
) -> None:
    """Such a client ends the test when the amount has arrived, and would wait for lost datagrams for ever."""
    stock = rule(Role.SERVER, EndCondition.AMOUNT, direction, stock=True)
    assert (stock.stops_senders, stock.limits_senders, stock.whole_blocks) == (False, True, True)
    lossy = rule(Role.SERVER, EndCondition.AMOUNT, direction, stock=True, may_lose=True)
    assert (lossy.stops_senders, lossy.limits_senders) == (False, False)
    for may_lose in (False, True):
        ours = rule(Role.SERVER, EndCondition.AMOUNT, direction, may_lose=may_lose)
        assert (ours.stops_senders, ours.limits_senders, ours.whole_blocks) == (True, True, False)


def test_a_server_does_not_know_the_amount_after_an_omitted_period() -> None:
    assert not rule(Role.SERVER, EndCondition.AMOUNT, Direction.REVERSE, omit_us=1).limits_senders
    assert rule(Role.CLIENT, EndCondition.AMOUNT, Direction.FORWARD, omit_us=1).limits_senders


@pytest.mark.parametrize(("condition", "direction"), list(product(EndCondition, Direction)))
def test_a_stock_server_gets_time_to_read_an_amount(condition: EndCondition, direction: Direction) -> None:
    sends_amount = condition is EndCondition.AMOUNT and direction is not Direction.REVERSE
    assert rule(Role.CLIENT, condition, direction, stock=True).lets_peer_read is sends_amount
    assert not rule(Role.CLIENT, condition, direction).lets_peer_read
    assert not rule(Role.SERVER, condition, direction, stock=True).lets_peer_read


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("role", Role)
def test_only_an_end_that_receives_from_an_iperfpy_counts_late_arrivals(
    role: Role, direction: Direction
) -> None:
    receives = direction is not (Direction.FORWARD if role is Role.CLIENT else Direction.REVERSE)
    assert rule(role, EndCondition.TIME, direction).counts_late is receives
    assert not rule(role, EndCondition.TIME, direction, stock=True).counts_late


@pytest.mark.parametrize(("role", "condition", "direction"), CASES)
def test_only_senders_of_a_server_stop_by_its_clock_and_only_if_the_plan_has_a_time(
    role: Role, condition: EndCondition, direction: Direction
) -> None:
    """A stock client is sent data until it has seen EXCHANGE_RESULTS."""
    expected = role is Role.SERVER and condition is EndCondition.TIME
    assert rule(role, condition, direction).senders_stop_by_clock is expected
    assert not rule(role, condition, direction, stock=True).senders_stop_by_clock


@pytest.mark.parametrize(("role", "condition", "direction"), CASES)
def test_both_ends_count_again_what_may_be_lost(
    role: Role, condition: EndCondition, direction: Direction
) -> None:
    assert rule(role, condition, direction, may_lose=True).counts_late
    stock = rule(role, condition, direction, stock=True, may_lose=True)
    assert stock.counts_late
    client_sends = role is Role.CLIENT and direction is not Direction.REVERSE
    assert stock.lets_peer_read is client_sends


@pytest.mark.parametrize(("role", "condition", "direction"), CASES)
def test_a_silence_ends_an_amount_that_a_stock_server_may_have_sent(
    role: Role, condition: EndCondition, direction: Direction
) -> None:
    expected = role is Role.CLIENT and condition is EndCondition.AMOUNT
    assert rule(role, condition, direction, stock=True, may_lose=True).silence_ends is expected
    assert not rule(role, condition, direction, stock=True).silence_ends
    assert not rule(role, condition, direction, may_lose=True).silence_ends


@pytest.mark.parametrize(("role", "condition", "direction"), CASES)
def test_a_server_tells_when_it_has_sent_the_whole_amount(
    role: Role, condition: EndCondition, direction: Direction
) -> None:
    """Its client cannot know that the rest was lost. A stock client is not told, and is sent more instead."""
    server_sends_amount = (
        role is Role.SERVER and condition is EndCondition.AMOUNT and direction is not Direction.FORWARD
    )
    assert rule(role, condition, direction).tells_finished is server_sends_amount
    assert not rule(role, condition, direction, stock=True).tells_finished
    assert not rule(role, condition, direction, omit_us=1).tells_finished


@pytest.mark.parametrize("condition", EndCondition)
@pytest.mark.parametrize("omit_us", [0, 1])
def test_a_server_tells_the_end_of_its_file(condition: EndCondition, omit_us: int) -> None:
    plan = plan_of(condition, Direction.REVERSE, omit_us)
    assert EndRule.of(Role.SERVER, plan, peer_is_iperfpy=True, sends_file=True).tells_finished
    assert not EndRule.of(Role.SERVER, plan, peer_is_iperfpy=False, sends_file=True).tells_finished


@pytest.mark.parametrize("condition", EndCondition)
@pytest.mark.parametrize(("sends", "receives"), [(True, False), (False, True), (True, True)])
def test_an_end_that_measures_alone_decides_by_what_it_sees(
    condition: EndCondition, sends: bool, receives: bool
) -> None:
    """The peer does not say that the test is over: a message of the end is not awaited."""
    plan = plan_of(condition, Direction.FORWARD)
    alone = EndRule.alone(plan, sends=sends, receives=receives, ends_with_silence=False)
    expected = {
        EndCondition.TIME: [EndEvent.TIME_OVER],
        EndCondition.AMOUNT: [EndEvent.ALL_SENT] * sends + [EndEvent.ALL_RECEIVED] * receives,
        EndCondition.INTERRUPT: [EndEvent.ABORT],
    }[condition]
    assert list(alone.events) == expected
    assert alone.silence_fails
    assert not alone.whole_blocks
    assert not alone.tells_finished


def test_a_silence_is_the_end_of_a_test_that_has_no_other() -> None:
    for condition in EndCondition:
        plan = plan_of(condition, Direction.FORWARD)
        rule = EndRule.alone(plan, sends=False, receives=True, ends_with_silence=True)
        has_none = condition is EndCondition.INTERRUPT
        assert (EndEvent.SILENT in rule.events) is rule.ends_with_silence is has_none
        assert rule.silence_fails is not has_none
