"""A TCP stream, visited by a thread that serves several streams in turn (stream_threads.py).

    thread       load -> send(), sendfile() -> socket        or        socket -> recv_into() -> writer of -F
    event loop   counters(): the thread's byte counts and the kernel's TCP_INFO

The thread spends its time in system calls of up to 1 MiB, where the interpreter lock is not held: it keeps up
with C, and the event loop has no turn per block.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import IO, TYPE_CHECKING

from iperfpy.protocols import tcp_info
from iperfpy.protocols.addresses import named, plain_host
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import Channel, Load, SocketAddress
from iperfpy.protocols.errors import StreamPathError, StreamPeerError, TransportError
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.operating_system import MSG_TRUNC, RESET_ON_CLOSE
from iperfpy.protocols.path_evidence import PathEvidence
from iperfpy.protocols.serving_thread import READ, WRITE
from iperfpy.protocols.socket_buffers import queued_bytes
from iperfpy.protocols.stream_threads import StreamWorker
from iperfpy.protocols.tcp import BULK_BYTES
from iperfpy.protocols.tcp.path_samples import PathSamples

if TYPE_CHECKING:
    from iperfpy.protocols.tcp import TcpSettings

DRAIN_POLL_S = (0.001, 0.02)
"""First and longest pause between two reads of the send queue, seconds."""
DRAIN_GROWTH = 1 / 16
"""Each pause is this fraction of the time waited so far, so the end of the drain is noticed at most 1/16
late."""

VISIT_US = 2_000
"""A visit of a sender ends after `BULK_BYTES`, or after this time if its blocks are short."""
_NOTHING = memoryview(b"")

_PEER_GONE = {errno.ECONNRESET, errno.EPIPE, errno.ESHUTDOWN}


class TcpChannel(Channel):
    """One TCP connection, sending or receiving, or both at once."""

    def __init__(
        self, sock: socket.socket, settings: TcpSettings, *, sends: bool, both_ways: bool = False
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._sends = sends
        self._zerocopy = settings.zerocopy and hasattr(os, "sendfile")
        self._receive_flags = MSG_TRUNC if settings.skip_rx_copy else 0
        self._local: SocketAddress = sock.getsockname()
        try:
            self._remote: SocketAddress = sock.getpeername()
        except OSError as error:
            raise StreamPeerError("the peer closed a data connection at once") from error
        self._congestion = tcp_info.congestion_control_of(sock)
        self._keep: Callable[[memoryview], None] | None = None
        self._worker = StreamWorker(sock, self._translated)
        # A stream that goes both ways is read by a thread of its own, which the load does not hold up.
        self._reader = StreamWorker(sock, self._translated) if both_ways else self._worker
        self._rest = _NOTHING  # of the present block, for which the kernel had no room yet
        self._received = 0  # bytes taken from the kernel
        self._final: dict[str, Value] | None = None
        # Time of the latest progress, and payload of the peer and own payload acknowledged by then.
        self._heard: tuple[int | None, int] = None, 0
        self._samples = PathSamples(ipv6=":" in plain_host(self._remote[0]))
        before = tcp_info.read(sock)
        self._wire = _WireBytes(sock, before, ipv6=":" in plain_host(self._remote[0]))
        self._handed = _HandedBytes(before)

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def local_address(self) -> SocketAddress:
        return self._local

    @property
    def remote_address(self) -> SocketAddress:
        return self._remote

    @property
    def heard_us(self) -> int | None:
        # Only progress counts: the kernel of a peer that hangs goes on to answer window probes.
        if self._final is None:
            info = tcp_info.read(self._sock)
            # Without TCP_INFO, bytes that the kernel took or gave: it takes no more than a buffer in silence.
            progress = (info.bytes_acked or 0) + (info.bytes_received or 0)
            progress = progress or self._handed.accepted + self._received
            if progress != self._heard[1]:
                self._heard = now_us() - info.last_recv_us, progress
        return self._heard[0]

    # ------------------------------------------------------------------ counters

    def counters(self) -> dict[str, Value]:
        if self._final is not None:
            return dict(self._final)
        # The count is read before TCP_INFO, so that the kernel's figures are at least as new.
        accepted = self._handed.accepted
        now = tcp_info.read(self._sock)
        if not self._sends:
            return self._receiver_record(now)
        self._samples.take(now, now_us())
        return self._sender_record(accepted, now)

    def wire_bytes(self) -> tuple[int, int] | None:
        return self._wire.read()

    def evidence(self) -> PathEvidence | None:
        if not self._sends or self._final is not None:
            return None
        return self._samples.evidence(tcp_info.read(self._sock), now_us())

    def _sender_record(self, accepted: int, now: tcp_info.TcpInfo) -> dict[str, Value]:
        rate = now.delivery_rate
        return {
            "bytes": self._handed.left_queue(accepted, now),
            "rtt_us": now.rtt_us,
            "retransmits": now.total_retrans,
            "snd_cwnd_bytes": now.cwnd_bytes,
            "segments_sent": now.data_segs_out,
            "retransmitted_bytes": now.bytes_retrans,
            "lost_segments": now.lost,
            "reorder": now.reord_seen,
            # Before the first sample the kernel gives an initial variation, which measures nothing.
            "rttvar_us": now.rttvar_us if now.rtt_us is not None else None,
            "min_rtt_us": now.min_rtt_us,
            "snd_wnd_bytes": now.snd_wnd,
            "pmtu_bytes": now.pmtu,
            "delivery_bits_per_second": rate * 8 if rate else None,
            "notsent_bytes": now.notsent_bytes,
            "queue_us": now.queue_us,
            "busy_us": now.busy_us,
            "rwnd_limited_us": now.rwnd_limited_us,
            "sndbuf_limited_us": now.sndbuf_limited_us,
            "congestion": self._congestion,
        }

    def _receiver_record(self, now: tcp_info.TcpInfo) -> dict[str, Value]:
        return {
            "bytes": self._received,
            "rcv_rtt_us": now.rcv_rtt_us,
            "segments_received": now.data_segs_in,
            "out_of_order": now.rcv_ooopack,
        }

    # ------------------------------------------------------------------ carrying

    async def send(self, load: Load) -> None:
        self._samples.begin(tcp_info.read(self._sock), now_us())
        with contextlib.ExitStack() as stack:
            send = stack.enter_context(_SendFile(self._sock)).send if self._zerocopy else self._sock.send
            await self._worker.run(WRITE, partial(self._send_share, load, send), alone=load.may_block)

    async def receive(self) -> None:
        alone = self._keep is not None and self._reader is self._worker  # a file may wait for its disk
        await self._reader.run(READ, self._receive_share, alone=alone)

    def wake(self) -> None:
        self._worker.wake()

    def _send_share(self, load: Load, send: Callable[[memoryview], int]) -> int:
        """Send about `BULK_BYTES`, as far as there is room. Returns the time of the next visit."""
        block, left_bytes, waits = self._rest, BULK_BYTES, self._samples.waits
        began_us = now = now_us()
        while left_bytes > 0 and now - began_us < VISIT_US:
            if not len(block):
                wait_us = load.wait_us(now)
                if wait_us < 0:  # there is no more: the rest of the time is that of the path
                    waits.end(now)
                elif wait_us or load.may_block:  # a file may hold up the call itself
                    waits.begin(now)
                if wait_us:
                    return wait_us
                block = load.take()
                waits.end(now_us() if load.may_block else now)
                # Before the send, a part of which may leave at once: `left_queue` counts up to this bound.
                self._handed.offered = self._handed.accepted + len(block)
            try:
                sent = send(block)
            except BlockingIOError:
                sent = 0
            self._handed.accepted += sent
            self._rest = block = block[sent:]
            if len(block):
                return 0  # no room
            left_bytes -= sent
            now = now_us()
        return 0

    def keep(self, write: Callable[[memoryview], None]) -> None:
        self._keep = write
        self._receive_flags = 0  # MSG_TRUNC would discard the payload in the kernel

    def _receive_share(self) -> int:
        """Read once, at most `BULK_BYTES`. Returns the time of the next visit."""
        buffer = _incoming.buffer
        try:
            size = self._sock.recv_into(buffer, BULK_BYTES, self._receive_flags)
        except BlockingIOError:
            return 0
        except ConnectionResetError:
            # A peer that closes with unread data, or drops its send queue, ends the connection so.
            return -1
        if not size:
            return -1
        self._received += size
        if self._keep is not None:
            self._keep(memoryview(buffer)[:size])
        return 0

    def _translated(self, error: OSError) -> TransportError:
        name = named(self._remote)
        if error.errno in _PEER_GONE:
            return StreamPeerError(f"{name} closed the connection")
        return StreamPathError(f"the connection to {name} failed: {error.strerror}")

    # ------------------------------------------------------------------ ending

    async def drain(self) -> None:
        shortest_s, longest_s = DRAIN_POLL_S
        began_s = time.monotonic()
        while not self._worker.is_stopping and queued_bytes(self._sock):
            if tcp_info.read(self._sock).state == tcp_info.CLOSED:
                raise StreamPeerError(f"{named(self._remote)} closed the connection with data on the way")
            waited_s = time.monotonic() - began_s
            await asyncio.sleep(min(shortest_s + DRAIN_GROWTH * waited_s, longest_s))

    async def close(self) -> None:
        if self._final is not None:
            return
        self._wire.freeze()
        self._final = self.counters()
        if self._sends and queued_bytes(self._sock):
            # A close without `drain` ends the test: the queued data must not load the path any longer.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._worker.stop()
        self._reader.stop()
        try:
            await self._worker.ended()
            await self._reader.ended()
        finally:
            self._sock.close()


class _HandedBytes:
    """Payload of a sender between the load and the network.

    Parameters
    ----------
    before : the kernel's figures before the first payload

    Attributes
    ----------
    accepted : bytes handed to the kernel; written by the thread that sends only
    offered : `accepted` before the present block, and that whole block
    """

    __slots__ = ("_before", "_reported", "accepted", "offered")

    def __init__(self, before: tcp_info.TcpInfo) -> None:
        self.accepted = self.offered = 0
        self._before = (before.first_sent_bytes or 0) + (before.notsent_bytes or 0)
        self._reported = 0  # the largest figure reported: it must not fall

    def left_queue(self, accepted: int, now: tcp_info.TcpInfo) -> int:
        """Bytes that have left the send queue.

        The thread counts a `send` when it returns. A part of its bytes may have left before: the kernel knows
        how many. They are counted from TCP_INFO, at most up to the end of the present block.

        Parameters
        ----------
        accepted : the count before `now` was read
        """
        left = accepted - (now.notsent_bytes or 0)
        if now.first_sent_bytes is not None:
            left = max(left, min(now.first_sent_bytes - self._before, self.offered))
        self._reported = max(self._reported, left)
        return self._reported


class _WireBytes:
    """IP bytes of a connection since it carries the stream: its handshake and cookie came before."""

    def __init__(self, sock: socket.socket, before: tcp_info.TcpInfo, *, ipv6: bool) -> None:
        self._sock, self._ipv6 = sock, ipv6
        self._before = before.wire_bytes(ipv6=ipv6) or (0, 0)
        self._final: tuple[tuple[int, int] | None] | None = None

    def read(self) -> tuple[int, int] | None:
        """(sent, received); None if the system does not tell."""
        if self._final is not None:
            return self._final[0]
        wire = tcp_info.read(self._sock).wire_bytes(ipv6=self._ipv6)
        return None if wire is None else (wire[0] - self._before[0], wire[1] - self._before[1])

    def freeze(self) -> None:
        """Keep the present figures: the socket is about to be closed."""
        self._final = (self.read(),)


class _Incoming(threading.local):
    """The buffer into which a thread reads, for all its streams: it stays in the processor's cache."""

    def __init__(self) -> None:
        self.buffer = bytearray(BULK_BYTES)


_incoming = _Incoming()


class _SendFile:
    """Sends blocks with sendfile from a file that holds the first of them: nothing is copied from the
    process."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket_fd = sock.fileno()

    def __enter__(self) -> _SendFile:
        self._file = _nameless_file()
        self._size = 0
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def send(self, block: memoryview) -> int:
        if len(block) > self._size:
            self._file.seek(0)
            self._file.write(block)
            self._file.flush()
            self._size = len(block)
        return os.sendfile(self._socket_fd, self._file.fileno(), 0, len(block))


def _nameless_file() -> IO[bytes]:
    """A temporary file: in memory where the system has that, because no folder may be writable."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("iperfpy"), "w+b")
    import tempfile  # slow to import, and seldom needed

    return tempfile.TemporaryFile()
