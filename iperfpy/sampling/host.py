"""This machine: its name, and the processor time of this process over wall time."""

from __future__ import annotations

import os
import platform
import time


def system_info() -> str:
    """System, name, release, version and kind of processor, as `uname -a` has them."""
    # By name: by index or as a tuple, `platform` starts a program to ask for the processor, too.
    system = platform.uname()
    return " ".join((system.system, system.node, system.release, system.version, system.machine))


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
