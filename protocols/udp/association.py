"""The exchange by which a stream's two sockets find each other, before any data.

iperf3: the client sends four bytes and the server answers with four others, once; neither repeats. The bytes
depend on the version and on the byte order of the machine:

    client sends     server answers     by
    39 38 37 36      36 37 38 39        3.12 and later
    15 cd 5b 07      b1 68 de 3a        3.11 and before
    36 37 38 39      39 38 37 36        3.12 to 3.16 where the byte order is big-endian
    07 5b cd 15      3a de 68 b1        3.11 and before, there

With iperfpy at both ends, the four bytes are the stream's conv, little endian. The server answers each call
with the same bytes, and the client repeats the call until something comes. Any datagram of the server
confirms the association, data too: data may overtake the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Collection, Mapping

from iperfpy.protocols.addresses import named
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.datagrams.address_proof import PROOF_BYTES
from iperfpy.protocols.errors import StreamPathError, StreamPeerError, TransportError
from iperfpy.protocols.path_events import Consequence, Moment, Sign, consequence, datagram_sign
from iperfpy.protocols.socket_watch import SocketWatch

CALL_BYTES = 4
LONGEST_BYTES = 65_536
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


def is_stock_call(datagram: bytes) -> bool:
    """True if the datagram can open a stream of a client without a conv.

    iperf3's server takes any datagram. Here it is one that is shorter than all that other streams send
    (address_proof.py has their lengths): a longer one may be late data of the client's last test, or of
    another test behind a NAT, and its sender would get the stream.
    """
    return len(datagram) < PROOF_BYTES


def stock_answer(call: bytes) -> bytes:
    """The answer to a call without a conv; an unknown call gets the answer that clients since 3.12 expect."""
    return ANSWERS.get(call, ANSWERS[CALL])


FIRST_S, LONGEST_S = 0.1, 1.0
STOCK_FIRST_S, STOCK_LONGEST_S = 2.0, 8.0
"""Retry only after 2 s: a stock server would count a repeated call as data, if only its answer was lost."""
REFUSED_PAUSE_S = 0.2
MOST_REFUSALS = 5
"""Refusals in a row after which nothing listens at the server."""


def conv_call(conv: int) -> bytes:
    """The call, and its answer, with iperfpy at both ends."""
    return conv.to_bytes(CALL_BYTES, "little")


async def call(
    sock: socket.socket, conv: int, answer_challenge: Callable[[bytes], bytes] = lambda datagram: b""
) -> int | None:
    """Call the server until it answers; the caller sets the deadline. Returns the time from the first call to
    the answer, microseconds.

    Parameters
    ----------
    sock : connected and non-blocking. Data that arrives is left in it.
    conv : 0 for a stock server.
    answer_challenge : makes the answer to a challenge of the server, empty if a datagram is none

    Raises
    ------
    StreamPeerError
        Nothing listens there.
    StreamPathError
        There is no route to it.
    """
    message = conv_call(conv) if conv else CALL
    answers = {message} if conv else frozenset(ANSWERS.values())
    wait_s, longest_s = (FIRST_S, LONGEST_S) if conv else (STOCK_FIRST_S, STOCK_LONGEST_S)
    exchange = _Exchange(sock, answers, answer_challenge)
    exchange.start()
    try:
        refused = 0
        while not exchange.answered.done():
            exchange.send(message)
            await asyncio.wait([exchange.changed()], timeout=wait_s)
            if exchange.answered.done():
                break
            if exchange.refused == refused:
                wait_s = min(2 * wait_s, longest_s)
                continue
            # A refused call has not been received: it may be repeated soon, even to a stock server.
            refused, exchange.called_us = exchange.refused, None
            if refused >= MOST_REFUSALS:
                raise StreamPeerError(f"{_name(sock)} refuses UDP datagrams: nothing listens there")
            await asyncio.sleep(REFUSED_PAUSE_S)
        exchange.answered.result()
        return exchange.round_trip_us
    finally:
        exchange.close()


class _Exchange:
    """The client's side of the association: sends calls, and waits for the first datagram of the server.

    Attributes
    ----------
    answered : done with the first datagram, or with the error that ends the attempt
    refused : calls that the server's machine refused
    called_us : time of the first call, None before it
    round_trip_us : from then to the answer, None until it comes
    """

    def __init__(
        self, sock: socket.socket, answers: Collection[bytes], answer_challenge: Callable[[bytes], bytes]
    ) -> None:
        self.refused = 0
        self.called_us: int | None = None
        self.round_trip_us: int | None = None
        self._sock = sock
        self._answers = answers
        self._answer_challenge = answer_challenge
        self._loop = asyncio.get_running_loop()
        self._watch = SocketWatch(sock.fileno())
        self.answered: asyncio.Future[None] = self._loop.create_future()
        self._changed: asyncio.Future[None] = self._loop.create_future()

    def start(self) -> None:
        """Begin to read the socket."""
        self._watch.read(self._read)

    def changed(self) -> asyncio.Future[None]:
        """A future for the next event: an answer, or a refusal since the last call of this method."""
        if self._changed.done() and not self.answered.done():
            self._changed = self._loop.create_future()
        return self._changed

    def send(self, message: bytes) -> None:
        """Send a call; without room for it, the next one counts."""
        if self.called_us is None:
            self.called_us = now_us()
        try:
            self._sock.send(message)
        except BlockingIOError:
            return
        except OSError as error:
            self._take_error(error)

    def close(self) -> None:
        """Stop reading the socket."""
        self._watch.close()
        if self.answered.done() and not self.answered.cancelled():
            self.answered.exception()  # marked as retrieved: a cancelled `call` does not ask for it

    def _read(self) -> None:
        try:
            # Data stays in the socket for the channel; answers and challenges are taken out of it.
            # With room for any: Windows makes an error of a datagram that is longer.
            datagram = self._sock.recv(LONGEST_BYTES, socket.MSG_PEEK)
            # GRO may have joined several challenges: the first is enough, and the others leave with it.
            proof = self._answer_challenge(datagram[:PROOF_BYTES])
            if proof or len(datagram) <= CALL_BYTES:
                self._sock.recv(LONGEST_BYTES)
            if proof:
                self._sock.send(proof)
                return
        except BlockingIOError:
            return
        except OSError as error:
            self._take_error(error)
            return
        if len(datagram) > CALL_BYTES or datagram in self._answers:
            self._watch.pause()
            # A challenge may have come before, to an earlier proof of the address.
            if self.called_us is not None:
                self.round_trip_us = now_us() - self.called_us
            self._end(None)

    def _take_error(self, error: OSError) -> None:
        sign = datagram_sign(error.errno or errno.EIO)
        if sign is Sign.REFUSED:
            self.refused += 1
            if not self._changed.done():
                self._changed.set_result(None)
        elif consequence(sign, Moment.OPENING) is Consequence.END:
            self._end(StreamPathError(f"cannot reach {_name(self._sock)} over UDP: {error.strerror}"))

    def _end(self, error: TransportError | None) -> None:
        if not self.answered.done():
            self.answered.set_exception(error) if error else self.answered.set_result(None)
        if not self._changed.done():
            self._changed.set_result(None)


def answer_again(sock: socket.socket, datagram: bytes | memoryview, call: bytes) -> None:
    """Answer `datagram` if it repeats `call`: then the answer was lost. Anything else is ignored."""
    if call and datagram == call:
        with contextlib.suppress(OSError):
            sock.send(call)


def _name(sock: socket.socket) -> str:
    with contextlib.suppress(OSError):
        return named(sock.getpeername())
    return "the server"
