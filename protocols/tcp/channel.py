"""A TCP stream driven by a thread of its own (worker_thread.py).

    thread       load -> send(), sendfile() -> socket        or        socket -> recv_into() -> writer of -F
    event loop   counters(): the thread's byte counts and the kernel's TCP_INFO; stop by shutting down

The thread sits in blocking calls, where the interpreter lock is not held: a plain loop keeps up with C, and
the event loop has no turn per block.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from iperfpy.protocols import tcp_info
from iperfpy.protocols.addresses import named
from iperfpy.protocols.clock import now_us
from iperfpy.protocols.contract import Channel, Load, SocketAddress
from iperfpy.protocols.errors import StreamPathError, StreamPeerError, TransportError
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.operating_system import MSG_TRUNC, RESET_ON_CLOSE, block_until_shut_down
from iperfpy.protocols.socket_buffers import queued_bytes
from iperfpy.protocols.tcp import BULK_BYTES
from iperfpy.protocols.worker_thread import WorkerThread

if TYPE_CHECKING:
    from iperfpy.protocols.tcp import TcpSettings

DRAIN_POLL_S = (0.001, 0.02)
"""First and longest pause between two reads of the send queue, seconds."""
DRAIN_GROWTH = 1 / 16
"""Each pause is this fraction of the time waited so far, so the end of the drain is noticed at most 1/16
late."""

_PEER_GONE = {errno.ECONNRESET, errno.EPIPE, errno.ESHUTDOWN}


class TcpChannel(Channel):
    """One TCP connection, sending or receiving."""

    def __init__(self, sock: socket.socket, settings: TcpSettings, *, sends: bool) -> None:
        block_until_shut_down(sock)  # for the thread; the event loop never reads or writes it
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
        self._worker = WorkerThread(sock, "tcp", self._translated)
        self._accepted = 0  # bytes handed to the kernel, or taken from it
        self._offered = 0  # `_accepted` before the present block, and that whole block
        self._left_queue_bytes = 0  # the largest figure reported: it must not fall
        self._final: dict[str, Value] | None = None
        self._heard_us: int | None = None
        self._heard_bytes = 0  # payload of the peer, and own payload that it acknowledged, at that time
        before = tcp_info.read(sock)
        self._before = (before.first_sent_bytes or 0) + (before.notsent_bytes or 0)

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
            progress = (info.bytes_acked or 0) + (info.bytes_received or 0) or self._accepted
            if progress != self._heard_bytes:
                self._heard_bytes, self._heard_us = progress, now_us() - info.last_recv_us
        return self._heard_us

    # ------------------------------------------------------------------ counters

    def counters(self) -> dict[str, Value]:
        if self._final is not None:
            return dict(self._final)
        # The count is read before TCP_INFO, so that the kernel's figures are at least as new.
        accepted = self._accepted
        now = tcp_info.read(self._sock)
        return self._sender_record(accepted, now) if self._sends else self._receiver_record(now)

    def _sender_record(self, accepted: int, now: tcp_info.TcpInfo) -> dict[str, Value]:
        rate = now.delivery_rate
        return {
            "bytes": self._left_queue(accepted, now),
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
            "bytes": self._accepted,
            "rcv_rtt_us": now.rcv_rtt_us,
            "segments_received": now.data_segs_in,
            "out_of_order": now.rcv_ooopack,
        }

    def _left_queue(self, accepted: int, now: tcp_info.TcpInfo) -> int:
        """Bytes that have left the send queue.

        On a slow path one blocked `send` outlasts many intervals. Only the kernel then knows how much of the
        block it has taken: it is counted from TCP_INFO, at most up to the block's end.
        """
        left = accepted - (now.notsent_bytes or 0)
        if now.first_sent_bytes is not None:
            left = max(left, min(now.first_sent_bytes - self._before, self._offered))
        self._left_queue_bytes = max(self._left_queue_bytes, left)
        return self._left_queue_bytes

    # ------------------------------------------------------------------ carrying

    async def send(self, load: Load) -> None:
        await self._worker.run(lambda: self._send_all(load))

    async def receive(self) -> None:
        await self._worker.run(self._receive_all)

    def _send_all(self, load: Load) -> None:
        with contextlib.ExitStack() as stack:
            send = stack.enter_context(_SendFile(self._sock)).send if self._zerocopy else self._sock.send
            stopping = self._worker.stopping
            while not stopping.is_set():
                wait_us = load.wait_us(now_us())
                if wait_us < 0:
                    return
                if wait_us:
                    stopping.wait(wait_us / 1e6)
                    continue
                block = load.take()
                # Before the send, which may block for seconds: `_left_queue` counts up to this bound.
                self._offered = self._accepted + len(block)
                while len(block):
                    try:
                        sent = send(block)
                    except TimeoutError as error:
                        if error.errno is not None or stopping.is_set():
                            raise
                        continue
                    self._accepted += sent
                    block = block[sent:]

    def keep(self, write: Callable[[memoryview], None]) -> None:
        self._keep = write
        self._receive_flags = 0  # MSG_TRUNC would discard the payload in the kernel

    def _receive_all(self) -> None:
        buffer, keep = bytearray(BULK_BYTES), self._keep
        view, receive_into, flags = memoryview(buffer), self._sock.recv_into, self._receive_flags
        try:
            while True:
                try:
                    size = receive_into(buffer, BULK_BYTES, flags)
                except TimeoutError as error:
                    if error.errno is not None or self._worker.stopping.is_set():
                        raise
                    continue
                if not size:
                    return
                self._accepted += size
                if keep is not None:
                    keep(view[:size])
        except ConnectionResetError:
            # A peer that closes with unread data, or drops its send queue, ends the connection so.
            return

    def _translated(self, error: OSError) -> TransportError:
        name = named(self._remote)
        if error.errno in _PEER_GONE:
            return StreamPeerError(f"{name} closed the connection")
        return StreamPathError(f"the connection to {name} failed: {error.strerror}")

    # ------------------------------------------------------------------ ending

    async def drain(self) -> None:
        shortest_s, longest_s = DRAIN_POLL_S
        began_s = time.monotonic()
        while not self._worker.stopping.is_set() and queued_bytes(self._sock):
            if tcp_info.read(self._sock).state == tcp_info.CLOSED:
                raise StreamPeerError(f"{named(self._remote)} closed the connection with data on the way")
            waited_s = time.monotonic() - began_s
            await asyncio.sleep(min(shortest_s + DRAIN_GROWTH * waited_s, longest_s))

    async def close(self) -> None:
        if self._final is not None:
            return
        self._final = self.counters()
        if self._sends and queued_bytes(self._sock):
            # A close without `drain` ends the test: the queued data must not load the path any longer.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._worker.stop()
        try:
            await self._worker.ended()
        finally:
            self._sock.close()


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
