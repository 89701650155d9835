"""A windowed maximum that forgets: exact, amortised O(1) per sample.

The caller counts time in units of its own (rounds, cycles, buckets of microseconds): whole numbers that do
not decrease. Of samples at one time only the greatest is kept, so memory is bounded by the window.
"""

from __future__ import annotations

from collections import deque


class WindowedMax:
    """The greatest value of the times `now - window + 1 .. now`.

    `update` and `advance` forget old values, except that the last value known survives an empty window: no
    news is no reason to believe in zero. Before the first sample the maximum is 0.0.
    """

    __slots__ = ("_falling", "value", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.value = 0.0
        self._falling: deque[tuple[int, float]] = deque()

    def update(self, now: int, value: float) -> float:
        """Take a sample; returns the maximum."""
        falling = self._falling
        while falling and falling[-1][1] <= value:
            falling.pop()
        if not falling or falling[-1][0] != now:
            falling.append((now, value))
        return self.advance(now)

    def advance(self, now: int) -> float:
        """Let time pass; returns the maximum."""
        falling = self._falling
        while len(falling) > 1 and falling[0][0] <= now - self.window:
            falling.popleft()
        self.value = falling[0][1] if falling else 0.0
        return self.value

    def clear(self) -> None:
        """Forget everything."""
        self._falling.clear()
        self.value = 0.0
