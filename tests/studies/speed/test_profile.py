"""Arithmetic of the profile; no test here asserts a speed."""

from __future__ import annotations

import importlib

import pytest

from tests.studies.speed.profile import PARTS, REST, profile, seconds, table
from tests.studies.speed.profile import part_of as part


def test_the_longest_matching_name_decides_the_part_of_a_function() -> None:
    assert part("iperfpy.protocols.datagrams.datagram_socket:DatagramSocket._sendmsg") == "sendmsg"
    assert part("iperfpy.protocols.datagrams.datagram_socket:DatagramSocket.send") == "runs of datagrams"
    assert part("iperfpy.protocols.kcp.engine:Engine._send_acks") == "building ACKs"
    assert part("iperfpy.protocols.kcp.engine:Engine.transmit") == "engine, sending"
    assert part("asyncio.events:Handle._run") is None


def test_every_part_names_something_that_exists() -> None:
    """A name that the code has no more would silently count for another part."""
    for prefix in (prefix for names in PARTS.values() for prefix in names):
        module, _, name = prefix.partition(":")
        if prefix.endswith("."):
            importlib.import_module(prefix.removesuffix("."))
            continue
        found: object = importlib.import_module(module)
        *owners, last = name.split(".")
        for owner in owners:
            found = getattr(found, owner)
        assert any(each.startswith(last) for each in dir(found)), prefix


def test_time_is_counted_from_the_first_sampled_part_to_the_last() -> None:
    samples = [(0.1, None), (0.2, "BBR"), (0.5, "sendmsg"), (0.6, None), (0.8, "BBR"), (2.0, None)]
    found = seconds(samples)
    assert found == pytest.approx({"sendmsg": 0.3, REST: 0.1, "BBR": 0.2})
    assert seconds([(0.1, None)]) == {}


def test_the_table_omits_parts_that_take_no_time() -> None:
    lines = table({"a": {"BBR": 2.0, REST: 0.01}, "b": {"sendmsg": 10.0}}).splitlines()
    assert lines[0] == "| µs per 64 KiB | a | b |"
    assert lines[2:] == ["| sendmsg |  | 10.0 |", "| BBR | 2.0 |  |", "| **sum** | **2.0** | **10.0** |"]


@pytest.mark.live
@pytest.mark.parametrize("transport", ["kcp", "kcp-bbr"])
def test_the_profile_of_a_real_test_has_samples_of_both_ends(transport: str) -> None:
    """The test holds on a busy machine too, because samples are taken by processor time."""
    for length_s in (1.0, 4.0, 16.0):
        units, ends = profile(transport, length_s)
        if all(sum(parts.values()) > 0 for parts in ends.values()):
            break
    assert units > 0
    assert set(ends) == {"send", "receive"}
    for parts in ends.values():
        assert sum(parts.values()) > 0
        assert set(parts) <= {*PARTS, REST}
