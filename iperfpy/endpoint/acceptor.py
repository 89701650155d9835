"""The listening socket of a server: it tells data streams from new clients.

    connection --37 bytes--> cookie of a running test     a data stream of that test
                             any other cookie             a new client
                             the cookie of a probe        answered and closed (foreign_probes.py)
                             no cookie                    refused (`ff`) and closed

Every connection is accepted at once and read by a task of its own, so that a silent one delays no other. If
too many have no cookie yet, the oldest of the source that has most is closed (places.py).

Streams are identified by their order alone. Cookies may arrive in another order than connections, so a data
stream waits for earlier connections of the same host without a cookie, but not for long, and the last stream
that a test expects does not wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from iperfpy.control.framing import (
    COOKIE_BYTES,
    PROBE_ANSWER,
    PROBE_PREFIX,
    State,
    decode_cookie,
    encode_state,
)
from iperfpy.endpoint.places import PlaceTable, source_of
from iperfpy.errors import PlanError, ProtocolError
from iperfpy.options import SocketOptions
from iperfpy.protocols.addresses import plain
from iperfpy.protocols.contract import SocketAddress
from iperfpy.runtime.descriptors import SpareDescriptor
from iperfpy.runtime.socket_options import limit_unacknowledged
from iperfpy.runtime.sockets import close_gently

ORDER_WAIT_S = 1.0
"""Longest time that a connection without a cookie delays a later one of the same host."""
UNKNOWN_LIMIT = 256
"""Connections without a cookie yet."""
PAUSE_S = 0.1
"""Pause after the system had no descriptor for a new connection: time to get some back."""

OnClient = Callable[[socket.socket, SocketAddress, str], None]
log = logging.getLogger(__name__)


@dataclass(slots=True)
class ExpectedStreams:
    """The data streams that a test still expects, and those that have arrived."""

    expected: int
    queue: asyncio.Queue[socket.socket] = field(default_factory=asyncio.Queue)


@dataclass(slots=True, eq=False)
class _Connection:
    """An accepted connection.

    Attributes
    ----------
    cookie : that of a running test, once it has arrived
    is_taken : True if it became a client's control connection
    task : reads the cookie
    """

    sock: socket.socket
    address: SocketAddress
    accepted_s: float
    cookie: str | None = None
    is_taken: bool = False
    task: asyncio.Task[None] | None = None

    @property
    def host(self) -> str:
        return str(self.address[0])


class Acceptor:
    """Owns the listening socket.

    Parameters
    ----------
    on_client : called with (socket, address, cookie) of each control connection, which it then owns.
    cookie_s : the deadline for the cookie.
    options : socket options of every connection.
    """

    def __init__(
        self,
        listener: socket.socket,
        on_client: OnClient,
        cookie_s: float,
        options: SocketOptions,
    ) -> None:
        self._options = options
        self._listener = listener
        self._on_client = on_client
        self._cookie_s = cookie_s
        self._loop = asyncio.get_running_loop()
        self._tests: dict[str, ExpectedStreams] = {}
        self._order: dict[str, deque[_Connection]] = {}
        self._asking: PlaceTable[_Connection] = PlaceTable(UNKNOWN_LIMIT)
        self._spare = SpareDescriptor()

    @property
    def local(self) -> SocketAddress:
        address: SocketAddress = self._listener.getsockname()
        return address

    def expect(self, cookie: str, streams: int) -> asyncio.Queue[socket.socket]:
        """A queue that gets the next `streams` connections with this cookie, in order."""
        arrivals = self._tests[cookie] = ExpectedStreams(streams)
        return arrivals.queue

    def forget(self, cookie: str) -> None:
        """Expect no more connections of a test, and close those that it did not take."""
        arrivals = self._tests.pop(cookie, None)
        while arrivals is not None and not arrivals.queue.empty():
            arrivals.queue.get_nowait().close()

    async def run(self) -> None:
        """Accept until cancelled."""
        self._spare.keep()
        while True:
            try:
                sock, address = await self._loop.sock_accept(self._listener)
            except OSError as error:
                self._spare.refuse(self._listener, error, encode_state(State.ACCESS_DENIED))
                await asyncio.sleep(PAUSE_S)
                continue
            self._spare.accepted()
            self._take(sock, address)

    def _take(self, sock: socket.socket, address: SocketAddress) -> None:
        """Read the connection's cookie in a task of its own; another one may have to go for it."""
        connection = _Connection(sock, plain(address), self._loop.time())
        self._order.setdefault(connection.host, deque()).append(connection)
        # All of them are silent and none has patience: a place can always be made.
        gone = self._asking.take(connection, source_of(connection.host), connection.accepted_s)
        task = connection.task = self._loop.create_task(self._ask(connection))
        task.add_done_callback(lambda _: self._asked(connection))
        if gone is not None and gone.task is not None:
            log.info("%s did not present a cookie before its place was needed", gone.host)
            gone.task.cancel()

    async def close(self) -> None:
        """Close the listener and every connection that no test has taken."""
        tasks = [each.task for queue in self._order.values() for each in queue if each.task is not None]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for cookie in tuple(self._tests):
                self.forget(cookie)
            self._listener.close()
            self._spare.release()

    async def _ask(self, connection: _Connection) -> None:
        """Read the cookie and hand the connection to its test, or to the server as a new client."""
        sock, host = connection.sock, connection.host
        try:
            sock.setblocking(False)
            with contextlib.suppress(PlanError):  # Multipath TCP knows no such limit
                limit_unacknowledged(sock, self._options)
            async with asyncio.timeout(self._cookie_s):
                cookie = decode_cookie(await self._read_cookie(sock)).text
            if cookie.startswith(PROBE_PREFIX):
                sock.send(PROBE_ANSWER)
            elif cookie in self._tests:
                # It stays in the queue until no earlier connection can come before it.
                connection.cookie = cookie
                self._loop.call_later(ORDER_WAIT_S, self._release, host)
            else:
                self._on_client(sock, connection.address, cookie)
                connection.is_taken = True
        except ProtocolError as error:
            log.info("%s: %s", host, error)
            _refuse(sock)
        except (TimeoutError, OSError) as error:
            log.info("%s did not present a cookie: %s", host, error)

    def _asked(self, connection: _Connection) -> None:
        """Close a connection that nothing took: this runs even if `_ask` was cancelled before it began."""
        self._asking.leave(connection)
        if connection.cookie is None:
            self._order[connection.host].remove(connection)
            if not connection.is_taken:
                close_gently(connection.sock)
        self._release(connection.host)

    async def _read_cookie(self, sock: socket.socket) -> bytes:
        cookie = b""
        while len(cookie) < COOKIE_BYTES:
            data = await self._loop.sock_recv(sock, COOKIE_BYTES - len(cookie))
            if not data:
                raise ConnectionError("closed")
            cookie += data
        return cookie

    def _release(self, host: str) -> None:
        """Deliver the data streams of a host that wait for no earlier connection any more."""
        queue = self._order.get(host)
        if queue is None:
            return
        waited_since_s, waits = self._loop.time() - ORDER_WAIT_S, False
        for connection in tuple(queue):
            if connection.cookie is None:
                waits = waits or connection.accepted_s > waited_since_s
            elif not waits or self._is_last(connection.cookie):
                queue.remove(connection)
                self._deliver(connection.sock, connection.cookie)
        if not queue:
            del self._order[host]

    def _is_last(self, cookie: str) -> bool:
        """True if the order of a test's streams is known: it expects no more than this one."""
        arrivals = self._tests.get(cookie)
        return arrivals is None or arrivals.expected <= 1

    def _deliver(self, sock: socket.socket, cookie: str) -> None:
        arrivals = self._tests.get(cookie)
        if arrivals is None or not arrivals.expected:
            _refuse(sock)
            close_gently(sock)
            return
        arrivals.expected -= 1
        arrivals.queue.put_nowait(sock)


def _refuse(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.send(encode_state(State.ACCESS_DENIED))
