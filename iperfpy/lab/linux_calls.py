"""System calls of Linux that Python 3.11 has no function for. Each raises an OSError if the kernel refuses.

`os.unshare` and `os.setns` came with Python 3.12. The numbers are those of linux/sched.h, mount.h, prctl.h
and capability.h, equal on every architecture.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 0x4000, 0x40000
CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW = 10, 12, 13
_PR_SET_PDEATHSIG, _PR_SET_TIMERSLACK, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 29, 47, 2
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave some namespaces for new ones."""
    _check(_libc.unshare(flags), "unshare")


def enter_network(descriptor: int) -> None:
    """Move this thread into a network namespace."""
    _check(_libc.setns(descriptor, CLONE_NEWNET), "setns")


def mount(source: str, target: str, kind: str, flags: int) -> None:
    """Mount a file system, or change how a mount propagates."""
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None)
    _check(_libc.mount(*arguments), "mount")


def die_with_parent(number: int) -> None:
    """Have the kernel send a signal to this process when the thread that forked it ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl")


def wake_punctually() -> None:
    """Let timers of this thread run out when they are due; by default they may be 50 us late."""
    _check(_libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0), "prctl")


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def keep_capabilities(numbers: Iterable[int]) -> None:
    """Let programs that this process executes have these capabilities, although their user is not root."""
    header, sets = _CapabilityHeader(_CAPABILITY_VERSION_3, 0), (_CapabilitySets * 2)()
    _check(_libc.capget(ctypes.byref(header), sets), "capget")
    for number in numbers:
        sets[0].inheritable |= 1 << number
    _check(_libc.capset(ctypes.byref(header), sets), "capset")
    for number in numbers:
        _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0), "prctl")
