"""One test from the client's side.

    open       resolve, connect, cookie, the server's greeting (none from a stock iperf3): opening.py
    agree      parameters; then the data streams, one after the other
    measure    until the time is over, or everything has been sent and received
    exchange   TEST_END, results both ways, IPERF_DONE

The sinks get `start` when data begins to flow, then `interval`s, then `end`. A test that fails on the way
ends with `end`, too, with the sentence as `interrupted`. A test that failed before data flowed gives them
`error` instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from iperfpy.control.authentication import make_token, public_key
from iperfpy.control.framing import State
from iperfpy.control.parameters import ADDRESS_PROOF, MESSAGES, RESPONSIVENESS, encode_parameters
from iperfpy.control.results import key_count
from iperfpy.control.session import Send
from iperfpy.endpoint.agreed_test import AgreedTest
from iperfpy.endpoint.control_connection import ControlConnection
from iperfpy.endpoint.foreign_probes import ForeignProbes
from iperfpy.endpoint.opening import Greeted, open_control
from iperfpy.endpoint.preflight import check_here
from iperfpy.endpoint.running_test import RunningTest
from iperfpy.endpoint.streams import make_convs, make_streams
from iperfpy.errors import InterruptError, IperfpyError, PathError, PeerError, PlanError, fault_of, guarding
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction, EndCondition, Plan, Role
from iperfpy.protocols.addresses import plain
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import SocketAddress, Stream, Transport
from iperfpy.protocols.units import SECOND_US
from iperfpy.records import Sink, tell_all
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.runtime.socket_options import mark, mark_descriptor, prepare
from iperfpy.runtime.sockets import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, UDP_HEADER_BYTES, is_ipv6
from iperfpy.runtime.transport_ports import NetworkClientPort
from iperfpy.sampling.responsiveness import ProbeLog
from iperfpy.traffic.file_payload import with_file
from iperfpy.traffic.open_stream import OpenStream, first_arrival_us, where

log = logging.getLogger(__name__)

STOCK_READ_S = 0.1
"""Time for a stock server to read what it has acknowledged, see `traffic.ending.PeerRule.lets_peer_read`."""


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
    PathError
        Also after a test that ended as planned or by that abort, but measured nothing; an abort before data
        flowed is one.
    """
    limits = (deadlines or Deadlines()).with_options(options.sockets)
    client = _Client(plan, options, sinks, limits)
    try:
        await client.run(transport or check_here(plan, options), scope or AbortScope())
    except IperfpyError as error:
        told = await client.leave(error)
        if told is not error:
            raise told from error
        raise
    except asyncio.CancelledError as cancelled:
        await client.leave(InterruptError(str(cancelled) or "the test was cancelled"))
        raise
    except Exception as error:
        # A sink's, which its owner knows, or a fault of this program: raised unchanged.
        log.debug("fault in the test", exc_info=error)
        await client.leave(fault_of(error))
        raise
    finally:
        await client.close()


class _Client:
    """The state of one test."""

    def __init__(
        self, plan: Plan, options: ClientOptions, sinks: Sequence[Sink], deadlines: Deadlines
    ) -> None:
        self._plan = plan
        self._options = options
        self._sinks = sinks
        self._deadlines = deadlines
        self._greeted: Greeted | None = None
        self._test: RunningTest | None = None
        self._opened: list[OpenStream] = []

    async def run(self, transport: Transport, scope: AbortScope) -> None:
        """Run the whole test. Raises `IperfpyError`."""
        greeted = self._greeted = await open_control(self._options, self._deadlines, scope)
        self._check_server(greeted, transport)
        self._plan = fitted(self._plan, transport, greeted.remote, greeted.packet_bytes)
        await self._agree(greeted, transport)
        connection = greeted.connection
        hello = greeted.hello
        named = hello.features if hello is not None else frozenset[str]()
        version = hello.version if hello is not None else ""
        test = AgreedTest(Role.CLIENT, self._plan, transport, self._opened, connection, named, version)
        test.announce(self._sinks, (self._options.host, self._options.port), greeted.tcp_mss)
        started_us = await self._started_us(connection)
        foreign = self._foreign_probes(greeted, named)
        self._test = RunningTest(test, started_us, greeted.scope, self._deadlines, self._sinks, foreign)
        self._test.start()
        await greeted.scope.wait(self._measure(self._test, greeted), None, "")
        await self._exchange(self._test, connection)

    def _foreign_probes(self, greeted: Greeted, named: frozenset[str]) -> ForeignProbes | None:
        """The probes beside the load, if the server answers them and the user did not switch them off."""
        if RESPONSIVENESS not in named or not self._options.probes:
            return None
        prepare_one = partial(self._prepare, remote=greeted.remote)
        return ForeignProbes(greeted.remote, greeted.local, prepare_one, ProbeLog())

    def _check_server(self, greeted: Greeted, transport: Transport) -> None:
        """Raise `PlanError` if this server cannot run the test; nothing has been asked of it yet."""
        host = self._options.host
        if greeted.hello is None:  # a stock iperf3 sends no greeting
            if self._plan.messages_per_s:
                raise PlanError(
                    f"{host} runs a stock iperf3 server, which does not echo messages: that needs iperfpy at"
                    " both ends"
                )
            if not transport.iperf3.key:
                needs = f"which cannot run {transport.name}: that needs iperfpy at both ends"
                raise PlanError(f"{host} runs a stock iperf3 server, {needs}")
            if self._plan.omit_us % SECOND_US:
                raise PlanError(f"{host} runs a stock iperf3 server, which omits whole seconds only")
        elif transport.name not in greeted.hello.transports:
            known = ", ".join(greeted.hello.transports)
            raise PlanError(
                f"the server {host} does not know the transport {transport.name} (it has: {known})"
            )
        elif self._plan.messages_per_s and MESSAGES not in greeted.hello.features:
            text = f"the server {host} runs an iperfpy that does not echo messages"
            raise PlanError(f"{text}: update it, then measure the latency of messages")
        elif transport.own_udp_port and transport.name not in greeted.hello.udp_ports:
            raise PlanError(f"the server {host} has no UDP port for {transport.name}")
        else:
            with guarding(transport.name):
                needed = dict(transport.needed_features(self._plan.settings))
            missing = [words for feature, words in needed.items() if feature not in greeted.hello.features]
            if missing:
                text = f"the iperfpy of the server {host} is too old for {' and '.join(missing)}"
                raise PlanError(f"{text}: update it there, or test without")

    # -- agree

    async def _agree(self, greeted: Greeted, transport: Transport) -> None:
        """Send the parameters, and open the data streams when the server is ready for them."""
        connection, deadlines = greeted.connection, self._deadlines
        # Only an iperfpy server identifies streams by conversation number; a stock one goes by their order.
        convs = make_convs(self._plan) if greeted.hello else ()
        body = encode_parameters(self._plan, transport, convs or None)
        connection.session.allow_figures(self._plan.stream_count, key_count(transport.metrics))
        connection.send(Send.PARAMETERS, body | self._token())
        await connection.signal(deadlines.reply_s, State.CREATE_STREAMS)
        port = NetworkClientPort(
            greeted.remote,
            connection.session.cookie,
            greeted.local,
            self._options.client_port,
            partial(self._prepare, remote=greeted.remote),
            greeted.hello.udp_ports.get(transport.name, 0) if greeted.hello else 0,
            greeted.packet_bytes,
            self._options.secrets.get(transport.prefix),
        )
        named = greeted.hello.features if greeted.hello is not None else frozenset[str]()
        proves, both = ADDRESS_PROOF in named, named.intersection(transport.features)
        for stream in make_streams(self._plan, convs, role=Role.CLIENT, proves=proves, features=both):
            await self._open_stream(transport, stream, port, greeted)
        await connection.signal(deadlines.streams_s, State.TEST_START)

    def _token(self) -> dict[str, str]:
        """The encrypted user name and password, if the user gave any."""
        credentials = self._options.credentials
        if credentials is None:
            return {}
        key, now_s = public_key(credentials.public_key_pem), int(time.time())
        token = make_token(credentials.user, credentials.password, key, now_s, pkcs1=credentials.pkcs1)
        return {"authtoken": token}

    def _prepare(self, sock: socket.socket, remote: SocketAddress) -> None:
        """Set the user's options of a data socket, and its marks: the first datagram has them, too."""
        prepare(sock, self._options.sockets, remote)
        mark(sock, self._plan)

    async def _open_stream(
        self, transport: Transport, stream: Stream, port: NetworkClientPort, greeted: Greeted
    ) -> None:
        async def connect() -> None:
            with guarding(transport.name, where(stream)):
                channel = await transport.connect(stream, self._plan.settings, port)
            # Kept at once: an error below must not leave an open channel behind.
            self._opened.append(OpenStream.of(stream, channel, transport, greeted.scope.abort))
            self._opened[-1] = with_file(self._opened[-1], self._options.file)
            mark_descriptor(self._opened[-1].channel.fileno(), self._plan)

        seconds = self._deadlines.streams_s
        late = f"the server did not answer on {where(stream)} within {seconds:g} s"
        opening = connect()
        if greeted.hello is None:
            opening = self._before_begin(opening, stream, greeted.connection)
        await greeted.scope.wait(opening, seconds, late)

    async def _before_begin(
        self, opening: Coroutine[Any, Any, None], stream: Stream, connection: ControlConnection
    ) -> None:
        """Open a stream of a stock server, which must not begin the test much earlier.

        iperf3 before 3.7 does not know --bidir: it waits for half of the streams, and answers on no other.
        Raises `PeerError`.
        """
        task = asyncio.ensure_future(opening)
        begun = asyncio.ensure_future(connection.arrival(State.TEST_START).wait())
        try:
            await asyncio.wait({task, begun}, return_when=asyncio.FIRST_COMPLETED)
            # The answer on the last stream and TEST_START leave the server together, on different ways.
            if not task.done():
                await asyncio.wait({task}, timeout=self._deadlines.begun_s)
            if not task.done():
                raise PeerError(self._begun_without(stream))
            task.result()
        finally:
            begun.cancel()
            task.cancel()
            await asyncio.gather(task, begun, return_exceptions=True)

    def _begun_without(self, stream: Stream) -> str:
        text = f"the server began the test without stream {stream.id}"
        if self._plan.direction is Direction.BIDIRECTIONAL:
            return f"{text}: an iperf3 older than 3.7 does not know --bidir; test without it, and with -R"
        return f"{text}: its answer was lost; try again"

    # -- measure

    async def _started_us(self, connection: ControlConnection) -> int:
        """Wait for TEST_RUNNING; the time from which the server may have sent, or this end sends."""
        deadlines = self._deadlines
        watching = asyncio.create_task(first_arrival_us(self._opened, deadlines.streams_s))
        try:
            await connection.signal(deadlines.streams_s, State.TEST_RUNNING)
        finally:
            watching.cancel()
        if self._plan.direction is Direction.FORWARD:
            return now_us()
        # TEST_RUNNING can be lost and come after the first data.
        arrived_us = watching.result() if watching.done() else None
        return arrived_us or connection.arrived_us[State.TEST_RUNNING]

    async def _measure(self, test: RunningTest, greeted: Greeted) -> None:
        """Wait for the end of the test, and stop in the same iteration of the event loop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._longest_s()):
                for event in test.rule.events:
                    await test.happened(event)
        if greeted.scope.aborting:  # a stream broke: the test did not end, its error is about to come
            await greeted.scope.until_aborted()
        test.stop()
        if test.rule.lets_peer_read:
            stopped_us = now_us()
            await asyncio.sleep(STOCK_READ_S)
            test.note_peer_overrun(now_us() - stopped_us)
        greeted.connection.send(Send.TEST_END)

    def _longest_s(self) -> float | None:
        """Time limit of a test that an amount ends, None without one."""
        if self._plan.ends_by is not EndCondition.AMOUNT or not self._options.longest_us:
            return None
        return (self._options.longest_us + self._plan.omit_us) / 1e6

    # -- exchange

    async def _exchange(self, test: RunningTest, connection: ControlConnection) -> None:
        patience = test.patience()
        await connection.signal(patience, State.EXCHANGE_RESULTS)
        await test.end_streams()
        connection.send(Send.RESULTS, test.results())
        test.take_results(await connection.document(patience, "its results"))
        test.raise_fault()  # before the server can take the test for measured
        await connection.signal(patience, State.DISPLAY_RESULTS)
        if connection.can(Send.IPERF_DONE):
            connection.send(Send.IPERF_DONE)
        await connection.flush_within(self._deadlines.farewell_s)
        test.conclude()

    # -- the end

    async def leave(self, error: IperfpyError) -> IperfpyError:
        """Tell the server that the test is over, then the sinks the reason. Returns the error that they got,
        which is a failure if a user stopped a test in which nothing had arrived."""
        connection = self._greeted.connection if self._greeted is not None else None
        try:
            if self._test is not None:
                self._test.stop()
            if connection is not None and connection.can(Send.CLIENT_TERMINATE):
                connection.send(Send.CLIENT_TERMINATE)
                await connection.flush_within(self._deadlines.farewell_s)
        finally:  # a cancelled wait does not take the reason from the sinks
            told = self._tell_sinks(error)
        return told

    def _tell_sinks(self, error: IperfpyError) -> IperfpyError:
        if self._test is not None:
            return self._test.fail(error)
        if isinstance(error, InterruptError):  # as in a test whose data did not arrive
            error = PathError(f"nothing was measured: {error}")
        tell_all(self._sinks, lambda sink: sink.error(str(error)))
        return error

    async def close(self) -> None:
        """Release everything."""
        # The stack takes its steps, last one first, also if one fails or this task is cancelled meanwhile.
        async with contextlib.AsyncExitStack() as steps:
            if self._greeted is not None:
                steps.callback(self._greeted.connection.close)
            for each in reversed(self._opened):
                steps.push_async_callback(each.close)
            if self._test is not None:
                steps.push_async_callback(self._test.close_streams)
            if self._greeted is not None:
                steps.callback(self._greeted.scope.close)


def fitted(plan: Plan, transport: Transport, remote: SocketAddress, packet_bytes: int | None) -> Plan:
    """The plan with datagrams that fit into `packet_bytes`, the longest packet of the control connection,
    unless the user chose their length. None: that is not known."""
    if not (plan.fits_path and transport.datagrams) or packet_bytes is None:
        return plan
    longest = packet_bytes - UDP_HEADER_BYTES
    longest -= IPV6_HEADER_BYTES if is_ipv6(plain(remote)) else IPV4_HEADER_BYTES
    return replace(plan, block_bytes=max(transport.block_limits[0], min(plan.block_bytes, longest)))
