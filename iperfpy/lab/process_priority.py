"""The place of the relay among the other work of the machine."""

from __future__ import annotations

import contextlib
import gc
import os


def prefer_this_process() -> None:
    """Let this process go before other work, as far as its user may. Its children get their usual place."""
    # Each attribute is missing on some system, and each call is refused to some users.
    try:
        # Above the programs of the run, which have the priority of this process.
        priority = os.sched_param(os.sched_getparam(0).sched_priority + 1)
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, priority)
    except (AttributeError, OSError):
        with contextlib.suppress(AttributeError, OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -20)
    # A collection would hold all packets up; a relay makes no circles of objects.
    gc.collect()
    gc.disable()
