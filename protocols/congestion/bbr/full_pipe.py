"""BBRCheckFullBWReached (draft 5.3.1.2): the delivery rate has stopped growing."""

from __future__ import annotations

FULL_PIPE_GROWTH = 1.25


FULL_PIPE_ROUNDS = 3


class FullPipe:
    """Has the delivery rate stopped growing though we send faster? (BBRCheckFullBWReached, 5.3.1.2)"""

    def __init__(self) -> None:
        self.reached = False
        """Ever."""
        self.now = False
        """Since the last `reset`."""
        self.flat_rounds = 0
        self.rate = 0.0

    def reset(self, rate: float = 0.0) -> None:
        self.rate, self.flat_rounds, self.now = rate, 0, False

    def update(self, rate: float) -> None:
        """The best delivery rate of a round that was not limited by the application."""
        if self.now:
            return
        if rate >= self.rate * FULL_PIPE_GROWTH:
            self.reset(rate)
            return
        self.flat_rounds += 1
        self.now = self.flat_rounds >= FULL_PIPE_ROUNDS
        self.reached = self.reached or self.now
