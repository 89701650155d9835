"""One client at the server, from its cookie to its end; its failure is its own.

    greet       HELLO to an iperfpy client, then PARAM_EXCHANGE
    agree       parameters, user name and password, limits; then the data streams
    measure     until the client says TEST_END
    exchange    results both ways, DISPLAY_RESULTS, IPERF_DONE

`ServerContext` is the part of the server that a test needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from iperfpy.control.authentication import MOST_USERS_BYTES, check_token, private_key, users_of
from iperfpy.control.framing import State
from iperfpy.control.parameters import ADDRESS_PROOF, ClientRequest, decode_parameters, encode_hello
from iperfpy.control.results import key_count
from iperfpy.control.session import Send, server_session
from iperfpy.endpoint.acceptor import Acceptor
from iperfpy.endpoint.agreed_test import AgreedTest
from iperfpy.endpoint.control_connection import ControlConnection
from iperfpy.endpoint.places import PasswordWaits, source_of
from iperfpy.endpoint.refusal_log import RefusalLog
from iperfpy.endpoint.running_test import RunningTest
from iperfpy.endpoint.streams import make_streams
from iperfpy.error_numbers import ErrorNumber
from iperfpy.errors import (
    FaultError,
    InterruptError,
    IperfpyError,
    KeyFileError,
    LateError,
    PathError,
    PlanError,
    ProtocolError,
    fault_of,
    guarding,
)
from iperfpy.options import Authorization, ServerOptions
from iperfpy.plan import Direction, Plan, Role
from iperfpy.protocols.addresses import plain_host
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.registry import transports
from iperfpy.protocols.whole_file import read_whole
from iperfpy.records import ServerOutputSink, Sink, tell_all
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.runtime.descriptors import check_streams
from iperfpy.runtime.socket_options import keep_alive, mark_descriptor, prepare, retry_soon
from iperfpy.runtime.sockets import packet_size, segment_size, set_no_delay
from iperfpy.runtime.transport_ports import NetworkServerPort, SharedListeners
from iperfpy.traffic.ending import EndEvent
from iperfpy.traffic.file_payload import check_file, with_file
from iperfpy.traffic.open_stream import OpenStream, where

log = logging.getLogger(__name__)


class ServerContext(Protocol):
    """What a test needs of the server that runs it."""

    @property
    def options(self) -> ServerOptions:
        """The server's options."""

    @property
    def deadlines(self) -> Deadlines:
        """Limits of the waits."""

    @property
    def acceptor(self) -> Acceptor:
        """The owner of the listening socket, which hands over data connections."""

    @property
    def shared(self) -> SharedListeners:
        """The listeners that all tests share."""

    @property
    def make_sinks(self) -> Callable[[], Sequence[Sink]]:
        """Makes the reports of one test."""

    @property
    def make_server_output(self) -> Callable[[], ServerOutputSink] | None:
        """Makes the report for a client that asks for the server's."""

    @property
    def password_waits(self) -> PasswordWaits:
        """Waits of sources with refused passwords."""

    @property
    def refusals(self) -> RefusalLog:
        """Writes the log lines of clients that are turned away."""

    def admit(self, test: ServedTest, plan: Plan) -> None:
        """Give `test` a place. Raises `PlanError` if the server runs no such test, or none now."""

    def has_opened(self, test: ServedTest) -> None:
        """The streams of `test` are open: it keeps its place."""

    def apply_affinity(self) -> None:
        """Run on the processors that the clients of admitted tests ask for. Raises `PlanError`."""

    def opening_lock(self, host: str) -> asyncio.Lock:
        """Held while a test of that host opens streams that only their source address identifies."""


class ServedTest:
    """The state of one client.

    Attributes
    ----------
    plan : the test, once it was admitted
    ends_us : its planned end, if it has one
    was_measured : True once it has ended well
    lost_place : True once another test got its place
    """

    def __init__(
        self, server: ServerContext, sock: socket.socket, address: SocketAddress, cookie: str
    ) -> None:
        self.scope = AbortScope()
        self.cookie = cookie
        self.plan: Plan | None = None
        self.ends_us: int | None = None
        self.was_measured = self.lost_place = False
        self._server = server
        self._deadlines = server.deadlines
        self._address = address
        self._sinks: Sequence[Sink] = ()
        self._output: ServerOutputSink | None = None
        self._test: RunningTest | None = None
        self._opened: list[OpenStream] = []
        set_no_delay(sock)
        keep_alive(sock, server.options.sockets)
        retry_soon(sock, server.options.sockets)
        self._tcp_mss, self._packet_bytes = segment_size(sock), packet_size(sock)
        self._connection = ControlConnection(sock, server_session(cookie), self.scope)

    @property
    def has_run(self) -> bool:
        """True once data may have flowed."""
        return self._test is not None

    @property
    def moved_bytes(self) -> int:
        """Payload so far, both directions together."""
        return sum(each.snapshots.moved_bytes for each in self._opened)

    @property
    def host(self) -> str:
        """The client's address."""
        return str(self._address[0])

    def lose_place(self) -> None:
        """End the test, which has kept the server waiting: its place was needed."""
        self.lost_place = True
        text = "this server needed the place: the client has kept it waiting for longest"
        self.scope.abort(PlanError(text, ErrorNumber.ACCESS_DENIED))

    async def serve(self) -> None:
        """Run the whole test. Its errors go to the client and to the sinks."""
        try:
            self._connection.start()
            await self._run()
            self.was_measured = True
        except Exception as error:
            known = error if isinstance(error, IperfpyError) else fault_of(error, "this server")
            self._log(known)
            try:
                await self._tell_client(known)
            finally:
                self._tell_sinks(known)
        finally:
            await self._close()

    def _log(self, error: IperfpyError) -> None:
        """Log an error. A refused password has a form that programs which block addresses can find
        (docs/options.md). Once data has flowed, the sinks write the line of the test."""
        if isinstance(error, PlanError) and error.i_errno == ErrorNumber.AUTHENTICATION:
            self._server.refusals.count += 1
            log.warning("password refused, client %s: %s", self.host, error)
        elif isinstance(error, FaultError):
            log.error("%s: %s", self.host, error)
            log.debug("where the fault is", exc_info=error.__cause__)
        elif self._test is None and (self.plan is not None or isinstance(error, PlanError)):
            self._server.refusals.refused(self._address, str(error))
        else:
            log.info("%s: %s", self.host, error)

    async def _run(self) -> None:
        connection = self._connection
        request = await self._agree()
        sinks = self._make_sinks(request.plan)
        test = AgreedTest(
            Role.SERVER, request.plan, request.transport, self._opened, connection, request.features
        )
        connection.send(Send.TEST_START)
        test.announce(sinks, self._address, self._tcp_mss)
        connection.send(Send.TEST_RUNNING)
        self._test = RunningTest(test, now_us(), self.scope, self._deadlines, sinks)
        self._test.start()
        await self._measure(self._test, request.plan)
        await self._exchange(self._test)

    # -- agree

    async def _agree(self) -> ClientRequest:
        """Get the parameters, check them, and open the data streams."""
        connection = self._connection
        if connection.session.extended:
            features = sorted({name for each in transports().values() for name in each.features})
            connection.send(Send.HELLO, encode_hello(transports(), self._own_udp_ports(), features))
        connection.send(Send.PARAM_EXCHANGE)
        body = await connection.document(self._deadlines.reply_s, "its parameters")
        await self._authorize(body)
        request = decode_parameters(body, transports(), self._server.options.interval_us)
        # `_authorize` came first: a client that may not use this server learns nothing about its limits.
        if file := self._server.options.file:
            sends = request.plan.direction is Direction.REVERSE
            check_file(file, request.plan, request.transport, sends=sends)
        self._admit(request.plan)
        self._check_secret(request)
        connection.session.allow_figures(request.plan.stream_count, key_count(request.transport.metrics))
        await self._open_streams(request)
        self._server.has_opened(self)
        return request

    def _own_udp_ports(self) -> dict[str, int]:
        """The UDP ports of transports that do not share the server's, by name; none for built-in ones."""
        wanted = partial(prepare, options=self._server.options.sockets)
        return self._server.shared.own_udp_ports(transports().values(), self._server.acceptor.local, wanted)

    async def _authorize(self, body: Mapping[str, Any]) -> None:
        """Raise `PlanError` unless the client proves that it may use this server.

        Passwords of a source that has had some refused are read one after the other, with pauses that
        lengthen. Other sources do not wait.
        """
        wanted = self._server.options.authorization
        if wanted is None:
            return
        waits, source = self._server.password_waits, source_of(self.host)
        wait_s = waits.reserve(source, now_us() / 1e6)
        if wait_s is None:
            text = "this server has refused many passwords of this address: try again later"
            raise PlanError(text, ErrorNumber.AUTHENTICATION)
        if wait_s:
            await self.scope.wait(asyncio.sleep(wait_s), None, "")
        try:
            user = self._user_of(body, wanted)
        except PlanError:
            waits.refused(source, now_us() / 1e6)
            raise
        waits.accepted(source)
        log.info("%s is %s", self.host, user)

    def _user_of(self, body: Mapping[str, Any], wanted: Authorization) -> str:
        """The user that the password of the parameters belongs to. Raises `PlanError`."""
        try:
            users = users_of(read_whole(wanted.users_path, MOST_USERS_BYTES))
        except (OSError, KeyFileError) as error:
            # The client is refused like one with a wrong password; the log has the reason.
            log.error("cannot read the users in %s: %s", wanted.users_path, error)
            users = {}
        try:
            key = private_key(wanted.private_key_pem)
        except KeyFileError as error:
            log.error("the private key %s", error)
            text = "this server cannot read passwords: its own key is unusable"
            raise PlanError(text, ErrorNumber.AUTHENTICATION) from error
        token, now_s = body.get("authtoken"), int(time.time())
        return check_token(token, key, users, now_s, wanted.skew_s, pkcs1=wanted.pkcs1)

    def _check_secret(self, request: ClientRequest) -> None:
        """Raise `PlanError` if this server lacks a secret that both ends must have."""
        transport = request.transport
        try:
            with guarding(transport.name):
                secret = self._server.options.secrets.get(transport.prefix)
                transport.check_secret(request.plan.settings, secret)
        except PlanError as error:
            raise PlanError(f"at the server: {error}") from error

    def _admit(self, plan: Plan) -> None:
        """Raise `PlanError` if the server does not run this test; from here on it counts as running."""
        check_streams(plan.stream_count)
        self._server.admit(self, plan)
        self.plan = plan
        self._server.apply_affinity()
        if plan.duration_us:
            self.ends_us = now_us() + plan.duration_us + plan.omit_us

    async def _open_streams(self, request: ClientRequest) -> None:
        """Be ready for the streams, then tell the client to open them.

        The datagrams of a stock client name no test. So of one host, or of one NAT, one such test at a time
        opens its streams.
        """
        server, seconds = self._server, self._deadlines.streams_s * max(1, request.plan.stream_count // 8)
        async with contextlib.AsyncExitStack() as stack:
            if request.transport.datagrams and not request.convs:
                try:
                    async with asyncio.timeout(2 * seconds):  # the test that holds the lock has `seconds`
                        await stack.enter_async_context(server.opening_lock(self._address[0]))
                except TimeoutError as error:
                    text = "timed out waiting for another client from the same host to open its streams"
                    raise LateError(text) from error
            queue = server.acceptor.expect(self.cookie, request.plan.stream_count)
            wanted = partial(prepare, options=server.options.sockets)
            port = NetworkServerPort(
                server.acceptor.local,
                self._address,
                queue,
                server.shared,
                wanted,
                request.plan.transport,
                self._packet_bytes,
                server.options.secrets.get(request.transport.prefix),
            )
            accepting = asyncio.create_task(self._accept_all(request, port))
            stack.callback(accepting.cancel)  # if the next step fails, nothing else would end it
            # One iteration of the loop lets the transport announce its first session before the client acts.
            await asyncio.sleep(0)
            # A transport may need nothing of the client: then the streams are open by now.
            if not accepting.done() or accepting.exception() is None:
                self._connection.send(Send.CREATE_STREAMS)
            late = f"the client did not open its data streams within {seconds:g} s"
            try:
                await self.scope.wait(accepting, seconds, late)
            except LateError as error:
                if not (stranger := port.stranger):
                    raise
                raise LateError(
                    f"{error}: its UDP datagrams came from {stranger}, and its control connection from"
                    f" {plain_host(self._address[0])}. A client that cannot prove a UDP address must use one"
                    " address for both: try -B at the client, or this version of iperfpy there"
                ) from error

    async def _accept_all(self, request: ClientRequest, port: NetworkServerPort) -> None:
        settings = request.plan.settings
        named, plan = request.features, request.plan
        proves, both = ADDRESS_PROOF in named, named.intersection(request.transport.features)
        for stream in make_streams(plan, request.convs, role=Role.SERVER, proves=proves, features=both):
            with guarding(request.transport.name, where(stream)):
                channel = await request.transport.accept(stream, settings, port)
            # Kept at once: an error below must not leave an open channel behind.
            self._opened.append(OpenStream.of(stream, channel, request.transport, self.scope.abort))
            self._opened[-1] = with_file(self._opened[-1], self._server.options.file)
            mark_descriptor(self._opened[-1].channel.fileno(), request.plan)

    def _make_sinks(self, plan: Plan) -> Sequence[Sink]:
        """This server's own reports, and the one that the client asked for."""
        self._sinks = self._server.make_sinks()
        if plan.get_server_output and self._server.make_server_output is not None:
            self._output = self._server.make_server_output()
            return (*self._sinks, self._output)
        return self._sinks

    # -- measure and exchange

    async def _measure(self, test: RunningTest, plan: Plan) -> None:
        """Wait for the end of the test, which may have stopped counting before TEST_END."""
        for event in test.rule.events:
            if event is EndEvent.TEST_END:
                # Without a planned end, the test itself notices that nothing moves any more.
                limit = test.patience(after_planned_end=True) if plan.duration_us else None
                await self._connection.signal(limit, State.TEST_END)
            else:
                await self.scope.wait(test.happened(event), None, "")
        test.stop()

    async def _exchange(self, test: RunningTest) -> None:
        connection, patience = self._connection, test.patience()
        await test.stopped_sending()
        connection.send(Send.EXCHANGE_RESULTS)
        test.take_results(await connection.document(patience, "its results"))
        # Not before: until it has seen EXCHANGE_RESULTS, an iperf3 that receives takes a reset for a failure.
        await test.end_streams()
        output = test.show_output(self._output) if self._output is not None else ""
        connection.send(Send.RESULTS, test.results(output))
        connection.send(Send.DISPLAY_RESULTS)
        await connection.signal(patience, State.IPERF_DONE)
        test.conclude()

    # -- the end

    async def _tell_client(self, error: IperfpyError) -> None:
        connection = self._connection
        if self._test is not None:
            self._test.stop()
        if isinstance(error, InterruptError) and connection.can(Send.SERVER_TERMINATE):
            connection.send(Send.SERVER_TERMINATE)
        elif connection.can(Send.FAILURE):
            connection.send(Send.FAILURE, {"text": str(error), "i_errno": int(error_number(error))})
        else:
            return
        await connection.flush_within(self._deadlines.farewell_s)
        if self._test is not None and not connection.session.extended:
            # An iperf3 that loses a data connection before it has read the reason reports the loss instead.
            await asyncio.sleep(self._deadlines.verdict_s)

    def _tell_sinks(self, error: IperfpyError) -> None:
        if self._test is not None:
            self._test.fail(error)
            return
        tell_all(self._sinks, lambda sink: sink.error(str(error)))

    def disconnect(self) -> None:
        """Close the control connection. Idempotent."""
        self._connection.close()

    async def _close(self) -> None:
        self.scope.close()
        self._server.acceptor.forget(self.cookie)
        # The stack takes its steps, last one first, also if one fails or this task is cancelled meanwhile.
        async with contextlib.AsyncExitStack() as steps:
            for sink in reversed(self._sinks):
                steps.callback(sink.close)
            steps.callback(self.disconnect)
            for each in reversed(self._opened):
                steps.push_async_callback(each.close)
            if self._test is not None:
                steps.push_async_callback(self._test.close_streams)


def error_number(error: IperfpyError) -> int:
    """iperf3's number for an error at this server."""
    if isinstance(error, PlanError):
        return error.i_errno
    numbers = {
        ProtocolError: ErrorNumber.MESSAGE,
        LateError: ErrorNumber.NO_DATA,
        PathError: ErrorNumber.READ_STREAM,
        FaultError: ErrorNumber.READ_STREAM,
    }
    known = (number for kind, number in numbers.items() if isinstance(error, kind))
    return next(known, ErrorNumber.SET_UP_STREAM)
