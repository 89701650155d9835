"""TCP connections beside a `DatagramRelay`, passed through as byte streams: the control connection of a test.

Each connection has a thread per direction, which waits for bytes and passes them on. Its packets do not meet
the path: a relay would have to end the connection, so it could show delay, but never loss.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from functools import partial

from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.threads import start_thread

MOST_CONNECTIONS = 256
CONNECT_S = 10.0
_BLOCK_BYTES = 65_536


class ByteRelay:
    """Accepts connections, and joins each to one of its own to the server."""

    def __init__(self, listener: socket.socket, server: SocketAddress) -> None:
        self._listener, self._server = listener, server
        self._places = threading.Semaphore(MOST_CONNECTIONS)

    def start(self) -> None:
        """Accept connections from now on, in a thread. Raises OSError."""
        start_thread(self._accept, "lab-accept")

    def close(self) -> None:
        """Accept no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            # A place that is not free, or a thread that cannot start, costs this client its connection.
            if not self._places.acquire(blocking=False):
                client.close()
                continue
            try:
                start_thread(partial(self._join, client), "lab-join")
            except OSError:
                client.close()
                self._places.release()

    def _join(self, client: socket.socket) -> None:
        """Connect to the server, pass bytes both ways until both have ended, and free the place."""
        try:
            with client, contextlib.suppress(OSError):
                server = socket.create_connection(self._server[:2], CONNECT_S)
                with server:
                    server.settimeout(None)
                    for sock in (client, server):
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    back = start_thread(lambda: _pump(server, client), "lab-back")
                    _pump(client, server)
                    back.join()
        finally:
            self._places.release()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until the source ends or either breaks; then the sink gets an end, too."""
    with contextlib.suppress(OSError):
        while data := source.recv(_BLOCK_BYTES):
            sink.sendall(data)
    for sock, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with contextlib.suppress(OSError):
            sock.shutdown(how)
