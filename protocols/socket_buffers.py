"""Sizes and contents of the kernel's socket buffers, for TCP and UDP.

The sizes are chosen elsewhere, and applied here with `set_buffer_size`:

    tcp/tuning.py         the user's -w, both directions
    udp/udp_end.py        the user's -w, both directions; else a receive buffer
    kcp/buffer_sizes.py   the user's -w; else as much as the windows need
"""

from __future__ import annotations

import socket
import struct

from iperfpy.protocols.operating_system import DOUBLED_BUFFERS, SO_FORCE, SO_MEMINFO

_MEMORY = struct.Struct("=9I")


def set_buffer_size(sock: socket.socket, option: int, wanted_bytes: int) -> tuple[int, str]:
    """Ask for a buffer, beyond the system's limit where this process may.

    Parameters
    ----------
    option : socket.SO_SNDBUF or socket.SO_RCVBUF

    Returns
    -------
    tuple of (int, str)
        Bytes that the kernel gave, in the caller's terms, and its reason if those are fewer.
    """
    refusal = "it gave less"
    try:
        sock.setsockopt(socket.SOL_SOCKET, option, wanted_bytes)
        if buffer_size(sock, option) < wanted_bytes:
            sock.setsockopt(socket.SOL_SOCKET, SO_FORCE[option], wanted_bytes)
    except OSError as error:
        refusal = error.strerror or refusal
    return buffer_size(sock, option), refusal


def buffer_size(sock: socket.socket, option: int) -> int:
    """Bytes of a buffer without the kernel's share: Linux doubles the request, for its bookkeeping."""
    given = sock.getsockopt(socket.SOL_SOCKET, option)
    return given // 2 if DOUBLED_BUFFERS else given


def dropped_datagrams(sock: socket.socket) -> int | None:
    """Datagrams that arrived since the socket was made, and for which its buffer had no room; datagrams that
    the kernel had joined (GRO) count as one. None if the system does not tell."""
    try:
        answer = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMORY.size)
    except OSError:
        return None
    return int(_MEMORY.unpack(answer)[-1]) if len(answer) == _MEMORY.size else None


def queued_bytes(sock: socket.socket) -> int:
    """Bytes in the send queue (TIOCOUTQ): for TCP those that the peer has not acknowledged, for UDP those not
    transmitted, with the kernel's bookkeeping. 0 if the system does not tell."""
    try:
        # Not on Windows, and only needed at the end of a test.
        import fcntl
        import termios

        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    except (ImportError, OSError):
        return 0
    return int(struct.unpack("=i", answer)[0])
