"""A UDP stream that goes both ways: each block of a load is a datagram, and each datagram that arrives goes
to the writer of `keep`, without a header of iperf3's.

    thread       load -> _send_share -> socket                    wake(): the load has a block now
    thread       socket -> _receive_share -> writer of `keep`, and answers to calls and challenges

A call has 4 bytes, a part of the proof of an address 10: data has more than either (`Udp.block_limits`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import sys
import threading
from collections import deque
from collections.abc import Callable

from iperfpy.protocols.addresses import named, plain
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import Channel, ClientPort, Load, ServerPort, SocketAddress, Stream
from iperfpy.protocols.datagrams.address_proof import PROOF_BYTES
from iperfpy.protocols.datagrams.datagram_socket import GRO_BYTES
from iperfpy.protocols.datagrams.path_mtu import headers_to
from iperfpy.protocols.datagrams.peer_path import DatagramPath, open_path
from iperfpy.protocols.datagrams.server_port import accept_path
from iperfpy.protocols.errors import StreamPathError, TransportError
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.operating_system import (
    ANCILLARY_BYTES,
    NOT_WAITING,
    SOL_UDP,
    UDP_GRO,
    error_text,
    receive_into,
)
from iperfpy.protocols.path_events import Consequence, Moment, Sign, consequence, datagram_sign
from iperfpy.protocols.serving_thread import READ, WRITE
from iperfpy.protocols.socket_buffers import queued_bytes
from iperfpy.protocols.stream_threads import StreamWorker
from iperfpy.protocols.udp import UdpSettings, association

READS_PER_VISIT = 64
"""Reads of a visit at most: other streams share the thread."""
FULL_US = 100
"""Pause after the device had no room (ENOBUFS), which no socket reports."""
MOST_EARLY = 64
"""Datagrams that are held until `keep` says where they go."""
DRAIN_POLL_S = 0.002
_NOTHING = memoryview(b"")


async def connect(stream: Stream, settings: UdpSettings, port: ClientPort) -> Channel:
    """Open the client's end, associated. Waits without limit: the caller sets the deadline."""
    path = await open_path(stream, port)
    try:
        await association.call(path.take_socket().raw, stream.conv, path.answer_challenge)
        channel = UdpMessageChannel(path, stream, settings)
        channel.start()
    except BaseException:
        path.close()
        raise
    return channel


async def accept(stream: Stream, settings: UdpSettings, port: ServerPort) -> Channel:
    """Open the server's end: wait for the client's first datagram, and answer it."""
    path = await accept_path(stream, port)
    try:
        call = association.conv_call(stream.conv)
        channel = UdpMessageChannel(path, stream, settings, call)
        channel.start()
        with contextlib.suppress(OSError):  # a lost answer is asked for again
            path.take_socket().raw.send(call)
    except BaseException:
        path.close()
        raise
    return channel


class UdpMessageChannel(Channel):
    """One UDP stream at one end, which sends and receives. Owns `path`; does nothing before `start`.

    Parameters
    ----------
    call : the client's datagram that asks for the association, if this end answers repetitions of it
    """

    def __init__(self, path: DatagramPath, stream: Stream, settings: UdpSettings, call: bytes = b"") -> None:
        self._path, self._settings, self._call, self._sends = path, settings, call, stream.sends
        self._sock = path.take_socket().raw
        self._events = path.take_socket().events
        self._receive_into = receive_into(self._sock)
        self._into = memoryview(bytearray(GRO_BYTES))
        self._writer = StreamWorker(self._sock, self._translated)
        self._reader = StreamWorker(self._sock, self._translated)
        self._take: Callable[[memoryview], None] | None = None
        self._early: deque[bytes] = deque(maxlen=MOST_EARLY)
        self._handing = threading.Lock()
        self._rest = _NOTHING  # a datagram for which the kernel had no room yet
        self._sent = self._sent_bytes = self._received = self._received_bytes = 0
        self._heard_us: int | None = None
        self._is_closed = False

    def start(self) -> None:
        """Size the socket's buffers by -w, and read it from now on. Raises `TransportError`."""
        wanted = self._settings.window
        socket_of_path = self._path.take_socket()
        if wanted is not None and (given := min(socket_of_path.size_buffers(wanted))) < wanted:
            raise TransportError(f"the kernel allows a socket buffer of {given} bytes, not {wanted}")
        self._reader.start(READ, self._receive_share)

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def local_address(self) -> SocketAddress:
        return self._path.local_address

    @property
    def remote_address(self) -> SocketAddress:
        return self._path.remote_address

    @property
    def heard_us(self) -> int | None:
        return self._heard_us

    def signs(self, since_us: int) -> tuple[str, ...]:
        return tuple(sign.value for sign in self._events.since(since_us))

    def warnings(self) -> tuple[str, ...]:
        return self._events.warnings(str(plain(self.remote_address)[0]))

    def counters(self) -> dict[str, Value]:
        if self._sends:
            return {"bytes": self._sent_bytes, "datagrams_sent": self._sent}
        return {"bytes": self._received_bytes, "datagrams_received": self._received}

    def wire_bytes(self) -> tuple[int, int] | None:
        headers = headers_to(self.remote_address)
        sent = self._sent_bytes + self._sent * headers
        return sent, self._received_bytes + self._received * headers

    # ------------------------------------------------------------------ sending

    async def send(self, load: Load) -> None:
        await self._writer.run(WRITE, lambda: self._send_share(load))

    def wake(self) -> None:
        self._writer.wake()

    def _send_share(self, load: Load) -> int:
        """Send the datagrams that are due. Returns the time of the next visit. Raises `OSError`."""
        while True:
            if not len(self._rest):
                if wait_us := load.wait_us(now_us()):
                    return wait_us
                self._rest = load.take()
            code = self._error_of(self._rest)
            if code and datagram_sign(code) is Sign.NO_ROOM:
                return 0 if code in (errno.EAGAIN, errno.EWOULDBLOCK) else FULL_US
            if code:
                # The kernel reports an error about an earlier datagram once, in place of sending this one.
                code = self._error_of(self._rest)
            if not code:
                self._sent += 1
                self._sent_bytes += len(self._rest)
            elif consequence(datagram_sign(code), Moment.RUNNING) in (Consequence.END, Consequence.RESIZE):
                raise OSError(code, error_text(code))
            self._rest = _NOTHING  # what could not leave is lost, as on the path

    def _error_of(self, datagram: memoryview | bytes) -> int:
        """Send `datagram`. Returns 0 if it left, else the errno, which is noted."""
        try:
            self._sock.send(datagram)
        except OSError as error:
            code = error.errno or errno.EIO
            if datagram_sign(code) is not Sign.NO_ROOM:
                self._events.note(code)
            return code
        return 0

    # ------------------------------------------------------------------ receiving

    def keep(self, write: Callable[[memoryview], None]) -> None:
        # The peer may begin before this program does: the thread has read since the stream is open.
        with self._handing:
            self._take = write
            while self._early:
                write(memoryview(self._early.popleft()))

    async def receive(self) -> None:
        await self._reader.finished()

    def _receive_share(self) -> int:
        """Read what waits. Returns the time of the next visit. Raises `OSError`."""
        for _ in range(READS_PER_VISIT):
            try:
                size, ancillary, _, _ = self._receive_into([self._into], ANCILLARY_BYTES, NOT_WAITING)
            except BlockingIOError:
                return 0
            except OSError as error:  # about an earlier datagram
                sign = self._events.note(error.errno or errno.EIO)
                if consequence(sign, Moment.RUNNING) is Consequence.END:
                    raise
                continue
            self._heard_us = now_us()
            stride = size
            for level, kind, value in ancillary:
                if level == SOL_UDP and kind == UDP_GRO:
                    stride = int.from_bytes(value, sys.byteorder)
            for begin in range(0, size, max(1, stride)):
                self._take_datagram(self._into[begin : min(begin + stride, size)])
        return 0

    def _take_datagram(self, datagram: memoryview) -> None:
        if len(datagram) <= PROOF_BYTES:
            association.answer_again(self._sock, datagram, self._call)
            if proof := self._path.answer_challenge(bytes(datagram)):
                self._path.take_socket().send_now(proof)
            return
        self._received += 1
        self._received_bytes += len(datagram)
        with self._handing:
            if self._take is None:
                self._early.append(bytes(datagram))
            else:
                self._take(datagram)

    def _translated(self, error: OSError) -> TransportError:
        if error.errno == errno.EMSGSIZE:
            return StreamPathError("a datagram of this size does not fit the path: choose a smaller one")
        return StreamPathError(f"UDP to {named(self.remote_address)} failed: {error.strerror}")

    # ------------------------------------------------------------------ ending

    async def drain(self) -> None:
        while not self._writer.is_stopping and queued_bytes(self._sock):  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(DRAIN_POLL_S)

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._writer.stop()
        self._reader.stop()
        try:
            await self._writer.ended()
            await self._reader.ended()
        finally:
            self._path.close()
