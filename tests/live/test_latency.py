"""Idle and loaded round-trip times of every transport, in every direction."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from iperfpy.control.framing import PROBE_ANSWER, PROBE_PREFIX, encode_cookie
from iperfpy.plan import Direction
from iperfpy.protocols.registry import transports
from iperfpy.protocols.udp import own
from iperfpy.records import Responsiveness, RpmConfidence
from tests.iperfpy.support import measure, plan_for, serving

pytestmark = pytest.mark.live


@pytest.mark.parametrize("direction", Direction, ids=lambda one: one.value)
@pytest.mark.parametrize("name", list(transports()))
async def test_both_ends_report_idle_and_loaded_rtt(name: str, direction: Direction) -> None:
    async with serving() as server:
        plan = plan_for(name, direction=direction, rate_bps=5_000_000, duration_us=600_000)
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
        both = direction is Direction.BIDIRECTIONAL
        ways = (Direction.FORWARD, Direction.REVERSE) if both else (direction,)
        assert tuple(latency.bufferbloat_us) == ways
        for p95_us in filter(None, (latency.forward_rtt_us_p95, latency.reverse_rtt_us_p95)):
            assert latency.loaded_rtt_us_min <= p95_us <= latency.loaded_rtt_us_max
        # A load of a rate that the user chose does not seek the capacity of the path.
        assert latency.responsiveness == Responsiveness()
    # Each end takes its own samples, so the values are only similar.
    assert report.ended.latency.loaded_rtt_us == pytest.approx(there.latency.loaded_rtt_us, rel=0.5)


@pytest.mark.parametrize(
    ("name", "direction"),
    [("tcp", Direction.FORWARD), ("tcp", Direction.REVERSE), ("kcp-bbr", Direction.BIDIRECTIONAL)],
    ids=lambda one: getattr(one, "value", one),
)
async def test_a_full_load_has_a_responsiveness_with_both_kinds_of_probes(
    name: str, direction: Direction
) -> None:
    async with serving() as server:
        report = await measure(
            server.port, plan_for(name, direction=direction, duration_us=1_000_000, rate_bps=0)
        )
        await server.settled()
        (there,) = server.tests
    assert report.ended is not None
    assert there.ended is not None
    here, at_server = report.ended.latency.responsiveness, there.ended.latency.responsiveness
    assert here.foreign_probes > 0
    assert here.self_probes > 0
    assert here.confidence is RpmConfidence.LOW
    assert here.rpm == pytest.approx(((here.foreign_rpm or 0) + (here.loaded_rpm or 0)) / 2)
    # The server learns the self probes of both ends; it sends no foreign ones.
    assert at_server.loaded_rpm == pytest.approx(here.loaded_rpm, rel=0.01)
    assert (at_server.rpm, at_server.confidence, at_server.foreign_rpm) == (None, None, None)


async def test_the_user_can_switch_the_probes_off() -> None:
    async with serving() as server:
        plan = plan_for("tcp", duration_us=500_000, rate_bps=0)
        report = await measure(server.port, plan, probes=False)
    assert report.ended is not None
    found = report.ended.latency.responsiveness
    assert found.loaded_rpm is not None
    assert found.foreign_rpm is found.rpm is None
    assert found.foreign_probes == 0


async def test_a_server_answers_probes_without_a_test_and_without_a_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with serving() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(encode_cookie(PROBE_PREFIX + "a" * 22))
        assert await reader.read() == PROBE_ANSWER
        writer.close()
        assert not server.tests
    assert not [record for record in caplog.records if record.name.startswith("iperfpy.endpoint")]


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
