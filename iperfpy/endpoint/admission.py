"""What a server allows its clients: how much, how long, how many. Pure: times and counts in, verdicts out."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Mapping
from typing import Generic, TypeVar

from iperfpy.errors import PlanError
from iperfpy.options import ServerOptions
from iperfpy.plan import Plan
from iperfpy.protocols.units import format_rate

IE_TOTAL_RATE, IE_MAX_DURATION = 27, 37

Test = TypeVar("Test", bound=Hashable)


def check_limits(plan: Plan, options: ServerOptions, running: Collection[Plan]) -> None:
    """Raise `PlanError` for a test that this server does not run, with iperf3's number for it.

    A test without a rate is let in: it is called off when it goes too fast.
    """
    longest_us, limit_bps = options.longest_us, options.rate_limit_bps
    if longest_us and not 0 < plan.duration_us + plan.omit_us * bool(plan.duration_us) <= longest_us:
        raise PlanError(
            f"this server runs tests of at most {longest_us / 1e6:g} s (-t and -O together)", IE_MAX_DURATION
        )
    asked_bps = sum(one.rate_bps * one.stream_count for one in (plan, *running))
    if limit_bps and asked_bps > limit_bps:
        raise PlanError(too_fast(limit_bps), IE_TOTAL_RATE)


def too_fast(limit_bps: int) -> str:
    """What a client is told."""
    return f"this server's limit for all its tests together is {format_rate(limit_bps)}"


class TotalRate(Generic[Test]):
    """Watches the payload of all tests, averaged over a window that moves."""

    def __init__(self, limit_bps: int, window_us: int) -> None:
        self._limit_bps = limit_bps
        self._window_us = window_us
        self._seen: deque[tuple[int, Mapping[Test, int]]] = deque()

    def observe(self, now_us: int, moved: Mapping[Test, int]) -> Test | None:
        """`moved`: payload bytes of each running test so far. Gives the test that moved most within the
        window, when all of them together moved too much."""
        seen = self._seen
        seen.append((now_us, dict(moved)))
        while len(seen) > 2 and now_us - seen[1][0] >= self._window_us:
            seen.popleft()
        since_us, before = seen[0]
        grown = {test: total - before.get(test, 0) for test, total in moved.items()}
        allowed = self._limit_bps * (now_us - since_us) / 8e6
        if now_us - since_us < self._window_us or sum(grown.values()) <= allowed:
            return None
        return max(grown, key=lambda test: grown[test])
