"""Watches whether payload moves, and aborts a test in which it has stopped."""

from __future__ import annotations

from collections.abc import Sequence

from iperfpy.errors import LateError, PathError
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.traffic.measured_stream import MeasuredStream


class ProgressWatch:
    """Remembers when payload moved last: on any stream, and on those that this end receives.

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
    ) -> None:
        self._streams = streams
        self._receiving = [each for each in streams if not each.stream.sends]
        self._sending = [each for each in streams if each.stream.sends]
        self._scope = scope
        self._deadlines = deadlines
        self._ends_by_amount = ends_by_amount
        self.moved_bytes, self.moved_us = 0, started_us
        self._received_bytes, self._received_us = 0, started_us

    def check(self, now_us: int, *, peer_finished: bool) -> None:
        """Abort the test if nothing has moved, or arrived, for too long."""
        moved_bytes = sum(each.snapshots.moved_bytes for each in self._streams)
        if moved_bytes != self.moved_bytes or self._nothing_is_due():
            self.moved_bytes, self.moved_us = moved_bytes, now_us
        elif now_us - self.moved_us > self._deadlines.stall_s * 1e6:
            self._scope.abort(PathError(f"no data has moved for {self._deadlines.stall_s:g} s"))
        received_bytes = sum(each.snapshots.moved_bytes for each in self._receiving)
        if received_bytes != self._received_bytes or not self._receiving or peer_finished:
            self._received_bytes, self._received_us = received_bytes, now_us
        elif now_us - self._received_us > self._deadlines.receive_s * 1e6:
            self._scope.abort(LateError(f"no data has come for {self._deadlines.receive_s:g} s"))

    def _nothing_is_due(self) -> bool:
        """True if this end has sent the whole amount and receives nothing: waiting for the last
        acknowledgement has a limit of its own."""
        return self._ends_by_amount and not self._receiving and all(each.is_done for each in self._sending)
