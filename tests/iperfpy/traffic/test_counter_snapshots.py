"""Snapshots of a channel's counters."""

from __future__ import annotations

from typing import Any, cast

from iperfpy.protocols.contract import Channel, Delivery
from iperfpy.traffic.counter_snapshots import CounterSnapshots


class Counting:
    """The counters of a channel."""

    def __init__(self, **counters: int) -> None:
        self.record: dict[str, Any] = counters

    def counters(self) -> dict[str, Any]:
        return dict(self.record)


def snapshots_of(channel: Counting) -> CounterSnapshots:
    return CounterSnapshots(cast("Channel", channel))


def test_the_opening_snapshot_stays_while_counters_advance() -> None:
    channel = Counting(bytes=0, segments=5)
    snapshots = snapshots_of(channel)
    assert not snapshots.has_moved
    channel.record |= {"bytes": 9, "segments": 6}
    assert snapshots.opening == {"bytes": 0, "segments": 5}
    assert snapshots.now()["bytes"] == snapshots.counters()["bytes"] == snapshots.payload_bytes == 9
    assert snapshots.has_moved


def test_data_that_came_before_the_first_look_is_part_of_the_test() -> None:
    """A thread of the channel counts from the moment at which the stream is open."""
    delivery = Delivery("units", "sent", "known", "missing", "received", "repeated")
    channel = Counting(bytes=700, received=7, known=8, missing=1, repeated=0, segments=3)
    snapshots = CounterSnapshots(cast("Channel", channel), delivery)
    assert snapshots.has_moved
    assert {key for key, value in snapshots.opening.items() if value} == {"segments"}


def test_reports_show_the_frozen_counters() -> None:
    channel = Counting(bytes=5, lost=1)
    snapshots = snapshots_of(channel)
    snapshots.freeze()
    channel.record |= {"bytes": 9, "lost": 3}
    assert snapshots.counters() == {"bytes": 5, "lost": 1}
    assert (snapshots.payload_bytes, snapshots.moved_bytes) == (5, 9)


def test_every_read_of_the_channel_notes_its_payload() -> None:
    channel = Counting(bytes=5)
    snapshots = snapshots_of(channel)
    for read in (snapshots.look, snapshots.now, snapshots.counters):
        channel.record["bytes"] += 1
        before = snapshots.seen_bytes
        assert read()["bytes"] == snapshots.seen_bytes > before
    snapshots.freeze()
    channel.record["bytes"] = 20
    assert snapshots.look() == {"bytes": 8}
    assert snapshots.seen_bytes == 20


def test_some_frozen_counters_can_be_refreshed() -> None:
    channel = Counting(bytes=5, lost=1)
    snapshots = snapshots_of(channel)
    snapshots.refresh({"lost"})
    assert snapshots.frozen is None
    snapshots.freeze()
    channel.record |= {"bytes": 9, "lost": 3}
    snapshots.refresh({"lost"})
    assert snapshots.counters() == {"bytes": 5, "lost": 3}
    snapshots.withhold({"lost"})
    assert snapshots.counters() == {"bytes": 5, "lost": None}


def test_a_channel_without_payload_counts_as_none() -> None:
    assert snapshots_of(Counting()).payload_bytes == 0
