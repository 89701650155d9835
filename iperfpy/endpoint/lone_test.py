"""A test that this end alone measures: the other one is a program without a control connection.

    open       dial the peer, or listen until one has come and goes on      (Transport.connect, accept)
    measure    until the time is over, the amount has arrived, or the peer is silent
    conclude   this end's figures; nothing is known of the other end's

The sinks get the same records as of any test, with the peer's parts empty. One peer is measured, and all
other senders are dropped. A peer that has come to an end that listens, and does not go on, is forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Callable, Sequence
from functools import partial

from iperfpy.endpoint.agreed_test import AgreedTest
from iperfpy.endpoint.no_control import NoControl
from iperfpy.endpoint.running_test import RunningTest
from iperfpy.endpoint.streams import stream_id
from iperfpy.errors import (
    ConnectError,
    InterruptError,
    IperfpyError,
    LateError,
    PathError,
    PeerError,
    fault_of,
    guarding,
)
from iperfpy.options import LoneOptions, ServerOptions
from iperfpy.plan import Direction, Plan, Role
from iperfpy.protocols.addresses import named
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import Channel, ClientPort, ServerPort, SocketAddress, Stream, Transport
from iperfpy.protocols.datagrams.server_port import SharedPort
from iperfpy.records import Sink, tell_all
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.runtime.socket_options import mark, mark_descriptor, prepare
from iperfpy.runtime.sockets import listening_address, resolve_local, resolve_within
from iperfpy.runtime.transport_ports import NetworkClientPort, NetworkServerPort, SharedListeners
from iperfpy.traffic.ending import EndEvent, EndRule
from iperfpy.traffic.open_stream import OpenStream, where

log = logging.getLogger(__name__)

PACKET_BYTES = 1_500
"""Longest packet towards a peer that does not tell: programs such as kcp-go read at most 1,500 bytes."""
FIRST_S = 5.0
"""Longest wait for the first payload of a peer that has come."""
MOST_DOUBTS = 4
"""Different faults of peers that are logged, and named in the end: forged addresses make any number."""
LINGER_S, LONGEST_LINGER_S = 0.3, 2.0
"""Silence after the whole amount has arrived, and longest wait for it: the peer may repeat what was
acknowledged, if the acknowledgement was lost."""


async def run_lone(
    plan: Plan,
    options: LoneOptions,
    sinks: Sequence[Sink],
    *,
    transport: Transport,
    scope: AbortScope,
    deadlines: Deadlines | None = None,
    on_listening: Callable[[SocketAddress], None] = lambda address: None,
) -> None:
    """Run one test with a bare peer, and report it to `sinks`. Returns when the test was measured.

    Parameters
    ----------
    plan : the test; its direction is that of the end that dials
    options : the peer, or the address to listen on
    transport : of the plan; it has bare peers
    scope : `scope.abort(InterruptError(...))` stops the test in an orderly way
    on_listening : called with the address once a peer can come

    Raises
    ------
    IperfpyError
        After the sinks got its sentence; see `endpoint.client.run_client`.
    """
    test = _LoneTest(plan, options, sinks, transport, scope, deadlines or Deadlines())
    try:
        await test.run(on_listening)
    except IperfpyError as error:
        told = test.leave(error)
        if told is not error:
            raise told from error
        raise
    except asyncio.CancelledError as cancelled:
        test.leave(InterruptError(str(cancelled) or "the test was cancelled"))
        raise
    except Exception as error:
        # A sink's, which its owner knows, or a fault of this program: raised unchanged.
        log.debug("fault in the test", exc_info=error)
        test.leave(fault_of(error))
        raise
    finally:
        await test.close()


class _LoneTest:
    """The state of one test."""

    def __init__(
        self,
        plan: Plan,
        options: LoneOptions,
        sinks: Sequence[Sink],
        transport: Transport,
        scope: AbortScope,
        deadlines: Deadlines,
    ) -> None:
        self._plan, self._options, self._transport = plan, options, transport
        self._sinks, self._scope, self._deadlines = sinks, scope, deadlines
        self._role = Role.SERVER if options.listens else Role.CLIENT
        self._secret = options.end.secrets.get(transport.prefix)
        self._listeners = SharedListeners()
        self._opened: list[OpenStream] = []
        self._test: RunningTest | None = None

    async def run(self, on_listening: Callable[[SocketAddress], None]) -> None:
        """Run the whole test. Raises `IperfpyError`."""
        if self._options.listens:
            peer = await self._listen(on_listening)
        else:
            peer = await self._dial()
        connection = NoControl(f"the {self._transport.bare_peer}")
        agreed = AgreedTest(self._role, self._plan, self._transport, self._opened, connection)
        rule = self._rule()
        agreed.announce(self._sinks, peer, None, "until the peer is silent" if rule.ends_with_silence else "")
        arrived_us = self._opened[0].channel.first_data_us if self._options.listens else None
        started_us = now_us() if arrived_us is None else arrived_us
        test = self._test = RunningTest(
            agreed, started_us, self._scope, self._deadlines, self._sinks, None, rule
        )
        test.start()
        await self._scope.wait(self._measure(test), None, "")
        await test.end_streams()
        test.conclude()

    def _rule(self) -> EndRule:
        receives = any(not each.stream.sends for each in self._opened)
        sends = any(each.stream.sends for each in self._opened)
        silence = self._options.listens and receives
        return EndRule.alone(self._plan, sends=sends, receives=receives, ends_with_silence=silence)

    async def _measure(self, test: RunningTest) -> None:
        for event in test.rule.events:
            await test.happened(event)
        if self._scope.aborting:  # a stream broke: its error is about to come
            await self._scope.until_aborted()
        test.stop()
        if EndEvent.ALL_RECEIVED in test.rule.events:
            await self._linger()

    async def _linger(self) -> None:
        """Acknowledge again what the peer repeats."""
        ends_us = now_us() + LONGEST_LINGER_S * 1e6
        while now_us() < ends_us:
            heard = [each.channel.heard_us or 0 for each in self._opened]
            if now_us() - max(heard) > LINGER_S * 1e6:
                return
            await asyncio.sleep(LINGER_S / 4)

    # -- open

    def _stream(self, conv: int) -> Stream:
        """The one stream, as this end sees it."""
        forward = self._plan.direction is not Direction.REVERSE
        return Stream(
            id=stream_id(0),
            index=0,
            conv=conv,
            sends=forward != self._options.listens,
            block_bytes=self._plan.block_bytes,
            both_ways=self._options.echo,
            bare=True,
            smux=self._options.smux,
            compressed=self._options.compressed,
        )

    def _keep(self, stream: Stream, channel: Channel) -> None:
        """Take the open channel: an error must not leave it behind."""
        opened = OpenStream.of(stream, channel, self._transport, self._scope.abort)
        if self._options.listens and self._options.echo:
            opened = OpenStream(stream, opened.channel, opened.snapshots, echoes=True)
        self._opened.append(opened)
        mark_descriptor(opened.channel.fileno(), self._plan)
        if self._plan.direction is Direction.BIDIRECTIONAL:
            # The bytes that come back are a stream of the other direction, in every report.
            back = Stream(id=stream_id(1), index=1, conv=stream.conv, sends=False, bare=True)
            returned = opened.channel.returned()
            self._opened.append(OpenStream.of(back, returned, self._transport, self._scope.abort))

    def _prepare(self, sock: socket.socket, remote: SocketAddress | None = None) -> None:
        prepare(sock, self._options.end.sockets, remote)
        mark(sock, self._plan)

    async def _dial(self) -> SocketAddress:
        """Open the stream to the first address of the peer that answers. Returns the address as the user
        named it."""
        end = self._options.end
        seconds, device = end.connect_timeout_us / 1e6, end.sockets.device
        addresses = await resolve_within(self._scope, seconds, end.host, end.port, end.family, device)
        failure: IperfpyError = ConnectError(f"{end.host} has no address")
        for family, remote in addresses:
            local = None
            if end.bind:
                local = await resolve_local(self._scope, seconds, end.bind, family, device)
            port = NetworkClientPort(
                remote,
                "",
                local,
                end.client_port,
                partial(self._prepare, remote=remote),
                packet_bytes=PACKET_BYTES,
                secret=self._secret,
            )
            stream = self._stream(self._options.conv or 1 + secrets.randbelow(2**32 - 1))
            try:
                await self._scope.wait(self._connect(stream, port), seconds, self._unanswered(seconds))
            except (PathError, PeerError, LateError) as error:
                failure = error
                continue
            return end.host, end.port
        raise failure

    async def _connect(self, stream: Stream, port: ClientPort) -> None:
        with guarding(self._transport.name, where(stream)):
            channel = await self._transport.connect(stream, self._plan.settings, port)
        self._keep(stream, channel)

    def _unanswered(self, seconds: float) -> str:
        end, transport = self._options.end, self._transport
        with guarding(transport.name):
            needs = transport.bare_settings(self._plan.settings)
        same = f", with {needs}" if needs else ""
        peer = f"no {transport.bare_peer} answered at {named((end.host, end.port))} within {seconds:g} s"
        return f"{peer}: does it listen there{same}?"

    async def _listen(self, on_listening: Callable[[SocketAddress], None]) -> SocketAddress:
        """Wait for a peer that sends, or that proves its address to a sender. Returns its address."""
        end, waits_s = self._options.end, self._options.wait_us / 1e6
        options = ServerOptions(end.port, end.host, end.family, sockets=end.sockets)
        _, address, _ = await listening_address(options, self._scope, self._deadlines.lookup_s)
        doubts: dict[str, None] = {}

        def late() -> str:
            why = "".join(f"; {doubt}" for doubt in doubts)
            return f"no {self._transport.bare_peer} has come within {waits_s:g} s{why}"

        return await self._scope.wait(self._accept(address, on_listening, doubts), waits_s, late)

    async def _accept(
        self, address: SocketAddress, on_listening: Callable[[SocketAddress], None], doubts: dict[str, None]
    ) -> SocketAddress:
        port = NetworkServerPort(
            address,
            ("", 0),
            asyncio.Queue(),
            self._listeners,
            self._prepare,
            self._transport.name,
            PACKET_BYTES,
            self._secret,
        )
        stream = self._stream(self._options.conv)
        with guarding(self._transport.name):
            on_listening(port.shared(SharedPort.open).local_address)
        while True:
            try:
                with guarding(self._transport.name, where(stream)):
                    channel = await self._accepted(stream, port)
            except PeerError as error:
                # Strangers send garbage, so it ends nothing. But most probably the peer has another setting.
                if str(error) not in doubts and len(doubts) < MOST_DOUBTS:
                    doubts[str(error)] = None
                    log.warning("%s", error)
                continue
            if channel is not None:
                self._keep(stream, channel)
                return channel.remote_address

    async def _accepted(self, stream: Stream, port: ServerPort) -> Channel | None:
        """The channel of a peer that has come and goes on; None: it does not."""
        channel = await self._transport.accept(stream, self._plan.settings, port)
        try:
            ends_us = now_us() + FIRST_S * 1e6
            while not stream.sends and channel.first_data_us is None:
                if now_us() > ends_us:
                    await channel.close()
                    return None
                await asyncio.sleep(0.001)
        except BaseException:
            await channel.close()
            raise
        return channel

    # -- the end

    def leave(self, error: IperfpyError) -> IperfpyError:
        """Tell the sinks the reason. Returns the error that they got."""
        if self._test is not None:
            self._test.stop()
            return self._test.fail(error)
        if isinstance(error, InterruptError):
            error = PathError(f"nothing was measured: {error}")
        tell_all(self._sinks, lambda sink: sink.error(str(error)))
        return error

    async def close(self) -> None:
        """Release everything."""
        # The stack takes its steps, last one first, also if one fails or this task is cancelled meanwhile.
        async with contextlib.AsyncExitStack() as steps:
            steps.push_async_callback(self._listeners.close)
            for each in reversed(self._opened):
                steps.push_async_callback(each.close)
            if self._test is not None:
                steps.push_async_callback(self._test.close_streams)
