"""A UDP stream driven by a thread of its own.

The thread sits in blocking `send` or `recvmsg`, where the interpreter lock is not held, and moves up to 64
datagrams with one call; the event loop's thread only reads counters. A receiver's thread runs from the
moment the stream is open: the sender may begin before the program knows that the test does.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Callable

from iperfpy.protocols.contract import Channel, ClientPort, Load, ServerPort, SocketAddress, Stream
from iperfpy.protocols.datagrams.arrival_time import arrived_us, ask_for_stamps
from iperfpy.protocols.datagrams.datagram_socket import SOL_UDP, UDP_SEGMENT, offload_forbidden, offload_of
from iperfpy.protocols.datagrams.peer_path import ConnectedPath, DatagramPath
from iperfpy.protocols.datagrams.server_port import shared_udp
from iperfpy.protocols.errors import PathError, PeerError, TransportError
from iperfpy.protocols.metrics import Value
from iperfpy.protocols.udp import UdpSettings, association, echo
from iperfpy.protocols.udp.packets import Outgoing
from iperfpy.protocols.udp.reader import DatagramReader
from iperfpy.protocols.udp.reception import Reception

DEFAULT_BLOCK_BYTES = 1400
RECEIVE_BUFFER_BYTES = 4 << 20
"""Room for what comes while the reader is busy: the path is measured, not the reader."""
BLOCKED_S = 0.25
"""A thread that is blocked in the kernel looks up so often, should nothing else wake it."""
NAP_US = 2_000
"""Shorter waits are slept through; longer ones end when the channel is closed."""
CROWDED_S = 0.000_1
"""After the device had no room: its queue moves on soon."""
DRAIN_POLL_S = 0.002
READS_PER_WAKE, ANCILLARY_BYTES = 8, 128

_UNSEGMENTED = {errno.EINVAL, errno.EIO, errno.EMSGSIZE}
_FILTERED = {errno.EPERM, errno.EACCES}
_REFUSED = {errno.ECONNREFUSED, errno.ECONNRESET}
_AT_ONCE = getattr(socket, "MSG_DONTWAIT", 0)
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO = 10, 23, 2


async def connect(stream: Stream, settings: UdpSettings, port: ClientPort) -> Channel:
    """The client's end, associated. Waits without limit: the caller sets the deadline."""
    path = ConnectedPath.open(port.remote, port.local(stream), prepare=port.prepare)
    try:
        await association.call(path.take_socket().raw, stream.conv)
        return UdpChannel(path, stream, settings)
    except BaseException:
        path.close()
        raise


async def accept(stream: Stream, settings: UdpSettings, port: ServerPort) -> Channel:
    """The server's end, once the client's first datagram has come, and been answered."""
    shared = shared_udp(port)
    if stream.conv:
        path = await shared.accept(stream.conv)
    else:
        path = await shared.accept_from(str(port.client[0]), association.ANSWERS.__contains__)
    try:
        call = association.conv_call(stream.conv) if stream.conv else b""
        channel = UdpChannel(path, stream, settings, call)
        channel.answer(call or association.ANSWERS[path.opening])
    except BaseException:
        path.close()
        raise
    return channel


class UdpChannel(Channel):
    """One UDP stream at one end, sending or receiving. Owns `path`.

    Parameters
    ----------
    call : what the other end says to associate, when it is this end's task to answer; else empty
    """

    def __init__(self, path: DatagramPath, stream: Stream, settings: UdpSettings, call: bytes = b"") -> None:
        self._path = path
        taken = path.take_socket()
        self._sock = taken.raw
        self._sends = stream.sends
        self._call = call
        self._conv = 0 if settings.no_rtt else stream.conv
        self._refusal: OSError | None = None  # heard by the event loop's thread, for the one that sends
        self._prober = echo.Prober(stream.conv) if self._sends and self._conv else None
        self._settings = settings
        self._block_bytes = stream.block_bytes or DEFAULT_BLOCK_BYTES
        self._loop = asyncio.get_running_loop()
        self._closing = threading.Event()
        self._worker: asyncio.Future[None] | None = None
        self._final: dict[str, Value] | None = None
        self._sent_rest = 0  # bytes of the short datagram at the end
        self._filtered = 0
        self._reception = Reception(wide=settings.wide_counters)
        self._local, self._remote = path.local_address, path.remote_address
        self._prepare(taken.size_buffers, taken.size_receive_buffer)
        self._outgoing: Outgoing | None = None
        if self._sends:
            self._outgoing = Outgoing(
                self._block_bytes, wide=settings.wide_counters, repeating=settings.repeating_payload
            )
            ask_for_stamps(self._sock)
            self._loop.add_reader(self._sock.fileno(), self._listen)
        else:
            self._start(self._receive_all)

    def _prepare(
        self, size_both: Callable[[int], tuple[int, int]], size_receive: Callable[[int], int]
    ) -> None:
        wanted = self._settings.window
        if wanted is None:
            size_receive(RECEIVE_BUFFER_BYTES)
        elif (given := min(size_both(wanted))) < wanted:
            raise TransportError(
                f"the kernel allows a socket buffer of {given} bytes, not {wanted}"
                " (see sysctl net.core.rmem_max and net.core.wmem_max)"
            )
        if self._settings.dont_fragment:
            _forbid_fragments(self._sock)

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def local_address(self) -> SocketAddress:
        return self._local

    @property
    def remote_address(self) -> SocketAddress:
        return self._remote

    # ------------------------------------------------------------------ counters

    def counters(self) -> dict[str, Value]:
        if self._final is not None:
            return dict(self._final)
        if self._sends:
            rest_bytes, datagrams = self._sent_rest, self._outgoing.sent if self._outgoing else 0
            return {
                "bytes": datagrams * self._block_bytes + rest_bytes,
                "datagrams_sent": datagrams + (rest_bytes > 0),
                "rtt_us": self._prober.rtt_us(_now_us()) if self._prober else None,
                "filtered_datagrams": self._filtered,
            }
        tally = self._reception.tally
        return {
            "bytes": tally.bytes,
            "jitter_us": tally.jitter_us,
            "lost_datagrams": tally.lost,
            "datagrams_numbered": tally.highest,
            "late_datagrams": tally.late,
            "duplicate_datagrams": tally.duplicates,
            "datagrams_received": tally.datagrams,
        }

    # ------------------------------------------------------------------ sending

    async def send(self, load: Load) -> None:
        if self._closing.is_set():
            return
        outgoing = self._outgoing
        assert outgoing is not None, "this end receives"
        await self._finished(self._start(lambda: self._send_all(load, outgoing)))

    def _send_all(self, load: Load, outgoing: Outgoing) -> None:
        """Whole datagrams, as many at once as the load and the kernel allow; at the load's end a shorter one
        for what is left, if that holds a header."""
        self._refusal = None
        run, prober = self._longest_run(outgoing), self._prober
        block_bytes, credit, closing = outgoing.block_bytes, 0, self._closing
        run_bytes = run * block_bytes
        while not closing.is_set():
            wait_us, now_us = 0, time.monotonic_ns() // 1000
            if self._refusal is not None:
                raise self._refusal
            if prober is not None and now_us >= prober.next_us:
                self._probe(prober, now_us)
            while credit < run_bytes and not wait_us:
                wait_us = load.wait_us(now_us)
                if not wait_us:
                    credit += len(load.take())
            if credit >= block_bytes:
                credit -= block_bytes * self._emit(outgoing, min(run, credit // block_bytes), now_us)
            elif wait_us < 0:
                self._emit_rest(outgoing, credit)
                return
            elif wait_us < NAP_US:
                time.sleep(wait_us / 1e6)
            else:
                closing.wait(wait_us / 1e6)

    def _longest_run(self, outgoing: Outgoing) -> int:
        """How many datagrams to hand over at once: more than one where the kernel cuts them apart."""
        if offload_forbidden() or not offload_of(self._sock.family)[0]:
            return 1
        return outgoing.longest_run if self._segment(outgoing.block_bytes) else 1

    def _segment(self, block_bytes: int) -> bool:
        try:
            self._sock.setsockopt(SOL_UDP, UDP_SEGMENT, block_bytes)
        except OSError:
            return False
        self._segments = block_bytes > 0
        return True

    _segments = False

    def _emit(self, outgoing: Outgoing, count: int, now_us: int) -> int:
        """Hand over at most `count` datagrams; how many left."""
        view = outgoing.stamp(count, now_us)
        count = len(view) // outgoing.block_bytes
        if count > 1 and not self._segments:
            view, count = view[: outgoing.block_bytes], 1
        try:
            self._sock.send(view)
        except OSError as error:
            count = self._after(error, count)
        outgoing.advance(count)
        return count

    def _emit_rest(self, outgoing: Outgoing, size: int) -> None:
        if size < self._settings.header_bytes:
            return
        view = outgoing.stamp(1, _now_us())[:size]
        with contextlib.suppress(BlockingIOError):
            self._sock.send(view)
            self._sent_rest = size

    def _probe(self, prober: echo.Prober, now_us: int) -> None:
        """Ask for an echo. What it waits for room in this socket is not the path's."""
        probe = prober.probe(now_us)
        with contextlib.suppress(OSError):  # what happened to datagrams before it; data meets that as well
            try:
                self._sock.send(probe, _AT_ONCE)
            except BlockingIOError:
                self._sock.send(probe)
                prober.delayed(_now_us())

    def _after(self, error: OSError, count: int) -> int:
        """How many of `count` datagrams are gone for good after an error of `send`; none: try again."""
        code = error.errno or errno.EIO
        if code in _FILTERED:
            self._filtered += count
            return count
        if code == errno.ENOBUFS:
            time.sleep(CROWDED_S)
        elif self._segments and code in _UNSEGMENTED:
            self._segment(0)  # beyond the interface's MTU, where IP may still fragment
        elif code not in (errno.EAGAIN, errno.EINTR):
            raise error
        return 0

    # ------------------------------------------------------------------ receiving

    async def receive(self) -> None:
        if self._worker is not None:
            await self._finished(self._worker)

    def _receive_all(self) -> None:
        inbox = DatagramReader(self._sock, self._reception, wide=self._settings.wide_counters)
        while not self._closing.is_set():
            if said := inbox.take():
                self._reply(said.data, said.held_us)
            elif self.first_data_us is None and self._reception.tally.datagrams:
                self.first_data_us = time.monotonic_ns() // 1000

    def answer(self, message: bytes) -> None:
        """Confirm the association. When that is lost, the client asks again."""
        with contextlib.suppress(OSError):
            self._sock.send(message)

    def _reply(self, said: bytes, held_us: float) -> None:
        """To a call, because the answer to it was lost, and to a probe. To nothing else."""
        association.answer_again(self._sock, said, self._call)
        if answer := echo.answer(said, self._conv, held_us):
            with contextlib.suppress(OSError):
                self._sock.send(answer, _AT_ONCE)

    def _listen(self) -> None:
        """A sender hears echoes, and calls: a client that is sent to asks again until the data comes."""
        for _ in range(READS_PER_WAKE):
            try:
                said, ancillary, _, _ = self._sock.recvmsg(echo.ECHO_BYTES + 1, ANCILLARY_BYTES, _AT_ONCE)
            except OSError as error:  # nothing more, or what was reported about something that was sent
                if error.errno in _REFUSED:
                    self._refusal = error
                return
            if self._prober is not None:
                self._prober.hear(said, arrived_us(ancillary))
            association.answer_again(self._sock, said, self._call)

    # ------------------------------------------------------------------ the thread

    def _start(self, work: Callable[[], None]) -> asyncio.Future[None]:
        """Run `work` in a thread of its own; its socket errors become ours, or nothing while closing."""
        loop = self._loop
        worker = self._worker = loop.create_future()
        _block(self._sock)

        def finish(error: BaseException | None) -> None:
            if not worker.done():
                worker.set_exception(error) if error is not None else worker.set_result(None)
                worker.exception()  # seen: nobody may wait for it any more

        def run() -> None:
            error: BaseException | None = None
            try:
                work()
            except OSError as failure:
                error = None if self._closing.is_set() else self._translated(failure)
            except BaseException as failure:
                error = failure
            with contextlib.suppress(RuntimeError):  # the loop was closed before the thread ended
                loop.call_soon_threadsafe(finish, error)

        threading.Thread(target=run, name=f"udp-{self.fileno()}", daemon=True).start()
        return worker

    async def _finished(self, worker: asyncio.Future[None]) -> None:
        try:
            await asyncio.shield(worker)
        except asyncio.CancelledError:
            self._stop_thread()
            raise

    def _translated(self, error: OSError) -> TransportError:
        name = f"{self._remote[0]} port {self._remote[1]}"
        if error.errno in _REFUSED:
            return PeerError(f"{name} refuses UDP datagrams: nothing listens there any more")
        if error.errno == errno.EMSGSIZE:
            return PathError(
                f"a datagram of {self._block_bytes} bytes does not fit the path: choose a shorter block (-l)"
            )
        return PathError(f"UDP to {name} failed: {error.strerror}")

    # ------------------------------------------------------------------ ending

    async def drain(self) -> None:
        """Nobody acknowledges anything: until this machine has nothing left to transmit."""
        while not self._closing.is_set() and _queued_bytes(self._sock):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(DRAIN_POLL_S)

    async def close(self) -> None:
        if self._final is not None:
            return
        self._final = self.counters()
        self._loop.remove_reader(self._sock.fileno())
        self._stop_thread()
        try:
            if self._worker is not None:
                await asyncio.wait({self._worker})
        finally:
            self._path.close()

    def _stop_thread(self) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):  # nothing is blocked in it
            self._sock.shutdown(socket.SHUT_RDWR)


def _now_us() -> int:
    return time.monotonic_ns() // 1000


def _block(sock: socket.socket) -> None:
    """For a thread that may wait, but not for ever."""
    if os.name != "posix":
        sock.settimeout(BLOCKED_S)
        return
    sock.setblocking(True)
    limit = struct.pack("ll", 0, int(BLOCKED_S * 1e6))  # struct timeval
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _forbid_fragments(sock: socket.socket) -> None:
    """Raise `TransportError` where the system cannot."""
    if sock.family == socket.AF_INET6:
        level, option = socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER
    else:
        level, option = socket.IPPROTO_IP, IP_MTU_DISCOVER
    try:
        sock.setsockopt(level, option, PMTUDISC_DO)
    except OSError as error:
        raise TransportError(f"fragments cannot be forbidden here: {error.strerror}") from error


def _queued_bytes(sock: socket.socket) -> int:
    """What waits in this machine, with the kernel's bookkeeping; 0 where the system does not say."""
    try:
        import fcntl
        import termios

        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    except (ImportError, OSError):
        return 0
    return int(struct.unpack("=i", answer)[0])
