"""Limits of a server: iperfpy clients get a sentence, stock clients the error number."""

from __future__ import annotations

import asyncio
import os

import pytest

from iperfpy.control.framing import State
from iperfpy.errors import PeerError
from iperfpy.plan import Direction
from tests.iperfpy.support import Peer, Recorder, measure, measure_into, plan_for, serving

pytestmark = pytest.mark.live

PARAMETERS = {"tcp": True, "omit": 0, "time": 10, "num": 0, "blockcount": 0, "parallel": 1, "len": 131072}
LIMIT = r"^the server says: this server's limit for all its tests together is 20.0 Mbit/s$"


async def refusal(port: int, **changes: object) -> tuple[int, int]:
    """Return the answer to a stock client with these parameters: the state and the error number."""
    peer = await Peer.connected(port)
    assert await peer.state() == State.PARAM_EXCHANGE
    peer.send_document(PARAMETERS | changes)
    state, rest = await peer.state(), await peer.rest()
    await peer.close()
    return state, int.from_bytes(rest[:4], "big")


async def test_a_rate_over_the_limit_is_refused_before_the_test() -> None:
    async with serving(rate_limit_bps=20_000_000) as server:
        with pytest.raises(PeerError, match=LIMIT):
            await measure(server.port, plan_for(rate_bps=11_000_000, parallel=2))
        assert await refusal(server.port, bandwidth=20_000_001) == (State.SERVER_ERROR, 27)
        await measure(server.port, plan_for(rate_bps=5_000_000, parallel=2))
    assert len(server.tests) == 1


@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.REVERSE])
async def test_a_test_over_the_rate_limit_is_aborted(direction: Direction) -> None:
    async with serving(rate_limit_bps=20_000_000, rate_window_us=500_000) as server:
        within = asyncio.create_task(
            measure(server.port, plan_for(duration_us=2_000_000, rate_bps=10_000_000))
        )
        with pytest.raises(PeerError, match=LIMIT):
            await measure(server.port, plan_for(duration_us=20_000_000, direction=direction, rate_bps=0))
        assert (await within).sentence == ""
    assert {test.sentence for test in server.tests} == {
        "",
        "this server's limit for all its tests together is 20.0 Mbit/s",
    }


async def test_a_test_over_the_duration_limit_is_refused() -> None:
    async with serving(longest_us=1_000_000) as server:
        with pytest.raises(PeerError, match=r"runs tests of at most 1 s \(-t and -O together\)"):
            await measure(server.port, plan_for(duration_us=900_000, omit_us=200_000))
        assert await refusal(server.port) == (State.SERVER_ERROR, 37)
        assert await refusal(server.port, time=0, num=1000) == (State.SERVER_ERROR, 37)
        await measure(server.port, plan_for(duration_us=300_000))


async def test_a_busy_server_says_when_to_try_again() -> None:
    async with serving(max_tests=1) as server:
        first = asyncio.create_task(measure(server.port, plan_for(duration_us=3_000_000)))
        await server.started()
        with pytest.raises(PeerError, match=r"is busy running a test: try again in about [23] s$"):
            await measure(server.port, plan_for())
        stock = await Peer.connected(server.port)
        assert await stock.state() == State.ACCESS_DENIED
        await stock.close()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_a_server_for_one_test_ends_after_the_idle_timeout() -> None:
    async with serving(one_off=True, idle_us=200_000) as server:
        assert server.task is not None
        async with asyncio.timeout(5):
            assert await asyncio.shield(server.task)
    assert not server.tests


async def test_the_idle_timeout_does_not_end_a_running_test() -> None:
    async with serving(one_off=True, idle_us=400_000) as server:
        report = await measure(server.port, plan_for(duration_us=900_000))
        assert server.task is not None
        assert await server.task
    assert report.end_rows[0].local.seconds > 0.8


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processes are not bound here")
async def test_the_client_chooses_the_servers_processor() -> None:
    usual = os.sched_getaffinity(0)
    chosen = max(usual)
    during: list[set[int]] = []
    recorder = Recorder(lambda: during.append(os.sched_getaffinity(0)), after=1)
    async with serving() as server:
        await measure_into(recorder, server.port, plan_for(server_cpu=chosen))
        await server.settled()
        with pytest.raises(PeerError, match="this server cannot run on processor 1023"):
            await measure(server.port, plan_for(server_cpu=1023))
    assert during == [{chosen}]
    assert os.sched_getaffinity(0) == usual
