"""A server's UDP port in the open: who sends to it without a session gets no byte back, and disturbs none."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest

from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Side
from iperfpy.protocols.udp import association, echo
from tests.iperfpy.support import measure, plan_for, serving

pytestmark = pytest.mark.live

WORDS = [*association.ANSWERS, *association.ANSWERS.values(), b"", b"\0" * 4, b"\xff" * 11]


def garbage(chance: random.Random) -> bytes:
    """Calls of every iperf3, probes and echoes of streams that are not there, data, and noise."""
    conv = chance.randbytes(4)
    probe = echo.Prober(int.from_bytes(conv, "little")).probe(0)
    return chance.choice(
        [
            chance.choice(WORDS),
            conv,
            probe,
            echo.answer(probe, int.from_bytes(conv, "little"), 1),
            chance.randbytes(chance.randrange(64)),
            chance.randbytes(chance.choice((1400, 8000))),
        ]
    )


@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.REVERSE], ids=lambda one: one.value)
@pytest.mark.parametrize("name", ["udp", "kcp"])
async def test_foreign_datagrams_do_not_disturb_a_test(name: str, direction: Direction) -> None:
    chance, strangers = (
        random.Random(direction.value),
        [socket.socket(type=socket.SOCK_DGRAM) for _ in range(3)],
    )
    async with serving() as server:
        for stranger in strangers:
            stranger.setblocking(False)
            stranger.connect(("127.0.0.1", server.port))

        async def disturb() -> int:
            sent = 0
            while True:
                for stranger in strangers:
                    try:
                        stranger.send(garbage(chance))
                        sent += 1
                    except ConnectionRefusedError:
                        continue  # before the first UDP test there is no port
                await asyncio.sleep(0.0005)

        disturbing = asyncio.create_task(disturb())
        for _ in range(2):
            plan = plan_for(name, direction=direction, rate_bps=5_000_000)
            report = await measure(server.port, plan)
            assert report.sentence == ""
            received = report.end_rows[0].of(Side.RECEIVER)
            assert received is not None
            assert received.bytes > 0
            for key in ("duplicate_datagrams", "late_datagrams"):
                assert received.values.get(key, 0) == 0
        disturbing.cancel()
        for stranger in strangers:
            with pytest.raises((BlockingIOError, ConnectionRefusedError)):
                stranger.recv(2000)
            stranger.close()
