"""A server's limits on its clients: duration, total rate, processors. Their number: places.py.

Pure, but for `ProcessorAffinity`: times and counts in, verdicts out.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Hashable, Mapping, Set
from typing import Generic, TypeVar

from iperfpy.error_numbers import ErrorNumber
from iperfpy.errors import PlanError
from iperfpy.options import ServerOptions
from iperfpy.plan import Plan
from iperfpy.protocols.units import format_rate

Test = TypeVar("Test", bound=Hashable)


def check_limits(plan: Plan, options: ServerOptions, running: Collection[Plan]) -> None:
    """Raise `PlanError`, with iperf3's number for the reason, if the server does not run such a test.

    A test without a rate is admitted: it is aborted when it goes too fast.
    """
    longest_us, limit_bps = options.longest_us, options.rate_limit_bps
    # An amount (-n, -k) has no duration that could be checked before, so it is refused, too.
    if longest_us and not 0 < plan.duration_us + plan.omit_us * bool(plan.duration_us) <= longest_us:
        text = f"this server runs tests of at most {longest_us / 1e6:g} s (-t and -O together)"
        raise PlanError(text, ErrorNumber.MAXIMUM_DURATION)
    asked_bps = sum(one.asked_bps for one in (plan, *running))
    if limit_bps and asked_bps > limit_bps:
        raise rate_exceeded(limit_bps)


def rate_exceeded(limit_bps: int) -> PlanError:
    """The error of a test that would go, or went, over the limit of all tests together."""
    text = f"this server's limit for all its tests together is {format_rate(limit_bps)}"
    return PlanError(text, ErrorNumber.TOTAL_RATE)


class TotalRate(Generic[Test]):
    """Watches the payload rate of all tests, averaged over a moving window."""

    def __init__(self, limit_bps: int, window_us: int) -> None:
        self._limit_bps = limit_bps
        self._window_us = window_us
        self._seen: deque[tuple[int, Mapping[Test, int]]] = deque()

    def observe(self, now_us: int, moved: Mapping[Test, int]) -> Test | None:
        """Take note of the payload bytes of each running test so far.

        Returns the test that moved most within the window if all of them together moved too much, else
        None. There is no verdict before the window is full.
        """
        seen = self._seen
        seen.append((now_us, dict(moved)))
        # Keep one observation at or before the start of the window: the difference spans all of it.
        while len(seen) > 2 and now_us - seen[1][0] >= self._window_us:
            seen.popleft()
        since_us, before = seen[0]
        grown = {test: total - before.get(test, 0) for test, total in moved.items()}
        allowed = self._limit_bps * (now_us - since_us) / 8e6
        if now_us - since_us < self._window_us or sum(grown.values()) <= allowed:
            return None
        return max(grown, key=lambda test: grown[test])


class ProcessorAffinity:
    """The processors that this process runs on, for clients that ask for one (iperf3's `-A n,m`).

    It remembers those that the process had at first.
    """

    def __init__(self) -> None:
        self._original = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None

    def apply(self, cpus: Set[int]) -> None:
        """Run on these processors, or on the original ones if there are none.

        Threads started from now on follow. Raises `PlanError`.
        """
        if self._original is None:
            if cpus:
                text = "this server's system cannot bind a process to a processor"
                raise PlanError(text, ErrorNumber.AFFINITY)
            return
        try:
            os.sched_setaffinity(0, cpus or self._original)
        except OSError as error:
            named = ", ".join(map(str, sorted(cpus)))
            raise PlanError(f"this server cannot run on processor {named}", ErrorNumber.AFFINITY) from error
