"""Calls back when a socket has something to read, or room to write, under every event loop.

    watch = SocketWatch(sock.fileno())
    watch.read(reader)               reader() whenever data, an error or the end waits
    watch.write_once(writer)         writer() once, when the socket takes data again or has failed
    watch.close()                    before the socket is closed

No other module calls `add_reader` or `add_writer` of an event loop, because uvloop's callbacks go deaf: libuv
stops the poll handle of a descriptor for which epoll reports EPOLLERR, calls back once, and never again. One
ICMP error about a datagram sets EPOLLERR, and so does a reset that arrives together with data.

Under uvloop on Linux readers are therefore called by way of an epoll descriptor, one for all sockets of an
event loop. It is readable exactly while one of its sockets has data, an error or the end to report, and has
no error state of its own. A turn of the loop calls back once for all of them, which costs a test of many
streams a fraction of a callback per socket. A writer is registered for one call only, so that a stopped
handle does no harm.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import ClassVar
from weakref import WeakKeyDictionary

from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.operating_system import monotonic_ns
from iperfpy.protocols.system_reasons import system_reason

CANNOT_WATCH = "this event loop cannot watch sockets: on Windows, run it with asyncio.SelectorEventLoop"

SLICE_NS = 2_000_000
"""Time after which a turn of the loop calls no further reader: the rest follows in the next turn, so that
timers and the control connection do not wait for all streams of a test."""


class SocketWatch:
    """The callbacks of one socket. Needs a running event loop, and is used on its thread only.

    Parameters
    ----------
    descriptor : of the socket, which stays open until `close` was called
    """

    __slots__ = ("_descriptor", "_loop", "_reads", "_writer")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._reads = False
        self._writer: Callable[[], None] | None = None

    def read(self, reader: Callable[[], None]) -> None:
        """Call `reader()` whenever something waits, until `pause`; it replaces an earlier reader. The reader
        pauses at the end of a connection, which stays readable for ever.

        Raises
        ------
        TransportError
            When the process has no descriptor left, or the event loop cannot watch sockets.
        """
        try:
            if _stops_at_errors(self._loop):
                _Relay.of(self._loop).add(self._descriptor, reader)
            else:
                self._loop.add_reader(self._descriptor, reader)
        except NotImplementedError as error:  # Windows' default event loop
            raise TransportError(CANNOT_WATCH) from error
        self._reads = True

    def pause(self) -> None:
        """Call the reader no more. Idempotent."""
        if self._reads:
            self._reads = False
            if _stops_at_errors(self._loop):
                _Relay.of(self._loop).remove(self._descriptor)
            else:
                self._loop.remove_reader(self._descriptor)

    def write_once(self, writer: Callable[[], None]) -> None:
        """Call `writer()` once, when the socket has room or an error to report; it replaces an earlier
        writer that has not been called."""
        if self._writer is None:
            try:
                self._loop.add_writer(self._descriptor, self._write)
            except NotImplementedError as error:  # Windows' default event loop
                raise TransportError(CANNOT_WATCH) from error
        self._writer = writer

    def forget_writer(self) -> None:
        """Call the writer no more. Idempotent."""
        if self._writer is not None:
            self._writer = None
            self._loop.remove_writer(self._descriptor)

    def close(self) -> None:
        """End both callbacks. Idempotent; the socket may be closed afterwards."""
        self.pause()
        self.forget_writer()

    def _write(self) -> None:
        writer = self._writer
        # Removed first: `writer` may ask for another call, which needs a new handle if this one was stopped.
        self.forget_writer()
        if writer is not None:
            writer()


class _Relay:
    """The epoll descriptor through which one event loop hears all its sockets.

    The kernel is asked for the ready sockets once per round. A round may take several turns of the loop, each
    of `SLICE_NS`; no socket is called twice in a round.
    """

    _of_loops: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, _Relay]] = WeakKeyDictionary()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll: select.epoll | None = None
        self._readers: dict[int, Callable[[], None]] = {}
        self._due: dict[int, None] = {}  # ready sockets of this round that are still to be called

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> _Relay:
        """The relay of `loop`. It has a descriptor only while it has a socket."""
        relay = cls._of_loops.get(loop)
        if relay is None:
            relay = cls._of_loops[loop] = cls(loop)
        return relay

    def add(self, descriptor: int, reader: Callable[[], None]) -> None:
        """Call `reader()` whenever something waits in the socket; it replaces an earlier reader.

        Raises
        ------
        TransportError
            When the process has no descriptor left.
        """
        if descriptor not in self._readers:
            try:
                if self._epoll is None:
                    self._epoll = select.epoll()
                    self._loop.add_reader(self._epoll.fileno(), self._call_readers)
                self._epoll.register(descriptor, select.EPOLLIN)
            except OSError as error:
                self._close_if_unused()
                raise TransportError(f"cannot watch a socket: {system_reason(error)}") from error
        self._readers[descriptor] = reader

    def remove(self, descriptor: int) -> None:
        """Call its reader no more, also not in this turn."""
        self._readers.pop(descriptor, None)
        self._due.pop(descriptor, None)
        if self._epoll is not None:
            self._epoll.unregister(descriptor)
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._epoll is not None and not self._readers:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _call_readers(self) -> None:
        due = self._due
        if not due and self._epoll is not None:
            due.update((descriptor, None) for descriptor, _ in self._epoll.poll(0))
        until_ns = monotonic_ns() + SLICE_NS
        while due:
            descriptor = next(iter(due))
            del due[descriptor]
            try:
                self._readers[descriptor]()
            except Exception as error:  # as the event loop does: the other sockets are called all the same
                context = {"message": f"Exception in the reader of {descriptor}", "exception": error}
                self._loop.call_exception_handler(context)
            if monotonic_ns() > until_ns:
                # The sockets that are left have something to read, so the loop calls again in its next turn.
                return


def _stops_at_errors(loop: asyncio.AbstractEventLoop) -> bool:
    """True if `loop` stops watching a descriptor that reports an error: libuv does so on Linux. The loops of
    asyncio call back as long as the condition lasts."""
    return hasattr(select, "epoll") and not isinstance(loop, asyncio.SelectorEventLoop)
