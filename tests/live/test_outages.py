"""A network that fails for a moment in mid-test disturbs every transport and ends none, as with TCP.

All transports run at once in both directions, over a path of three network namespaces.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop

import iperfpy
from iperfpy.protocols.registry import transports
from tests.iperfpy.support import serving, until
from tests.studies.wire.namespaces import CLIENT, SERVER, Path3, PathSpec, inside, path, run, why_not

pytestmark = [pytest.mark.live, pytest.mark.long]

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
GATEWAY = "10.83.1.1"
LONGEST_S = 30.0
"""Time of a test that carries nothing after the outage. Retransmission timers back off by a second or two,
and by more on a busy machine."""
CARRIED = 5
"""Intervals with data after the outage that show a test alive."""
ENOUGH = "it carries data again"


@dataclass(frozen=True)
class Outage:
    """Commands that begin and end an outage, each with the namespace that it runs in."""

    name: str
    seconds: float
    loop: str
    begin: tuple[tuple[str, str], ...]
    end: tuple[tuple[str, str], ...]


def rejecting(name: str, reason: str, loop: str) -> Outage:
    """Both ends answer the other's datagrams with an ICMP message."""
    rules = tuple(
        (
            where,
            "nft add table inet outage; add chain inet outage in { type filter hook input priority 0; };"
            f" add rule inet outage in udp {side} 5201 reject with icmp {reason}",
        )
        for where, side in (("server", "dport"), ("client", "sport"))
    )
    ends = tuple((where, "nft delete table inet outage") for where in ("server", "client"))
    return Outage(name, 0.3, loop, rules, ends)


ROUTE = ("client", f"ip route replace default via {GATEWAY}")
OUTAGES = [
    Outage(
        "own link down",
        0.5,
        "uvloop",
        (("client", "ip link set c0 down"),),
        (("client", "ip link set c0 up"), ROUTE),
    ),
    Outage(
        "own address gone",
        3.0,
        "asyncio",
        (("client", f"ip addr del {CLIENT}/24 dev c0"),),
        (("client", f"ip addr add {CLIENT}/24 dev c0"), ROUTE),
    ),
    Outage("no route", 1.0, "uvloop", (("client", "ip route del default"),), (ROUTE,)),
    Outage(
        "blackhole",
        0.3,
        "uvloop",
        (("client", f"ip route add blackhole {SERVER}"),),
        (("client", f"ip route del blackhole {SERVER}"),),
    ),
    rejecting("port unreachable", "port-unreachable", "uvloop"),
    rejecting("administratively prohibited", "admin-prohibited", "asyncio"),
    Outage(
        "fragmentation needed",
        0.3,
        "uvloop",
        (("router", "ip link set r0 mtu 1280"), ("router", "ip link set r1 mtu 1280")),
        (("router", "ip link set r0 mtu 1500"), ("router", "ip link set r1 mtu 1500")),
    ),
]


def change(made: Path3, commands: tuple[tuple[str, str], ...]) -> None:
    for where, command in commands:
        program, _, words = command.partition(" ")
        arguments = [words] if program == "nft" else words.split()
        run("ip", "netns", "exec", getattr(made, where), program, *arguments)


@pytest.fixture(scope="module")
def made() -> Iterator[Path3]:
    """The path, with a server in a thread of its own at its end."""
    if reason := why_not():
        pytest.skip(reason)
    with path(PathSpec("outages", rate_mbit=100.0), reverse=False) as made:
        for namespace in (made.client, made.router, made.server):  # one ICMP message for every datagram
            run("ip", "netns", "exec", namespace, "sh", "-c", "echo 0 > /proc/sys/net/ipv4/icmp_ratelimit")
        listening, leaving = threading.Event(), threading.Event()

        async def serve() -> None:
            async with serving(bind=SERVER, port=5201):
                listening.set()
                while not leaving.is_set():  # noqa: ASYNC110 - the event is another thread's
                    await asyncio.sleep(0.05)

        def serve_inside() -> None:
            with inside(made.server), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve())

        thread = threading.Thread(target=serve_inside)
        thread.start()
        try:
            assert listening.wait(20)
            yield made
        finally:
            leaving.set()
            thread.join(20)


async def through(outage: Outage, made: Path3) -> None:
    """Run every transport in both directions; the outage comes once all have reported two intervals. Each
    test is stopped after some intervals with data that began after it."""
    reported: dict[tuple[str, bool], int] = {}
    is_over = False

    async def one(name: str, reverse: bool) -> None:
        rate: dict[str, Any] = {"seconds": LONGEST_S, "rate": 2_000_000, "interval": 0.1}
        carried = -1  # the interval in which the outage ends does not count
        async with iperfpy.watch(SERVER, transport=name, reverse=reverse, **rate) as test:
            async for interval in test:
                reported[name, reverse] = reported.get((name, reverse), 0) + 1
                carried += is_over and interval.bits_per_second > 0
                if carried == CARRIED:
                    test.stop(ENOUGH)
            # A socket that went deaf, or a stream that gave up, carries nothing any more.
            assert (await test.finished()).error == ENOUGH, (name, reverse)

    keys = [(name, reverse) for name in transports() for reverse in (False, True)]
    tests = [asyncio.create_task(one(*key)) for key in keys]
    try:
        await until(
            lambda: any(test.done() for test in tests) or all(reported.get(key, 0) >= 2 for key in keys)
        )
        await asyncio.to_thread(change, made, outage.begin)
        await asyncio.sleep(outage.seconds)
        await asyncio.to_thread(change, made, outage.end)
        is_over = True
        await asyncio.gather(*tests)
    finally:
        for test in tests:
            test.cancel()
        await asyncio.gather(*tests, return_exceptions=True)


@pytest.mark.parametrize("outage", OUTAGES, ids=[outage.name for outage in OUTAGES])
def test_every_transport_rides_through_an_outage(made: Path3, outage: Outage) -> None:
    with inside(made.client), asyncio.Runner(loop_factory=LOOPS[outage.loop]) as runner:
        runner.run(through(outage, made))
