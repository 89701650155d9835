"""A control connection on a socket: the thin layer between `control.session` and the event loop.

One task reads, one writes; both end with `close`. Messages that belong to the sequence of a test are waited
for with `expect`; interval figures go to `on_stats`; whatever ends the test goes to the guard. Nothing is
read ahead of what the session allows, and what waits to be written is bounded.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from iperfpy.control.codec import Closed, Document, Message, ServerError, Signal, State
from iperfpy.control.messages import clean
from iperfpy.control.reasons import server_error_sentence
from iperfpy.control.session import OVER, Phase, Send, Session
from iperfpy.errors import IperfpyError, LateError, PeerError, PeerTerminatedError, ProtocolError
from iperfpy.run.guard import Guard
from iperfpy.run.sockets import reason

READ_BYTES = 64 * 1024
WAITING_LIMIT_BYTES = 8 * 1024 * 1024

M = TypeVar("M", Signal, Document)
OnStats = Callable[[Mapping[str, Any]], None]


class Wire:
    """Takes over `sock`, which must be connected and non-blocking, and closes it.

    Parameters
    ----------
    session : Session
    guard : Guard
        Is told when the other end refuses, fails, terminates, or closes the connection.
    """

    def __init__(self, sock: socket.socket, session: Session, guard: Guard) -> None:
        self.session = session
        self.on_stats: OnStats | None = None
        self.heard = False
        self._guard = guard
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[Signal | Document] = asyncio.Queue()
        self._waiting = bytearray()
        self._more = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._tasks = [self._loop.create_task(self._read()), self._loop.create_task(self._write())]

    def send(self, send: Send, body: Mapping[str, Any] | None = None) -> None:
        """Say it: the bytes leave in order, soon. Raises `RuntimeError` when this is not the moment."""
        self._waiting += self.session.send(send, body)
        self._written.clear()
        self._more.set()
        if len(self._waiting) > WAITING_LIMIT_BYTES:
            self._guard.call_off(LateError(f"{self.session.peer} does not read what it is sent"))

    def can(self, send: Send) -> bool:
        """Whether `send` would be accepted now."""
        return self.session.can(send)

    async def flush(self) -> None:
        """Wait until all that was said has been handed to the kernel."""
        await self._written.wait()

    async def signal(self, seconds: float | None, *states: State) -> Signal:
        """The next state, which must be one of `states`."""
        message = await self._next(seconds, " or ".join(state.name for state in states))
        if not isinstance(message, Signal) or message.state not in states:
            raise ProtocolError(f"{self.session.peer} sent something else than {states[0].name}")
        return message

    async def document(self, seconds: float | None, what: str) -> Mapping[str, Any]:
        """The next document."""
        message = await self._next(seconds, what)
        if not isinstance(message, Document):
            raise ProtocolError(f"{self.session.peer} sent something else than {what}")
        return message.body

    async def close(self) -> None:
        """End both tasks and close the socket. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._sock.close()

    async def _next(self, seconds: float | None, what: str) -> Signal | Document:
        late = f"{self.session.peer} did not send {what} within {seconds or 0:g} s"
        return await self._guard.wait(self._arrived.get(), seconds, late)

    async def _read(self) -> None:
        while self.session.phase not in OVER:
            try:
                data = await self._loop.sock_recv(self._sock, READ_BYTES)
                messages = self.session.receive(data)
            except ProtocolError as error:
                return self._guard.call_off(error)
            except OSError as error:
                text = f"the control connection to {self.session.peer} broke: {reason(error)}"
                return self._guard.call_off(PeerError(text))
            for message in messages:
                self._sort(message)
            if not data:
                return None
        return None

    def _sort(self, message: Message) -> None:
        self.heard = True
        if isinstance(message, Signal) and message.state is State.STATS:
            if self.on_stats is not None:
                self._give_stats(self.on_stats, message.document or {})
            return
        if isinstance(message, Closed) and self.session.phase is Phase.DONE:
            message = Signal(State.IPERF_DONE)  # a client that just closes has finished as well
        error = self._ending(message)
        if error is not None:
            self._guard.call_off(error)
        elif isinstance(message, Signal | Document):
            self._arrived.put_nowait(message)

    def _give_stats(self, on_stats: OnStats, document: Mapping[str, Any]) -> None:
        try:
            on_stats(document)
        except IperfpyError as error:
            self._guard.call_off(error)

    def _ending(self, message: Message) -> IperfpyError | None:
        """The error by which this message ends the test, or None."""
        peer = self.session.peer
        if isinstance(message, ServerError):
            return PeerError(server_error_sentence(message.i_errno))
        if isinstance(message, Closed):
            return PeerError(f"{peer} closed the control connection unexpectedly")
        if not isinstance(message, Signal):
            return None
        if message.state in (State.SERVER_TERMINATE, State.CLIENT_TERMINATE):
            return PeerTerminatedError(f"{peer} has terminated")
        if message.state is State.ACCESS_DENIED:
            return PeerError(f"{peer} is busy running a test, or refuses this one")
        if message.state is State.SENTENCE:
            text = (message.document or {}).get("text")
            return PeerError(f"{peer} says: {clean(text) if isinstance(text, str) else 'no reason given'}")
        return None

    async def _write(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            data, self._waiting = self._waiting, bytearray()
            try:
                await self._loop.sock_sendall(self._sock, data)
            except OSError:
                return self._written.set()  # the reading task says what happened to the connection
            if not self._waiting:
                self._written.set()
