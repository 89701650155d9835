"""The UDP port of a server: datagrams without a session are not answered and disturb no test."""

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


def garbage(rng: random.Random) -> bytes:
    """Draw a call of some iperf3, a probe or echo of a missing stream, data, or random bytes."""
    conv = rng.randbytes(4)
    probe = echo.Prober(int.from_bytes(conv, "little")).probe(0)
    return rng.choice(
        [
            rng.choice(WORDS),
            conv,
            probe,
            echo.answer(probe, int.from_bytes(conv, "little"), 1),
            rng.randbytes(rng.randrange(64)),
            rng.randbytes(rng.choice((1400, 8000))),
        ]
    )


@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.REVERSE], ids=lambda one: one.value)
@pytest.mark.parametrize("name", ["udp", "kcp"])
async def test_foreign_datagrams_do_not_disturb_a_test(name: str, direction: Direction) -> None:
    rng, senders = (
        random.Random(direction.value),
        [socket.socket(type=socket.SOCK_DGRAM) for _ in range(3)],
    )
    async with serving() as server:
        for sender in senders:
            sender.setblocking(False)
            sender.connect(("127.0.0.1", server.port))

        async def disturb() -> int:
            sent = 0
            while True:
                for sender in senders:
                    try:
                        sender.send(garbage(rng))
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
        for sender in senders:
            with pytest.raises((BlockingIOError, ConnectionRefusedError)):
                sender.recv(2000)
            sender.close()
