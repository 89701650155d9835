"""The Python interface: measure, watch a test, serve.

    measure(host, ...)        blocks, gives a Run                 on a fresh event loop
    measure_async(host, ...)  awaitable, gives a Run              in the caller's event loop
    watch(host, ...)          async context manager and iterator  intervals as they happen, then the Run
    serve(...), serve_async(...)                                  a server, until it is cancelled

    keywords --measure_keywords--> Plan, ClientOptions --endpoint.run_client--> RunRecorder --> Run

Nothing here prints, handles signals or ends the process. Failures are raised as the errors of
`iperfpy.errors`. Any number of tests may run in one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack

from iperfpy.argument_types import checked
from iperfpy.endpoint.client import run_client
from iperfpy.endpoint.server import run_server
from iperfpy.errors import InterruptError, IperfpyError
from iperfpy.measure_keywords import MeasureKeywords, ServeKeywords, plan_and_options, server_options
from iperfpy.options import ClientOptions, ServerOptions
from iperfpy.plan import Plan
from iperfpy.records import Sink
from iperfpy.runtime import event_loop
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.store.run_recorder import RunRecorder
from iperfpy.store.stored_run import Interval, Run

T = TypeVar("T")

CANCELLED = "the test was cancelled"

OnInterval = Callable[[Interval], None]
"""Called with an interval as soon as both ends' figures of it are known. An exception ends the test, and is
raised by the call that runs it."""


class _Calls(TypedDict, total=False):
    """The arguments that a test or a server calls."""

    on_interval: OnInterval | None
    sinks: Sequence[Sink]
    on_listening: Callable[[int], None] | None
    on_run: Callable[[Run], None] | None


def measure(
    host: str | ClientOptions,
    plan: Plan | None = None,
    *,
    on_interval: OnInterval | None = None,
    sinks: Sequence[Sink] = (),
    **keywords: Unpack[MeasureKeywords],
) -> Run:
    """Run one test and wait for its end.

    Parameters
    ----------
    host : str or ClientOptions
        The server, or ready options that name it.
    plan : Plan, optional
        A ready plan, in place of the keywords that describe the test.
    on_interval : callable, optional
        Called with each `Interval` as it happens.
    sinks : sequence of Sink
        Reports that are written as the test goes on; they are closed at its end.
    **keywords
        See `MeasureKeywords`: transport, settings, reverse, bidirectional, seconds, total_bytes, parallel,
        rate, interval, port, ...

    Returns
    -------
    Run
        The record of the whole test.

    Raises
    ------
    IperfpyError
        The test could not be run or failed. Its attribute `run` has the records up to there.
    RuntimeError
        An event loop is running in this thread: use `measure_async`.
    KeyboardInterrupt
        After the test has been ended at both ends.
    """
    return blocking("measure", measure_async(host, plan, on_interval=on_interval, sinks=sinks, **keywords))


async def measure_async(
    host: str | ClientOptions,
    plan: Plan | None = None,
    *,
    on_interval: OnInterval | None = None,
    sinks: Sequence[Sink] = (),
    **keywords: Unpack[MeasureKeywords],
) -> Run:
    """Run one test; arguments, result and errors are those of `measure`.

    Cancelling it ends the test at both ends before CancelledError is raised.
    """
    async with watch(host, plan, on_interval=on_interval, sinks=sinks, **keywords) as test:
        return await test.finished()


def watch(
    host: str | ClientOptions,
    plan: Plan | None = None,
    *,
    on_interval: OnInterval | None = None,
    sinks: Sequence[Sink] = (),
    **keywords: Unpack[MeasureKeywords],
) -> LiveTest:
    """Prepare a test that gives its intervals as they happen.

    Arguments are those of `measure`. The test runs inside `async with`:

        async with iperfpy.watch("192.0.2.7", seconds=10) as test:
            async for interval in test:
                ...
        run = test.run

    Raises
    ------
    PlanError
        A keyword has an impossible value.
    """
    checked({"on_interval": on_interval, "sinks": sinks}, _Calls)
    wanted, options = plan_and_options(host, plan, keywords)
    return LiveTest(wanted, options, on_interval, sinks)


class LiveTest:
    """A test that runs while its `async with` block does; made by `watch`.

    Iteration gives each `Interval` once, as it happens, and ends with the test; it raises the error of a
    test that fails. Leaving the block earlier cancels the test at both ends.
    """

    def __init__(
        self, plan: Plan, options: ClientOptions, on_interval: OnInterval | None, sinks: Sequence[Sink]
    ) -> None:
        self.plan = plan
        self._options = options
        self._on_interval = on_interval
        self._sinks = sinks
        self._recorder = RunRecorder(self._arrived)
        self._arrivals: asyncio.Queue[Interval | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._callback_error: Exception | None = None
        self._scope: AbortScope | None = None
        self._retrieved = False

    @property
    def run(self) -> Run:
        """The records so far: of the whole test once it is over."""
        return self._recorder.run()

    async def finished(self) -> Run:
        """Wait for the end of the test.

        Raises
        ------
        IperfpyError
            The test failed.
        Exception
            The one that `on_interval` raised.
        """
        task = self._running_task()
        # Not `await task`: a deadline on this call is not one on the test.
        await asyncio.wait([task])
        self._retrieved = True
        if self._callback_error is not None:
            raise self._callback_error
        task.result()
        return self.run

    def stop(self, reason: str = "the client ended the test early") -> None:
        """End the test now, at both ends. `finished` then gives a run that has `reason` as its `error`.

        May be called from a callback. Without effect if the test is over.
        """
        if self._scope is None:
            raise RuntimeError("the test runs inside `async with`")
        self._scope.abort(InterruptError(reason))

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("a test can be run once")
        self._scope = AbortScope()
        self._task = asyncio.create_task(self._measure())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = self._running_task()
        if task.done():
            if error is None and not self._retrieved:
                await self.finished()
            return
        self.stop(CANCELLED)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:  # cancelled again: do not wait for the peer's last messages
            task.cancel(CANCELLED)
            await asyncio.wait([task])
            raise
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it: the caller has left

    async def __aiter__(self) -> AsyncIterator[Interval]:
        while (interval := await self._arrivals.get()) is not None:
            yield interval
        self._arrivals.put_nowait(None)  # for a second iteration, which ends at once
        await self.finished()

    def _running_task(self) -> asyncio.Task[None]:
        if self._task is None:
            raise RuntimeError("the test runs inside `async with`")
        return self._task

    async def _measure(self) -> None:
        try:
            sinks: list[Sink] = [self._recorder, *self._sinks]
            await run_client(self.plan, self._options, sinks, scope=self._scope)
        except InterruptError:
            pass  # `stop` is the only one that aborts the scope
        except IperfpyError as error:
            error.run = self.run
            raise
        finally:
            # An exception in one `close` must neither leave the later sinks open nor keep the iteration from
            # ending. The stack calls in reverse order.
            with contextlib.ExitStack() as closing:
                closing.callback(self._arrivals.put_nowait, None)
                for sink in reversed(self._sinks):
                    closing.callback(sink.close)

    def _arrived(self, interval: Interval) -> None:
        self._arrivals.put_nowait(interval)
        if self._on_interval is None or self._callback_error is not None:
            return
        try:
            self._on_interval(interval)
        except Exception as error:  # the caller's own: raised to the caller once both ends have ended
            self._callback_error = error
            self.stop("on_interval raised an exception")


def serve(
    options: ServerOptions | None = None,
    *,
    on_listening: Callable[[int], None] | None = None,
    on_run: Callable[[Run], None] | None = None,
    **keywords: Unpack[ServeKeywords],
) -> None:
    """Serve tests until KeyboardInterrupt, or one test with `one_off`.

    Parameters
    ----------
    options : ServerOptions, optional
        Ready options, in place of the keywords.
    on_listening : callable, optional
        Called with the port once clients can connect.
    on_run : callable, optional
        Called with the `Run` of every test that carried data, at its end, failed ones too. Every interval
        is kept in memory until then.
    **keywords
        See `ServeKeywords`: port (0: any free one), bind, one_off, max_tests, ...

    Raises
    ------
    ListenError
        The address or the port cannot be listened on.
    RuntimeError
        An event loop is running in this thread: use `serve_async`.
    """
    blocking("serve", serve_async(options, on_listening=on_listening, on_run=on_run, **keywords))


async def serve_async(
    options: ServerOptions | None = None,
    *,
    on_listening: Callable[[int], None] | None = None,
    on_run: Callable[[Run], None] | None = None,
    **keywords: Unpack[ServeKeywords],
) -> None:
    """Serve tests until cancelled, or one test with `one_off`; arguments and errors are those of `serve`.

    Cancelling it tells the clients of running tests, and closes the port. An exception of a callback stops
    the server and is raised.
    """
    checked({"on_listening": on_listening, "on_run": on_run}, _Calls)
    wanted = server_options(options, keywords)
    scope = AbortScope()
    failures: list[Exception] = []

    def report(run: Run) -> None:
        if on_run is None or failures:
            return
        try:
            on_run(run)
        except Exception as error:
            failures.append(error)
            scope.abort(InterruptError("on_run raised an exception"))

    def make_sinks() -> Sequence[Sink]:
        return [RunRecorder(on_close=report)] if on_run is not None else []

    with contextlib.suppress(InterruptError):  # only `report` aborts the scope
        await run_server(wanted, make_sinks, on_listening=on_listening, scope=scope)
    if failures:
        raise failures[0]


def blocking(name: str, call: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine of the function `name`_async on a fresh event loop. Raises RuntimeError inside a
    running one, where only the awaitable form can be used."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return event_loop.run(call)
    call.close()
    raise RuntimeError(
        f"iperfpy.{name}() blocks, and an event loop is running: use `await iperfpy.{name}_async(...)`"
    )
