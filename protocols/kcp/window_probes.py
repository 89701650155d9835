"""Window probes: WASK asks for the peer's receive window, WINS tells ours, which is `Engine._advertised`."""

from __future__ import annotations

from iperfpy.protocols.kcp import wire

FIRST_US, LONGEST_US = 500_000, 120_000_000


class WindowProbes:
    """Window probes and answers that leave with the next transmission, and the timer of repeated probes.

    Attributes
    ----------
    at_us : time of the next question while the peer's window is closed and data waits; else None
    """

    def __init__(self) -> None:
        self.at_us: int | None = None
        self._wait_us = 0
        self._due: set[int] = set()

    def ask(self) -> None:
        """Send WASK with the next transmission."""
        self._due.add(wire.WASK)

    def answer(self) -> None:
        """Send WINS with the next transmission, once however often the peer asked."""
        self._due.add(wire.WINS)

    def due(self, now_us: int, closed: bool) -> set[int]:
        """The commands that leave now.

        `closed`: the peer's window is closed and data waits for it. Then WASK is repeated after 500 ms, and
        after ever longer times up to two minutes, as stock KCP does.
        """
        if not closed:
            self.at_us = None
        elif self.at_us is None:
            # Stock KCP does not ask at once: ACKs under way may bring a new window.
            self._wait_us = FIRST_US
            self.at_us = now_us + self._wait_us
        elif now_us >= self.at_us:
            self.ask()
            self._wait_us = min(self._wait_us * 3 // 2, LONGEST_US)
            self.at_us = now_us + self._wait_us
        due = self._due
        if due:
            self._due = set()
        return due
