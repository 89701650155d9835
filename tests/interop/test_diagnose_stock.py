"""A diagnosis against a stock iperf3 server: TCP and UDP in both directions, and the rest is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iperfpy.experiments.check_schedule import TCP, UDP
from iperfpy.experiments.path_check import PathCheck
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction
from iperfpy.report.diagnosis_text import lines
from tests.live.tiny_diagnosis import TINY

pytestmark = pytest.mark.interop

SCALE = replace(TINY, rung=0.2, least_rung=0.15, bulk=0.4, least_bulk=0.3)


async def test_a_stock_server_gives_tcp_rounds_and_udp_rungs(iperf3_server: int) -> None:
    check = PathCheck(ClientOptions("127.0.0.1", iperf3_server), SCALE)
    await check.run()
    report = check.report()
    assert check.error is None, report.error
    assert report.peer_is_iperfpy is False
    assert [one.direction for one in report.directions] == [Direction.FORWARD, Direction.REVERSE]
    for one in report.directions:
        assert {run.transport for tests in one.evidence.rounds for run in tests} == {TCP, UDP}
        assert one.evidence.rungs
        assert all(rung.sent and not rung.rtt_us for rung in one.evidence.rungs)
    text = "\n".join("".join(piece for piece, _ in line) for line in lines(report))
    assert "a stock iperf3 server" in text
    assert "kcp-bbr (the server is a stock iperf3)" in text
    assert "no grade" in text
