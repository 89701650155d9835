"""What limited a test, over real sockets: both ends conclude from the records of both."""

from __future__ import annotations

import json
from typing import Any

import pytest

from iperfpy.control import parameters
from iperfpy.control.session import Session
from iperfpy.diagnosis.evidence import EndFigures
from iperfpy.plan import Direction
from iperfpy.protocols.registry import transport, transports
from iperfpy.records import RunEnded
from tests.iperfpy.support import measure, plan_for, serving

pytestmark = pytest.mark.live


async def _both_ends(name: str, direction: Direction, **fields: Any) -> tuple[RunEnded, RunEnded]:
    async with serving() as server:
        report = await measure(server.port, plan_for(name, direction=direction, **fields))
        await server.settled()
        there = server.tests[0].ended
    assert report.ended is not None
    assert there is not None
    return report.ended, there


@pytest.mark.parametrize("direction", Direction, ids=lambda one: one.value)
@pytest.mark.parametrize("name", list(transports()))
async def test_both_ends_conclude_from_the_records_of_both(name: str, direction: Direction) -> None:
    ends = await _both_ends(name, direction, rate_bps=20_000_000)
    wanted = [Direction.FORWARD, Direction.REVERSE] if direction is Direction.BIDIRECTIONAL else [direction]
    for end in ends:
        assert [run.direction for run in end.evidence] == wanted
        assert {one.direction for one in end.findings} == set(wanted)
        for run in end.evidence:
            (path,) = run.path
            assert path.flight is not None
            assert int(path.flight.arrived_packets.sum()) > 0
    client, server = ends
    for ours, theirs in zip(client.evidence, server.evidence, strict=True):
        mine, its = ours.path[0].flight, theirs.path[0].flight
        assert mine is not None
        assert its is not None
        assert int(mine.sent_packets.sum()) == int(its.sent_packets.sum())


async def test_a_test_that_is_too_short_for_a_rate_has_no_verdict() -> None:
    """Nothing limited its one byte."""
    ends = await _both_ends("tcp", Direction.FORWARD, total_bytes=1, block_bytes=1)
    # A busy machine takes 10 ms, which is enough for a rate.
    without = [end for end in ends if all(row.local.bits_per_second is None for row in end.rows)]
    for end in without:
        assert (end.evidence, end.findings) == ((), ())
    if not without:
        pytest.skip("both ends measured for 10 ms or more")


async def test_a_peer_without_the_feature_never_sees_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older iperfpy names other features: no document has the key."""
    monkeypatch.setattr(parameters, "FEATURES", (parameters.ADDRESS_PROOF,))
    sent: list[str] = []
    original = Session.send

    def spied(self: Session, send: Any, body: Any = None) -> bytes:
        sent.append(json.dumps(body, default=str))
        return original(self, send, body)

    monkeypatch.setattr(Session, "send", spied)
    client, server = await _both_ends("kcp", Direction.FORWARD, rate_bps=20_000_000)
    assert any("counted_late" in text for text in sent)
    assert not [text for text in sent if "evidence" in text]
    # The sender's end has its own record.
    assert client.evidence[0].path[0].flight is not None
    assert server.evidence[0].path == ()


async def test_a_fault_in_a_conclusion_costs_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(run: object) -> Any:
        raise ZeroDivisionError("no packets")

    monkeypatch.setattr("iperfpy.diagnosis.one_run.conclude", faulty)
    client, _ = await _both_ends("tcp", Direction.FORWARD, rate_bps=20_000_000)
    assert client.findings == ()
    assert client.rows[0].local.bytes > 0
    assert not client.failed


async def test_windows_flags_and_processor_time_are_those_of_the_sending_end() -> None:
    """In a reverse test the server sends: its processor time is the sender's."""
    client, server = await _both_ends("kcp", Direction.REVERSE, rate_bps=20_000_000)
    run, there = client.evidence[0], server.evidence[0]
    assert run.window_flags == ("--kcp-sndwnd", "--kcp-rcvwnd")
    assert run.windows == (2_048, 2_048)
    # Both ends have the figures of the sender, from which it follows.
    assert run.figures == EndFigures.of(transport("kcp"), run.sender, run.receiver)
    assert run.figures.enough_segments is not None
    assert run.same_host
    assert run.over_udp
    assert not run.controlled  # stock KCP has fixed windows
    assert run.cpu_percent["receiver_total"] == client.cpu_percent["host_total"]
    assert there.cpu_percent["sender_total"] == server.cpu_percent["host_total"]
    assert run.cpu_percent["sender_total"] == pytest.approx(there.cpu_percent["sender_total"])
