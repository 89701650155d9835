"""The record of a stream names the end that did not run."""

from __future__ import annotations

from iperfpy.endpoint.verdict import with_held_up
from iperfpy.protocols.path_evidence import PathEvidence, merged


def test_each_end_adds_its_own_time_to_the_record_of_a_stream() -> None:
    sender = with_held_up(PathEvidence(min_rtt_us=5.0, extra={"sampled": 1}), sends=True, held_up_us=7)
    receiver = with_held_up(None, sends=False, held_up_us=9)
    both = merged(sender, receiver)
    assert both is not None
    assert both.extra == {"sampled": 1, "sender_held_up_us": 7, "receiver_held_up_us": 9}
    assert both.min_rtt_us == 5.0


def test_an_end_that_ran_adds_nothing() -> None:
    assert with_held_up(None, sends=True, held_up_us=0) is None
    record = PathEvidence()
    assert with_held_up(record, sends=False, held_up_us=0) is record
