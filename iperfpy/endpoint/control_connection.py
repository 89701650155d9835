r"""A control connection on a socket: the thin layer between `control.session` and the event loop.

    socket --read--> session --messages--> signal(), document()     those that a test waits for, in order
                                      \--> listener                 states and interval figures, at once
                                      \--> scope.abort              whatever ends the test
    send() --session--> buffer --write--> socket

It reads and writes in the event loop's own callbacks, without a task between: when the loop is busy carrying
data, every hop costs an iteration of it, and the end of a test must be noticed soon. The data that waits to
be written is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Protocol

from iperfpy.control.framing import Closed, Document, Message, ServerError, Signal, State
from iperfpy.control.plan_limits import SHORTEST_INTERVAL_US
from iperfpy.control.session import OVER, Send, Session, SessionPhase
from iperfpy.error_numbers import server_error_sentence
from iperfpy.errors import (
    IperfpyError,
    LateError,
    PeerError,
    PeerTerminatedError,
    ProtocolError,
    from_transport,
    system_reason,
)
from iperfpy.protocols import tcp_info
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.operating_system import END_OF_SEGMENT
from iperfpy.protocols.path_events import Consequence, Moment, connection_sign, consequence
from iperfpy.protocols.socket_watch import SocketWatch
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.hearing import Patience
from iperfpy.runtime.sockets import close_gently

READ_BYTES = 64 * 1024
UNSENT_LIMIT_BYTES = 8 * 1024 * 1024
SEGMENT_BYTES = 1_200
"""Payload per segment: with all headers it fits the 1,280 bytes that every IPv6 link carries. TCP itself
would fill its segments, and be stuck where the path drops the longest ones without a word."""

EXTRA_FIGURES = 20
"""Documents of interval figures allowed beyond one per `SHORTEST_INTERVAL_US` of the connection's age.
Delayed ones arrive together, and this end may learn late that data flows: only the age is certain."""

log = logging.getLogger(__name__)


class Listener(Protocol):
    """The part of a running test that hears messages in the callback in which they arrive.

    An exception that a method raises ends the test.
    """

    def on_state(self, state: State) -> None:
        """A state arrived; it can still be waited for with `signal`."""

    def on_stats(self, document: Mapping[str, Any]) -> None:
        """The peer's figures of one interval arrived."""


class ControlConnection:
    """Owns `sock`, which must be connected and non-blocking, and closes it.

    Parameters
    ----------
    session : the protocol's state
    scope : is aborted when the peer refuses, fails, terminates, or closes the connection

    Attributes
    ----------
    has_heard : True once the peer has sent a message
    has_peer : True: the other end is one that sends its results
    heard_us : time at which anything last arrived, None before
    arrived_us : time of the last arrival of each state
    """

    has_peer = True

    def __init__(self, sock: socket.socket, session: Session, scope: AbortScope) -> None:
        self.session = session
        self.has_heard = False
        self.arrived_us: dict[State, int] = {}
        self._arrivals: defaultdict[State, asyncio.Event] = defaultdict(asyncio.Event)
        self._listener: Listener | None = None
        self._early_stats: list[Mapping[str, Any]] = []
        self._opened_us = now_us()
        self._figures = 0
        self._scope = scope
        self._sock = sock
        self._watch = SocketWatch(sock.fileno())
        self._arrived: asyncio.Queue[Signal | Document] = asyncio.Queue()
        self._unsent = bytearray()
        self._sent = asyncio.Event()
        self._sent.set()
        self._closed = self._broken = False
        self.heard_us: int | None = None

    def start(self) -> None:
        """Begin to read."""
        try:
            self._watch.read(self._read)
        except TransportError as error:
            self._scope.abort(from_transport(error))

    def attach(self, listener: Listener) -> None:
        """From now on, give states and interval figures to the listener; first the figures that arrived
        while this end was still starting."""
        self._listener = listener
        early, self._early_stats = self._early_stats, []
        for document in early:
            listener.on_stats(document)

    # -- sending

    def send(self, send: Send, body: Mapping[str, Any] | None = None) -> None:
        """Send a message, at once if the socket has room.

        Raises
        ------
        IperfpyError
            The error of the scope, if a message of the peer has ended the session.
        RuntimeError
            The protocol does not allow it now: a fault of this program.
        """
        log.debug("to %s: %s %s", self.session.peer, send.name, body or "")
        if not self.session.can(send) and self._scope.error is not None:
            # The peer broke off, or the protocol, before this end could take its next step: its fault.
            raise self._scope.error
        was_waiting = bool(self._unsent)
        self._unsent += self.session.send(send, body)
        if not was_waiting:
            self._write()
        if len(self._unsent) > UNSENT_LIMIT_BYTES:
            self._scope.abort(LateError(f"{self.session.peer} does not read what it is sent"))

    def can(self, send: Send) -> bool:
        """True if the protocol allows `send` now, and the connection could carry it."""
        return not self._broken and self.session.can(send)

    async def flush(self) -> None:
        """Wait until the kernel has taken all messages."""
        await self._sent.wait()

    async def flush_within(self, limit_s: float) -> None:
        """Wait for `flush`, but no longer: no answer follows, and the connection may be stuck."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.flush(), limit_s)

    # -- receiving

    async def signal(self, limit: float | Patience | None, *states: State) -> Signal:
        """Wait for the next state, which must be one of `states`."""
        message = await self._next(limit, " or ".join(state.name for state in states))
        if not isinstance(message, Signal) or message.state not in states:
            raise ProtocolError(f"{self.session.peer} sent something else than {states[0].name}")
        return message

    async def document(self, limit: float | Patience | None, what: str) -> Mapping[str, Any]:
        """Wait for the next document; `what` names it in errors."""
        message = await self._next(limit, what)
        if not isinstance(message, Document):
            raise ProtocolError(f"{self.session.peer} sent something else than {what}")
        return message.body

    def arrival(self, state: State) -> asyncio.Event:
        """The event that is set once the state has arrived; it can still be waited for with `signal`."""
        return self._arrivals[state]

    def round_trip_us(self) -> int | None:
        """The shortest round-trip time of the connection so far, if the system measures it."""
        return tcp_info.read(self._sock).min_rtt_us

    def close(self) -> None:
        """Close the socket. Idempotent."""
        if not self._closed:
            self._closed = self._broken = True
            self._watch.close()
            close_gently(self._sock)

    async def _next(self, limit: float | Patience | None, what: str) -> Signal | Document:
        awaited = f"{self.session.peer} did not send {what}"
        if isinstance(limit, Patience):
            return await self._scope.wait(self._arrived.get(), limit.left_s, lambda: limit.sentence(awaited))
        return await self._scope.wait(self._arrived.get(), limit, f"{awaited} within {limit or 0:g} s")

    def _read(self) -> None:
        # The event loop would only log an exception, and the test would go on without this message.
        try:
            self._receive()
        except Exception as error:
            self._watch.pause()
            self._scope.abort(error)

    def _receive(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
            messages = self.session.receive(data)
        except ProtocolError as error:
            self._stop_reading(error)
            return
        except OSError as error:
            sign = connection_sign(error.errno or errno.EIO)
            if consequence(sign, Moment.RUNNING) is Consequence.RETRY:
                return
            self._broken = True
            text = f"the control connection to {self.session.peer} broke: {system_reason(error)}"
            self._stop_reading(PeerError(text))
            return
        self.heard_us = now_us()
        for message in messages:
            self._dispatch(message)
        # A closed socket stays readable: the loop would call again and again.
        if not data or self.session.phase in OVER:
            self._watch.pause()

    def _stop_reading(self, error: IperfpyError) -> None:
        self._watch.pause()
        self._scope.abort(error)

    def _dispatch(self, message: Message) -> None:
        self.has_heard = True
        log.debug("from %s: %s", self.session.peer, message)
        if isinstance(message, Signal):
            if message.state is State.STATS:
                self._give_stats(message.document or {})
                return
            self.arrived_us[message.state] = now_us()
            self._arrivals[message.state].set()
            if self._listener is not None:
                self._listener.on_state(message.state)
        if isinstance(message, Closed) and self.session.phase is SessionPhase.DONE:
            message = Signal(State.IPERF_DONE)  # a client that closes at this point has finished as well
        error = self._final_error(message)
        if error is not None:
            self._scope.abort(error)
        elif isinstance(message, Signal | Document):
            self._arrived.put_nowait(message)

    def _give_stats(self, document: Mapping[str, Any]) -> None:
        # The pace is the peer's alone: a loop that stood still reads many documents at once.
        self._figures += 1
        allowed = EXTRA_FIGURES + (now_us() - self._opened_us) // SHORTEST_INTERVAL_US
        if self._figures > allowed:
            raise ProtocolError(f"{self.session.peer} sent interval figures faster than one per 0.1 s")
        if self._listener is None:
            self._early_stats.append(document)
        else:
            self._listener.on_stats(document)

    def _final_error(self, message: Message) -> IperfpyError | None:
        """The error with which this message ends the test, or None."""
        peer = self.session.peer
        # A sentence (SENTENCE) goes before the number of SERVER_ERROR, so it is the one that is raised.
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
            return PeerError(f"{peer} says: {text if isinstance(text, str) else 'no reason given'}")
        return None

    # -- writing

    def _write(self) -> None:
        """Send as much as the socket takes, in short segments; a writer callback sends the rest."""
        try:
            while self._unsent:
                taken = self._sock.send(self._unsent[:SEGMENT_BYTES], END_OF_SEGMENT)
                del self._unsent[:taken]
        except (BlockingIOError, InterruptedError):
            pass  # no room: the callback comes when there is some
        except OSError:
            self._unsent.clear()  # reading reports the state of the connection
        if self._unsent:
            self._sent.clear()
            self._watch.write_once(self._write)
        else:
            self._sent.set()
            self._watch.forget_writer()
