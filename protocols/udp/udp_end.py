"""One end of a UDP stream: its association, its socket, and the sentences about both.

channel.py          sends or receives
message_channel.py  sends and receives
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from abc import abstractmethod
from collections.abc import Callable

from iperfpy.protocols.addresses import named, plain
from iperfpy.protocols.contract import Channel, ClientPort, ServerPort, SocketAddress, Stream
from iperfpy.protocols.datagrams.path_mtu import forbid_fragments
from iperfpy.protocols.datagrams.peer_path import DatagramPath, open_path
from iperfpy.protocols.datagrams.server_port import accept_path
from iperfpy.protocols.errors import StreamPathError, TransportError
from iperfpy.protocols.operating_system import RECEIVE_BUFFER_LIMIT, SEND_BUFFER_LIMIT, receive_into
from iperfpy.protocols.socket_buffers import queued_bytes
from iperfpy.protocols.stream_threads import StreamWorker
from iperfpy.protocols.udp import DEFAULT_BLOCK_BYTES, UdpSettings, association
from iperfpy.protocols.units import exact_size

RECEIVE_BUFFER_BYTES = 4 << 20
"""Receive buffer without -w: datagrams that arrive while the reader is busy must not be lost."""
DRAIN_POLL_S = 0.002


class UdpEnd(Channel):
    """One UDP stream at one end. Owns `path`; does nothing before `start`.

    Parameters
    ----------
    call : the client's datagram that asks for the association, if this end answers repetitions of it
    """

    def __init__(self, path: DatagramPath, stream: Stream, settings: UdpSettings, call: bytes = b"") -> None:
        self._path, self._settings, self._call = path, settings, call
        self._socket = path.take_socket()
        self._sock = self._socket.raw
        self._block_bytes = stream.block_bytes or DEFAULT_BLOCK_BYTES
        self._receive_into = receive_into(self._sock)
        self._worker = StreamWorker(self._sock, self._translated)  # sends, if this end does
        self._heard_us: int | None = None

    def start(self) -> None:
        """Prepare the socket, and read it from now on.

        Raises
        ------
        TransportError
            When the kernel does not give the buffer of -w, or cannot forbid fragments.
        """
        self._apply_window()
        if self._settings.dont_fragment and not forbid_fragments(self._sock):
            raise TransportError("this system cannot forbid fragments")
        self._begin_reading()

    @abstractmethod
    def _begin_reading(self) -> None:
        """Read the socket from now on."""

    def _apply_window(self) -> None:
        """Size the socket buffers by -w; without it, the receive buffer alone."""
        wanted = self._settings.window
        if wanted is None:
            self._socket.size_receive_buffer(RECEIVE_BUFFER_BYTES)
        elif (given := min(self._socket.size_buffers(wanted))) < wanted:
            limits = f"{RECEIVE_BUFFER_LIMIT} and {SEND_BUFFER_LIMIT}"
            raise TransportError(
                f"the kernel allows a socket buffer of {exact_size(given)}, not {exact_size(wanted)}"
                f"{f' (see sysctl {limits})' if SEND_BUFFER_LIMIT else ''}"
            )

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
        return tuple(sign.value for sign in self._socket.events.since(since_us))

    def warnings(self) -> tuple[str, ...]:
        """Errors about datagrams."""
        return self._socket.events.warnings(str(plain(self.remote_address)[0]))

    def answer(self, message: bytes) -> None:
        """Confirm the association. If the confirmation is lost, the client asks again."""
        with contextlib.suppress(OSError):
            self._sock.send(message)

    def _answer_control(self, datagram: bytes) -> None:
        """Answer a repeated call, or a challenge to the address of this end."""
        association.answer_again(self._sock, datagram, self._call)
        if proof := self._path.answer_challenge(datagram):
            self._socket.send_now(proof)

    def _translated(self, error: OSError) -> TransportError:
        if error.errno == errno.EMSGSIZE:
            return StreamPathError(
                f"a datagram of {self._block_bytes} bytes does not fit the path: choose a shorter block (-l)"
            )
        return StreamPathError(f"UDP to {named(self.remote_address)} failed: {error.strerror}")

    async def drain(self) -> None:
        """Wait until this machine has transmitted everything: no receiver acknowledges anything."""
        while not self._worker.is_stopping and queued_bytes(self._sock):  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(DRAIN_POLL_S)


MakeEnd = Callable[[DatagramPath, Stream, UdpSettings, bytes], UdpEnd]
"""The class of the channel."""


async def connect(stream: Stream, settings: UdpSettings, port: ClientPort, make: MakeEnd) -> Channel:
    """Open the client's end, associated. Waits without limit: the caller sets the deadline."""
    path = await open_path(stream, port)
    try:
        opening_us = await association.call(path.take_socket().raw, stream.conv, path.answer_challenge)
        channel = make(path, stream, settings, b"")
        channel.opening_us = opening_us
        channel.start()
    except BaseException:
        path.close()
        raise
    return channel


async def accept(stream: Stream, settings: UdpSettings, port: ServerPort, make: MakeEnd) -> Channel:
    """Open the server's end: wait for the client's first datagram, and answer it."""
    path = await accept_path(stream, port, association.is_stock_call)
    try:
        # A stock client does not repeat its call, and would take a second answer for data.
        call = association.conv_call(stream.conv) if stream.conv else b""
        channel = make(path, stream, settings, call)
        channel.start()
        channel.answer(call or association.stock_answer(path.opening))
    except BaseException:
        path.close()
        raise
    return channel
