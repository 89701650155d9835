"""KCP's senders at the end of a timed test: they fall silent, which frees the path for its last messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from iperfpy.control.framing import State, encode_state
from iperfpy.plan import Direction
from iperfpy.protocols.contract import SocketAddress
from iperfpy.traffic import counting_time
from tests.iperfpy.lossy_relay import DatagramRelay, none
from tests.iperfpy.support import measure, plan_for, serving

pytestmark = pytest.mark.live

HOLD_S = 0.6
CARRIED = 40


class HoldingRelay(DatagramRelay):
    """Holds the client's TEST_END for `HOLD_S`, and counts each direction's datagrams in the second half.

    Attributes
    ----------
    late : True while it counts
    forward, backward : data datagrams that came meanwhile
    """

    late = False
    forward = backward = 0

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if data.endswith(encode_state(State.TEST_END)):  # other messages end otherwise
                    await asyncio.sleep(HOLD_S / 2)
                    self._from_clients()  # those that were sent before count as sent before
                    self.late = True
                    await asyncio.sleep(HOLD_S / 2)
                    self.late = False
                writer.write(data)
        except ConnectionError:
            return
        finally:
            writer.close()

    def _is_lost(self, client: SocketAddress, data: bytes, *, forward: bool) -> bool:
        if self.late and len(data) >= 100:
            self.forward += forward
            self.backward += not forward
        return super()._is_lost(client, data, forward=forward)


@asynccontextmanager
async def holding(server_port: int, *, loses: bool) -> AsyncIterator[HoldingRelay]:
    """A relay to the server. `loses`: only the first `CARRIED` datagrams of the client pass."""
    relay = HoldingRelay(server_port, (lambda number: number >= CARRIED) if loses else none, none)
    listener = await relay.listen()
    try:
        yield relay
    finally:
        relay.cut()
        relay.close()
        listener.close()


async def test_a_client_does_not_send_again_what_is_lost_when_the_test_is_over() -> None:
    plan = plan_for("kcp", duration_us=500_000, rate_bps=0)
    async with serving() as server, holding(server.port, loses=True) as relay:
        report = await measure(relay.port, plan)
        await server.settled()
    assert report.ended is not None
    assert not report.ended.failed
    assert relay.forward == 0
    for recorder in (report, server.tests[0]):
        sent, received = recorder.end_rows[0].local, recorder.end_rows[0].peer
        assert sent is not None
        assert received is not None


async def test_a_server_falls_silent_although_test_end_does_not_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TEST_END, or the acknowledgement that lets it leave, may wait behind the server's own data."""
    monkeypatch.setattr(counting_time, "SENDER_GRACE_US", 50_000)
    plan = plan_for("kcp", duration_us=300_000, direction=Direction.REVERSE, rate_bps=0)
    async with serving() as server, holding(server.port, loses=False) as relay:
        report = await measure(relay.port, plan)
    assert report.ended is not None
    assert not report.ended.failed
    assert report.end_rows[0].local.bytes > 0
    assert relay.backward == 0
