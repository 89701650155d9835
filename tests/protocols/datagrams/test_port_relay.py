"""The server's port on a system that shares a port with every user or with none."""

from __future__ import annotations

import asyncio
import socket

import numpy as np
import pytest

from iperfpy.plan import Direction
from iperfpy.protocols.contract import Stream
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket
from iperfpy.protocols.datagrams.path_mtu import PortSizes
from iperfpy.protocols.datagrams.port_relay import PortRelay
from iperfpy.protocols.datagrams.server_port import SharedPort
from iperfpy.protocols.errors import StreamPathError
from iperfpy.protocols.metrics import Side
from iperfpy.protocols.operating_system import ABSENT, IP_MTU
from iperfpy.protocols.registry import transport
from iperfpy.protocols.testing.loopback import (
    BlockLoad,
    LoopbackClient,
    LoopbackServer,
    bytes_of,
    loopback_pairs,
    until,
)
from tests.iperfpy.nat import behind_nat
from tests.iperfpy.support import measure, plan_for, serving

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def without_sharing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iperfpy.protocols.datagrams.server_port.can_share_ports", lambda: False)


@pytest.mark.parametrize("name", ["udp", "kcp", "kcp-bbr"])
async def test_streams_of_both_directions_are_carried(name: str) -> None:
    chosen = transport(name)
    async with loopback_pairs(chosen, chosen.settings(), False, True, False) as pairs:
        for pair in pairs:
            await pair.carry(300_000, pair.load(300_000, 1000))
            assert pair.server.local_address[:2] == pair.client.remote_address[:2]


@pytest.mark.parametrize("name", ["udp", "kcp"])
async def test_a_stream_moves(name: str) -> None:
    async with serving() as server, behind_nat(server.port) as nat:
        plan = plan_for(name, duration_us=1_500_000, direction=Direction.REVERSE, rate_bps=4_000_000)
        running = asyncio.create_task(measure(nat.port, plan))
        await server.started()
        nat.rebind()
        received = [row.of(Side.RECEIVER) for row in (await running).end_rows]
        assert sum(sample.bytes for sample in received if sample is not None) > 750_000 / 4


async def test_a_stream_of_a_stock_client_is_carried() -> None:
    """It has no conv: the port goes on being read for its address."""
    udp = transport("udp")
    here, there = (Stream(1, 0, 0, sends=sends, block_bytes=600) for sends in (True, False))
    with LoopbackServer() as server:
        accepting = asyncio.create_task(udp.accept(there, udp.settings(), server))
        async with asyncio.timeout(10):
            client = await udp.connect(here, udp.settings(), LoopbackClient(server))
            accepted = await accepting
            await client.send(BlockLoad(600 * 300, 600, pause_us=500))
            await until(lambda: bytes_of(accepted) > 600 * 200)
        await client.close()
        await accepted.close()


@pytest.mark.linux
async def test_each_session_has_its_own_mode_of_path_mtu_discovery() -> None:
    """KCP's datagrams leave whole, and UDP's may be fragmented, from one socket."""
    shared, remote = DatagramSocket.bound(("127.0.0.1", 0), reuse=False), ("127.0.0.1", 9)
    whole, any_size = PortRelay(shared, remote), PortRelay(shared, remote)
    whole.sizes.probe()
    assert whole.sizes.probing
    assert shared.sizes.probing
    any_size.send(DatagramBatch.of(np.zeros(100, np.uint8), 100))
    assert not shared.sizes.probing
    too_long = np.zeros(65_508, np.uint8)
    assert whole.send(DatagramBatch.of(too_long, len(too_long))) == 1
    assert whole.inner.events.too_long == 1
    assert any_size.inner.events.too_long == 0
    with pytest.raises(StreamPathError, match="does not fit"):
        any_size.send(DatagramBatch.of(too_long, len(too_long)))
    for relay in (whole, any_size):
        relay.close()
        relay.inner.close()
    shared.close()


@pytest.mark.skipif(IP_MTU == ABSENT, reason="this system does not tell the size of packets")
@pytest.mark.parametrize(("family", "host"), [("127.0.0.1",) * 2, ("::", "::1"), ("::", "::ffff:127.0.0.1")])
async def test_the_longest_datagram_to_a_session_is_that_of_its_route(family: str, host: str) -> None:
    shared = DatagramSocket.bound((family, 0), reuse=False)
    with DatagramSocket.connected((host, 9)) as connected:
        assert PortSizes(shared.sizes, (host, 9)).longest() == connected.sizes.longest() is not None
    shared.close()


async def test_no_other_socket_can_bind_the_port() -> None:
    shared = SharedPort.open(("127.0.0.1", 0))
    for option in (socket.SO_REUSEADDR, getattr(socket, "SO_REUSEPORT", socket.SO_REUSEADDR)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind(shared.local_address)
    shared.close()
