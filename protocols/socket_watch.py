"""Calls back when a socket has something to read, or room to write, under every event loop.

    watch = SocketWatch(sock.fileno())
    watch.read(reader)               reader() whenever data, an error or the end waits
    watch.write_once(writer)         writer() once, when the socket takes data again or has failed
    watch.close()                    before the socket is closed

No other module calls `add_reader` or `add_writer` of an event loop, because uvloop's callbacks go deaf: libuv
stops the poll handle of a descriptor for which epoll reports EPOLLERR, calls back once, and never again. One
ICMP error about a datagram sets EPOLLERR, and so does a reset that arrives together with data.

Under uvloop on Linux a reader is therefore called by way of an epoll descriptor that watches the socket
alone. Such a descriptor is readable exactly while its socket has data, an error or the end to report, and has
no error state of its own. The reader needs no system call for it: the kernel follows the chain. A writer is
registered for one call only, so that a stopped handle does no harm.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.operating_system import error_text

CANNOT_WATCH = "this event loop cannot watch sockets: on Windows, run it with asyncio.SelectorEventLoop"


class SocketWatch:
    """The callbacks of one socket. Needs a running event loop, and is used on its thread only.

    Parameters
    ----------
    descriptor : of the socket, which stays open until `close` was called
    """

    __slots__ = ("_descriptor", "_loop", "_reads", "_relay", "_writer")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._relay: select.epoll | None = None
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
            self._loop.add_reader(self._read_descriptor(), reader)
        except NotImplementedError as error:  # Windows' default event loop
            raise TransportError(CANNOT_WATCH) from error
        self._reads = True

    def pause(self) -> None:
        """Call the reader no more. Idempotent."""
        if self._reads:
            self._reads = False
            self._loop.remove_reader(self._read_descriptor())

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
        if self._relay is not None:
            self._relay.close()
            self._relay = None

    def _write(self) -> None:
        writer = self._writer
        # Removed first: `writer` may ask for another call, which needs a new handle if this one was stopped.
        self.forget_writer()
        if writer is not None:
            writer()

    def _read_descriptor(self) -> int:
        """The descriptor for the event loop: the socket's own, or an epoll that watches it."""
        if not _stops_at_errors(self._loop):
            return self._descriptor
        if self._relay is None:
            try:
                self._relay = select.epoll(1)
                self._relay.register(self._descriptor, select.EPOLLIN)
            except OSError as error:
                raise TransportError(
                    f"cannot watch a socket: {error.strerror or error_text(error.errno or 0)}"
                ) from error
        return self._relay.fileno()


def _stops_at_errors(loop: asyncio.AbstractEventLoop) -> bool:
    """True if `loop` stops watching a descriptor that reports an error: libuv does so on Linux. The loops of
    asyncio call back as long as the condition lasts."""
    return hasattr(select, "epoll") and not isinstance(loop, asyncio.SelectorEventLoop)
