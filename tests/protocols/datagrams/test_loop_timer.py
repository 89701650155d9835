"""A loop's timer rings once, under both event loops, with and without a descriptor."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from iperfpy.protocols.datagrams import loop_timer
from iperfpy.protocols.datagrams.loop_timer import LoopTimer
from iperfpy.protocols.operating_system import ABSENT, LINUX

pytestmark = pytest.mark.live

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
Run = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine function on one of the event loops."""

    def run_on(body: Callable[[], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(_finished(body))

    return run_on


async def _finished(body: Callable[[], Awaitable[None]]) -> None:
    await asyncio.wait_for(body(), 30)


def _none_left() -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.fixture(params=["descriptor", "no descriptors", "none left"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The descriptor that the timer gets."""
    if request.param == "no descriptors":
        monkeypatch.setattr(loop_timer, "timer_descriptor", lambda: ABSENT)
    elif request.param == "none left":
        monkeypatch.setattr(loop_timer, "timer_descriptor", _none_left)
    elif not LINUX:
        pytest.skip("timer descriptors are Linux's")
    return str(request.param)


class Rings:
    """Counts the rings of a timer, and lets a test await one."""

    def __init__(self) -> None:
        self.count, self.last_us = 0, 0
        self.rung = asyncio.Event()
        self.timer = LoopTimer(self.ring)

    def ring(self) -> None:
        self.count, self.last_us = self.count + 1, time.perf_counter_ns() // 1000
        self.rung.set()

    async def next(self) -> None:
        await self.rung.wait()
        self.rung.clear()


@pytest.mark.usefixtures("kind")
def test_it_rings_once_and_not_before_its_time(run: Run) -> None:
    async def body() -> None:
        rings = Rings()
        for count, wait_us in enumerate((1, 300, 2_700), 1):
            began_us = time.perf_counter_ns() // 1000
            rings.timer.start(wait_us)
            await rings.next()
            # libuv counts in milliseconds from the turn's beginning, so `call_later` may be early by one.
            assert rings.last_us >= began_us + wait_us - (0 if rings.timer.shortest_us < 1_000 else 2_000)
            await asyncio.sleep(0.01)
            assert rings.count == count
        rings.timer.close()

    run(body)


@pytest.mark.usefixtures("kind")
def test_a_new_time_replaces_the_old_one_and_a_stopped_timer_is_silent(run: Run) -> None:
    async def body() -> None:
        rings = Rings()
        rings.timer.start(20_000_000)
        rings.timer.start(3_000)
        await rings.next()
        rings.timer.start(3_000)
        rings.timer.start(20_000_000)
        await asyncio.sleep(0.02)
        assert rings.count == 1
        rings.timer.start(3_000)
        rings.timer.stop()
        rings.timer.stop()
        await asyncio.sleep(0.02)
        assert rings.count == 1
        rings.timer.close()

    run(body)


@pytest.mark.usefixtures("kind")
def test_it_can_be_started_while_it_rings(run: Run) -> None:
    async def body() -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        rings = 0

        def ring() -> None:
            nonlocal rings
            rings += 1
            if rings < 20:
                timer.start(150)
            else:
                done.set_result(None)

        timer = LoopTimer(ring)
        timer.start(150)
        await done
        timer.close()

    run(body)


def test_a_closed_timer_has_no_descriptor_and_works_again_when_started(run: Run, kind: str) -> None:
    async def body() -> None:
        await asyncio.sleep(0)
        rings, before = Rings(), len(os.listdir("/dev/fd"))
        for count in range(1, 4):
            rings.timer.start(20_000_000)
            assert (len(os.listdir("/dev/fd")) > before) is (kind == "descriptor")
            assert (rings.timer.shortest_us < 1_000) is (kind == "descriptor")
            rings.timer.close()
            rings.timer.close()
            assert len(os.listdir("/dev/fd")) == before
            rings.timer.start(1_000)
            await rings.next()
            assert rings.count == count
            rings.timer.close()

    run(body)


def test_a_timer_takes_a_descriptor_as_soon_as_one_is_left(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        rings = Rings()
        with monkeypatch.context() as patch:
            patch.setattr(loop_timer, "timer_descriptor", _none_left)
            rings.timer.start(3_000)
        rings.timer.start(5_000)
        await rings.next()
        await asyncio.sleep(0.02)
        assert rings.count == 1
        rings.timer.close()

    run(body)
