"""How a stream's two sockets find each other, before any data.

iperf3: the client sends four bytes, the server answers with four others, once; neither repeats itself. What
the bytes are depends on the version and on the byte order of whoever compiled it:

    client sends     server answers     by
    39 38 37 36      36 37 38 39        3.12 and later
    15 cd 5b 07      b1 68 de 3a        3.11 and before
    36 37 38 39      39 38 37 36        3.12 to 3.16 where the byte order is big-endian
    07 5b cd 15      3a de 68 b1        3.11 and before, there

Between two iperfpy the four bytes are the stream's conv, as the hub reads it; the server answers with the
same, as often as it is asked; the client asks until it hears something. Whatever comes from the server
confirms the association, data too: that may overtake the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Collection, Mapping

from iperfpy.protocols.errors import PathError, PeerError, TransportError

CALL_BYTES = 4
CALL = bytes.fromhex("39383736")
ANSWERS: Mapping[bytes, bytes] = {
    bytes.fromhex(call): bytes.fromhex(answer)
    for call, answer in {
        "39383736": "36373839",
        "15cd5b07": "b168de3a",
        "36373839": "39383736",
        "075bcd15": "3ade68b1",
    }.items()
}

FIRST_S, LONGEST_S = 0.1, 1.0
STOCK_FIRST_S, STOCK_LONGEST_S = 2.0, 8.0
"""A stock server takes a repeated call for data, if only the answer was lost: it is asked again when there
is little left to spoil."""
REFUSED_PAUSE_S = 0.2
PATIENCE = 5
"""So many refusals in a row are an answer."""


def conv_call(conv: int) -> bytes:
    """What two iperfpy say to each other."""
    return conv.to_bytes(CALL_BYTES, "little")


async def call(sock: socket.socket, conv: int) -> None:
    """Ask the server to take the stream until it answers; the caller sets the deadline.

    Parameters
    ----------
    sock : connected and non-blocking. Data that came is left in it.
    conv : 0 for a stock server.

    Raises
    ------
    PeerError
        Nothing listens there.
    PathError
        There is no way to it.
    """
    message = conv_call(conv) if conv else CALL
    answers = {message} if conv else frozenset(ANSWERS.values())
    wait_s, longest_s = (FIRST_S, LONGEST_S) if conv else (STOCK_FIRST_S, STOCK_LONGEST_S)
    listening = _Listening(sock, answers)
    try:
        refused = 0
        while not listening.heard.done():
            listening.send(message)
            await asyncio.wait([listening.changed()], timeout=wait_s)
            if listening.heard.done():
                break
            if listening.refused == refused:
                wait_s = min(2 * wait_s, longest_s)
                continue
            # What was refused has not been heard: it may be said again, even to a stock server.
            refused = listening.refused
            if refused >= PATIENCE:
                raise PeerError(f"{_name(sock)} refuses UDP datagrams: nothing listens there")
            await asyncio.sleep(REFUSED_PAUSE_S)
        listening.heard.result()
    finally:
        listening.close()


class _Listening:
    """Waits for the first sign of the server."""

    def __init__(self, sock: socket.socket, answers: Collection[bytes]) -> None:
        self.refused = 0
        self._sock = sock
        self._answers = answers
        self._loop = asyncio.get_running_loop()
        self.heard: asyncio.Future[None] = self._loop.create_future()
        self._changed: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(sock.fileno(), self._look)

    def changed(self) -> asyncio.Future[None]:
        """Done when something was heard, or a call was refused since the last `changed`."""
        if self._changed.done() and not self.heard.done():
            self._changed = self._loop.create_future()
        return self._changed

    def send(self, message: bytes) -> None:
        try:
            self._sock.send(message)
        except BlockingIOError:
            return
        except OSError as error:
            self._note(error)

    def close(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        if self.heard.done() and not self.heard.cancelled():
            self.heard.exception()

    def _look(self) -> None:
        try:
            said = self._sock.recv(CALL_BYTES + 1, socket.MSG_PEEK)
            if len(said) <= CALL_BYTES:
                self._sock.recv(CALL_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._note(error)
            return
        if len(said) > CALL_BYTES or said in self._answers:
            self._loop.remove_reader(self._sock.fileno())
            self._tell(None)

    def _note(self, error: OSError) -> None:
        if isinstance(error, ConnectionRefusedError | ConnectionResetError):
            self.refused += 1
            if not self._changed.done():
                self._changed.set_result(None)
        else:
            self._tell(PathError(f"cannot reach {_name(self._sock)} over UDP: {error.strerror}"))

    def _tell(self, error: TransportError | None) -> None:
        if not self.heard.done():
            self.heard.set_exception(error) if error else self.heard.set_result(None)
        if not self._changed.done():
            self._changed.set_result(None)


def answer_again(sock: socket.socket, said: bytes | memoryview, call: bytes) -> None:
    """The client asks again: the answer was lost. Anything else that is so short is nobody's."""
    if call and said == call:
        with contextlib.suppress(OSError):
            sock.send(call)


def _name(sock: socket.socket) -> str:
    with contextlib.suppress(OSError):
        host, port = sock.getpeername()[:2]
        return f"{host} port {port}"
    return "the server"
