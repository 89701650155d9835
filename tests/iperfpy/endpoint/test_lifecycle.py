"""The order of the steps of a running test: every stage with every step."""

from __future__ import annotations

import pytest

from iperfpy.endpoint.lifecycle import CLIENT, SERVER, Lifecycle, LifecycleStep, Stage, Table
from iperfpy.plan import Role

ORDERS = {
    Role.CLIENT: [
        *(LifecycleStep.START, LifecycleStep.STOP, LifecycleStep.COUNT_LATE),
        *(LifecycleStep.SEND_RESULTS, LifecycleStep.TAKE_RESULTS, LifecycleStep.CONCLUDE),
    ],
    Role.SERVER: [
        *(LifecycleStep.START, LifecycleStep.STOP, LifecycleStep.TAKE_RESULTS, LifecycleStep.COUNT_LATE),
        *(LifecycleStep.SHOW_OUTPUT, LifecycleStep.SEND_RESULTS, LifecycleStep.CONCLUDE),
    ],
}


@pytest.mark.parametrize("role", Role)
def test_the_complete_order_is_allowed(role: Role) -> None:
    lifecycle = Lifecycle(role)
    for step in ORDERS[role]:
        lifecycle.take(step)
    assert lifecycle.stage is Stage.OVER


@pytest.mark.parametrize("role", Role)
def test_no_step_can_be_left_out(role: Role) -> None:
    """The exception is the server's report, which only some clients request."""
    order = ORDERS[role]
    for left_out in range(len(order) - 1):
        if order[left_out] is LifecycleStep.SHOW_OUTPUT:
            continue
        lifecycle = Lifecycle(role)
        for step in order[:left_out]:
            lifecycle.take(step)
        with pytest.raises(RuntimeError, match="out of order"):
            lifecycle.take(order[left_out + 1])


@pytest.mark.parametrize("role", Role)
def test_a_test_can_fail_at_every_stage_and_nothing_follows(role: Role) -> None:
    order = ORDERS[role]
    for length in range(1, len(order)):
        lifecycle = Lifecycle(role)
        for step in order[:length]:
            lifecycle.take(step)
        lifecycle.take(LifecycleStep.STOP)
        assert lifecycle.take(LifecycleStep.FAIL) is not Stage.OVER
        assert lifecycle.take(LifecycleStep.FAIL) is Stage.OVER
        for step in set(LifecycleStep) - {LifecycleStep.STOP, LifecycleStep.FAIL}:
            with pytest.raises(RuntimeError, match="out of order"):
                lifecycle.take(step)


@pytest.mark.parametrize("table", [CLIENT, SERVER])
def test_every_stage_leads_to_the_end(table: Table) -> None:
    """From every stage that can be reached, CONCLUDE can be reached."""
    reached, ahead = {Stage.READY}, [Stage.READY]
    while ahead:
        for following in table[ahead.pop()].values():
            if following not in reached:
                reached.add(following)
                ahead.append(following)
    before_the_end = {stage for stage, steps in table.items() if LifecycleStep.CONCLUDE in steps}
    assert before_the_end == {Stage.EXCHANGED}
    assert Stage.OVER in reached


def test_stopping_twice_stops_once() -> None:
    lifecycle = Lifecycle(Role.SERVER)
    lifecycle.take(LifecycleStep.START)
    assert lifecycle.take(LifecycleStep.STOP) is Stage.RUNNING
    assert lifecycle.take(LifecycleStep.STOP) is Stage.STOPPED


ALONE_ORDER = (LifecycleStep.START, LifecycleStep.STOP, LifecycleStep.COUNT_LATE, LifecycleStep.CONCLUDE)


def test_an_end_that_measures_alone_exchanges_no_results() -> None:
    lifecycle = Lifecycle(Role.CLIENT, alone=True)
    for step in ALONE_ORDER:
        lifecycle.take(step)
    assert lifecycle.stage is Stage.OVER
    for left_out in range(len(ALONE_ORDER) - 1):
        shorter = Lifecycle(Role.CLIENT, alone=True)
        for step in ALONE_ORDER[:left_out]:
            shorter.take(step)
        with pytest.raises(RuntimeError, match="out of order"):
            shorter.take(ALONE_ORDER[left_out + 1])
