"""Idle and loaded round-trip times of every transport, in every direction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iperfpy.plan import Direction
from iperfpy.protocols.registry import transports
from iperfpy.protocols.udp import own
from tests.iperfpy.support import measure, plan_for, serving

pytestmark = pytest.mark.live


@pytest.mark.parametrize("direction", Direction, ids=lambda one: one.value)
@pytest.mark.parametrize("name", list(transports()))
async def test_both_ends_report_idle_and_loaded_rtt(name: str, direction: Direction) -> None:
    async with serving() as server:
        plan = plan_for(name, direction=direction, rate_bps=20_000_000)
        report = await measure(server.port, plan)
        await server.settled()
        there = server.tests[0].ended
    assert report.ended is not None
    assert there is not None
    for latency in (report.ended.latency, there.latency):
        assert latency.idle_rtt_us is not None
        assert 0 < latency.idle_rtt_us < 1e6
        assert latency.loaded_rtt_us_min is not None
        assert latency.loaded_rtt_us is not None
        assert latency.loaded_rtt_us_max is not None
        assert 0 < latency.loaded_rtt_us_min <= latency.loaded_rtt_us <= latency.loaded_rtt_us_max
        assert latency.responsiveness_rpm == pytest.approx(60e6 / latency.loaded_rtt_us)
    # Each end takes its own samples, so the values are only similar.
    assert report.ended.latency.loaded_rtt_us == pytest.approx(there.latency.loaded_rtt_us, rel=0.5)


async def test_without_echoes_only_the_idle_rtt_is_known() -> None:
    """Without echoes the loaded RTT is unknown; the idle RTT comes from the control connection."""
    async with serving() as server:
        plan = plan_for("udp", rate_bps=1_000_000)
        plan = replace(plan, settings=replace(own(plan.settings), no_rtt=True))
        report = await measure(server.port, plan)
    assert report.ended is not None
    assert report.ended.latency.idle_rtt_us is not None
    assert report.ended.latency.loaded_rtt_us is None
    assert report.ended.latency.responsiveness_rpm is None
