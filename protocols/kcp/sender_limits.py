"""What holds a sender, and for how long each thing did (tcp_info has busy_time, rwnd_limited and
sndbuf_limited for it)."""

from __future__ import annotations

REASONS = ("application", "congestion window", "send window", "receive window", "pacing", "processor")


class SenderLimits:
    """Time by reason, in microseconds."""

    __slots__ = ("_reason", "_since_us", "_us")

    def __init__(self) -> None:
        self._us = dict.fromkeys(REASONS, 0)
        self._reason = REASONS[0]
        self._since_us: int | None = None

    def note(self, reason: str, now_us: int) -> None:
        """From now on this is what holds it; until now it was what was noted last."""
        if self._since_us is not None:
            self._us[self._reason] += now_us - self._since_us
        self._reason, self._since_us = reason, now_us

    def until(self, now_us: int) -> dict[str, int]:
        """Time by reason up to now, which is no earlier than the last note."""
        open_us = 0 if self._since_us is None else now_us - self._since_us
        return {reason: us + open_us * (reason == self._reason) for reason, us in self._us.items()}
