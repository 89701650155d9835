"""Which processors this process runs on, when clients ask for one (iperf3's `-A n,m`)."""

from __future__ import annotations

import os
from collections.abc import Set

from iperfpy.errors import PlanError

IE_AFFINITY = 132


class Placement:
    """Remembers where the process ran before anybody asked."""

    def __init__(self) -> None:
        self._own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None

    def place(self, cpus: Set[int]) -> None:
        """Run on these, or where the process ran at first when there are none. Threads that are started
        from now on follow. Raises `PlanError`."""
        if self._own is None:
            if cpus:
                raise PlanError("this server's system cannot bind a process to a processor", IE_AFFINITY)
            return
        try:
            os.sched_setaffinity(0, cpus or self._own)
        except OSError as error:
            named = ", ".join(map(str, sorted(cpus)))
            raise PlanError(f"this server cannot run on processor {named}", IE_AFFINITY) from error
