"""Socket options that a user may choose, set at the moment when each still counts.

Buffers and the segment size shape the handshake, so a client sets them before it connects. A server can
only set them on the connection it was given: the segment size is then the client's to choose.
"""

from __future__ import annotations

import errno
import logging
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from iperfpy.protocols.errors import SettingsError, TransportError

if TYPE_CHECKING:
    from iperfpy.protocols.tcp import TcpSettings

SO_FORCE = {socket.SO_SNDBUF: 32, socket.SO_RCVBUF: 33}  # SO_SNDBUFFORCE, SO_RCVBUFFORCE of Linux
IPPROTO_MPTCP = 262
TCP_CONGESTION = getattr(socket, "TCP_CONGESTION", None)
_CONTROLS = Path("/proc/sys/net/ipv4")
_LIMITS = {socket.SO_SNDBUF: "net.core.wmem_max", socket.SO_RCVBUF: "net.core.rmem_max"}

log = logging.getLogger(__name__)


def check_here(settings: TcpSettings, *, sends: bool) -> None:
    """Whether this machine has what a client asks of it.

    Raises
    ------
    SettingsError
        When it has no Multipath TCP, or does not know the congestion control to send with.
    """
    try:
        with socket.socket(
            socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP if settings.mptcp else 0
        ) as sock:
            if settings.congestion is not None and sends:
                choose_congestion(sock, settings.congestion)
    except OSError as error:
        raise SettingsError(
            f"this system has no Multipath TCP: {error.strerror} (see sysctl net.mptcp.enabled)"
        ) from error


def before_connect(sock: socket.socket, settings: TcpSettings, *, sends: bool = True) -> None:
    """Prepare a client's socket. Whoever does not send needs no congestion control: an unknown one is only a
    warning then.

    Raises
    ------
    SettingsError
        When this machine does not know the congestion control, or refuses a value.
    """
    if settings.mss is not None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, settings.mss)
        except OSError as error:
            raise SettingsError(
                f"the kernel refuses a segment size of {settings.mss}: {error.strerror}"
            ) from error
    if settings.congestion is not None:
        _choose(sock, settings.congestion, must=sends)
    _common(sock, settings)


def after_accept(sock: socket.socket, settings: TcpSettings) -> None:
    """Prepare a server's connection. An unknown congestion control is only a warning, as in iperf3: the
    server keeps its default, and the record says which one ran."""
    if settings.congestion is not None:
        _choose(sock, settings.congestion, must=False)
    _common(sock, settings)


def _choose(sock: socket.socket, name: str, *, must: bool) -> None:
    try:
        choose_congestion(sock, name)
    except SettingsError as error:
        if must:
            raise
        log.warning("%s; using %s", error, congestion_of(sock) or "the default")


def choose_congestion(sock: socket.socket, name: str) -> None:
    """Select a congestion control algorithm.

    Raises
    ------
    SettingsError
        When it cannot be had here; the text lists those that can.
    """
    if TCP_CONGESTION is None:
        raise SettingsError(f"congestion control {name!r} cannot be chosen on this system")
    try:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, name.encode())
    except OSError as error:
        if error.errno == errno.EPERM:
            known = _listed("tcp_allowed_congestion_control")
            raise SettingsError(
                f"congestion control {name!r} needs privileges here (allowed: {known})"
            ) from error
        known = _listed("tcp_available_congestion_control")
        raise SettingsError(
            f"congestion control {name!r} is not available here (available: {known})"
        ) from error


def congestion_of(sock: socket.socket) -> str | None:
    """The algorithm that a socket uses, None where the system does not say."""
    if TCP_CONGESTION is None:
        return None
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, 16)
    except OSError:
        return None
    return raw.split(b"\0", 1)[0].decode("ascii", "replace") or None


def _common(sock: socket.socket, settings: TcpSettings) -> None:
    if settings.nodelay:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if settings.window is not None:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            _size_buffer(sock, option, settings.window)


def _size_buffer(sock: socket.socket, option: int, wanted_bytes: int) -> None:
    """A buffer smaller than asked would measure something else than asked: it is an error, as in iperf3."""
    linux = sys.platform.startswith("linux")
    try:
        sock.setsockopt(socket.SOL_SOCKET, option, wanted_bytes)
        if linux and _buffer_bytes(sock, option) < wanted_bytes:
            sock.setsockopt(socket.SOL_SOCKET, SO_FORCE[option], wanted_bytes)
    except OSError as error:
        refusal = error.strerror
    else:
        refusal = "it gave less"
    given = _buffer_bytes(sock, option)
    if given < wanted_bytes:
        raise TransportError(
            f"the kernel allows a socket buffer of {given} bytes, not {wanted_bytes} ({refusal};"
            f" see sysctl {_LIMITS[option]})"
        )


def _buffer_bytes(sock: socket.socket, option: int) -> int:
    given = sock.getsockopt(socket.SOL_SOCKET, option)
    return given // 2 if sys.platform.startswith("linux") else given  # Linux doubles it for its own use


def _listed(name: str) -> str:
    try:
        return ", ".join((_CONTROLS / name).read_text().split())
    except OSError:
        return "unknown"
