"""Questions about the peer's window (WASK), and answers to its own (WINS)."""

from __future__ import annotations

from iperfpy.protocols.kcp import wire

FIRST_US, LONGEST_US = 500_000, 120_000_000


class WindowProbes:
    """Attributes
    ----------
    at_us : when to ask next, as long as the peer's window is closed and something waits
    """

    def __init__(self) -> None:
        self.at_us: int | None = None
        self._wait_us = 0
        self._told: set[int] = set()

    def ask(self) -> None:
        self._told.add(wire.WASK)

    def answer(self) -> None:
        self._told.add(wire.WINS)

    def due(self, now_us: int, closed: bool) -> set[int]:
        """The commands that leave now; `closed`: the peer's window is, and something waits for it."""
        if not closed:
            self.at_us = None
        elif self.at_us is None:
            self._wait_us = FIRST_US
            self.at_us = now_us + self._wait_us
        elif now_us >= self.at_us:
            self.ask()
            self._wait_us = min(self._wait_us * 3 // 2, LONGEST_US)
            self.at_us = now_us + self._wait_us
        told, self._told = self._told, set()
        return told
