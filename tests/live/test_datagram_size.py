"""The size of KCP's datagrams over loopback; its interface takes packets of 65,536 bytes."""

from __future__ import annotations

import pytest

from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Side
from tests.iperfpy.support import measure, plan_for, serving

pytestmark = [pytest.mark.live, pytest.mark.linux]


@pytest.mark.parametrize("name", ["kcp", "kcp-bbr"])
@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.REVERSE])
@pytest.mark.parametrize(
    ("offload", "shares_port", "size"), [(True, True, 1_400), (False, True, 8_972), (False, False, 8_972)]
)
async def test_long_datagrams_are_found_where_each_costs_a_call(
    name: str,
    direction: Direction,
    offload: bool,
    shares_port: bool,
    size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a shared port, a server sends from one socket for all of its clients."""
    monkeypatch.setenv("IPERFPY_NO_OFFLOAD", "0" if offload else "1")
    monkeypatch.setattr("iperfpy.protocols.datagrams.server_port.can_share_ports", lambda: shares_port)
    async with serving() as server:
        report = await measure(
            server.port, plan_for(name, direction=direction, duration_us=100_000, rate_bps=0)
        )
    (row,) = report.end_rows
    sample = row.of(Side.SENDER)
    assert sample is not None
    assert sample.values["mtu_bytes"] == size
