"""One UDP socket that sends and receives many datagrams with one system call.

    send(batch)   GSO batch: one buffer of equal datagrams; the kernel splits it    (UDP_SEGMENT, Linux 4.18)
    receive()     GRO batch: equal datagrams that the kernel joined in one buffer   (UDP_GRO, Linux 5.0)

Both are probed once per process and address family. Without them (another system, an older kernel,
`offload=False`, or the environment variable IPERFPY_NO_OFFLOAD) the same methods move one datagram per system
call. `udp/sender.py` sends GSO batches as well, of one size that it sets as a socket option.

An error about one datagram raises nothing here: it is counted in `events` (path_events.py), and `check`
raises it for a caller that has not heard its peer yet. A datagram that this machine drops (no route, packet
filter, full queue) counts as sent, as if the path had lost it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from functools import cache
from types import TracebackType
from typing import Self

import numpy as np

from iperfpy.protocols.addresses import MAPPED, family_of, named, plain_host
from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.datagrams.arrival_time import split_off_stamp
from iperfpy.protocols.datagrams.batch import MAX_BYTES, MAX_DATAGRAMS, DatagramBatch
from iperfpy.protocols.datagrams.path_mtu import DatagramSizes
from iperfpy.protocols.errors import StreamPathError, StreamPeerError, TransportError
from iperfpy.protocols.operating_system import (
    ABSENT,
    ANCILLARY_BYTES,
    IP_PKTINFO,
    IP_RECVDSTADDR,
    IP_RECVPKTINFO,
    IPV6_PKTINFO,
    IPV6_RECVPKTINFO,
    NOT_WAITING,
    SOL_UDP,
    UDP_GRO,
    UDP_SEGMENT,
    can_share_ports,
    error_text,
    keep_port,
    local_name,
    receive_into,
    send_message,
    share_port,
)
from iperfpy.protocols.path_events import Consequence, Moment, PathEvents, Sign, consequence, datagram_sign
from iperfpy.protocols.socket_buffers import set_buffer_size
from iperfpy.protocols.system_reasons import system_reason

GRO_BYTES = 65_536
"""Room for one GRO batch: it never exceeds the length field of IP, 65,535 bytes."""
RECEIVE_BYTES = 4 * GRO_BYTES
"""Room for one gathered batch: GRO batches of one size are joined while a whole one more still fits."""
MOST_GATHERED = 1024
"""Datagrams in a batch beyond which no more are gathered."""

ANY_ADDRESS = ("::", "0.0.0.0")
"""The addresses of a socket that is bound to none in particular."""
_SEGMENT = struct.Struct("=H")

MOST_ERRORS = 64
"""Errors that one `receive` takes in place of datagrams, so that an error that lasts cannot hold the loop."""
_LOST = {Sign.REFUSED, Sign.UNREACHABLE, Sign.FILTERED, Sign.NO_ROOM}
"""Signs after which a datagram counts as sent, however many the call had: no other size would help."""


@cache
def offload_of(family: int) -> tuple[bool, bool]:
    """(GSO, GRO): True where the kernel has it for an address family. It is asked once."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        return _accepts(probe, UDP_SEGMENT, 0), _accepts(probe, UDP_GRO, 1)


def offload_forbidden() -> bool:
    """True if IPERFPY_NO_OFFLOAD is set to anything but 0."""
    return os.environ.get("IPERFPY_NO_OFFLOAD", "0") not in ("", "0")


class DatagramSocket:
    """A non-blocking UDP socket, IPv4 or IPv6, that speaks `DatagramBatch`.

    Attributes
    ----------
    stamped, stamp : bool, bytes
        True if the kernel stamps arrivals (arrival_time.py), and the stamp of the batch read last.
    events : PathEvents
        The errors that the kernel reported about datagrams.
    sizes : DatagramSizes
        The kernel's part in finding the size of datagrams.
    reports_destination : bool
        True if the kernel reports the local address that each datagram was sent to.
    emptied : bool
        True if the last `receive` emptied the queue: calling it again now would be in vain.
    """

    def __init__(self, sock: socket.socket, *, offload: bool = True) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._receive_into, self._send_message = receive_into(sock), send_message(sock)
        gso, gro = offload_of(sock.family) if offload and not offload_forbidden() else (False, False)
        if gro:
            sock.setsockopt(SOL_UDP, UDP_GRO, 1)
        self._gso_bytes = (
            0xFFFF if gso else 0
        )  # longest datagram that the kernel did not refuse in a GSO batch
        self._ancillary: dict[int, list[tuple[int, int, bytes]]] = {}
        self._buffer = bytearray(RECEIVE_BYTES)
        self._into = [memoryview(self._buffer)[:GRO_BYTES]]
        self._read_ahead: tuple[int, int, int, SocketAddress] | None = None
        self.stamped, self.stamp = False, b""
        self._view = np.frombuffer(self._buffer, np.uint8)
        self.emptied = False
        self.events = PathEvents()
        self.sizes = DatagramSizes(sock, one_per_call=not gso)
        self.reports_destination = False
        self.local_address: SocketAddress = local_name(sock)
        self.remote_address: SocketAddress | None = None

    @classmethod
    def connected(
        cls,
        remote: SocketAddress,
        local: SocketAddress | None = None,
        *,
        reuse: bool = False,
        offload: bool = True,
        prepare: Callable[[socket.socket], None] | None = None,
    ) -> Self:
        """Make a socket that exchanges datagrams with `remote` only, bound to `local` if given. `prepare`
        sees it before it is bound.

        Raises
        ------
        TransportError
            When `local` is not available.
        StreamPathError
            When there is no route to `remote`.
        """
        sock = udp_socket(family_of(remote), local, reuse, prepare)
        made = cls(sock, offload=offload)
        made.connect(remote)
        return made

    @classmethod
    def bound(cls, local: SocketAddress, reuse: bool = True, *, offload: bool = True) -> Self:
        """Make a socket that receives from every sender at `local`. With `reuse`, other sockets may share the
        port, and one that is connected to a peer gets that peer's datagrams; without, a port in use is an
        error.

        Raises
        ------
        TransportError
            When `local` is not available.
        """
        return cls(udp_socket(family_of(local), local, reuse), offload=offload)

    def connect(self, remote: SocketAddress) -> None:
        """Exchange datagrams with `remote` only from now on. Datagrams already queued are still received.

        Raises
        ------
        StreamPathError
            When there is no route to `remote`.
        """
        try:
            self._sock.connect(remote)
        except OSError as error:
            self._sock.close()
            raise StreamPathError(
                f"cannot reach {plain_host(remote[0])} over UDP: {error.strerror}"
            ) from error
        self.remote_address = remote
        self.local_address = self._sock.getsockname()

    def reconnect(self, remote: SocketAddress) -> None:
        """Exchange datagrams with `remote` in place of the peer. Options, buffers and descriptor stay.

        Raises
        ------
        StreamPathError
            When there is no route to `remote`: the socket keeps its peer.
        """
        try:
            self._sock.connect(remote)
        except OSError as error:
            raise StreamPathError(
                f"cannot reach {plain_host(remote[0])} over UDP: {error.strerror}"
            ) from error
        self.remote_address = remote

    def share_port(self) -> None:
        """Let other sockets of this user bind the same port from now on."""
        share_port(self._sock)

    @property
    def uses_gso(self) -> bool:
        """True if several datagrams leave with one system call."""
        return self._gso_bytes > 0

    @property
    def raw(self) -> socket.socket:
        """The socket underneath, for a channel with a thread."""
        return self._sock

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ sending

    def send(self, batch: DatagramBatch, address: SocketAddress | None = None) -> int:
        """Send `batch` to `address` or, on a connected socket, to the peer.

        Returns
        -------
        int
            Datagrams that the kernel took; fewer than `batch.count` if the send buffer is full.

        Raises
        ------
        StreamPathError
            When a datagram is longer than the path or the protocol carries.
        """
        stride = batch.stride
        if batch.count > 1 and 0 < stride <= self._gso_bytes:
            return self._send_gso_batch(batch, address)
        return self._send_each(batch, 0, address)

    def _send_gso_batch(self, batch: DatagramBatch, address: SocketAddress | None) -> int:
        stride, size, view = batch.stride, batch.size, batch.data.data
        # One segment size per KCP engine: the control message is made once.
        ancillary = self._ancillary.get(stride)
        if ancillary is None:
            ancillary = self._ancillary[stride] = [(SOL_UDP, UDP_SEGMENT, _SEGMENT.pack(stride))]
        chunk_bytes = min(MAX_DATAGRAMS, MAX_BYTES // stride) * stride
        for start in range(0, size, chunk_bytes):
            code = self._sendmsg(view[start : min(start + chunk_bytes, size)], ancillary, address)
            if code == errno.EWOULDBLOCK:
                return start // stride
            if code:
                first = start // stride
                # A datagram alone tells a batch that was refused from an error that any datagram meets.
                alone = self._sendmsg(view[start : min(start + stride, size)], (), address)
                if alone != code:
                    # EIO: a device that cannot checksum. Else longer than the interface's MTU, where IP may
                    # still fragment single datagrams.
                    self._gso_bytes = 0 if code == errno.EIO else min(self._gso_bytes, stride - 1)
                return self._send_each(batch, first + (not alone), address)
        return batch.count

    def _send_each(self, batch: DatagramBatch, first: int, address: SocketAddress | None) -> int:
        stride, size, view = batch.stride, batch.size, batch.data.data
        for index in range(first, batch.count):
            piece = view[index * stride : min((index + 1) * stride, size)]
            code = self._sendmsg(piece, (), address)
            if code == errno.EWOULDBLOCK:
                return index
            if code == errno.EMSGSIZE and not self.sizes.probing:
                raise StreamPathError(
                    f"a datagram of {len(piece)} bytes does not fit the path: choose a smaller MTU"
                )
            if code and consequence(self.events.note(code), Moment.RUNNING) is Consequence.END:
                raise StreamPathError(f"UDP to {self._peer_name()} failed: {error_text(code)}")
        return batch.count

    def send_now(
        self, datagram: bytes, remote: SocketAddress | None = None, local: SocketAddress | None = None
    ) -> None:
        """Send one short datagram if there is room for it, also on a blocking socket; errors are counted.

        Parameters
        ----------
        remote : None: the peer of a connected socket
        local : the source address; None: the socket's, or the one that the kernel chooses
        """
        ancillary = _source(local) if local is not None else ()
        try:
            self._send_message((datagram,), ancillary, NOT_WAITING, remote)
        except BlockingIOError:
            return
        except OSError as error:
            self.events.note(error.errno or errno.EIO)

    def _sendmsg(
        self, piece: memoryview, ancillary: Iterable[tuple[int, int, bytes]], address: SocketAddress | None
    ) -> int:
        """Call `sendmsg`. Returns 0 if the kernel took the piece or lost it by a sign of `_LOST`, else the
        errno."""
        try:
            self._send_message((piece,), ancillary, 0, address)
        except OSError as error:
            code = error.errno or errno.EIO
            return code if code == errno.EWOULDBLOCK else self._send_again(code, piece, ancillary, address)
        return 0

    def _send_again(
        self,
        earlier: int,
        piece: memoryview,
        ancillary: Iterable[tuple[int, int, bytes]],
        address: SocketAddress | None,
    ) -> int:
        """Try once more after the errno `earlier`; returns as `_sendmsg`.

        The kernel reports an ICMP error about an earlier datagram once, in place of sending this one. The
        second attempt tells it from an error about this datagram.
        """
        code = 0
        try:
            self._send_message((piece,), ancillary, 0, address)
        except OSError as error:
            code = error.errno or errno.EIO
        if code in (0, errno.EWOULDBLOCK):
            self.events.note(earlier)
            return code
        if datagram_sign(code) in _LOST:
            self.events.note(code)
            return 0
        return code

    # ------------------------------------------------------------------ receiving

    def receive(self, *, gather: bool = True) -> tuple[DatagramBatch, SocketAddress] | None:
        """The next datagrams of one size and one sender, or None if none waits. The batch is a view of one
        buffer, which the next call overwrites.

        With `gather`, neighbouring reads of one size are gathered, so that the caller gets large batches with
        and without GRO.
        """
        self.emptied = False
        first = self._take_read_ahead() or self._read(0)
        if first is None:
            return None
        size, stride, address = first
        while gather and stride > 0 and size % stride == 0 and size <= RECEIVE_BYTES - GRO_BYTES:
            more = self._read(size) if size < MOST_GATHERED * stride else None
            if more is None:
                break
            more_size, more_stride, sender = more
            # A single shorter datagram may end a batch, as the last one that the sender split.
            shorter = more_size < stride and more_size == more_stride
            if sender != address or not (more_stride == stride or shorter):
                self._read_ahead = (size, more_size, more_stride, sender)
                break
            size += more_size
        return DatagramBatch.of(self._view[:size], stride), address

    @property
    def has_read_ahead(self) -> bool:
        """True if the next `receive` returns datagrams that were read already, which the event loop cannot
        see."""
        return self._read_ahead is not None

    def _read(self, offset: int) -> tuple[int, int, SocketAddress] | None:
        """Call `recvmsg` with the buffer from `offset` on: (bytes, size of its datagrams, sender)."""
        into = self._into if not offset else [memoryview(self._buffer)[offset : offset + GRO_BYTES]]
        # Until a datagram or nothing comes: each error is reported once and takes the place of a datagram.
        for _ in range(MOST_ERRORS):
            try:
                size, ancillary, _, address = self._receive_into(into, ANCILLARY_BYTES)
            except BlockingIOError:
                self.emptied = True
                return None
            except OSError as error:
                self._note_received(error)
                continue
            if self.stamped:
                self.stamp, ancillary = split_off_stamp(ancillary)
            return size, int.from_bytes(ancillary[0][2], sys.byteorder) if ancillary else size, address
        return None

    def _take_read_ahead(self) -> tuple[int, int, SocketAddress] | None:
        """The datagrams that ended the batch before them, moved to the beginning of the buffer."""
        if self._read_ahead is None:
            return None
        offset, size, stride, address = self._read_ahead
        self._read_ahead = None
        self._buffer[:size] = self._buffer[offset : offset + size]
        return size, stride, address

    def report_destination(self) -> None:
        """Make the kernel report the local address that each datagram was sent to, for `receive_at`. A system
        that cannot is asked in vain: the address of the socket then stands for it."""
        is_ipv6 = self._sock.family == socket.AF_INET6
        level = socket.IPPROTO_IPV6 if is_ipv6 else socket.IPPROTO_IP
        for option in (IPV6_RECVPKTINFO,) if is_ipv6 else (IP_RECVPKTINFO, IP_RECVDSTADDR):
            with contextlib.suppress(OSError):
                self._sock.setsockopt(level, option, 1)
                self.reports_destination = True

    def receive_at(self) -> tuple[DatagramBatch, SocketAddress, SocketAddress] | None:
        """The next batch as `receive` gives it, and the local address that it was sent to. It is gathered if
        the kernel does not report that address."""
        if not self.reports_destination:
            received = self.receive()
            return None if received is None else (*received, self.local_address)
        for _ in range(MOST_ERRORS):
            # As in `_read`: an error about earlier datagrams is counted, and the next read tried.
            try:
                size, ancillary, _, address = self._receive_into(self._into, ANCILLARY_BYTES)
            except BlockingIOError:
                return None
            except OSError as error:
                self._note_received(error)
                continue
            stride, local = size, self.local_address
            for level, kind, value in ancillary:
                if (level, kind) == (SOL_UDP, UDP_GRO):
                    stride = int.from_bytes(value, sys.byteorder)
                else:
                    local = _destination(level, kind, value, local)
            return DatagramBatch.of(self._view[:size], stride), address, local
        return None

    def _note_received(self, error: OSError) -> None:
        """Count an error that `recvmsg` reported about earlier datagrams; raise it if it is another one."""
        sign = self.events.note(error.errno or errno.EIO)
        if consequence(sign, Moment.RUNNING) is Consequence.END:
            raise StreamPathError(f"UDP from {self._peer_name()} failed: {error.strerror}") from error

    # ------------------------------------------------------------------ the rest

    def check(self) -> None:
        """Raise the error that the path has reported, for a caller that has not heard its peer yet.

        Raises
        ------
        StreamPeerError
            The peer's machine answered that nothing listens there.
        StreamPathError
            The peer cannot be reached.
        """
        sign = self.events.ending_attempt()
        if sign is Sign.REFUSED:
            raise StreamPeerError(f"{self._peer_name()} refuses UDP datagrams: nothing listens there")
        if sign is not None:
            raise StreamPathError(f"UDP does not reach {self._peer_name()}: it {sign.value}")

    def size_buffers(self, size_bytes: int) -> tuple[int, int]:
        """Ask for `size_bytes` of send and receive buffer.

        Returns
        -------
        tuple of int
            Bytes that the kernel gave for (send, receive): fewer than `size_bytes` when net.core.wmem_max or
            net.core.rmem_max is lower and this process may not exceed it.
        """
        return (
            set_buffer_size(self._sock, socket.SO_SNDBUF, size_bytes)[0],
            set_buffer_size(self._sock, socket.SO_RCVBUF, size_bytes)[0],
        )

    def size_receive_buffer(self, size_bytes: int) -> int:
        """Ask for `size_bytes` of receive buffer. Returns the bytes that the kernel gave."""
        return set_buffer_size(self._sock, socket.SO_RCVBUF, size_bytes)[0]

    def _peer_name(self) -> str:
        return named(self.remote_address) if self.remote_address else "peers"


def _accepts(sock: socket.socket, option: int, value: int) -> bool:
    try:
        sock.setsockopt(SOL_UDP, option, value)
    except OSError:
        return False
    return True


def udp_socket(
    family: int,
    local: SocketAddress | None,
    reuse: bool = False,
    prepare: Callable[[socket.socket], None] | None = None,
) -> socket.socket:
    """Make a UDP socket, bound to `local` if given. `prepare` sees it before it is bound; with `reuse` it
    shares its port with other sockets of this user, where the system has that.

    Raises
    ------
    TransportError
        When `local` is not available.
    """
    sock = None
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        if prepare is not None:
            prepare(sock)
        if family == socket.AF_INET6:
            # One socket for both families where the address does not choose one.
            both = local is None or str(local[0]) == "::" or str(local[0]).startswith(MAPPED)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        if reuse and can_share_ports():
            share_port(sock)
        else:
            keep_port(sock)
        if local is not None:
            sock.bind(local)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise TransportError(f"cannot {_wanted(local)}: {system_reason(error)}") from error
    return sock


def _wanted(local: SocketAddress | None) -> str:
    """The part of a sentence that names the socket that could not be had."""
    where = "" if local is None or local[0] in ANY_ADDRESS else f" of {plain_host(local[0])}"
    return (
        f"use UDP port {local[1]}{where}" if local is not None and local[1] else f"open a UDP socket{where}"
    )


def _source(local: SocketAddress) -> tuple[tuple[int, int, bytes], ...]:
    """Ancillary data that makes a datagram leave from the address `local`: a struct in_pktinfo, or an
    in6_pktinfo. `_destination` reads them."""
    if family_of(local) == socket.AF_INET6:
        scope = local[3] if len(local) > 3 else 0
        packed = socket.inet_pton(socket.AF_INET6, str(local[0])) + int(scope).to_bytes(4, sys.byteorder)
        return ((socket.IPPROTO_IPV6, IPV6_PKTINFO, packed),) if IPV6_PKTINFO != ABSENT else ()
    if IP_RECVDSTADDR != ABSENT:  # FreeBSD's IP_SENDSRCADDR has the same number
        return ((socket.IPPROTO_IP, IP_RECVDSTADDR, socket.inet_aton(str(local[0]))),)
    if IP_PKTINFO == ABSENT:
        return ()
    # ipi_ifindex, ipi_spec_dst (the source of a datagram that is sent), ipi_addr
    packed = bytes(4) + socket.inet_aton(str(local[0])) + bytes(4)
    return ((socket.IPPROTO_IP, IP_PKTINFO, packed),)


def _destination(level: int, kind: int, value: bytes, local: SocketAddress) -> SocketAddress:
    """`local` with the address in an in_pktinfo {ifindex, spec_dst, addr} or in6_pktinfo {addr, ifindex}."""
    if (level, kind) == (socket.IPPROTO_IP, IP_RECVDSTADDR):
        return (socket.inet_ntop(socket.AF_INET, value[:4]), local[1])
    if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
        return (socket.inet_ntop(socket.AF_INET, value[8:12]), local[1])
    if (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
        linked = value[:2] == b"\xfe\x80"
        scope = int.from_bytes(value[16:20], sys.byteorder) if linked else 0
        return (socket.inet_ntop(socket.AF_INET6, value[:16]), local[1], 0, scope)
    return local
