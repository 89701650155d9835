"""Tests that need a path through the kernel: a NAT on the way, marks in packets."""

from __future__ import annotations

import pytest

from iperfpy.protocols.registry import transports
from tests.studies.wire.case import PORT, Case, captured
from tests.studies.wire.namespaces import ROUTER, PathSpec, why_not

BEHIND_NAT = PathSpec("NAT", rate_mbit=100.0, translates=True)
FIRST_PORT, STREAMS, EXPEDITED = 5300, 4, 46
DATA_BYTES = 500


@pytest.mark.live
@pytest.mark.parametrize("name", transports())
def test_a_bidirectional_test_passes_a_nat_with_its_dscp_and_ports(name: str) -> None:
    """A router that translates addresses and admits only answers does not disturb a test in both directions.

    The client opens every stream, including those on which it receives. Packets show --dscp and --cport.
    """
    if reason := why_not():
        pytest.skip(reason)
    flags = ("--bidir", "-P", "2", "-b", "2M", "--dscp", "ef", "--cport", str(FIRST_PORT))
    (client, server), packets = captured(Case(name, BEHIND_NAT, flags=flags, seconds=1))
    assert server["start"]["accepted_connection"]["host"] == ROUTER
    ports = list(range(FIRST_PORT, FIRST_PORT + STREAMS))
    assert [one["local_port"] for one in client["start"]["connected"]] == ports
    for suffix in ("", "_bidir_reverse"):
        for document in (client, server):
            assert document["end"]["sum_received" + suffix]["bytes"] > 0
    # The capture also has the control connection; its messages are short.
    translated_ports = {one["remote_port"] for one in server["start"]["connected"]}
    data = [
        packet for packet in packets if len(packet.body) > DATA_BYTES and translated_ports & set(packet.ports)
    ]
    assert {packet.out for packet in data} == {False, True}
    assert {packet.dscp for packet in data} == {EXPEDITED}
    assert all(PORT in packet.ports for packet in data)
