"""The proof of a client's UDP address: no other host gets a stream, and a client that moves is followed."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from functools import partial
from typing import Any

import pytest

from iperfpy.control.framing import State
from iperfpy.control.parameters import ADDRESS_PROOF
from iperfpy.plan import Direction
from iperfpy.protocols.datagrams.address_proof import PROOF_BYTES, tag_of
from iperfpy.protocols.kcp.settings import KcpBbrSettings
from iperfpy.protocols.metrics import Side
from iperfpy.protocols.registry import transport
from iperfpy.protocols.udp import UdpSettings
from tests.iperfpy.nat import Nat, behind_nat
from tests.iperfpy.support import HURRIED, Peer, Server, measure, plan_for, serving

pytestmark = [pytest.mark.live, pytest.mark.long]

OURS = "iperfpy-" + "a" * 28
CONV = 0x11223344
CALL = struct.pack("<I", CONV)
WASK = struct.pack("<IBBHIIII", CONV, 83, 0, 128, 0, 0, 0, 0)
BOTH_WAYS = [Direction.FORWARD, Direction.REVERSE, Direction.BIDIRECTIONAL]


async def reverse_test(server: Server, name: str, features: list[str]) -> Peer:
    """An honest control connection that asks for a reverse test as fast as possible."""
    control = await Peer.connected(server.port, OURS if name != "stock" else "s" * 36)
    body: dict[str, Any] = {"omit": 0, "time": 5, "parallel": 1, "reverse": True, "pacing_timer": 1000}
    if name == "stock":
        body |= {"udp": True, "len": 1400, "bandwidth": 0}
    else:
        assert await control.state() == State.HELLO
        await control.document()
        settings = transport(name).settings()
        body["len"] = transport(name).block_bytes(settings)
        own = {"transport": name, "settings": settings.to_wire(), "conv": [CONV], "duration_us": 5_000_000}
        body["iperfpy"] = own | ({"features": features} if features else {})
    assert await control.state() == State.PARAM_EXCHANGE
    control.send_document(body)
    assert await control.state() == State.CREATE_STREAMS
    return control


@pytest.mark.parametrize(
    ("name", "opening", "features"),
    [
        ("udp", CALL, [ADDRESS_PROOF]),
        ("udp", CALL, []),
        ("stock", b"9876", []),
        *((name, WASK, features) for name in ("kcp", "kcp-bbr") for features in ([ADDRESS_PROOF], [])),
    ],
)
async def test_a_stranger_gets_no_more_bytes_than_came_in_its_name(
    name: str, opening: bytes, features: list[str]
) -> None:
    """The opening datagrams bear another address than the control connection, which is honest."""
    async with serving(HURRIED) as server:
        control = await reverse_test(server, name, features)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.2", 0))
            stranger.setblocking(False)
            sent = received = 0
            for _ in range(10):
                # With KCP, acknowledgements in the stranger's name keep the window open.
                for datagram in (opening, WASK[:4] + b"\x52" + WASK[5:]):
                    stranger.sendto(datagram, ("127.0.0.1", server.port))
                    sent += len(datagram)
                await asyncio.sleep(0.02)
                while True:
                    try:
                        received += len(stranger.recv(65_536))
                    except BlockingIOError:
                        break
        assert received <= sent
        assert not server.tests
        await control.close()


@pytest.mark.parametrize(
    ("name", "features"), [("udp", []), ("kcp", []), ("stock", [])], ids=["udp", "kcp", "stock"]
)
async def test_a_client_without_proofs_hears_which_addresses_differ(name: str, features: list[str]) -> None:
    async with serving(HURRIED) as server:
        control = await reverse_test(server, name, features)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
            elsewhere.bind(("127.0.0.2", 0))
            opening = {"udp": CALL, "kcp": WASK, "stock": b"9876"}[name]
            elsewhere.sendto(opening, ("127.0.0.1", server.port))
            failure = await control.rest()
        await control.close()
    if name != "stock":  # a stock client gets a number in place of the sentence
        assert b"its UDP datagrams came from 127.0.0.2, and its control connection from 127.0.0.1" in failure


async def through(nat: Nat, name: str, direction: Direction = Direction.FORWARD, **changes: Any) -> list[int]:
    """Run a test of 1.2 s at 1 Mb/s over the NAT, and return the bytes that arrived on each stream."""
    timed = {"duration_us": 1_200_000, "interval_us": 0, **changes}
    plan = plan_for(name, direction=direction, rate_bps=1_000_000, **timed)
    report = await measure(nat.port, plan)
    received = [row.of(Side.RECEIVER) for row in report.end_rows if row.stream]
    return [sample.bytes for sample in received if sample is not None]


@pytest.mark.parametrize(
    ("direction", "refuse"),
    [*((direction, False) for direction in BOTH_WAYS), (Direction.REVERSE, True)],
    ids=["forward", "reverse", "bidirectional", "reverse, refusing"],
)
@pytest.mark.parametrize("name", ["udp", "kcp", "kcp-bbr"])
async def test_a_stream_goes_on_when_the_nat_gives_it_another_port(
    name: str, direction: Direction, refuse: bool
) -> None:
    """The old mapping is shut. Without a move, a twentieth of the data arrives. KCP needs a while: its
    timeouts double while nothing is answered."""
    async with serving() as server, behind_nat(server.port) as nat:
        running = asyncio.create_task(through(nat, name, direction, parallel=2, duration_us=2_000_000))
        await server.started()
        asyncio.get_running_loop().call_later(0.1, partial(nat.rebind, refuse=refuse))
        received = await running
        await server.settled()
        assert server.tests[0].ended is not None
        assert sum("went on from another address" in each for each in server.tests[0].ended.warnings) == 1
        assert len(received) == (4 if direction is Direction.BIDIRECTIONAL else 2)
        assert min(received) > 250_000 / 8
        assert nat.mappings == 2 * len(received)


@pytest.mark.parametrize("direction", BOTH_WAYS[:2], ids=["forward", "reverse"])
@pytest.mark.parametrize("envelope", [{"fec": "10:3"}, {"crypt": "none"}, {"fec": "4:2", "crypt": "none"}])
async def test_a_stream_with_an_envelope_moves_too(envelope: dict[str, Any], direction: Direction) -> None:
    """Its datagrams do not begin with the conv: with "none" in random bytes, as with every cipher."""
    async with serving() as server, behind_nat(server.port) as nat:
        changes = {"settings": KcpBbrSettings(**envelope), "duration_us": 2_000_000}
        running = asyncio.create_task(through(nat, "kcp-bbr", direction, **changes))
        await server.started()
        asyncio.get_running_loop().call_later(0.1, nat.rebind)
        (received,) = await running
        assert received > 250_000 / 8
        assert nat.mappings == 2


async def test_udp_without_round_trips_moves_too() -> None:
    """No datagram of this sender names its conv but the openings."""
    async with serving() as server, behind_nat(server.port) as nat:
        running = asyncio.create_task(through(nat, "udp", settings=UdpSettings(no_rtt=True)))
        await server.started()
        nat.rebind()
        (received,) = await running
        assert received > 150_000 / 3


@pytest.mark.parametrize("lost", [True, False], ids=["from the client", "from the server"])
@pytest.mark.parametrize("name", ["udp", "kcp"])
async def test_lost_openings_challenges_and_proofs_are_repeated(name: str, lost: bool) -> None:
    """The first two of each are lost; then a NAT changes the port."""
    seen: Counter[bytes] = Counter()

    def drop(inside: bool, datagram: bytes) -> bool:
        if inside is not lost or len(datagram) != PROOF_BYTES:
            return False
        seen[datagram] += 1
        return seen[datagram] <= 2

    async with serving() as server, behind_nat(server.port) as nat:
        nat.drop = drop
        running = asyncio.create_task(through(nat, name))
        await server.started()
        nat.rebind()
        (received,) = await running
        assert received > 25_000
        assert nat.mappings == 2


@pytest.mark.parametrize("name", ["udp", "kcp-bbr"])
async def test_a_proven_client_may_use_another_address_than_its_control_connection(name: str) -> None:
    async with serving() as server, behind_nat(server.port, "127.0.0.2") as nat:
        for direction in BOTH_WAYS[:2]:
            (received,) = await through(nat, name, direction)
            assert received > 150_000 / 3


async def test_a_stream_keeps_its_address_until_the_new_one_has_proven_itself() -> None:
    """Datagrams of the stream's conv come from elsewhere, and no proof does: the test is not disturbed."""
    async with serving() as server, behind_nat(server.port) as nat:
        convs: set[bytes] = set()

        def note(inside: bool, datagram: bytes) -> bool:
            if inside and len(datagram) > PROOF_BYTES:
                convs.add(datagram[:4])
            return False

        nat.drop = note
        running = asyncio.create_task(through(nat, "kcp", Direction.REVERSE))
        await server.started()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.2", 0))
            stranger.setblocking(False)
            sent = received = 0
            for _ in range(20):
                for conv in convs:
                    tag = tag_of(int.from_bytes(conv, "little")).to_bytes(4, "little")
                    for datagram in (conv + WASK[4:], tag + bytes(PROOF_BYTES - len(tag))):
                        sent += stranger.sendto(datagram, ("127.0.0.1", server.port))
                await asyncio.sleep(0.02)
                try:
                    while True:
                        received += len(stranger.recv(65_536))
                except BlockingIOError:
                    pass
        assert 0 < received <= sent
        assert sum(await running) > 150_000 / 2
