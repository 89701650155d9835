"""Everything that operating systems do differently: option numbers, missing calls, shared ports, processes.

No other module names a system, or has a number of a system's headers. It imports the option or the function
from here, and has one way that works everywhere. The numbers were read in these headers:

    Linux     linux/in.h, in6.h, udp.h, tcp.h, asm-generic/socket.h; the same on nearly every architecture
    macOS     bsd/netinet/in.h, in6.h of XNU 10063
    FreeBSD   netinet/in.h, netinet6/in6.h of FreeBSD 14
    Windows   ws2ipdef.h, winsock2.h of the SDK 10.0.22621

An option that a system lacks is `ABSENT`: `setsockopt` refuses it with an `OSError`, as it refuses an option
of a newer kernel, and no control message has that kind.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]  # Windows has no such module

LINUX = sys.platform.startswith("linux")
MACOS = sys.platform == "darwin"
FREEBSD = sys.platform.startswith("freebsd")
WINDOWS = os.name == "nt"

ABSENT = -1
"""The number of an option that this system does not have."""


def _number(linux: int = ABSENT, macos: int = ABSENT, freebsd: int = ABSENT, windows: int = ABSENT) -> int:
    """The one of these numbers that holds here."""
    for is_this, number in ((LINUX, linux), (MACOS, macos), (FREEBSD, freebsd), (WINDOWS, windows)):
        if is_this:
            return number
    return ABSENT


# -- UDP: batches, addresses, fragments

SOL_UDP = socket.IPPROTO_UDP
UDP_SEGMENT = _number(linux=103)
UDP_GRO = _number(linux=104)

HAS_MESSAGES = hasattr(socket.socket, "recvmsg_into") and hasattr(socket, "CMSG_SPACE")
"""True if control messages can be sent and received with data (not in Python for Windows)."""
ANCILLARY_BYTES = 128 if HAS_MESSAGES else 0
"""Room for a segment size, a time stamp and a struct in6_pktinfo."""

IP_RECVPKTINFO = _number(linux=8, macos=26) if HAS_MESSAGES else ABSENT
"""Makes the kernel report the address that a datagram was sent to, in a message of kind `IP_PKTINFO`."""
IP_PKTINFO = IP_RECVPKTINFO
"""The message: a struct in_pktinfo. It also chooses the source address of a datagram that is sent."""
IP_RECVDSTADDR = _number(freebsd=7) if HAS_MESSAGES else ABSENT
"""FreeBSD's option, and its message, which holds the address alone."""
IPV6_RECVPKTINFO: int = getattr(socket, "IPV6_RECVPKTINFO", ABSENT) if HAS_MESSAGES else ABSENT
IPV6_PKTINFO: int = getattr(socket, "IPV6_PKTINFO", ABSENT) if HAS_MESSAGES else ABSENT

SO_TIMESTAMPNS = _number(linux=35)

IP_FRAGMENTS = _number(linux=10, macos=28, freebsd=67, windows=14)
IPV6_FRAGMENTS = _number(linux=23, macos=62, freebsd=62, windows=14)
"""IP_MTU_DISCOVER, IP_DONTFRAG or IP_DONTFRAGMENT; the same for IPv6."""
ALLOW_FRAGMENTS, FORBID_FRAGMENTS, PROBE_SIZES = (0, 2, 3) if LINUX else (0, 1, 1)
"""Values of that option. To probe is to forbid, and to ignore the path MTU that the kernel knows."""
IP_MTU, IPV6_MTU = _number(linux=14, windows=73), _number(linux=24, windows=72)
"""The longest packet to a connected peer, 32 bits: all ones on Windows' loopback, which has no limit."""

SOL_PACKET = _number(linux=263)
"""Options of packet sockets, of linux/if_packet.h."""

# -- TCP, and options of the user

TCP_INFO = _number(linux=11)
"""Linux's struct. FreeBSD and macOS have others."""
TCP_CONGESTION: int = getattr(socket, "TCP_CONGESTION", ABSENT)
TCP_KEEPIDLE: int = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", ABSENT))
"""Called TCP_KEEPALIVE on macOS."""
TCP_KEEPINTVL: int = getattr(socket, "TCP_KEEPINTVL", ABSENT)
TCP_KEEPCNT: int = getattr(socket, "TCP_KEEPCNT", ABSENT)
TCP_USER_TIMEOUT: int = getattr(socket, "TCP_USER_TIMEOUT", ABSENT)
TCP_RTO_MAX_MS = _number(linux=44)
"""Linux 6.15 and later; an older one refuses it."""
IPPROTO_MPTCP = 262
"""The protocol number that IANA assigned to Multipath TCP. `socket` refuses it where it is not known."""
SO_BINDTODEVICE: int = getattr(socket, "SO_BINDTODEVICE", ABSENT)
SO_MAX_PACING_RATE = _number(linux=47)
IPV6_FLOWLABEL_MGR, IPV6_FLOWINFO_SEND = _number(linux=32), _number(linux=33)
END_OF_SEGMENT = int(socket.MSG_EOR) if LINUX else 0
"""Makes Linux (4.7 and later) join no later bytes to the segment, not even when it is retransmitted."""
HAS_TCP_INFO = TCP_INFO != ABSENT
"""True if the kernel counts the bytes within a blocked call."""
MSG_TRUNC = int(socket.MSG_TRUNC) if LINUX else 0
"""Makes `recv` of a TCP socket discard the data; elsewhere the flag has another meaning, or none."""

# -- buffers

SO_FORCE = {socket.SO_SNDBUF: _number(linux=32), socket.SO_RCVBUF: _number(linux=33)}
"""SO_SNDBUFFORCE and SO_RCVBUFFORCE: a privileged process may exceed the limits of the system."""
SO_MEMINFO = _number(linux=55)
"""Nine numbers about a socket's memory; the last one counts datagrams for which there was no room."""
DOUBLED_BUFFERS = LINUX
"""True if `getsockopt` returns twice the bytes that were asked for, with the kernel's bookkeeping."""
_LIMITS = ("net.core.wmem_max", "net.core.rmem_max") if LINUX else ("kern.ipc.maxsockbuf",) * 2
SEND_BUFFER_LIMIT, RECEIVE_BUFFER_LIMIT = _LIMITS if MACOS or FREEBSD or LINUX else ("", "")
"""The sysctl that limits each buffer for everyone else; empty: there is none."""

# -- calls

NOT_WAITING = int(getattr(socket, "MSG_DONTWAIT", 0))
"""Flag of a call that returns at once, also on a blocking socket; 0: there is no such flag."""

Ancillary = list[tuple[int, int, bytes]]
ReceiveInto = Callable[..., tuple[int, Ancillary, int, Any]]
"""`recvmsg_into`: (buffers, room for control messages, flags) -> (bytes, control messages, flags, sender)."""
SendMessage = Callable[..., int]
"""`sendmsg`: (buffers, control messages, flags, address) -> bytes."""


def receive_into(sock: socket.socket) -> ReceiveInto:
    """`sock.recvmsg_into`, or a function that does the same without control messages into one buffer."""
    if HAS_MESSAGES:
        return sock.recvmsg_into
    recvfrom_into = sock.recvfrom_into

    def receive(
        buffers: Sequence[memoryview], ancillary_bytes: int = 0, flags: int = 0
    ) -> tuple[int, Ancillary, int, Any]:
        size, sender = recvfrom_into(buffers[0], 0, flags)
        return size, [], 0, sender

    return receive


def send_message(sock: socket.socket) -> SendMessage:
    """`sock.sendmsg`, or a function that sends one buffer and ignores control messages."""
    if HAS_MESSAGES:
        return sock.sendmsg
    send_one, send_to = sock.send, sock.sendto

    def send(
        buffers: Sequence[bytes | memoryview],
        ancillary: Iterable[tuple[int, int, bytes]] = (),
        flags: int = 0,
        address: Any = None,
    ) -> int:
        return send_one(buffers[0], flags) if address is None else send_to(buffers[0], flags, address)

    return send


def local_name(sock: socket.socket) -> Any:
    """`sock.getsockname()`; the wildcard address and port 0 for a socket that is not bound, for which Windows
    raises an error."""
    try:
        return sock.getsockname()
    except OSError:
        return ("::", 0, 0, 0) if sock.family == socket.AF_INET6 else ("0.0.0.0", 0)


RESET_ON_CLOSE = struct.pack("@hh" if WINDOWS else "@ii", 1, 0)
"""A struct linger {onoff, seconds} for SO_LINGER: the queued data is dropped, and the peer gets a reset."""

# -- addresses that several sockets use


def can_share_ports() -> bool:
    """True if this system can share a UDP port among the sockets of one user alone (see port_relay.py)."""
    return hasattr(socket, "SO_REUSEPORT")


def share_port(sock: socket.socket) -> None:
    """Let sockets of this user, and of no other, share the port of `sock`, with the same option set.

    SO_REUSEADDR looks alike, and lets every user of the machine bind the port of a UDP socket and take its
    datagrams: Linux does not compare the users then, and Windows never does.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def is_regular(descriptor: int) -> bool:
    """True if the open file is a regular one. A device or a pipe has no length, and may let a call wait."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def is_removed(descriptor: int) -> bool:
    """True if the open file is a regular one that has no name any more: what is written there is lost."""
    return is_regular(descriptor) and not os.fstat(descriptor).st_nlink


def keep_port(sock: socket.socket) -> None:
    """Let no other user bind the port of `sock`: on Windows anybody can, unless this is set."""
    if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)


def rebind_soon(sock: socket.socket) -> None:
    """Let a TCP socket be bound to a port that old connections still have, and not one that is in use."""
    if WINDOWS:
        keep_port(sock)  # it allows the former by itself, and SO_REUSEADDR would allow the latter
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


# -- time, processes, errors

monotonic_ns = time.perf_counter_ns
"""The monotonic clock. On Linux and macOS this is `time.monotonic_ns`, which has 15.6 ms steps on Windows."""


def clock_name() -> str:
    """A name of the monotonic clock, equal for all programs that read the same one: the kernel that was
    started, and its namespace of time. Empty: this system has no such name."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()} {os.stat('/proc/self/ns/time').st_ino}"
    except OSError:
        return ""


def timer_descriptor() -> int:
    """A new descriptor that `start_timer` makes readable, of timerfd_create(2); `ABSENT` if this system has
    none. Raises OSError: the process has no descriptor left."""
    import ctypes

    # Where a long has four bytes, it depends on the C library how long a time is.
    if not LINUX or ctypes.sizeof(ctypes.c_long) < 8:
        return ABSENT
    descriptor: int = _c_library().timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return descriptor


def start_timer(descriptor: int, wait_ns: int) -> None:
    """Make the descriptor unreadable now, and readable once, after `wait_ns`; never if that is 0."""
    import ctypes

    # struct itimerspec: the interval of a periodic timer, and the time until the first expiry.
    times = (ctypes.c_long * 4)(0, 0, *divmod(wait_ns, 1_000_000_000))
    _c_library().timerfd_settime(descriptor, 0, times, None)


@functools.cache
def _c_library() -> Any:
    """The C library, for calls that do not wait: they keep the lock of the interpreter."""
    import ctypes

    return ctypes.PyDLL(None, use_errno=True)


@contextlib.contextmanager
def fine_timers() -> Iterator[None]:
    """Let waits with a timeout end within a millisecond of it. On Windows they end at the clock's next tick
    otherwise, up to 15.6 ms late, which is a burst of a paced sender."""
    if sys.platform == "win32":
        import ctypes

        multimedia = ctypes.WinDLL("winmm")
        multimedia.timeBeginPeriod(1)
        try:
            yield
        finally:
            multimedia.timeEndPeriod(1)
    else:
        yield


def processors_here() -> frozenset[int]:
    """Numbers of the processors that the calling thread, and the threads that it starts, may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def error_text(code: int) -> str:
    """The system's sentence for an errno of a socket or file."""
    if sys.platform == "win32":
        import ctypes

        return ctypes.FormatError(code).strip()
    return os.strerror(code)


def lock_file(descriptor: int, *, wait: bool) -> None:
    """Keep other processes, and other descriptors of this one, from locking a file until it is closed.
    Nothing where the system has no such lock (Windows). Raises OSError: the file system has none, or another
    one holds it and `wait` is False."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@contextlib.contextmanager
def locked_file(descriptor: int) -> Iterator[None]:
    """Keep other processes that lock the file from writing to it. A file system without locks, and a pipe,
    are used without one."""
    with contextlib.suppress(OSError):
        lock_file(descriptor, wait=True)
    try:
        yield
    finally:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_running(process: int) -> bool:
    """True if a process has that number. On Windows, `os.kill(process, 0)` would be Ctrl-C."""
    if sys.platform == "win32":
        import ctypes

        query, still_active = 0x1000, 259  # PROCESS_QUERY_LIMITED_INFORMATION, STILL_ACTIVE
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        handle = kernel.OpenProcess(query, False, process)
        if not handle:
            return ctypes.get_last_error() == 5  # ERROR_ACCESS_DENIED: it runs as another user
        status = ctypes.c_ulong()
        known = kernel.GetExitCodeProcess(handle, ctypes.byref(status))
        kernel.CloseHandle(handle)
        return not known or status.value == still_active
    try:
        os.kill(process, 0)
    except PermissionError:
        return True  # it runs as another user
    except (ProcessLookupError, OverflowError):
        return False
    return True


def apart_from_terminal() -> dict[str, Any]:
    """Arguments of `subprocess.Popen` for a child that a Ctrl-C in the terminal does not reach."""
    if sys.platform == "win32":
        import subprocess

        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
