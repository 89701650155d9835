"""Acknowledgements in ranges over real sockets: used if both ends name them, and only by kcp-bbr."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter

import pytest

from iperfpy.plan import Direction
from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.datagrams.address_proof import PROOF_BYTES
from iperfpy.protocols.kcp.engine_options import ACK_RANGES
from iperfpy.protocols.metrics import Side
from tests.iperfpy.lossy_relay import DatagramRelay, none
from tests.iperfpy.support import measure, plan_for, serving

pytestmark = pytest.mark.live

NAME = ACK_RANGES.encode()
PUSH, ACK, RANGES = 81, 82, 86


class Listening(DatagramRelay):
    """Passes everything on, and counts the commands of KCP and the asked intervals.

    Parameters
    ----------
    names_it : False: one end's name of the feature reaches the other one with another ending, as the name of
        a later feature that it does not know
    """

    def __init__(self, server_port: int, *, names_it: bool) -> None:
        super().__init__(server_port, none, none)
        self._names_it = names_it
        self.commands: Counter[int] = Counter()
        self.named = self.asked = 0

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.named += data.count(NAME)
                writer.write(data if self._names_it else data.replace(NAME, NAME[:-1] + b"?"))
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    def _is_lost(self, client: SocketAddress, data: bytes, *, forward: bool) -> bool:
        at = 0
        while len(data) != PROOF_BYTES and at + 24 <= len(data):
            _, command, fragment, _, _, _, _, size = struct.unpack_from("<IBBHIIII", data, at)
            self.commands[command] += 1
            self.asked += command == PUSH and 0 < fragment < 255
            at += 24 + size
        return False


async def _listen(name: str, direction: Direction, *, names_it: bool) -> Listening:
    async with serving() as server:
        relay = Listening(server.port, names_it=names_it)
        listener = await relay.listen()
        try:
            plan = plan_for(name, direction=direction, rate_bps=4_000_000)
            report = await measure(relay.port, plan)
        finally:
            relay.cut()
            relay.close()
            listener.close()
    received = [row.of(Side.RECEIVER) for row in report.end_rows]
    assert sum(sample.bytes for sample in received if sample is not None) > 40_000
    return relay


@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.REVERSE])
async def test_two_ends_that_name_them_use_them(direction: Direction) -> None:
    relay = await _listen("kcp-bbr", direction, names_it=True)
    assert relay.named == 2  # in the greeting and in the parameters
    assert relay.commands[RANGES] > 10
    # A stock ACK echoes a probe of the size of datagrams, and nothing else.
    assert relay.commands[ACK] <= 12
    assert relay.asked > 10


@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.REVERSE])
async def test_an_end_without_them_is_served_as_stock_kcp_is(direction: Direction) -> None:
    relay = await _listen("kcp-bbr", direction, names_it=False)
    assert relay.named == 2
    assert relay.commands[RANGES] == 0
    assert relay.commands[ACK] > 10
    assert relay.asked == 0


async def test_stock_kcp_never_uses_them() -> None:
    relay = await _listen("kcp", Direction.FORWARD, names_it=True)
    assert relay.named == 1  # the server names those of all its transports
    assert relay.commands[RANGES] == 0
    assert relay.asked == 0
