"""`measure`, `measure_async` and `watch`, against a server in this event loop or in a process of its own."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import iperfpy
from iperfpy.records import RunEnded
from iperfpy.runtime import event_loop
from tests.iperfpy.support import Recorder, serving, until
from tests.warm_program import WarmLocalServer, local_server

pytestmark = pytest.mark.live

HOST = "127.0.0.1"
RATE = 20_000_000
SHORT: dict[str, Any] = {"seconds": 0.3, "interval": 0.1, "rate": RATE}
LONG: dict[str, Any] = {"seconds": 1.0, "interval": 0.1, "rate": RATE}


@pytest.fixture(scope="module")
def server() -> Iterator[WarmLocalServer]:
    with local_server() as running:
        yield running


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("transport", list(iperfpy.transports()))
def test_one_call_returns_a_complete_run(server: WarmLocalServer, transport: str, reverse: bool) -> None:
    keywords = {**SHORT, "rate": iperfpy.transports()[transport].rate_bps}
    run = iperfpy.measure(HOST, port=server.port, transport=transport, reverse=reverse, **keywords)
    assert run.complete
    assert (run.transport, run.plan.direction.value) == (transport, "reverse" if reverse else "forward")
    assert run.bits_per_second > 0
    # A busy machine skips boundaries, and no time.
    ends = [interval.rows[0].local for interval in run.intervals]
    assert ends[0].start_us == 0
    assert [one.start_us for one in ends[1:]] == [one.end_us for one in ends[:-1]]
    assert ends[-1].end_us >= 200_000
    assert run.total("bytes", side=iperfpy.Side.SENDER)
    assert run.client.addresses[0][0] == HOST
    assert run.server.addresses == ((HOST, server.port),)
    assert run.client.cpu_percent.keys() == run.server.cpu_percent.keys() == {"total", "user", "system"}


def test_settings_may_be_a_mapping(server: WarmLocalServer) -> None:
    run = iperfpy.measure(HOST, port=server.port, transport="kcp", settings={"mode": "fast3"}, **SHORT)
    assert run.settings["mode"] == "fast3"


def test_measure_takes_a_ready_plan_and_ready_options(server: WarmLocalServer) -> None:
    transport = iperfpy.transports()["tcp"]
    plan = iperfpy.Plan("tcp", transport.settings(), duration_us=300_000, interval_us=0, parallel=2)
    run = iperfpy.measure(iperfpy.ClientOptions(HOST, server.port), plan)
    assert run.plan == plan
    assert [row.stream for row in run.rows] == [1, 3]


def test_the_callback_gets_every_interval(server: WarmLocalServer) -> None:
    seen: list[iperfpy.Interval] = []
    run = iperfpy.measure(HOST, port=server.port, on_interval=seen.append, **SHORT)
    assert tuple(seen) == run.intervals


def test_an_exception_of_the_callback_ends_the_test_and_is_raised(server: WarmLocalServer) -> None:
    def fail(interval: iperfpy.Interval) -> None:
        raise ZeroDivisionError("the caller's own")

    began = time.monotonic()
    with pytest.raises(ZeroDivisionError, match="own"):
        iperfpy.measure(HOST, port=server.port, seconds=60, interval=0.1, rate=RATE, on_interval=fail)
    assert time.monotonic() - began < 30


def test_sinks_get_the_records_and_are_closed(server: WarmLocalServer) -> None:
    sink = Recorder()
    run = iperfpy.measure(HOST, port=server.port, sinks=[sink], **SHORT)
    assert sink.ended is not None
    assert sink.ended.rows == run.rows
    assert sink.closed


def test_a_failure_is_raised_with_the_run() -> None:
    with pytest.raises(iperfpy.ConnectError, match="refused") as caught:
        iperfpy.measure(HOST, port=1, **SHORT)
    assert type(caught.value) is iperfpy.RefusedError
    assert isinstance(caught.value.run, iperfpy.Run)
    assert caught.value.run.started is None
    assert caught.value.run.error == str(caught.value)
    assert caught.value.run.failed


@pytest.mark.parametrize("name", ["measure", "serve"])
async def test_a_blocking_call_in_a_running_loop_suggests_the_async_one(name: str) -> None:
    arguments = ("127.0.0.1",) if name == "measure" else ()
    with pytest.raises(RuntimeError, match=rf"await iperfpy\.{name}_async\("):
        getattr(iperfpy, name)(*arguments)


def test_two_threads_measure_at_once(server: WarmLocalServer) -> None:
    def measured(transport: str) -> iperfpy.Run:
        return iperfpy.measure(HOST, port=server.port, transport=transport, **SHORT)

    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(measured, ["tcp", "kcp"]))
    assert [run.transport for run in runs] == ["tcp", "kcp"]
    assert all(run.complete for run in runs)


async def test_two_tests_run_at_once() -> None:
    async with serving() as server:
        running: list[int] = []
        overlapping: list[int] = []

        # The server runs in this loop, so its recorders show which tests run at the same time.
        def count(interval: iperfpy.Interval) -> None:
            overlapping.append(len([test for test in server.tests if test.started and not test.ended]))
            running.append(1)

        first, second = await asyncio.gather(
            iperfpy.measure_async(HOST, port=server.port, on_interval=count, **LONG),
            iperfpy.measure_async(HOST, port=server.port, transport="udp", reverse=True, **LONG),
        )
        assert first.complete
        assert second.complete
        assert (first.transport, second.transport) == ("tcp", "udp")
        assert max(overlapping) == 2


async def test_cancelling_ends_both_ends() -> None:
    """The server learns of it, is free again, and runs the next test."""
    async with serving(max_tests=1) as server:
        measuring = asyncio.create_task(
            iperfpy.measure_async(HOST, port=server.port, seconds=60, interval=0.1, rate=RATE)
        )
        # In the middle of the data, when an uninformed server would wait for more.
        await until(lambda: bool(server.tests) and len(server.tests[0].intervals) > 1)
        measuring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await measuring
        await server.settled()
        ended = server.tests[0].ended
        assert isinstance(ended, RunEnded)
        assert ended.interrupted == "the client has terminated"
        assert (await iperfpy.measure_async(HOST, port=server.port, **SHORT)).complete


async def test_cancelling_before_the_start_leaves_the_server_free() -> None:
    async with serving() as server:
        measuring = asyncio.create_task(iperfpy.measure_async(HOST, port=server.port, seconds=60, rate=RATE))
        await asyncio.sleep(0)
        measuring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await measuring
        assert (await iperfpy.measure_async(HOST, port=server.port, **SHORT)).complete


async def test_intervals_are_iterated_while_the_test_runs() -> None:
    async with serving() as server:
        async with iperfpy.watch(HOST, port=server.port, **SHORT) as test:
            seen: list[iperfpy.Interval] = []
            async for interval in test:
                if not seen:
                    assert not test.run.complete  # the first one comes before the end
                seen.append(interval)
            run = await test.finished()
        assert tuple(seen) == run.intervals
        assert run.complete
        assert test.run == run
        assert [one async for one in test] == []


async def test_leaving_the_block_ends_the_test() -> None:
    async with serving() as server:
        async with iperfpy.watch(HOST, port=server.port, seconds=60, interval=0.1, rate=RATE) as test:
            async for _ in test:
                break
        assert test.run.error == "the test was cancelled"
        assert not test.run.failed
        await server.settled()


async def test_a_test_can_be_stopped_early() -> None:
    async with serving() as server:
        async with iperfpy.watch(HOST, port=server.port, seconds=0, interval=0.1, rate=RATE) as test:
            async for _ in test:
                break
            test.stop("that is enough")
            run = await test.finished()
        assert (run.error, run.failed, run.complete) == ("that is enough", False, False)
        assert run.document()["error"] == "interrupt - that is enough"
        assert run.total("bytes", side=iperfpy.Side.SENDER)


async def test_a_timeout_of_waiting_does_not_end_the_test() -> None:
    async with serving() as server, iperfpy.watch(HOST, port=server.port, **SHORT) as test:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(test.finished(), 0.01)
        assert (await test.finished()).complete


async def test_a_test_runs_only_once_and_only_inside_its_block() -> None:
    test = iperfpy.watch(HOST, port=1)
    with pytest.raises(RuntimeError, match="inside `async with`"):
        test.stop()
    with pytest.raises(RuntimeError, match="inside `async with`"):
        await test.finished()
    with pytest.raises(iperfpy.ConnectError):
        async with test:
            await test.finished()
    with pytest.raises(RuntimeError, match="can be run once"):
        await test.__aenter__()


async def test_a_failing_test_raises_from_its_iteration() -> None:
    async with iperfpy.watch(HOST, port=1) as test:
        with pytest.raises(iperfpy.ConnectError):
            await anext(aiter(test))


async def test_an_exception_of_a_closing_sink_ends_the_iteration_and_closes_the_others() -> None:
    class Failing(Recorder):
        def close(self) -> None:
            raise ZeroDivisionError("the caller's own")

    async def exhaust(test: iperfpy.LiveTest) -> None:
        async for _ in test:
            pass

    later = Recorder()
    async with serving() as server:
        async with iperfpy.watch(HOST, port=server.port, sinks=[Failing(), later], **SHORT) as test:
            with pytest.raises(ZeroDivisionError, match="own"):
                # The limit is there for an iteration that does not end; the test itself takes 0.3 s.
                await asyncio.wait_for(exhaust(test), 30)
        assert test.run.complete
    assert later.closed


async def test_a_failing_test_raises_at_the_end_of_its_block() -> None:
    block = iperfpy.watch(HOST, port=1)
    await block.__aenter__()
    await until(lambda: bool(block.run.error))
    with pytest.raises(iperfpy.ConnectError):
        await block.__aexit__(None, None, None)


def test_ctrl_c_ends_both_ends_and_raises_keyboard_interrupt() -> None:
    """A client process gets SIGINT, as from a terminal."""

    async def measured_until_interrupted() -> str:
        async with serving() as server:
            # In another process, because a signal to this one would end the tests.
            arguments = f"{HOST!r}, port={server.port}, seconds=60, interval=0.1, rate={RATE}"
            script = f"import iperfpy; iperfpy.measure({arguments})"
            client = await asyncio.create_subprocess_exec(
                sys.executable, "-c", script, stderr=subprocess.PIPE
            )
            await until(lambda: bool(server.tests) and len(server.tests[0].intervals) > 1)
            client.send_signal(signal.SIGINT)
            async with asyncio.timeout(30):
                _, errors = await client.communicate()
            assert errors.strip().endswith(b"KeyboardInterrupt")
            await server.settled()
            return server.tests[0].sentence

    assert event_loop.run(measured_until_interrupted()) == "the client has terminated"


def test_nothing_is_printed_and_no_signal_handler_is_set(
    server: WarmLocalServer, capfd: pytest.CaptureFixture[str]
) -> None:
    # Handlers are compared while the test runs: they could be restored at its end.
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    async def measured() -> set[object]:
        handlers = {number: signal.getsignal(number) for number in numbers}
        changed: set[object] = set()

        def compare_handlers(interval: iperfpy.Interval) -> None:
            changed.update(number for number in numbers if signal.getsignal(number) != handlers[number])

        await iperfpy.measure_async(HOST, port=server.port, on_interval=compare_handlers, **SHORT)
        return changed

    assert event_loop.run(measured()) == set()
    assert capfd.readouterr() == ("", "")
