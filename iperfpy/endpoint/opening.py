"""The client's way to a greeted control connection: resolve, connect, present the cookie, read the greeting.

Every attempt has an abort scope of its own, nested in the test's: a server that closes at once aborts the
attempt and not the test, because a stock server opens its listener anew after every test.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from iperfpy.control.framing import COOKIE_ALPHABET, COOKIE_BYTES, State
from iperfpy.control.parameters import COOKIE_PREFIX, Hello, decode_hello
from iperfpy.control.session import Send, client_session
from iperfpy.endpoint.control_connection import ControlConnection
from iperfpy.errors import (
    ConnectError,
    IperfpyError,
    LateError,
    PeerError,
    PlanError,
    RefusedError,
    system_reason,
)
from iperfpy.options import ClientOptions
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import SocketAddress
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.runtime.socket_options import keep_alive, prepare, retry_soon
from iperfpy.runtime.sockets import (
    bind,
    connect,
    is_ipv6,
    new_socket,
    packet_size,
    resolve_local,
    resolve_within,
    segment_size,
    set_no_delay,
)

RETRY_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Greeted:
    """A control connection on which the server has said that it expects the parameters.

    Parameters
    ----------
    connection : to be closed by the client
    scope : the scope that the connection aborts; the rest of the test waits in it
    remote : the server's address, with the flow label that data connections use (-L)
    local : the local address of -B, port 0, or None
    hello : the server's greeting; None: a stock server, which sends none
    tcp_mss : maximum segment size of the connection, bytes
    packet_bytes : its longest IP packet
    """

    connection: ControlConnection
    scope: AbortScope
    remote: SocketAddress
    local: SocketAddress | None
    hello: Hello | None
    tcp_mss: int | None
    packet_bytes: int | None


async def open_control(options: ClientOptions, deadlines: Deadlines, scope: AbortScope) -> Greeted:
    """Connect to the server and read its greeting.

    Raises
    ------
    IperfpyError
        The server cannot be reached, or refuses; or `scope` was aborted.
    """
    seconds = options.connect_timeout_us / 1e6
    device = options.sockets.device
    addresses = await resolve_within(scope, seconds, options.host, options.port, options.family, device)
    # A refusal is repeated for a moment only: the listener of a stock server is closed between two tests.
    give_up_us = now_us() + round(deadlines.retry_s * 1e6)
    while True:
        attempt = _Attempt(options, deadlines, scope.nested())
        try:
            return await attempt.run(addresses)
        except RefusedError:
            if now_us() >= give_up_us:
                raise
        await scope.wait(asyncio.sleep(RETRY_PAUSE_S), None, "")


class _Attempt:
    """One round over the server's addresses."""

    def __init__(self, options: ClientOptions, deadlines: Deadlines, scope: AbortScope) -> None:
        self._options = options
        self._deadlines = deadlines
        self._scope = scope
        self._where = f"{options.host} port {options.port}"

    async def run(self, addresses: Sequence[tuple[int, SocketAddress]]) -> Greeted:
        """Greet at the first address that accepts a connection. Raises the last address's error."""
        failure: IperfpyError = ConnectError(f"{self._options.host} has no address")
        try:
            for family, address in addresses:
                local = await self._local(family)
                try:  # the next address may be reachable over another family
                    sock = await self._connect(family, address, local)
                except (ConnectError, LateError) as error:
                    failure = error
                    continue
                return await self._greet(sock, address, local)
        except BaseException:
            self._scope.close()
            raise
        self._scope.close()
        raise failure

    async def _local(self, family: int) -> SocketAddress | None:
        """The local address that -B names, port 0; None without -B."""
        options = self._options
        if not options.bind:
            return None
        seconds = options.connect_timeout_us / 1e6
        return await resolve_local(self._scope, seconds, options.bind, family, options.sockets.device)

    async def _connect(
        self, family: int, address: SocketAddress, local: SocketAddress | None
    ) -> socket.socket:
        seconds = self._options.connect_timeout_us / 1e6
        late = f"cannot connect to {self._where}: no answer within {seconds:g} s"
        try:
            sock = new_socket(family)
        except OSError as error:
            raise ConnectError(f"cannot open a socket: {system_reason(error)}") from error
        try:
            set_no_delay(sock)
            prepare(sock, self._options.sockets)
            keep_alive(sock, self._options.sockets)
            if local is not None:
                bind(sock, local)
            await self._scope.wait(connect(sock, address), seconds, late)
        except OSError as error:
            sock.close()
            is_refusal = isinstance(error, ConnectionRefusedError | ConnectionResetError)
            kind = RefusedError if is_refusal else ConnectError
            raise kind(f"cannot connect to {self._where}: {system_reason(error)}") from error
        except BaseException:
            sock.close()
            raise
        return sock

    async def _greet(
        self, sock: socket.socket, address: SocketAddress, local: SocketAddress | None
    ) -> Greeted:
        """Present the cookie, and read as far as PARAM_EXCHANGE."""
        retry_soon(sock, self._options.sockets)
        tcp_mss, packet_bytes, hello = segment_size(sock), packet_size(sock), None
        connection = ControlConnection(sock, client_session(_make_cookie()), self._scope)
        connection.start()
        try:
            remote = self._labelled(address)
            connection.send(Send.COOKIE)
            first = await connection.signal(self._deadlines.reply_s, State.HELLO, State.PARAM_EXCHANGE)
            if first.state is State.HELLO:
                hello = decode_hello(first.document or {})
                await connection.signal(self._deadlines.reply_s, State.PARAM_EXCHANGE)
        except (IperfpyError, asyncio.CancelledError) as error:
            await self._give_up(connection)
            # A connection that is closed without a word was refused by a server between two tests.
            if isinstance(error, PeerError) and not connection.has_heard:
                text = f"the server at {self._where} closed the connection at once"
                raise RefusedError(text) from error
            raise
        return Greeted(connection, self._scope, remote, local, hello, tcp_mss, packet_bytes)

    async def _give_up(self, connection: ControlConnection) -> None:
        """Tell the server that this client leaves, and close."""
        try:
            if connection.can(Send.CLIENT_TERMINATE):
                connection.send(Send.CLIENT_TERMINATE)
                await connection.flush_within(self._deadlines.farewell_s)
        finally:
            connection.close()

    def _labelled(self, address: SocketAddress) -> SocketAddress:
        """The address with the flow label for data connections to it (-L)."""
        label = self._options.flow_label
        if not label:
            return address
        if not is_ipv6(address):
            raise PlanError(f"-L labels flows of IPv6, and {self._options.host} was reached over IPv4")
        return (address[0], address[1], label, *address[3:])


def _make_cookie() -> str:
    """36 characters that name the test, and iperfpy as its client."""
    length = COOKIE_BYTES - 1 - len(COOKIE_PREFIX)
    return COOKIE_PREFIX + "".join(secrets.choice(COOKIE_ALPHABET) for _ in range(length))
