"""Tests that a server refuses at the start, and tests that it ends because of the total rate."""

from __future__ import annotations

from typing import Any

import pytest

from iperfpy.endpoint.client_limits import TotalRate, check_limits
from iperfpy.errors import PlanError
from iperfpy.options import ServerOptions
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.settings import Settings

SECOND_US = 1_000_000


def plan(**changes: Any) -> Plan:
    return Plan("any", Settings(), **changes)


@pytest.mark.parametrize(
    ("changes", "limits", "i_errno"),
    [
        ({}, {}, 0),
        ({"duration_us": 0}, {}, 0),
        ({"duration_us": 10 * SECOND_US}, {"longest_us": 10 * SECOND_US}, 0),
        ({"duration_us": 10 * SECOND_US, "omit_us": 1}, {"longest_us": 10 * SECOND_US}, 37),
        ({"duration_us": 0}, {"longest_us": 10 * SECOND_US}, 37),
        ({"duration_us": 0, "total_bytes": 5, "omit_us": 1}, {"longest_us": 10 * SECOND_US}, 37),
        ({"rate_bps": 0}, {"rate_limit_bps": 100}, 0),
        ({"rate_bps": 60}, {"rate_limit_bps": 100}, 0),
        ({"rate_bps": 61}, {"rate_limit_bps": 100}, 27),
        ({"rate_bps": 30, "parallel": 2}, {"rate_limit_bps": 100}, 0),
        ({"rate_bps": 30, "parallel": 2, "direction": Direction.BIDIRECTIONAL}, {"rate_limit_bps": 100}, 27),
    ],
)
def test_a_test_is_admitted_or_refused(changes: dict[str, Any], limits: dict[str, Any], i_errno: int) -> None:
    """Another test with a rate of 40 bit/s is running."""
    running = [plan(rate_bps=20, parallel=2)]
    if not i_errno:
        check_limits(plan(**changes), ServerOptions(**limits), running)
        return
    with pytest.raises(PlanError) as caught:
        check_limits(plan(**changes), ServerOptions(**limits), running)
    assert caught.value.i_errno == i_errno


def test_the_fastest_test_is_chosen_when_the_average_exceeds_the_limit() -> None:
    total: TotalRate[str] = TotalRate(8_000_000, 2 * SECOND_US)
    assert total.observe(0, {}) is None
    assert total.observe(SECOND_US, {"slow": 500_000, "fast": 5_000_000}) is None
    assert total.observe(2 * SECOND_US, {"slow": 500_000, "fast": 5_000_000}) == "fast"
    assert total.observe(3 * SECOND_US, {"slow": 500_000, "fast": 5_000_000}) is None


def test_a_burst_within_the_average_is_allowed() -> None:
    total: TotalRate[str] = TotalRate(8_000_000, 5 * SECOND_US)
    moved = 0
    for second in range(20):
        moved += 4_000_000 if second % 5 == 0 else 200_000
        assert total.observe(second * SECOND_US, {"one": moved}) is None


def test_a_test_that_began_within_the_window_counts_in_full() -> None:
    total: TotalRate[str] = TotalRate(8_000_000, SECOND_US)
    assert total.observe(0, {"old": 10**9}) is None
    assert total.observe(SECOND_US, {"old": 10**9, "new": 1_000_001}) == "new"
