"""A UDP stream that goes both ways: each block of a load is a datagram, and each datagram that arrives goes
to the writer of `keep`, without a header of iperf3's.

    thread       load -> _send_share -> socket                    wake(): the load has a block now
    thread       socket -> _receive_share -> writer of `keep`, and answers to calls and challenges

A call has 4 bytes, a part of the proof of an address 10: data has more than either (`Udp.block_limits`).
"""

from __future__ import annotations

import errno
import sys
import threading
from collections import deque
from collections.abc import Callable

from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import Load, Stream
from iperfpy.protocols.datagrams.address_proof import PROOF_BYTES
from iperfpy.protocols.datagrams.datagram_socket import GRO_BYTES
from iperfpy.protocols.datagrams.path_mtu import headers_to
from iperfpy.protocols.datagrams.peer_path import DatagramPath
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.operating_system import (
    ANCILLARY_BYTES,
    NOT_WAITING,
    SOL_UDP,
    UDP_GRO,
    error_text,
)
from iperfpy.protocols.path_events import Consequence, Moment, Sign, consequence, datagram_sign
from iperfpy.protocols.serving_thread import READ, WRITE
from iperfpy.protocols.stream_threads import StreamWorker
from iperfpy.protocols.udp import UdpSettings
from iperfpy.protocols.udp.udp_end import UdpEnd

READS_PER_VISIT = 64
"""Reads of a visit at most: other streams share the thread."""
FULL_US = 100
"""Pause after the device had no room (ENOBUFS), which no socket reports."""
MOST_EARLY = 64
"""Datagrams that are held until `keep` says where they go."""
_NOTHING = memoryview(b"")


class UdpMessageChannel(UdpEnd):
    """One UDP stream at one end, which sends and receives; parameters as `UdpEnd`'s."""

    def __init__(self, path: DatagramPath, stream: Stream, settings: UdpSettings, call: bytes = b"") -> None:
        super().__init__(path, stream, settings, call)
        self._sends = stream.sends
        self._into = memoryview(bytearray(GRO_BYTES))
        self._reader = StreamWorker(self._sock, self._translated)
        self._arrived = _Arrived()
        self._rest = _NOTHING  # a datagram for which the kernel had no room yet
        self._sent = self._sent_bytes = 0
        self._is_closed = False

    def _begin_reading(self) -> None:
        self._reader.start(READ, self._receive_share)

    def counters(self) -> dict[str, Value]:
        if self._sends:
            return {"bytes": self._sent_bytes, "datagrams_sent": self._sent}
        return {"bytes": self._arrived.bytes, "datagrams_received": self._arrived.datagrams}

    def wire_bytes(self) -> tuple[int, int] | None:
        headers = headers_to(self.remote_address)
        sent = self._sent_bytes + self._sent * headers
        return sent, self._arrived.bytes + self._arrived.datagrams * headers

    # ------------------------------------------------------------------ sending

    async def send(self, load: Load) -> None:
        await self._worker.run(WRITE, lambda: self._send_share(load))

    def wake(self) -> None:
        self._worker.wake()

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
                self._socket.events.note(code)
            return code
        return 0

    # ------------------------------------------------------------------ receiving

    def keep(self, write: Callable[[memoryview], None]) -> None:
        self._arrived.keep(write)

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
                sign = self._socket.events.note(error.errno or errno.EIO)
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
            self._answer_control(bytes(datagram))
        else:
            self._arrived.take(datagram)

    # ------------------------------------------------------------------ ending

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._worker.stop()
        self._reader.stop()
        try:
            await self._worker.ended()
            await self._reader.ended()
        finally:
            self._path.close()


class _Arrived:
    """Datagrams of data that arrived: counted, and held until `keep` says where they go. The peer may begin
    before this program does, and the thread reads from the moment the stream is open.

    Attributes
    ----------
    datagrams, bytes : all that arrived, and their payload
    """

    def __init__(self) -> None:
        self.datagrams = self.bytes = 0
        self._write: Callable[[memoryview], None] | None = None
        self._early: deque[bytes] = deque(maxlen=MOST_EARLY)
        self._lock = threading.Lock()

    def keep(self, write: Callable[[memoryview], None]) -> None:
        """Hand what is held, and what arrives from now on, to `write`. The event loop's thread calls this."""
        with self._lock:
            self._write = write
            while self._early:
                write(memoryview(self._early.popleft()))

    def take(self, datagram: memoryview) -> None:
        """Count a datagram and hand it on. The thread that reads calls this."""
        self.datagrams += 1
        self.bytes += len(datagram)
        with self._lock:
            if self._write is None:
                self._early.append(bytes(datagram))
            else:
                self._write(datagram)
