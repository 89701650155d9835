"""This machine: its name, and the processor time of this process over wall time."""

from __future__ import annotations

import hashlib
import os
import platform
import time

from iperfpy.protocols.clock import now_us
from iperfpy.protocols.operating_system import clock_name
from iperfpy.records import HostClock

READINGS = 5
"""Of so many readings of both clocks, the quickest counts: nothing held it up."""


def system_info() -> str:
    """System, name, release, version and kind of processor, as `uname -a` has them."""
    # By name: by index or as a tuple, `platform` starts a program to ask for the processor, too.
    system = platform.uname()
    return " ".join((system.system, system.node, system.release, system.version, system.machine))


def system_name() -> str:
    """System, release and kind of processor, without the name of the machine: for the peer of a test."""
    system = platform.uname()
    return " ".join((system.system, system.release, system.machine))


def wall_us() -> int:
    """This machine's wall clock less its monotonic clock, microseconds."""
    found = []
    for _ in range(READINGS):
        before, wall, after = now_us(), time.time_ns() // 1000, now_us()
        found.append((after - before, wall - (before + after) // 2))
    return min(found)[1]


def host_clock(begin_wall_us: int, test: str) -> HostClock:
    """The clocks of this machine at the end of a test.

    Parameters
    ----------
    begin_wall_us : `wall_us` when the test began
    test : the test's identifier, so that the name of the clock tells the peer nothing about other tests
    """
    name = clock_name()
    host = hashlib.sha256(f"{test} {name}".encode()).hexdigest()[:16] if name else ""
    return HostClock(begin_wall_us, wall_us() - begin_wall_us, host)


class CpuMeter:
    """Per cent of one core since construction, as iperf3 reports it; above 100 with several threads busy."""

    def __init__(self) -> None:
        self._wall = time.monotonic()
        self._user, self._system = _cpu_seconds()

    def percent(self) -> dict[str, float]:
        """`host_total`, `host_user`, `host_system`; all 0.0 before any time has passed."""
        wall = time.monotonic() - self._wall
        user, system = _cpu_seconds()
        scale = 100.0 / wall if wall > 0 else 0.0
        user, system = (user - self._user) * scale, (system - self._system) * scale
        return {"host_total": user + system, "host_user": user, "host_system": system}


def _cpu_seconds() -> tuple[float, float]:
    """(user, system) seconds of this process. `getrusage` is finer than `os.times`, and not everywhere."""
    try:
        import resource
    except ImportError:
        times = os.times()
        return times.user, times.system
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime
