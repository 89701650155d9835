"""The server: one listener that stays open, any number of tests at once, each on its own.

    accept     acceptor.py: a connection with an unknown cookie is a client
    admit      client_limits.py: the limits of this server
    test       served_test.py: greeting, parameters, streams, measurement, results
    stop       every client is told, and every test ends

A test makes its sinks when its data begins to flow, and closes them. A client that is turned away earlier
leaves nothing to report: it has a line in the log (refusal_log.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from weakref import WeakValueDictionary

from iperfpy.control.framing import State, encode_state
from iperfpy.control.parameters import COOKIE_PREFIX
from iperfpy.endpoint.acceptor import Acceptor
from iperfpy.endpoint.client_limits import ProcessorAffinity, TotalRate, check_limits, rate_exceeded
from iperfpy.endpoint.places import SHARE, NoPlaceError, PasswordWaits, PlaceTable, source_of
from iperfpy.endpoint.refusal_log import SERVICE, RefusalLog
from iperfpy.endpoint.served_test import ServedTest
from iperfpy.error_numbers import ErrorNumber
from iperfpy.errors import InterruptError, IperfpyError, PlanError, fault_of
from iperfpy.options import ServerOptions
from iperfpy.plan import Plan
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.units import counted
from iperfpy.records import ServerOutputSink, Sink
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.runtime.socket_options import prepare
from iperfpy.runtime.sockets import close_gently, listen
from iperfpy.runtime.transport_ports import SharedListeners

CLIENTS_LIMIT = 256
"""Clients at once, including those before their admission."""
PATIENCE_S = 2.0
"""A test that opens its streams keeps its place so long, unless its source has more tests than others."""
WATCH_S = 0.25
"""Pause between looks at the rate of all tests, if it is limited."""
STOP_S = 5.0
"""Time for all tests to tell their clients when the server is stopped."""

MakeSinks = Callable[[], Sequence[Sink]]
log = logging.getLogger(__name__)


async def run_server(
    options: ServerOptions,
    make_sinks: MakeSinks,
    *,
    on_listening: Callable[[int], None] | None = None,
    make_server_output: Callable[[], ServerOutputSink] | None = None,
    scope: AbortScope | None = None,
    deadlines: Deadlines | None = None,
) -> bool:
    """Serve tests until the task is cancelled or `scope` is aborted; with `one_off`, serve one test.

    It prints nothing and installs no signal handler, and any number of servers may run in one event loop.
    Either way of stopping it tells every client, gives every running test its `end`, and frees the port.

    Parameters
    ----------
    options : where to listen, and the limits
    make_sinks : called once per test that starts; its sinks are closed when that test is over
    on_listening : called with the port once clients can connect
    make_server_output : called once per client that asks for this server's report; None: none is sent
    scope : `scope.abort(InterruptError(...))` stops the server
    deadlines : for tests of this program

    Returns
    -------
    False if the one test of a `one_off` server failed.

    Raises
    ------
    ListenError
        The port cannot be listened on.
    InterruptError
        The error with which `scope` was aborted, after every test has ended.
    """
    outer = scope or AbortScope()
    limits = (deadlines or Deadlines()).with_options(options.sockets)
    listener = await listen(options, outer, limits.lookup_s)
    server = _Server(options, make_sinks, make_server_output, limits, listener)
    reason = "it was told to stop"
    try:
        measured = await outer.wait(server.run(on_listening), None, "")
        reason = server.reason
        return measured
    except InterruptError as error:
        reason = str(error)
        server.interrupt(error)
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise
    finally:
        await server.close()
        SERVICE.info("%s", server.farewell(reason))


class _Server:
    """The state that all tests share. Is a `served_test.ServerContext`.

    `reason` is the sentence that explains the end of a server that was to serve one test.
    """

    def __init__(
        self,
        options: ServerOptions,
        make_sinks: MakeSinks,
        make_server_output: Callable[[], ServerOutputSink] | None,
        deadlines: Deadlines,
        listener: socket.socket,
    ) -> None:
        self.options = options
        self.make_sinks = make_sinks
        self.make_server_output = make_server_output
        self.deadlines = deadlines
        self.shared = SharedListeners()
        self.acceptor = Acceptor(listener, self._on_client, deadlines.cookie_s, options.sockets)
        self._finished: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._tests: dict[asyncio.Task[None], ServedTest] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._clients: PlaceTable[ServedTest] = PlaceTable(CLIENTS_LIMIT)
        self._places: PlaceTable[ServedTest] = PlaceTable(
            1 if options.one_off else options.max_tests, SHARE, PATIENCE_S
        )
        self.password_waits = PasswordWaits()
        self.refusals = RefusalLog()
        self.reason = ""
        self._served = 0
        self._affinity = ProcessorAffinity()
        self._opening_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # -- serving

    async def run(self, on_listening: Callable[[int], None] | None) -> bool:
        """Accept clients until the server is finished; False if its only test failed."""
        self._tasks = [asyncio.create_task(self.acceptor.run())]
        if self.options.rate_limit_bps:
            self._tasks.append(asyncio.create_task(self._watch_rate()))
        if self.options.idle_us and self.options.one_off:
            asyncio.get_running_loop().call_later(self.options.idle_us / 1e6, self._give_up)
        self._hold_udp_port()
        if on_listening is not None:
            on_listening(int(self.acceptor.local[1]))
        waiting: set[asyncio.Future[bool] | asyncio.Future[None]] = {self._finished, *self._tasks}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        # A task that ended before the server did has failed: raise its error.
        for task in self._tasks:
            if task.done() and not self._finished.done():
                task.result()
        return self._finished.result()

    def _hold_udp_port(self) -> None:
        """Open the UDP port before the first test needs it: until then, another program could take it. A
        program that has it already does not keep this server from testing over TCP."""
        from iperfpy.protocols.datagrams.server_port import SharedPort  # numpy: not for every import

        try:
            port = self.shared.get(SharedPort.open, self.acceptor.local)
            port.prepare(partial(prepare, options=self.options.sockets))
        except (TransportError, IperfpyError) as error:
            log.warning("no tests over UDP as long as that lasts: %s", error)

    def interrupt(self, error: InterruptError) -> None:
        """End every test with this error."""
        for test in self._tests.values():
            test.scope.abort(error)

    def farewell(self, reason: str) -> str:
        """The last line of the log."""
        tests, clients = counted(self._served, "test"), counted(self.refusals.count, "client")
        return f"the server has ended: {reason}; {tests}, {clients} refused"

    async def close(self) -> None:
        """End every test that is left, and close everything."""
        for task in self._tasks:
            task.cancel()
        # The stack takes its steps, last one first, also if this task is cancelled again while it waits.
        async with contextlib.AsyncExitStack() as steps:
            steps.push_async_callback(self.shared.close)
            steps.push_async_callback(self.acceptor.close)
            steps.push_async_callback(self._cut_off_tests)
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self.interrupt(InterruptError("the server has stopped"))
            if self._tests:
                await asyncio.wait(tuple(self._tests), timeout=STOP_S)

    async def _cut_off_tests(self) -> None:
        """Cancel the tests that have not ended by themselves."""
        for task in tuple(self._tests):
            task.cancel()
        await asyncio.gather(*self._tests, return_exceptions=True)

    async def _watch_rate(self) -> None:
        """Abort the fastest test whenever all of them together are too fast."""
        limit_bps = self.options.rate_limit_bps
        total: TotalRate[ServedTest] = TotalRate(limit_bps, self.options.rate_window_us)
        while True:
            fastest = total.observe(now_us(), {test: test.moved_bytes for test in self._tests.values()})
            if fastest is not None:
                fastest.scope.abort(rate_exceeded(limit_bps))
            await asyncio.sleep(WATCH_S)

    def _give_up(self) -> None:
        """End a one-off server to which no client came in time. A running test will end it otherwise."""
        if not self._running():
            self._finish(f"no client has come within {self.options.idle_us / 1e6:g} s", measured=True)

    def _finish(self, reason: str, *, measured: bool) -> None:
        """Stop serving."""
        if not self._finished.done():
            self.reason = reason
            self._finished.set_result(measured)

    # -- clients

    def _on_client(self, sock: socket.socket, address: SocketAddress, cookie: str) -> None:
        known = any(test.cookie == cookie for test in self._tests.values())
        try:
            if not cookie.startswith(COOKIE_PREFIX):
                # A stock client cannot be told when to try again; an iperfpy client is, after its parameters.
                self._places.find(source_of(address[0]), self._now_s())
            if known or self._finished.done():
                raise NoPlaceError(by_source=False)
            test = ServedTest(self, sock, address, cookie)
            self._make_room(self._clients, test)
        except NoPlaceError:
            self.refusals.refused(address, "this server is busy")
            with contextlib.suppress(OSError):
                sock.send(encode_state(State.ACCESS_DENIED))
            close_gently(sock)
            return
        task = asyncio.create_task(test.serve())
        self._tests[task] = test
        task.add_done_callback(self._test_ended)

    def _test_ended(self, task: asyncio.Task[None]) -> None:
        test = self._tests.pop(task)
        test.disconnect()  # a task that is cancelled before its first step has closed nothing
        self._clients.leave(test)
        self._places.leave(test)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("%s: %s", test.host, fault_of(error, "this server"))
            log.debug("where the fault is", exc_info=error)
        with contextlib.suppress(PlanError):  # these processors could be used before
            self.apply_affinity()
        self._served += test.has_run
        if self.options.one_off and test.plan is not None and not test.lost_place:
            self._finish("its one test is over", measured=test.was_measured)

    def _running(self) -> list[ServedTest]:
        """The tests that were admitted."""
        return [test for test in self._tests.values() if test.plan is not None and not test.lost_place]

    def _make_room(self, places: PlaceTable[ServedTest], test: ServedTest) -> None:
        """Give `test` a place, and end the silent test that loses its own. Raises `NoPlaceError`."""
        gone = places.take(test, source_of(test.host), self._now_s())
        if gone is not None:
            self._clients.leave(gone)
            self._places.leave(gone)
            gone.lose_place()

    @staticmethod
    def _now_s() -> float:
        return now_us() / 1e6

    # -- what a test needs, see `ServerContext`

    def admit(self, test: ServedTest, plan: Plan) -> None:
        """Give `test` a place. Raises `PlanError` if this server runs no such test, or none now."""
        running = self._running()
        try:
            self._places.find(source_of(test.host), self._now_s())
            check_limits(plan, self.options, [one.plan for one in running if one.plan is not None])
            self._make_room(self._places, test)
        except NoPlaceError as full:
            ends = [one.ends_us for one in running if one.ends_us is not None]
            left_s = max(1, round((min(ends, default=0) - now_us()) / 1e6))
            when = f": try again in about {left_s} s" if ends else ""
            kind = "the most tests that it runs for one address" if full.by_source else "a test"
            raise PlanError(f"this server is busy running {kind}{when}", ErrorNumber.ACCESS_DENIED) from full
        self._clients.settle(test)

    def has_opened(self, test: ServedTest) -> None:
        """The streams of `test` are open: it keeps its place."""
        self._places.settle(test)

    def apply_affinity(self) -> None:
        """Run on the processors that the clients of running tests ask for. Raises `PlanError`."""
        plans = [test.plan for test in self._running()]
        self._affinity.apply({one.server_cpu for one in plans if one and one.server_cpu is not None})

    def opening_lock(self, host: str) -> asyncio.Lock:
        """The lock of a client's host, see `ServedTest._open_streams`. It lasts while a test refers to it."""
        return self._opening_locks.setdefault(host, asyncio.Lock())
