"""One test from the client's side.

    open       resolve, connect, cookie, the server's greeting (or none: a stock iperf3)
    agree      parameters; then the data streams, one after the other
    measure    until the time is over, or everything has been sent and received
    exchange   TEST_END, results both ways, IPERF_DONE

Sinks hear of everything: `start` when data begins to flow, `interval`, and then `end`; a test that fails on
the way ends with `end` too, whose `interrupted` is the sentence. Only a test that failed before it started
gives them `error` instead. Whoever calls `run_client` needs to say nothing more, and closes the sinks.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Sequence
from functools import partial

from iperfpy.control.authentication import make_token, public_key
from iperfpy.control.framing import COOKIE_ALPHABET, COOKIE_BYTES, State
from iperfpy.control.parameters import (
    COOKIE_PREFIX,
    Hello,
    decode_hello,
    encode_parameters,
)
from iperfpy.control.session import Send, client_session
from iperfpy.endpoint.control_connection import ControlConnection
from iperfpy.endpoint.preflight import check_here
from iperfpy.endpoint.running_test import RunningTest, announce
from iperfpy.endpoint.streams import make_convs, make_streams
from iperfpy.errors import (
    ConnectError,
    InterruptError,
    IperfpyError,
    LateError,
    PeerError,
    PlanError,
    from_transport,
    system_reason,
)
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction, Plan, Role
from iperfpy.protocols.contract import SocketAddress, Stream, Transport
from iperfpy.protocols.errors import TransportError
from iperfpy.records import Sink
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.runtime.event_loop import now_us
from iperfpy.runtime.socket_options import keep_alive, mark_descriptor, prepare
from iperfpy.runtime.sockets import (
    bind,
    is_ipv6,
    new_socket,
    resolve,
    resolve_local,
    segment_size,
    set_no_delay,
)
from iperfpy.runtime.transport_ports import NetworkClientPort
from iperfpy.traffic.file_payload import with_file
from iperfpy.traffic.transfer import OpenStream, first_stir_us

RETRY_PAUSE_S = 0.1
STOCK_DRAIN_S = 0.1
"""A stock server closes its data sockets on TEST_END without reading what has arrived: the time it gets to
read what has been acknowledged but may not have been read, when all that was sent counts (-n, -k, -F)."""


async def run_client(
    plan: Plan,
    options: ClientOptions,
    sinks: Sequence[Sink],
    *,
    transport: Transport | None = None,
    scope: AbortScope | None = None,
    deadlines: Deadlines | None = None,
) -> None:
    """Run one test against a server, and report it to `sinks`. Returns when the test was measured.

    It prints nothing and installs no signal handler, and any number of tests may run in one event loop.
    Cancelling the task ends the test at both ends: the server is told, and the sinks get the message of the
    cancellation as the reason.

    Parameters
    ----------
    plan : the test
    options : the server's address, and how to reach it
    sinks : receivers of the test's records; the caller closes them
    transport : the plan's, from `check_here`; None: the plan is checked first
    scope : `scope.abort(InterruptError(...))` stops the test in an orderly way
    deadlines : for tests of this program

    Raises
    ------
    IperfpyError
        After the sinks got its sentence: the test failed, or the server was stopped.
    InterruptError
        The error with which `scope` was aborted.
    """
    outer = scope or AbortScope()
    limits = (deadlines or Deadlines()).with_options(options.sockets)
    client = _Client(plan, options, sinks, outer, limits)
    try:
        await client.run(transport or check_here(plan, options))
    except IperfpyError as error:
        await client.leave(error)
        raise
    except asyncio.CancelledError as cancelled:
        await client.leave(InterruptError(str(cancelled) or "the test was cancelled"))
        raise
    finally:
        await client.close()


class _RefusedError(ConnectError):
    """Nobody listens, or whoever did has closed at once: worth trying again for a moment."""


class _Client:
    """The state of one test."""

    def __init__(
        self,
        plan: Plan,
        options: ClientOptions,
        sinks: Sequence[Sink],
        guard: AbortScope,
        deadlines: Deadlines,
    ) -> None:
        self._plan = plan
        self._options = options
        self._sinks = sinks
        self._outer = guard
        self._guard = guard.nested()
        self._deadlines = deadlines
        self._wire: ControlConnection | None = None
        self._hello: Hello | None = None
        self._run: RunningTest | None = None
        self._opened: list[OpenStream] = []
        self._tcp_mss: int | None = None

    async def run(self, transport: Transport) -> None:
        """The whole test. Raises `IperfpyError`."""
        wire, remote, local = await self._open()
        self._check_server(transport)
        convs = make_convs(self._plan) if self._hello else ()
        body = encode_parameters(self._plan, transport, convs or None)
        wire.session.allow_streams(self._plan.stream_count)
        wire.send(Send.PARAMETERS, body | self._token())
        await wire.signal(self._deadlines.reply_s, State.CREATE_STREAMS)
        wanted = partial(prepare, options=self._options.sockets, remote=remote)
        udp_port = self._hello.udp_ports.get(transport.name, 0) if self._hello else 0
        port = NetworkClientPort(
            remote, wire.session.cookie, local, self._options.client_port, wanted, udp_port
        )
        for stream in make_streams(self._plan, convs, client=True):
            await self._connect(transport, stream, port)
        await wire.signal(self._deadlines.streams_s, State.TEST_START)
        server = (self._options.host, self._options.port)
        announce(self._sinks, Role.CLIENT, server, self._plan, transport, self._opened, wire, self._tcp_mss)
        stirring = asyncio.create_task(first_stir_us(self._opened, self._deadlines.streams_s))
        try:
            await wire.signal(self._deadlines.streams_s, State.TEST_RUNNING)
        finally:
            stirring.cancel()
        stirred_us = stirring.result() if stirring.done() else None
        await self._measure(wire, transport, stirred_us or wire.arrived_us[State.TEST_RUNNING])

    def _token(self) -> dict[str, str]:
        """Who this client is, when the user said."""
        who = self._options.credentials
        if who is None:
            return {}
        key, now_s = public_key(who.public_key_pem), int(time.time())
        return {"authtoken": make_token(who.user, who.password, key, now_s, pkcs1=who.pkcs1)}

    # -- open

    async def _open(self) -> tuple[ControlConnection, SocketAddress, SocketAddress | None]:
        """A greeted control connection, the server's address, and the local one when -B was given."""
        options = self._options
        seconds = options.connect_timeout_us / 1e6
        late = f"the name {options.host} was not resolved within {seconds:g} s"
        addresses = await self._guard.wait(resolve(options.host, options.port, options.family), seconds, late)
        give_up_us = now_us() + round(self._deadlines.retry_s * 1e6)
        while True:
            try:
                return await self._try_all(addresses, seconds)
            except _RefusedError:
                if now_us() >= give_up_us:
                    raise
            self._guard.close()
            self._guard = self._outer.nested()
            await self._guard.wait(asyncio.sleep(RETRY_PAUSE_S), None, "")

    async def _try_all(
        self, addresses: Sequence[tuple[int, SocketAddress]], seconds: float
    ) -> tuple[ControlConnection, SocketAddress, SocketAddress | None]:
        """The first address that takes a connection. Raises the last one's error."""
        failure: IperfpyError = ConnectError(f"{self._options.host} has no address")
        for family, address in addresses:
            local = await resolve_local(self._options.bind, family) if self._options.bind else None
            try:
                sock = await self._connect_control(family, address, local, seconds)
            except (ConnectError, LateError) as error:
                failure = error
                continue
            return await self._greet(sock), self._labelled(address), local
        raise failure

    def _labelled(self, address: SocketAddress) -> SocketAddress:
        """The address with the flow label for data connections to it (-L)."""
        label = self._options.flow_label
        if not label:
            return address
        if not is_ipv6(address):
            raise PlanError(f"-L labels flows of IPv6, and {self._options.host} was reached over IPv4")
        return (address[0], address[1], label, *address[3:])

    async def _connect_control(
        self, family: int, address: SocketAddress, local: SocketAddress | None, seconds: float
    ) -> socket.socket:
        where = f"{self._options.host} port {self._options.port}"
        sock = new_socket(family)
        try:
            set_no_delay(sock)
            prepare(sock, self._options.sockets)
            keep_alive(sock, self._options.sockets)
            if local is not None:
                bind(sock, local)
            connecting = asyncio.get_running_loop().sock_connect(sock, address)
            await self._guard.wait(
                connecting, seconds, f"cannot connect to {where}: no answer within {seconds:g} s"
            )
        except (ConnectionRefusedError, ConnectionResetError) as error:
            sock.close()
            raise _RefusedError(f"cannot connect to {where}: {system_reason(error)}") from error
        except OSError as error:
            sock.close()
            raise ConnectError(f"cannot connect to {where}: {system_reason(error)}") from error
        except BaseException:
            sock.close()
            raise
        return sock

    async def _greet(self, sock: socket.socket) -> ControlConnection:
        """Present the cookie; a server that closes before it says anything is worth another try."""
        self._tcp_mss = segment_size(sock)
        wire = self._wire = ControlConnection(sock, client_session(_make_cookie()), self._guard)
        wire.send(Send.COOKIE)
        try:
            first = await wire.signal(self._deadlines.reply_s, State.HELLO, State.PARAM_EXCHANGE)
            if first.state is State.HELLO:
                self._hello = decode_hello(first.document or {})
                await wire.signal(self._deadlines.reply_s, State.PARAM_EXCHANGE)
        except PeerError as error:
            if wire.heard:
                raise
            wire.close()
            where = f"{self._options.host} port {self._options.port}"
            raise _RefusedError(f"the server at {where} closed the connection at once") from error
        return wire

    def _check_server(self, transport: Transport) -> None:
        """Whether this server can run this test at all: said before anything starts."""
        name, host = self._plan.transport, self._options.host
        if self._hello is None:
            if not transport.iperf3.key:
                needs = f"which cannot run {name}: that needs iperfpy at both ends"
                raise PlanError(f"{host} runs a stock iperf3 server, {needs}")
            if self._plan.omit_us % 1_000_000:
                raise PlanError(f"{host} runs a stock iperf3 server, which omits whole seconds only")
        elif name not in self._hello.transports:
            known = ", ".join(self._hello.transports)
            raise PlanError(f"the server {host} does not know the transport {name} (it has: {known})")
        elif transport.own_udp_port and name not in self._hello.udp_ports:
            raise PlanError(f"the server {host} has no UDP port for {name}")

    # -- streams

    async def _connect(self, transport: Transport, stream: Stream, port: NetworkClientPort) -> None:
        async def connect() -> None:
            channel = await transport.connect(stream, self._plan.settings, port)
            self._opened.append(OpenStream.of(stream, channel))
            self._opened[-1] = with_file(self._opened[-1], self._options.file)
            mark_descriptor(channel.fileno(), self._plan)

        seconds = self._deadlines.streams_s
        try:
            late = f"the server did not answer on stream {stream.id} within {seconds:g} s"
            await self._guard.wait(connect(), seconds, late)
        except TransportError as error:
            raise from_transport(error, f"stream {stream.id}") from error

    # -- measure and exchange

    async def _measure(self, wire: ControlConnection, transport: Transport, arrived_us: int) -> None:
        """`arrived_us`: the word that the test runs, or data before it."""
        forward = self._plan.direction is Direction.FORWARD
        run = self._run = RunningTest(
            Role.CLIENT,
            self._plan,
            transport,
            self._opened,
            now_us() if forward else arrived_us,
            wire,
            self._guard,
            self._deadlines,
            self._sinks,
        )
        await self._guard.wait(self._end_in_time(run, wire), None, "")
        await wire.signal(self._deadlines.results_s, State.EXCHANGE_RESULTS)
        run.count_latecomers()
        await run.measurement.close()
        wire.send(Send.RESULTS, run.own_results())
        run.take_results(await wire.document(self._deadlines.results_s, "its results"))
        await wire.signal(self._deadlines.results_s, State.DISPLAY_RESULTS)
        if wire.can(Send.IPERF_DONE):
            wire.send(Send.IPERF_DONE)
        await self._flush(wire)
        run.conclude()

    @property
    def _counts_bytes(self) -> bool:
        return bool(self._plan.total_bytes or self._plan.total_blocks)

    async def _end_in_time(self, run: RunningTest, wire: ControlConnection) -> None:
        """Wait until the test should end, and end it in the same turn of the event loop."""
        await self._over(run)
        if self._guard.aborting:  # a stream broke: the test did not end, it is about to be called off
            await asyncio.get_running_loop().create_future()
        run.finish()
        if not run.extended and self._counts_bytes and self._plan.direction is not Direction.REVERSE:
            finished_us = now_us()
            await asyncio.sleep(STOCK_DRAIN_S)
            run.peer_went_on_us = now_us() - finished_us
        wire.send(Send.TEST_END)

    async def _over(self, run: RunningTest) -> None:
        """Until the test should end."""
        longest_us = self._options.longest_us
        if self._counts_bytes and longest_us:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_moved(run), (longest_us + self._plan.omit_us) / 1e6)
        elif self._counts_bytes:
            await self._all_moved(run)
        elif self._plan.duration_us:
            await run.measurement.time_over()
        else:
            await asyncio.get_running_loop().create_future()

    async def _all_moved(self, run: RunningTest) -> None:
        """Until all that is counted has been sent and received."""
        if self._plan.direction is not Direction.REVERSE:
            await run.measurement.all_sent()
        if self._plan.direction is not Direction.FORWARD:
            await run.measurement.all_received()

    # -- the end

    async def leave(self, error: IperfpyError) -> None:
        """Tell the server that the test is over, then the sinks the reason."""
        if self._run is not None:
            self._run.finish()
        wire = self._wire
        try:
            if wire is not None and wire.can(Send.CLIENT_TERMINATE):
                wire.send(Send.CLIENT_TERMINATE)
                await self._flush(wire)
        finally:  # a cancelled wait does not take the reason from the sinks
            self._tell(error)

    def _tell(self, error: IperfpyError) -> None:
        if self._run is not None:
            self._run.conclude(error)
            return
        for sink in self._sinks:
            sink.error(str(error))

    async def close(self) -> None:
        """Release everything."""
        self._guard.close()
        if self._run is not None:
            await self._run.measurement.close()
        for each in self._opened:
            await each.close()
        if self._wire is not None:
            self._wire.close()

    async def _flush(self, wire: ControlConnection) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wire.flush(), self._deadlines.farewell_s)


def _make_cookie() -> str:
    """36 characters that say that this is iperfpy, and which test."""
    length = COOKIE_BYTES - 1 - len(COOKIE_PREFIX)
    return COOKIE_PREFIX + "".join(secrets.choice(COOKIE_ALPHABET) for _ in range(length))
