"""Reasons why a sender does not send more, and the time for which each of them held.

`tcp_info` has busy_time, rwnd_limited and sndbuf_limited for it; a table of a test shows them as columns.
"""

from __future__ import annotations

from enum import Enum


class SenderLimit(Enum):
    """One reason: its key, its label in tables, and a phrase for documentation."""

    APPLICATION = "application", "application", "the application, which had nothing to send"
    CONGESTION_WINDOW = "cwnd", "congestion window", "the congestion window"
    SEND_WINDOW = "sndwnd", "send window", "its own send window"
    RECEIVE_WINDOW = "rwnd", "receive window", "the window that the peer advertises"
    PACING = "pacing", "pacing", "pacing, which spreads packets at the sending rate"
    PROCESSOR = "processor", "processor", "this machine: data and room were there, processor time was not"

    def __init__(self, key: str, label: str, phrase: str) -> None:
        self.key, self.label, self.phrase = key, label, phrase
        self.metric_key = f"{key}_limited_us"

    # By identity: `Enum` hashes the name in Python, which takes longer than the rest of a look at the limits.
    __hash__ = object.__hash__


class SenderLimits:
    """Time by limit, in microseconds.

    Attributes
    ----------
    current : the limit noted last
    """

    __slots__ = ("_before", "_since_us", "_us", "current")

    def __init__(self) -> None:
        self.current = SenderLimit.APPLICATION
        self._us = dict.fromkeys(SenderLimit, 0)
        self._since_us: int | None = None
        self._before: dict[SenderLimit, int] = {}

    def note(self, limit: SenderLimit, now_us: int) -> None:
        """`limit` holds from now on; until now it was the limit noted last."""
        if self._since_us is None:
            self.current, self._since_us = limit, now_us
        elif limit is not self.current:
            self._us[self.current] += now_us - self._since_us
            self.current, self._since_us = limit, now_us

    def until(self, now_us: int) -> dict[SenderLimit, int]:
        """Time by limit up to now, which is no earlier than the last note."""
        open_us = 0 if self._since_us is None else now_us - self._since_us
        held = self._us.copy()
        held[self.current] += open_us
        return held

    def load_begins(self, now_us: int) -> None:
        """A load is there from now on. Until now the stream waited for its test, which is no limit."""
        self._before = self.until(now_us)

    def of_load(self, now_us: int) -> dict[SenderLimit, int]:
        """Time by limit up to now, since the load began."""
        return {limit: us - self._before.get(limit, 0) for limit, us in self.until(now_us).items()}
