"""Looks at the counters that come late: the process did not run."""

from __future__ import annotations

from iperfpy.plan import Plan
from iperfpy.protocols.registry import transport
from iperfpy.traffic.poll_times import HELD_UP_US, PollTimes


def test_looks_that_come_late_are_the_time_for_which_the_process_was_held_up() -> None:
    polls = PollTimes(Plan("tcp", transport("tcp").settings()), 1, only_receives=True)
    polls.looked(1_000_000, 1_000_000 + HELD_UP_US - 1)
    assert polls.held_up_us == 0
    polls.looked(2_000_000, 2_400_000)
    polls.looked(3_000_000, 3_300_000)
    assert polls.held_up_us == 700_000
