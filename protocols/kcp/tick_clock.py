"""Stock KCP's clock: a flush every `interval`."""

from __future__ import annotations


class TickClock:
    """Ticks at a fixed distance, as a flush loop that never stops would have them.

    An engine is not called for ticks at which there is nothing to do. Such ticks pass in silence, and data
    that comes after them waits for the next one on the grid.

    Attributes
    ----------
    at_us : time of the next tick
    awaited : True if something waits for that tick, so that it must not pass in silence
    """

    __slots__ = ("_interval_us", "at_us", "awaited")

    def __init__(self, interval_us: int) -> None:
        self._interval_us = interval_us
        self.at_us = 0
        self.awaited = False

    def ticks(self, now_us: int, *, early: bool = False) -> bool:
        """True if a tick is due now, or made now (`early`); the next one follows an interval later."""
        if now_us > self.at_us and not self.awaited:
            self.at_us = now_us + (self.at_us - now_us) % self._interval_us
        if not early and now_us < self.at_us:
            return False
        self.at_us = now_us + self._interval_us
        return True
