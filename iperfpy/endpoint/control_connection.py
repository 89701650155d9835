"""A control connection on a socket: the thin layer between `control.session` and the event loop.

It reads and writes in the event loop's own callbacks, without a task between: when the loop is busy carrying
data, every hop costs a turn of it, and the end of a test must be noticed soon. Messages that belong to the
sequence of a test are waited for with `signal` and `document`; others hear of them as they arrive
(`on_signal`, `give_stats`); whatever ends the test goes to the guard. What waits to be written is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any

from iperfpy.control.error_numbers import server_error_sentence
from iperfpy.control.framing import Closed, Document, Message, ServerError, Signal, State
from iperfpy.control.parameters import clean
from iperfpy.control.session import OVER, Phase, Send, Session
from iperfpy.errors import (
    IperfpyError,
    LateError,
    PeerError,
    PeerTerminatedError,
    ProtocolError,
    system_reason,
)
from iperfpy.protocols import tcp_info
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.event_loop import now_us
from iperfpy.runtime.sockets import close_gently

READ_BYTES = 64 * 1024
EARLY_STATS_LIMIT = 64
UNSENT_LIMIT_BYTES = 8 * 1024 * 1024

log = logging.getLogger(__name__)
OnStats = Callable[[Mapping[str, Any]], None]
OnSignal = Callable[[State], None]


class ControlConnection:
    """Takes over `sock`, which must be connected and non-blocking, and closes it.

    Parameters
    ----------
    session : Session
    guard : Guard
        Is told when the other end refuses, fails, terminates, or closes the connection.

    Attributes
    ----------
    on_signal : called with every state that arrives
    heard : whether the other end has said anything at all
    arrived_us : when each state arrived last
    """

    def __init__(self, sock: socket.socket, session: Session, guard: AbortScope) -> None:
        self.session = session
        self._on_stats: OnStats | None = None
        self._early_stats: list[Mapping[str, Any]] = []
        self.on_signal: OnSignal | None = None
        self.heard = False
        self.arrived_us: dict[State, int] = {}
        self._guard = guard
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[Signal | Document] = asyncio.Queue()
        self._unsent = bytearray()
        self._sent = asyncio.Event()
        self._sent.set()
        self._closed = self._broken = False
        self._loop.add_reader(sock, self._read)

    def send(self, send: Send, body: Mapping[str, Any] | None = None) -> None:
        """Say it, now if the socket has room. Raises `RuntimeError` when this is not the moment."""
        log.debug("to %s: %s %s", self.session.peer, send.name, body or "")
        waiting = bool(self._unsent)
        self._unsent += self.session.send(send, body)
        if not waiting:
            self._write()
        if len(self._unsent) > UNSENT_LIMIT_BYTES:
            self._guard.abort(LateError(f"{self.session.peer} does not read what it is sent"))

    def give_stats(self, on_stats: OnStats) -> None:
        """From now on, call this with every document of interval figures; with those first that came while
        this end was still starting."""
        self._on_stats = on_stats
        early, self._early_stats = self._early_stats, []
        for document in early:
            self._give_stats(document)

    def can(self, send: Send) -> bool:
        """Whether `send` would be accepted now, and could be heard."""
        return not self._broken and self.session.can(send)

    async def flush(self) -> None:
        """Wait until all that was said has been handed to the kernel."""
        await self._sent.wait()

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

    def round_trip_us(self) -> int | None:
        """The shortest round trip of the connection so far, where the system says."""
        return tcp_info.read(self._sock).min_rtt_us

    def close(self) -> None:
        """Close the socket. Idempotent."""
        if not self._closed:
            self._closed = self._broken = True
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            close_gently(self._sock)

    async def _next(self, seconds: float | None, what: str) -> Signal | Document:
        late = f"{self.session.peer} did not send {what} within {seconds or 0:g} s"
        return await self._guard.wait(self._arrived.get(), seconds, late)

    def _read(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
            messages = self.session.receive(data)
        except (BlockingIOError, InterruptedError):
            return
        except ProtocolError as error:
            self._stop_reading(error)
            return
        except OSError as error:
            self._broken = True
            text = f"the control connection to {self.session.peer} broke: {system_reason(error)}"
            self._stop_reading(PeerError(text))
            return
        for message in messages:
            self._sort(message)
        if not data or self.session.phase in OVER:
            self._loop.remove_reader(self._sock)

    def _stop_reading(self, error: IperfpyError) -> None:
        self._loop.remove_reader(self._sock)
        self._guard.abort(error)

    def _sort(self, message: Message) -> None:
        self.heard = True
        log.debug("from %s: %s", self.session.peer, message)
        if isinstance(message, Signal):
            if message.state is State.STATS:
                self._give_stats(message.document or {})
                return
            self.arrived_us[message.state] = now_us()
            if self.on_signal is not None:
                self.on_signal(message.state)
        if isinstance(message, Closed) and self.session.phase is Phase.DONE:
            message = Signal(State.IPERF_DONE)  # a client that just closes has finished as well
        error = self._ending(message)
        if error is not None:
            self._guard.abort(error)
        elif isinstance(message, Signal | Document):
            self._arrived.put_nowait(message)

    def _give_stats(self, document: Mapping[str, Any]) -> None:
        if self._on_stats is None:
            self._early_stats.append(document)
            if len(self._early_stats) > EARLY_STATS_LIMIT:
                self._guard.abort(ProtocolError(f"{self.session.peer} sent interval figures too early"))
            return
        try:
            self._on_stats(document)
        except IperfpyError as error:
            self._guard.abort(error)

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

    def _write(self) -> None:
        """Send what the socket takes; wait for room for the rest."""
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._unsent.clear()  # reading says what happened to the connection
        if self._unsent:
            self._sent.clear()
            self._loop.add_writer(self._sock, self._write)
        else:
            self._sent.set()
            self._loop.remove_writer(self._sock)
