"""Watches whether payload moves, and aborts a test without a planned end in which it has stopped.

In a test with a planned end a silence is rows of zeros until then, unless the user set a limit
(--rcv-timeout).
"""

from __future__ import annotations

from collections.abc import Sequence

from iperfpy.errors import LateError, PathError
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.traffic.measured_stream import MeasuredStream


class ProgressWatch:
    """Remembers when payload moved last: on any stream, and on those that this end receives. It goes by the
    last look at the counters of each stream (`CounterSnapshots.look`): reading them is not free.

    Attributes
    ----------
    moved_us : time of the last check that found new payload on any stream, or found that none was due
    moved_bytes : payload on all streams at that check
    """

    def __init__(
        self,
        streams: Sequence[MeasuredStream],
        started_us: int,
        scope: AbortScope,
        deadlines: Deadlines,
        *,
        ends_by_amount: bool,
        has_planned_end: bool,
    ) -> None:
        self._streams = streams
        self._receiving = [each for each in streams if not each.stream.sends]
        self._sending = [each for each in streams if each.stream.sends]
        self._scope = scope
        self._stall_s = deadlines.silence_s(has_planned_end=has_planned_end)
        self._receive_s = self._stall_s if deadlines.receive_s is None else deadlines.receive_s
        self._ends_by_amount = ends_by_amount
        self.moved_bytes, self.moved_us = 0, started_us
        self._received_bytes, self._awaited_us = 0, started_us
        self._heard_us: int | None = None

    def check(self, now_us: int, *, peer_finished: bool) -> None:
        """Abort the test if nothing has moved, or arrived, for too long."""
        moved_bytes = sum(each.snapshots.seen_bytes for each in self._streams)
        if moved_bytes != self.moved_bytes or self._nothing_is_due():
            self.moved_bytes, self.moved_us = moved_bytes, now_us
        elif self._stall_s is not None and now_us - self.moved_us > self._stall_s * 1e6:
            self._scope.abort(PathError(f"{self._stalled()} for {self._stall_s:g} s"))
        heard_us = self.heard_us(now_us) or 0
        if not self._receiving or peer_finished:
            self._awaited_us = now_us
        elif self._receive_s is not None and now_us - max(heard_us, self._awaited_us) > self._receive_s * 1e6:
            self._scope.abort(LateError(f"no data has come for {self._receive_s:g} s"))

    def heard_us(self, now_us: int) -> int | None:
        """Time of the last look, this one included, that found new payload of the peer; None if none has."""
        received_bytes = sum(each.snapshots.seen_bytes for each in self._receiving)
        if received_bytes != self._received_bytes:
            self._received_bytes, self._heard_us = received_bytes, now_us
        return self._heard_us

    def _nothing_is_due(self) -> bool:
        """True if the whole amount that this end sends was acknowledged, and it receives nothing."""
        return self._ends_by_amount and not self._receiving and all(each.is_done for each in self._sending)

    def _stalled(self) -> str:
        """The part of the sentence that says what has stopped."""
        if self._ends_by_amount and not self._receiving and all(each.has_sent for each in self._sending):
            return "the last data was sent, and nothing of it was acknowledged"
        return "no data has moved"
