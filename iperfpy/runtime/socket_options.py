"""Socket options that a user may set for any transport: marks, the kernel's pacing, a device, timeouts.

    mark       -S, --dscp, --fq-rate: every data socket of a test, at both ends
    prepare    --bind-dev, -L, --snd-timeout, --cntl-ka: before a socket is bound, at the user's end
    retry_soon the control connection, at both ends; not for the user to set

The others raise `PlanError` if this system cannot set the option.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

from iperfpy.error_numbers import ErrorNumber
from iperfpy.errors import PlanError
from iperfpy.options import SocketOptions
from iperfpy.plan import Plan
from iperfpy.protocols.addresses import MAPPED
from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.operating_system import (
    ABSENT,
    IPV6_FLOWINFO_SEND,
    IPV6_FLOWLABEL_MGR,
    SO_BINDTODEVICE,
    SO_MAX_PACING_RATE,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_RTO_MAX_MS,
    TCP_USER_TIMEOUT,
)

_FLOW_LABEL_REQUEST = struct.Struct("=16s 4s B B H H H I")  # struct in6_flowlabel_req, linux/in6.h
LONGEST_RETRY_MS = 2_000
USUAL_TIMEOUT_MS = 924_600
"""Linux's own: 15 retries at distances that double from 0.2 to 120 s (tcp_retries2)."""
_GET, _ANYBODY, _CREATE = 0, 255, 1


def mark(sock: socket.socket, plan: Plan) -> None:
    """Set the type of service and the kernel's pacing of one data socket."""
    if plan.tos:
        set_tos(sock, plan.tos)
    if plan.fq_rate_bps:
        with _asked("--fq-rate"):
            sock.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("@L", plan.fq_rate_bps // 8))


def mark_descriptor(fd: int, plan: Plan) -> None:
    """Mark a socket that belongs to a channel; one that has failed by now has none."""
    if fd >= 0 and (plan.tos or plan.fq_rate_bps):
        sock = socket.socket(fileno=fd)
        try:
            mark(sock, plan)
        finally:
            sock.detach()


def set_tos(sock: socket.socket, tos: int) -> None:
    """Set the byte of the IP header: type of service of IPv4, traffic class of IPv6."""
    with _asked("-S", ErrorNumber.SET_TYPE_OF_SERVICE):
        if sock.family == socket.AF_INET6 and not _speaks_ipv4(sock):
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)


def _speaks_ipv4(sock: socket.socket) -> bool:
    """True if the peer of a dual-stack socket uses IPv4."""
    try:
        return str(sock.getpeername()[0]).startswith(MAPPED)
    except OSError:  # not connected yet
        return False


def prepare(sock: socket.socket, options: SocketOptions, remote: SocketAddress | None = None) -> None:
    """Set the options of a socket that is neither bound nor connected.

    `remote` is the address that it will connect to, with the flow label that it will use.
    """
    if options.device:
        bind_device(sock, options.device)
    if sock.type == socket.SOCK_STREAM:
        limit_unacknowledged(sock, options)
    if remote is not None and len(remote) > 2 and remote[2]:
        lease_flow_label(sock, remote)


def limit_unacknowledged(sock: socket.socket, options: SocketOptions) -> None:
    """Set the time after which TCP gives up waiting for an acknowledgement (RFC 5482)."""
    if options.send_timeout_us:
        with _asked("--snd-timeout"):
            milliseconds = max(1, options.send_timeout_us // 1000)
            sock.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, milliseconds)


def bind_device(sock: socket.socket, device: str) -> None:
    """Let the socket use this network interface only."""
    if SO_BINDTODEVICE == ABSENT:
        raise PlanError("this system cannot bind a socket to an interface (--bind-dev)")
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, os.fsencode(device) + b"\0")
    except PermissionError as error:
        raise PlanError(f"binding to the interface {device} needs privileges here") from error
    except (OSError, AttributeError) as error:
        raise PlanError(f"no interface named {device}") from error


def keep_alive(sock: socket.socket, options: SocketOptions) -> None:
    """Let TCP probe an idle control connection, so that a dead one is noticed and a NAT keeps it."""
    if options.keepalive is None:
        return
    with _asked("--cntl-ka"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        names = (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT)
        for name, value in zip(names, options.keepalive, strict=True):
            if value:
                sock.setsockopt(socket.IPPROTO_TCP, name, value)


def retry_soon(sock: socket.socket, options: SocketOptions) -> None:
    """Let the kernel repeat an unacknowledged control message every `LONGEST_RETRY_MS`, where it can.

    Its backoff doubles up to 120 s: after a test that has flooded the path, the end of the test would wait
    for the next retry long after the path has become free. Only for a connected socket: a SYN would be given
    up sooner.
    """
    # The kernel gives up after a number of retries, which now pass sooner: a time takes its place. A user who
    # has chosen such a time, or keepalive, which it would replace, keeps the choice.
    if TCP_RTO_MAX_MS == ABSENT or options.keepalive is not None:
        return
    with contextlib.suppress(OSError):  # an older kernel
        sock.setsockopt(socket.IPPROTO_TCP, TCP_RTO_MAX_MS, LONGEST_RETRY_MS)
        if not options.send_timeout_us:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, USUAL_TIMEOUT_MS)


def lease_flow_label(sock: socket.socket, remote: SocketAddress) -> None:
    """Lease the flow label of `remote`, as Linux requires of a sender (RFC 6437 leaves it to the source)."""
    address = socket.inet_pton(socket.AF_INET6, str(remote[0]).partition("%")[0])
    label = int(remote[2]).to_bytes(4, "big")
    request = _FLOW_LABEL_REQUEST.pack(address, label, _GET, _ANYBODY, _CREATE, 0, 0, 0)
    with _asked("-L"):
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FLOWLABEL_MGR, request)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 1)


@contextlib.contextmanager
def _asked(flag: str, i_errno: ErrorNumber = ErrorNumber.SET_UP_STREAM) -> Iterator[None]:
    try:
        yield
    except (OSError, AttributeError) as error:
        why = getattr(error, "strerror", None) or "it does not have this option"
        raise PlanError(f"this system refuses {flag}: {why}", i_errno) from error
