"""The measured time of one end: where it begins and, above all, where it ends.

A sender's time ends when this end learns that the test is over. A receiver's time ends earlier if nothing
arrived in the last part of it: the message that the test is over may have been delayed, and waiting for it is
no part of what the path carried. Neither is the time in which an end waits whether more arrives (`SETTLED`).
"""

from __future__ import annotations

from iperfpy.plan import Plan
from iperfpy.traffic.ending import EndEvent, EndRule
from iperfpy.traffic.progress_watch import ProgressWatch
from iperfpy.traffic.schedule import Schedule

SENDER_GRACE_US = 2_000_000
"""Time after the planned end at which a sender stops by its own clock. TEST_END comes sooner, unless it waits
behind what that sender has queued on the path."""
FIRST_DATA_LIMIT_US, SHORT_FIRST_DATA_LIMIT_US = 2_000_000, 1_000_000
"""A longer silence before the first data is part of the measurement. So is one that lasts until the planned
end, if this end knows it; but a busy server may need the shorter of these times to begin."""


class CountingTime:
    """Decides when this end has stopped counting.

    Attributes
    ----------
    schedule : ends of the intervals
    only_receives : True if this end sends on no stream
    ticked_us : time of the last tick; the measured time ends no earlier
    ended_us : time at which counting stopped, None before
    ends_early : True once a silence confirmed that the peer has sent all of its payload
    received_until_us : the same for streams that this end receives while it sends on others
    """

    def __init__(self, plan: Plan, rule: EndRule, started_us: int, *, only_receives: bool) -> None:
        self.schedule = Schedule(
            started_us, plan.interval_us, plan.omit_us, plan.duration_us if rule.knows_end else 0
        )
        self.only_receives = only_receives
        self.ticked_us = self.sending_since_us = started_us
        self.ended_us: int | None = None
        self.ends_early = False
        self.received_until_us: int | None = None
        self._duration_us = plan.duration_us
        self._stops_by_clock = rule.stops_by_clock
        self._senders_stop = rule.senders_stop_by_clock
        self._settles = EndEvent.SETTLED in rule.events
        self._ends_with_silence = rule.ends_with_silence

    def first_data_limit_us(self, now_us: int) -> int:
        """Longest wait for the first data from now on."""
        end_us = self.schedule.end_us
        if end_us is None:  # the peer knows the end, and its first data may be a round-trip time away
            return FIRST_DATA_LIMIT_US
        return min(FIRST_DATA_LIMIT_US, max(SHORT_FIRST_DATA_LIMIT_US, end_us - now_us))

    def begin(self, now_us: int) -> None:
        """The first data has arrived: count time from here."""
        self.ticked_us = now_us
        self.schedule.begin(now_us)

    @property
    def tick_due_us(self) -> int | None:
        """Time of the next tick, None if none follows before the end."""
        return self.schedule.next_us if self.ended_us is None else None

    @property
    def stops_us(self) -> int | None:
        """Time at which this end stops counting by itself, None if it waits for an event."""
        if not self._stops_by_clock or self.schedule.omitting or self.ended_us is not None:
            return None
        return self._planned_end_us

    @property
    def senders_stop_us(self) -> int | None:
        """Time at which this end's senders stop without being told, None if they never do."""
        if not self._senders_stop or self.schedule.omitting:
            return None
        return self._planned_end_us + SENDER_GRACE_US

    def end(self, now_us: int, progress: ProgressWatch, total_bytes: int) -> None:
        """This end learnt that the test is over. `total_bytes`: all payload until now."""
        self.ended_us = now_us
        if self._duration_us:
            heard_us = progress.heard_us(now_us) or 0
            self.received_until_us = min(now_us, max(heard_us, self._planned_end_us, self.ticked_us))
        # Data that arrived since the last check moves the end up to now.
        idle = total_bytes == progress.moved_bytes and total_bytes > 0
        if self._ends_with_silence and idle:
            # The silence was the sign of the end: intervals in it have been reported, and do not count.
            self.ended_us = min(now_us, max(progress.moved_us, self.schedule.started_us))
        elif (self.only_receives or self._settles) and idle:
            planned_us = self.schedule.started_us if self.ends_early else self._planned_end_us
            self.ended_us = min(now_us, max(progress.moved_us, planned_us, self.ticked_us))

    @property
    def _planned_end_us(self) -> int:
        """Planned end of the present period; its beginning if only an amount ends it."""
        return self.schedule.started_us + self._duration_us
