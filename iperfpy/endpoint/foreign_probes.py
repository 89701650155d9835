"""Foreign probes: ten times a second, while the load runs, the client opens a new connection to the server.

    connect              -> duration of the handshake
    37 bytes, 1 byte     -> time of a request and its answer
    close

The server answers in `acceptor.py`, without a test and without a line in its log. A probe that fails is left
out; after some failures in a row no more are sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable

from iperfpy.control.framing import COOKIE_ALPHABET, COOKIE_BYTES, PROBE_ANSWER, PROBE_PREFIX, encode_cookie
from iperfpy.errors import IperfpyError
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import SocketAddress
from iperfpy.runtime.sockets import bind, connect, is_ipv6, new_socket, set_no_delay
from iperfpy.sampling.responsiveness import PTC, ProbeLog

PAUSE_S = 0.1
"""Time between two probes. The draft's limit is 100 a second; each one costs a connection at both ends."""
PROBE_BITS = 8 * 700
"""Bits of a probe on the wire: nine packets with their headers, both directions."""
LONGEST_PAUSE_S = 5.0
PROBE_LIMIT_S = 10.0
"""Longest wait for one probe."""
MOST_OPEN = 32
"""Probes under way; no further one is sent then."""
MOST_FAILURES = 5
"""Failures in a row after which probing ends."""


class ForeignProbes:
    """Sends foreign probes from `start` to `stop`.

    Parameters
    ----------
    remote : the server's address
    local : local address to bind to, port 0, or None
    prepare : sets the options and marks of a data socket
    log : receives the probes

    Attributes
    ----------
    log : as above
    """

    def __init__(
        self,
        remote: SocketAddress,
        local: SocketAddress | None,
        prepare: Callable[[socket.socket], None],
        log: ProbeLog,
    ) -> None:
        self.log = log
        self._remote = remote
        self._local = local
        self._prepare = prepare
        self._sending: asyncio.Task[None] | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._failures = 0

    def start(self) -> None:
        """Send probes until `stop`."""
        self._sending = asyncio.create_task(self._send())

    def stop(self) -> None:
        """Send no more probes, and forget those under way."""
        for task in (self._sending, *self._open):
            if task is not None:
                task.cancel()

    async def close(self) -> None:
        """Stop, and wait until every socket is closed."""
        self.stop()
        tasks = [task for task in (self._sending, *self._open) if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self) -> None:
        while self._failures < MOST_FAILURES:
            await asyncio.sleep(self._pause_s())
            if len(self._open) < MOST_OPEN:
                task = asyncio.create_task(self._probe())
                self._open.add(task)
                task.add_done_callback(self._open.discard)

    def _pause_s(self) -> float:
        """The pause before the next probe: probes take at most the share `PTC` of a slow path."""
        rate = self.log.goodput_bits_per_s
        if rate is None:
            return PAUSE_S
        slowest = PROBE_BITS / (PTC * rate) if rate else LONGEST_PAUSE_S
        return min(max(PAUSE_S, slowest), LONGEST_PAUSE_S)

    async def _probe(self) -> None:
        """Send one probe. Nothing that happens to it ends the test."""
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                connect_us, request_us = await self._exchange()
        except (OSError, IperfpyError):  # a TimeoutError is an OSError
            self._failures += 1
            return
        self._failures = 0
        self.log.add_foreign(now_us(), connect_us, request_us)

    async def _exchange(self) -> tuple[int, int]:
        """Connect, ask, be answered; the two durations in microseconds. Raises OSError, `IperfpyError`."""
        loop = asyncio.get_running_loop()
        with contextlib.closing(
            new_socket(socket.AF_INET6 if is_ipv6(self._remote) else socket.AF_INET)
        ) as sock:
            set_no_delay(sock)
            self._prepare(sock)
            if self._local is not None:
                bind(sock, self._local)
            begun_us = now_us()
            await connect(sock, self._remote)
            connected_us = now_us()
            await loop.sock_sendall(sock, encode_cookie(_probe_cookie()))
            answer = await loop.sock_recv(sock, len(PROBE_ANSWER))
            answered_us = now_us()
        if answer != PROBE_ANSWER:
            raise ConnectionError("the server does not answer probes")
        return connected_us - begun_us, answered_us - connected_us


def _probe_cookie() -> str:
    """36 characters that are the cookie of no test."""
    length = COOKIE_BYTES - 1 - len(PROBE_PREFIX)
    return PROBE_PREFIX + "".join(secrets.choice(COOKIE_ALPHABET) for _ in range(length))
