"""A path that goes silent in mid-test: rows of zeros until the planned end, then a sentence at both ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
import uvloop

from iperfpy.errors import LateError, PathError
from iperfpy.plan import Direction
from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.registry import transports
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.traffic.guarded_channel import GuardedChannel
from tests.iperfpy.support import HURRIED, Recorder, Relay, measure_into, plan_for, relayed, serving

pytestmark = pytest.mark.live

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
DIRECTIONS = [Direction.FORWARD, Direction.REVERSE]
QUIET = Deadlines(stall_s=0.1, row_s=0.05, quiet_s=0.5, farewell_s=0.1)
"""Limits of a test with a planned end: `stall_s` must not matter."""


class DatagramRelay(asyncio.DatagramProtocol):
    """Relays the datagrams of one client; a frozen relay drops them in both directions."""

    def __init__(self, server: SocketAddress) -> None:
        self.frozen = False
        self._server = server
        self._client: SocketAddress | None = None
        self._inside: asyncio.DatagramTransport | None = None
        self._outside: asyncio.DatagramTransport | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, port: int, server_port: int) -> AsyncIterator[DatagramRelay]:
        relay, loop = cls(("127.0.0.1", server_port)), asyncio.get_running_loop()
        relay._inside, _ = await loop.create_datagram_endpoint(lambda: relay, local_addr=("127.0.0.1", port))
        relay._outside, _ = await loop.create_datagram_endpoint(
            lambda: _Outside(relay), remote_addr=("127.0.0.1", server_port)
        )
        try:
            yield relay
        finally:
            relay._inside.close()
            relay._outside.close()

    def datagram_received(self, data: bytes, addr: SocketAddress) -> None:
        self._client = addr
        if not self.frozen and self._outside is not None:
            self._outside.sendto(data)

    def from_server(self, data: bytes) -> None:
        if not self.frozen and self._inside is not None and self._client is not None:
            self._inside.sendto(data, self._client)


class _Outside(asyncio.DatagramProtocol):
    def __init__(self, relay: DatagramRelay) -> None:
        self._relay = relay

    def datagram_received(self, data: bytes, addr: SocketAddress) -> None:
        self._relay.from_server(data)


@contextlib.asynccontextmanager
async def silenced(server_port: int) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """The port of a relay for connections and datagrams, and the function that silences it."""

    def freeze(connections: Relay, datagrams: DatagramRelay) -> None:
        connections.freeze()
        datagrams.frozen = True

    async with relayed(server_port) as connections, DatagramRelay.open(connections.port, server_port) as udp:
        yield connections.port, lambda: freeze(connections, udp)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_silence_is_rows_of_zeros_until_the_planned_end(loop: str, direction: Direction) -> None:
    """All transports at once. Both ends then say since when nothing has come, and keep their figures."""

    async def one(name: str) -> None:
        plan = plan_for(name, duration_us=1_500_000, direction=direction, rate_bps=1_000_000)
        async with serving(QUIET) as server, silenced(server.port) as (port, freeze):
            recorder = Recorder(freeze)
            with pytest.raises(
                LateError, match=r"^nothing has come from the server since \d\.\d s into the test"
            ):
                await measure_into(recorder, port, plan, QUIET)
            assert recorder.intervals[-1][0].local.end_us > 1_400_000
            assert recorder.end_rows[0].local.bytes > 0
            # A TCP sender fills the buffers of the relay, and the datagrams of a UDP sender leave.
            if name.startswith("kcp") or direction is Direction.REVERSE:
                assert recorder.intervals[-1][0].local.bytes == 0
            await server.settled()
            assert server.tests[0].sentence.startswith("nothing has come from the client since ")

    async def all_transports() -> None:
        await asyncio.gather(*(one(name) for name in transports()))

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(all_transports())


async def test_a_silent_server_ends_a_test_without_a_planned_end() -> None:
    """A UDP sender cannot tell by its payload, which goes on: only the server's figures stop."""
    deadlines = replace(HURRIED, stall_s=0.4)
    plan = plan_for("udp", duration_us=0, rate_bps=1_000_000)
    async with serving(deadlines) as server, silenced(server.port) as (port, freeze):
        with pytest.raises(LateError, match=r"^nothing has come from the server since \d\.\d s"):
            await measure_into(Recorder(freeze), port, plan, deadlines)
        await server.settled()
        assert server.tests[0].sentence in ("no data has moved for 0.4 s", "no data has come for 0.4 s")


async def test_a_stall_of_the_data_ends_a_test_without_a_planned_end() -> None:
    """Without intervals (-i 0) the stall is noticed all the same."""
    deadlines = replace(HURRIED, stall_s=0.4)
    plan = plan_for(duration_us=0, interval_us=0, direction=Direction.REVERSE)
    async with serving(replace(HURRIED, stall_s=5)) as server, relayed(server.port) as relay:
        recorder = Recorder(relay.freeze, after=0)
        with pytest.raises(PathError, match=r"no data has moved for 0\.4 s"):
            await measure_into(recorder, relay.port, plan, deadlines)


@pytest.mark.parametrize("name", sorted(transports()))
async def test_an_amount_whose_end_is_not_acknowledged_is_no_result(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def drain(channel: GuardedChannel) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(GuardedChannel, "drain", drain)
    deadlines, recorder = replace(HURRIED, stall_s=0.4), Recorder()
    plan = plan_for(name, total_bytes=100_000, rate_bps=0)
    async with serving(replace(HURRIED, stall_s=5)) as server:
        with pytest.raises(PathError, match=r"nothing of it was acknowledged for 0\.4 s"):
            await measure_into(recorder, server.port, plan, deadlines)
        await server.settled()
    assert recorder.ended is not None
    assert recorder.ended.failed
