"""Foreign probes against servers that answer, stay silent, answer something else, or are gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from iperfpy.control.framing import COOKIE_BYTES, PROBE_ANSWER, PROBE_PREFIX
from iperfpy.endpoint import foreign_probes
from iperfpy.endpoint.foreign_probes import LONGEST_PAUSE_S, MOST_FAILURES, PAUSE_S, ForeignProbes
from iperfpy.protocols.clock import now_us
from iperfpy.sampling.responsiveness import ID_US, PTC, ProbeLog
from tests.interop.free_port import free_port

pytestmark = pytest.mark.live

PATIENCE_S = 20.0


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that reads the cookie of every connection, and answers with these bytes; None: not at all."""
    cookies: list[bytes] = []
    silent: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cookies.append(await reader.readexactly(COOKIE_BYTES))
        if answer is None:
            silent.append(writer)
            return
        writer.write(answer)
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1], cookies
    finally:
        for writer in silent:
            writer.close()
        listener.close()


def probes_to(port: int) -> ForeignProbes:
    log = ProbeLog()
    log.begin(now_us())
    return ForeignProbes(("127.0.0.1", port), None, lambda sock: None, log)


async def until(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not seen():  # noqa: ASYNC110 - the other end is another program's part
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_probes, "PAUSE_S", 0.005)


async def running(
    port: int, check: Callable[[ForeignProbes], Awaitable[None]], at_end: Callable[[], None] = lambda: None
) -> None:
    """Send probes while `check` runs, and leave no task behind."""
    before = len(asyncio.all_tasks())
    probes = probes_to(port)
    probes.start()
    try:
        await check(probes)
    finally:
        await probes.close()
        await probes.close()
    at_end()
    await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_each_answered_probe_has_two_times() -> None:
    async with server(PROBE_ANSWER) as (port, cookies):

        async def check(probes: ForeignProbes) -> None:
            await until(lambda: bool(probes.log.intervals) and len(probes.log.intervals[0].connect_us) >= 5)
            (interval,) = probes.log.intervals
            assert len(interval.connect_us) == len(interval.request_us)
            assert all(0 < us < ID_US for us in (*interval.connect_us, *interval.request_us))

        await running(port, check)
    assert len(cookies) == len(set(cookies))
    assert all(cookie.startswith(PROBE_PREFIX.encode()) for cookie in cookies)


@pytest.mark.parametrize("answer", [b"\xff", b""])
async def test_a_server_that_answers_something_else_is_left_alone(answer: bytes) -> None:
    async with server(answer) as (port, cookies):

        async def check(probes: ForeignProbes) -> None:
            sending = probes._sending
            assert sending is not None
            await until(sending.done)
            assert not probes.log.intervals

        await running(port, check)
    assert MOST_FAILURES <= len(cookies) < 4 * MOST_FAILURES


async def test_a_server_that_is_gone_ends_the_probes_and_nothing_else() -> None:
    async def check(probes: ForeignProbes) -> None:
        sending = probes._sending
        assert sending is not None
        await until(sending.done)
        assert not sending.cancelled()
        assert sending.exception() is None

    await running(free_port(), check)


async def test_a_silent_server_gets_a_bounded_number_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_probes, "MOST_OPEN", 3)
    async with server(None) as (port, cookies):

        async def check(probes: ForeignProbes) -> None:
            await until(lambda: len(cookies) == 3)
            await asyncio.sleep(0.1)

        await running(port, check)
    assert len(cookies) == 3


async def test_probes_take_a_small_share_of_a_slow_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_probes, "PAUSE_S", PAUSE_S)
    for bits_per_s, pause_s in (
        (100e6, PAUSE_S),
        (560e3, 1.0),
        (1.0, LONGEST_PAUSE_S),
        (0.0, LONGEST_PAUSE_S),
    ):
        probes, log = probes_to(1), ProbeLog()
        log.begin(0)
        log.read(1_000_000, round(bits_per_s / 8), [])
        probes.log = log
        assert probes._pause_s() == pytest.approx(pause_s, rel=0.01)
        if pause_s not in (PAUSE_S, LONGEST_PAUSE_S):
            assert foreign_probes.PROBE_BITS / pause_s == pytest.approx(PTC * bits_per_s, rel=0.01)
    assert probes_to(1)._pause_s() == PAUSE_S  # the rate is not known yet
