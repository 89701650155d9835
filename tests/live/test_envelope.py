"""Tests with an envelope around KCP's datagrams, over real sockets."""

from __future__ import annotations

from typing import Any

import pytest

from iperfpy.errors import IperfpyError, PlanError
from iperfpy.plan import Direction
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings
from iperfpy.protocols.metrics import Side
from tests.iperfpy.support import Recorder, measure, plan_for, serving

pytestmark = pytest.mark.live

DIRECTIONS = (Direction.FORWARD, Direction.REVERSE)
KINDS = {"kcp": KcpSettings, "kcp-bbr": KcpBbrSettings}


SECRETS = {"kcp": b"a secret of this test"}


async def run(name: str, direction: Direction, parallel: int = 1, **settings: Any) -> Recorder:
    async with serving(secrets=SECRETS) as server:
        changes = {"direction": direction, "rate_bps": 20_000_000, "parallel": parallel}
        plan = plan_for(name, settings=KINDS[name](**settings), **changes)
        return await measure(server.port, plan, secrets=SECRETS)


def figure(report: Recorder, side: Side, key: str) -> Any:
    (row,) = report.end_rows
    sample = row.of(side)
    assert sample is not None
    return sample.values[key]


@pytest.mark.parametrize("direction", DIRECTIONS, ids=["forward", "reverse"])
@pytest.mark.parametrize("name", list(KINDS))
async def test_data_flows_with_forward_error_correction(name: str, direction: Direction) -> None:
    report = await run(name, direction, fec="4:2")
    sent = figure(report, Side.SENDER, "fec_data_sent")
    assert sent > 20  # a busy machine sends less than the rate
    parity = figure(report, Side.SENDER, "fec_parity_sent")
    # The counts begin within a set: some datagrams opened the stream.
    assert abs(parity - sent // 2) <= 8
    assert figure(report, Side.RECEIVER, "fec_parity_received") > 0
    assert 50 < figure(report, Side.SENDER, "fec_overhead_percent") < 80
    assert figure(report, Side.SENDER, "mtu_bytes") == 1_400


@pytest.mark.parametrize("direction", DIRECTIONS, ids=["forward", "reverse"])
async def test_forward_error_correction_adapts_to_the_stream(direction: Direction) -> None:
    """Over so short a path, parity brings nothing, and the end of the test says so."""
    report = await run("kcp-bbr", direction, fec="auto", crypt="aes-128-gcm")
    assert figure(report, Side.RECEIVER, "fec_unusable") == 0
    assert figure(report, Side.SENDER, "fec_path_loss_percent") < 2.0
    assert figure(report, Side.SENDER, "fec_reason")
    assert report.ended is not None
    assert any("--kcp-fec auto" in warning for warning in report.ended.warnings)


async def test_parallel_streams_with_an_envelope_are_told_apart() -> None:
    """Each has a UDP port of its own, and nothing else names it."""
    report = await run("kcp-bbr", Direction.REVERSE, parallel=3, fec="10:3")
    received = [row.of(Side.RECEIVER) for row in report.end_rows]
    assert len(received) == 3
    assert all(sample is not None and sample.bytes > 0 for sample in received)


async def test_without_forward_error_correction_its_figures_are_not_available() -> None:
    report = await run("kcp", Direction.FORWARD)
    assert figure(report, Side.SENDER, "fec_data_sent") is None
    assert figure(report, Side.SENDER, "recover_percent") is None


@pytest.mark.parametrize("direction", DIRECTIONS, ids=["forward", "reverse"])
@pytest.mark.parametrize(
    ("name", "crypt", "fec"),
    [("kcp", "aes", "off"), ("kcp", "none", "off"), ("kcp-bbr", "aes-128-gcm", "10:3")],
)
async def test_encrypted_data_flows(name: str, crypt: str, fec: str, direction: Direction) -> None:
    report = await run(name, direction, crypt=crypt, fec=fec)
    assert figure(report, Side.RECEIVER, "segments_received") > 50
    assert figure(report, Side.RECEIVER, "crypt_rejected") == 0
    assert figure(report, Side.SENDER, "mtu_bytes") == 1_400


@pytest.mark.parametrize("direction", DIRECTIONS, ids=["forward", "reverse"])
async def test_another_key_ends_the_test_with_a_sentence(direction: Direction) -> None:
    plan = plan_for("kcp", settings=KcpSettings(crypt="aes-128-gcm"), direction=direction)
    async with serving(secrets={"kcp": b"the key of the server"}) as server:
        with pytest.raises(IperfpyError, match=r"nothing that arrives .* is the key \(--kcp-key\)"):
            await measure(server.port, plan, secrets=SECRETS)


async def test_a_server_without_a_key_says_so() -> None:
    plan = plan_for("kcp-bbr", settings=KcpBbrSettings(crypt="aes"))
    async with serving() as server:
        with pytest.raises(IperfpyError, match="at the server: --kcp-crypt aes needs the key"):
            await measure(server.port, plan, secrets=SECRETS)
        with pytest.raises(PlanError, match="needs the key that both ends share"):
            await measure(server.port, plan)
