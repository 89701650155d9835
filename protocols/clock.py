"""The clock of all measurements."""

from __future__ import annotations

from iperfpy.protocols.operating_system import monotonic_ns


def now_us() -> int:
    """Microseconds of the monotonic clock."""
    return monotonic_ns() // 1000
