"""Socket options of TCP that a user may choose, each set while it still has an effect.

    client   before_connect   segment size, congestion control, TCP_NODELAY, buffers
    server   after_accept     congestion control, TCP_NODELAY, buffers

Buffers and the segment size shape the handshake, so a client sets them before it connects. A server has
only the connection that it accepted: the client chooses the segment size.
"""

from __future__ import annotations

import errno
import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from iperfpy.protocols.errors import SettingsError, TransportError
from iperfpy.protocols.operating_system import (
    ABSENT,
    IPPROTO_MPTCP,
    RECEIVE_BUFFER_LIMIT,
    SEND_BUFFER_LIMIT,
    TCP_CONGESTION,
)
from iperfpy.protocols.socket_buffers import set_buffer_size
from iperfpy.protocols.tcp_info import congestion_control_of
from iperfpy.protocols.units import exact_size

if TYPE_CHECKING:
    from iperfpy.protocols.tcp import TcpSettings

_CONTROLS = Path("/proc/sys/net/ipv4")

log = logging.getLogger(__name__)


def check_system(settings: TcpSettings, *, sends: bool) -> None:
    """Check that this machine can be the client of a test with these settings.

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
                # On a socket that is never connected: the kernel is the only one that knows what it has.
                choose_congestion(sock, settings.congestion)
    except OSError as error:
        raise SettingsError(
            f"this system has no Multipath TCP: {error.strerror} (see sysctl net.mptcp.enabled)"
        ) from error


def before_connect(sock: socket.socket, settings: TcpSettings, *, sends: bool = True) -> None:
    """Prepare a client's socket. A client that only receives needs no congestion control: an unknown one is
    then only a warning.

    Raises
    ------
    SettingsError
        When this machine does not know the congestion control, or refuses a value.
    """
    if settings.mss is not None:
        # The handshake announces the segment size, so it cannot be set later.
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
    server keeps its default, and the report names the one that ran."""
    if settings.congestion is not None:
        _choose(sock, settings.congestion, must=False)
    _common(sock, settings)


def _choose(sock: socket.socket, name: str, *, must: bool) -> None:
    try:
        choose_congestion(sock, name)
    except SettingsError as error:
        if must:
            raise
        log.warning("%s; using %s", error, congestion_control_of(sock) or "the default")


def choose_congestion(sock: socket.socket, name: str) -> None:
    """Select a congestion control algorithm.

    Raises
    ------
    SettingsError
        When it is not available here; the text lists those that are.
    """
    if TCP_CONGESTION == ABSENT:
        raise SettingsError(f"congestion control {name!r} cannot be chosen on this system")
    try:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, name.encode())
    except OSError as error:
        # EPERM: the kernel has the algorithm, and allows it to privileged processes only.
        if error.errno == errno.EPERM:
            known = _listed("tcp_allowed_congestion_control")
            raise SettingsError(
                f"congestion control {name!r} needs privileges here (allowed: {known})"
            ) from error
        known = _listed("tcp_available_congestion_control")
        raise SettingsError(
            f"congestion control {name!r} is not available here (available: {known})"
        ) from error


def _common(sock: socket.socket, settings: TcpSettings) -> None:
    if settings.nodelay:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if settings.window is not None:
        _apply_window(sock, settings.window)


def _apply_window(sock: socket.socket, window_bytes: int) -> None:
    """Size both socket buffers by -w. A smaller buffer would measure something else than the user asked for:
    it is an error, as in iperf3."""
    for option, limit in ((socket.SO_SNDBUF, SEND_BUFFER_LIMIT), (socket.SO_RCVBUF, RECEIVE_BUFFER_LIMIT)):
        given, refusal = set_buffer_size(sock, option, window_bytes)
        if given < window_bytes:
            allowed, wanted = exact_size(given), exact_size(window_bytes)
            raise TransportError(
                f"the kernel allows a socket buffer of {allowed}, not {wanted} ({refusal}"
                + (f"; see sysctl {limit})" if limit else ")")
            )


def _listed(name: str) -> str:
    try:
        return ", ".join((_CONTROLS / name).read_text().split())
    except OSError:
        return "unknown"
