"""The server: one listener that stays open, any number of tests at once, each on its own.

    accept     (acceptor.py) a connection with an unknown cookie is a client
    _ServerTest    greeting, parameters, streams, measurement, results; its failure is its own
    stop       a signal tells every client and ends every test

A test makes its sinks when its data begins to flow, and closes them. A client that never got that far left
nothing to report: it is logged, at level INFO, because anybody can make a server write such lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from iperfpy.control.authentication import check_token, private_key, users_of
from iperfpy.control.framing import State, encode_state
from iperfpy.control.parameters import (
    COOKIE_PREFIX,
    IE_ACCESS_DENIED,
    Request,
    clean,
    decode_parameters,
    encode_hello,
)
from iperfpy.control.session import Send, server_session
from iperfpy.endpoint.acceptor import Acceptor
from iperfpy.endpoint.admission import IE_TOTAL_RATE, TotalRate, check_limits, too_fast
from iperfpy.endpoint.control_connection import ControlConnection
from iperfpy.endpoint.placement import Placement
from iperfpy.endpoint.running_test import RunningTest, announce
from iperfpy.endpoint.streams import make_streams
from iperfpy.errors import (
    InterruptError,
    IperfpyError,
    KeyFileError,
    LateError,
    PathError,
    PlanError,
    ProtocolError,
    from_transport,
)
from iperfpy.options import ServerOptions
from iperfpy.plan import Plan, Role
from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.registry import transports
from iperfpy.records import ServerOutputSink, Sink
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.runtime.event_loop import now_us
from iperfpy.runtime.socket_options import keep_alive, mark_descriptor, prepare
from iperfpy.runtime.sockets import close_gently, listen, segment_size, set_no_delay
from iperfpy.runtime.transport_ports import NetworkServerPort, SharedListeners
from iperfpy.traffic.file_payload import check_file, with_file
from iperfpy.traffic.transfer import OpenStream

CLIENTS_LIMIT = 256
"""Clients at once, with those whose test was not accepted yet; more are refused as busy."""
WATCH_S = 0.25
"""How often the rate of all tests is looked at, where it is limited."""
STOP_S = 5.0
"""For all tests to say goodbye when the server is stopped."""

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
    make_server_output : called once per test whose client asks for this server's report; None: none is sent
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
    server = _Server(options, make_sinks, make_server_output, limits, await listen(options))
    try:
        return await outer.wait(server.run(on_listening), None, "")
    except InterruptError as error:
        server.interrupt(error)
        raise
    finally:
        await server.close()


class _Server:
    """What all tests share."""

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
        self.finished: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._tests: dict[asyncio.Task[None], ServedTest] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._placement = Placement()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, on_listening: Callable[[int], None] | None) -> bool:
        """Accept clients until `finished`, and return its value."""
        accepting = asyncio.create_task(self.acceptor.run())
        self._tasks = [accepting]
        if self.options.rate_limit_bps:
            self._tasks.append(asyncio.create_task(self._watch_rate()))
        if self.options.idle_us and self.options.one_off:
            asyncio.get_running_loop().call_later(self.options.idle_us / 1e6, self._give_up)
        if on_listening is not None:
            on_listening(int(self.acceptor.local[1]))
        waiting: set[asyncio.Future[bool] | asyncio.Future[None]] = {self.finished, *self._tasks}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks:
            if task.done() and not self.finished.done():
                task.result()
        return self.finished.result()

    async def _watch_rate(self) -> None:
        """Call off the fastest test when all of them together are too fast."""
        options = self.options
        total: TotalRate[ServedTest] = TotalRate(options.rate_limit_bps, options.rate_window_us)
        while True:
            fastest = total.observe(now_us(), {test: test.moved_bytes for test in self._tests.values()})
            if fastest is not None:
                fastest.guard.abort(PlanError(too_fast(options.rate_limit_bps), IE_TOTAL_RATE))
            await asyncio.sleep(WATCH_S)

    def _give_up(self) -> None:
        """Nobody has come for the one test in time; one that runs will end the server itself."""
        if not self.running():
            log.info("no client has come within %g s", self.options.idle_us / 1e6)
            self.finish(measured=True)

    def interrupt(self, error: InterruptError) -> None:
        """End every test with this error."""
        for test in self._tests.values():
            test.guard.abort(error)

    def finish(self, *, measured: bool) -> None:
        """Stop serving."""
        if not self.finished.done():
            self.finished.set_result(measured)

    async def close(self) -> None:
        """End every test that is left, and close everything."""
        for watching in self._tasks:
            watching.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for test in self._tests.values():
            test.guard.abort(InterruptError("the server has stopped"))
        if self._tests:
            await asyncio.wait(tuple(self._tests), timeout=STOP_S)
        for task in tuple(self._tests):
            task.cancel()
        await asyncio.gather(*self._tests, return_exceptions=True)
        await self.acceptor.close()
        await self.shared.close()

    def _on_client(self, sock: socket.socket, address: SocketAddress, cookie: str) -> None:
        known = any(test.cookie == cookie for test in self._tests.values())
        # A stock client could not be told for how long; ours hears it when it has sent its parameters.
        busy = self.is_busy() and not cookie.startswith(COOKIE_PREFIX)
        if known or len(self._tests) >= CLIENTS_LIMIT or busy or self.finished.done():
            with contextlib.suppress(OSError):
                sock.send(encode_state(State.ACCESS_DENIED))
            close_gently(sock)
            return
        test = ServedTest(self, sock, address, cookie)
        task = asyncio.create_task(test.serve())
        self._tests[task] = test
        task.add_done_callback(self._test_ended)

    def is_busy(self) -> bool:
        """Whether no further test can be accepted now."""
        return len(self.running()) >= (1 if self.options.one_off else self.options.max_tests)

    def place(self) -> None:
        """Run where the clients of the running tests want it. Raises `PlanError`."""
        plans = [test.plan for test in self.running()]
        self._placement.place({one.server_cpu for one in plans if one and one.server_cpu is not None})

    def turn(self, host: str) -> asyncio.Lock:
        """Held by the one test of a host whose streams are known by nothing but where they come from."""
        return self._turns.setdefault(host, asyncio.Lock())

    def own_udp_ports(self) -> dict[str, int]:
        """The UDP ports of transports that do not share the server's, by name; none for built-in ones."""
        wanted = partial(prepare, options=self.options.sockets)
        return self.shared.own_udp_ports(transports().values(), self.acceptor.local, wanted)

    def running(self) -> list[ServedTest]:
        """The tests that were accepted."""
        return [test for test in self._tests.values() if test.accepted]

    def _test_ended(self, task: asyncio.Task[None]) -> None:
        test = self._tests.pop(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a test failed for a fault of this program", exc_info=error)
        with contextlib.suppress(PlanError):  # it could be placed there before
            self.place()
        if self.options.one_off and test.accepted:
            self.finish(measured=test.measured)


class ServedTest:
    """One client, from its cookie to its end."""

    def __init__(self, server: _Server, sock: socket.socket, address: SocketAddress, cookie: str) -> None:
        self.guard = AbortScope()
        self.cookie = cookie
        self.accepted = False
        self.measured = False
        self.plan: Plan | None = None
        self.ends_us: int | None = None
        self._server = server
        self._deadlines = server.deadlines
        self._address = address
        self._sinks: Sequence[Sink] = ()
        self._output: ServerOutputSink | None = None
        self._run: RunningTest | None = None
        self._opened: list[OpenStream] = []
        set_no_delay(sock)
        keep_alive(sock, server.options.sockets)
        self._tcp_mss = segment_size(sock)
        self._wire = ControlConnection(sock, server_session(cookie), self.guard)

    @property
    def moved_bytes(self) -> int:
        """Payload so far, both directions together."""
        counted = (each.channel.counters().get("bytes") for each in self._opened)
        return sum(int(count) for count in counted if isinstance(count, (int, float)))

    async def serve(self) -> None:
        """The whole test; its errors are told to whom they concern."""
        try:
            await self._test()
            self.measured = True
        except IperfpyError as error:
            log.info("%s: %s", self._address[0], error)
            await self._tell_client(error)
            self._tell_sinks(error)
        except Exception:  # a fault of ours: the client is told, and `_test_ended` logs it
            await self._tell_client(IperfpyError("the server failed for a fault of its own"))
            raise
        finally:
            await self._close()

    async def _test(self) -> None:
        wire, deadlines = self._wire, self._deadlines
        if wire.session.extended:
            wire.send(Send.HELLO, encode_hello(transports(), self._server.own_udp_ports()))
        wire.send(Send.PARAM_EXCHANGE)
        body = await wire.document(deadlines.reply_s, "its parameters")
        self._authorize(body)
        request = decode_parameters(body, transports(), self._server.options.interval_us)
        if self._server.options.file:
            check_file(request.plan, request.transport)
        self._accept(request.plan)
        wire.session.allow_streams(request.plan.stream_count)
        await self._open_streams(request)
        sinks = self._make_sinks(request.plan)
        wire.send(Send.TEST_START)
        announce(
            sinks,
            Role.SERVER,
            self._address,
            request.plan,
            request.transport,
            self._opened,
            wire,
            self._tcp_mss,
        )
        wire.send(Send.TEST_RUNNING)
        run = self._run = RunningTest(
            Role.SERVER,
            request.plan,
            request.transport,
            self._opened,
            now_us(),
            wire,
            self.guard,
            deadlines,
            sinks,
        )
        counts_bytes = request.plan.total_bytes or request.plan.total_blocks
        if not counts_bytes:
            wire.on_signal = lambda state: run.finish() if state is State.TEST_END else None
        await wire.signal(self._longest_s(request.plan), State.TEST_END)
        if counts_bytes:
            await self.guard.wait(run.measurement.settle(), None, "")
        run.finish()
        wire.send(Send.EXCHANGE_RESULTS)
        run.take_results(await wire.document(deadlines.results_s, "its results"))
        # Not before: until it has seen EXCHANGE_RESULTS, an iperf3 that receives takes a reset for a failure.
        await run.measurement.close()
        output = run.conclude_early(self._output) if self._output is not None else ""
        wire.send(Send.RESULTS, run.own_results(output))
        wire.send(Send.DISPLAY_RESULTS)
        await wire.signal(deadlines.results_s, State.IPERF_DONE)
        run.conclude()

    def _make_sinks(self, plan: Plan) -> Sequence[Sink]:
        """This server's own reports, and the one that the client asked for."""
        self._sinks = self._server.make_sinks()
        if plan.get_server_output and self._server.make_server_output is not None:
            self._output = self._server.make_server_output()
            return (*self._sinks, self._output)
        return self._sinks

    def _authorize(self, body: Mapping[str, Any]) -> None:
        """Raise `PlanError` when the client does not prove that it may use this server."""
        wanted = self._server.options.authorization
        if wanted is None:
            return
        try:
            users = users_of(Path(wanted.users_path).read_text())
        except (OSError, ValueError, KeyFileError) as error:
            log.error("cannot read the users in %s: %s", wanted.users_path, error)
            users = {}
        key, token = private_key(wanted.private_key_pem), body.get("authtoken")
        user = check_token(token, key, users, int(time.time()), wanted.skew_s, pkcs1=wanted.pkcs1)
        log.info("%s is %s", self._address[0], clean(user))

    def _accept(self, plan: Plan) -> None:
        """The parameters are good. Raises `PlanError` when this server runs no such test, or not now."""
        running = self._server.running()
        if self._server.is_busy():
            ends = [test.ends_us for test in running if test.ends_us is not None]
            left_s = max(1, round((min(ends, default=0) - now_us()) / 1e6))
            when = f": try again in about {left_s} s" if ends else ""
            raise PlanError(f"this server is busy running a test{when}", IE_ACCESS_DENIED)
        check_limits(plan, self._server.options, [test.plan for test in running if test.plan is not None])
        self.plan, self.accepted = plan, True
        self._server.place()
        if plan.duration_us:
            self.ends_us = now_us() + plan.duration_us + plan.omit_us

    async def _open_streams(self, request: Request) -> None:
        """Be ready for the streams before the client is told to open them. The datagrams of a stock client
        name no test: of one host (or of one NAT), one such test at a time opens its streams."""
        plan, server = request.plan, self._server
        seconds = self._deadlines.streams_s * max(1, plan.stream_count // 8)
        async with contextlib.AsyncExitStack() as stack:
            if request.transport.datagrams and not request.convs:
                try:
                    async with asyncio.timeout(2 * seconds):  # whoever holds it has `seconds`
                        await stack.enter_async_context(server.turn(self._address[0]))
                except TimeoutError as error:
                    raise LateError("another client of this host has still not opened its streams") from error
            queue = server.acceptor.expect(self.cookie, plan.stream_count)
            wanted = partial(prepare, options=server.options.sockets)
            port = NetworkServerPort(
                server.acceptor.local, self._address, queue, server.shared, wanted, plan.transport
            )
            accepting = asyncio.create_task(self._accept_all(request, port))
            await asyncio.sleep(0)
            if not accepting.done():
                self._wire.send(Send.CREATE_STREAMS)
            try:
                late = f"the client did not open its data streams within {seconds:g} s"
                await self.guard.wait(accepting, seconds, late)
            except TransportError as error:
                raise from_transport(error) from error

    async def _accept_all(self, request: Request, port: NetworkServerPort) -> None:
        settings = request.plan.settings
        for stream in make_streams(request.plan, request.convs, client=False):
            try:
                channel = await request.transport.accept(stream, settings, port)
            except OSError as error:
                raise PathError(f"stream {stream.id}: {error.strerror or error}") from error
            self._opened.append(OpenStream.of(stream, channel))
            self._opened[-1] = with_file(self._opened[-1], self._server.options.file)
            mark_descriptor(channel.fileno(), request.plan)

    def _longest_s(self, plan: Plan) -> float | None:
        """How long to wait for TEST_END: until someone forgot about this test."""
        if not plan.duration_us:
            return None
        return (plan.duration_us + plan.omit_us) / 1e6 + self._deadlines.grace_s

    async def _tell_client(self, error: IperfpyError) -> None:
        wire = self._wire
        if self._run is not None:
            self._run.finish()
        if isinstance(error, InterruptError) and wire.can(Send.SERVER_TERMINATE):
            wire.send(Send.SERVER_TERMINATE)
        elif wire.can(Send.FAILURE):
            wire.send(Send.FAILURE, {"text": str(error), "i_errno": _i_errno(error)})
        else:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wire.flush(), self._deadlines.farewell_s)
        if self._run is not None and not wire.session.extended:
            # An iperf3 whose data connection breaks before it has read the reason gives that as the reason.
            await asyncio.sleep(self._deadlines.verdict_s)

    def _tell_sinks(self, error: IperfpyError) -> None:
        if self._run is not None:
            self._run.conclude(error)
            return
        for sink in self._sinks:
            sink.error(str(error))

    async def _close(self) -> None:
        self.guard.close()
        self._server.acceptor.forget(self.cookie)
        if self._run is not None:
            await self._run.measurement.close()
        for each in self._opened:
            await each.close()
        self._wire.close()
        for sink in self._sinks:
            sink.close()


def _i_errno(error: IperfpyError) -> int:
    """iperf3's number for what went wrong here."""
    if isinstance(error, PlanError):
        return error.i_errno
    numbers = {ProtocolError: 110, LateError: 144, PathError: 206}
    return next((number for kind, number in numbers.items() if isinstance(error, kind)), 201)
