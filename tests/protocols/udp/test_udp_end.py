"""Sockets of UDP streams follow the settings, whether a stream goes one way or both ways."""

from __future__ import annotations

import asyncio

import pytest

from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.registry import transport
from iperfpy.protocols.testing.loopback import loopback_streams
from iperfpy.protocols.udp import UdpSettings, udp_end

UDP = transport("udp")

pytestmark = pytest.mark.parametrize("both_ways", [False, True])


def refusal(settings: UdpSettings, *, both_ways: bool) -> str:
    """The sentence with which a stream of these settings is refused."""

    async def opened() -> None:
        async with loopback_streams((UDP, settings, False), both_ways=both_ways):
            pass

    with pytest.raises(TransportError) as refused:
        asyncio.run(opened())
    return str(refused.value)


def test_a_stream_that_must_not_be_fragmented_says_if_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, both_ways: bool
) -> None:
    monkeypatch.setattr(udp_end, "forbid_fragments", lambda sock: False)
    said = refusal(UdpSettings(dont_fragment=True), both_ways=both_ways)
    assert said == "this system cannot forbid fragments"


def test_a_smaller_socket_buffer_names_the_limit_of_the_system(
    monkeypatch: pytest.MonkeyPatch, both_ways: bool
) -> None:
    monkeypatch.setattr(udp_end, "SEND_BUFFER_LIMIT", "send.limit")
    monkeypatch.setattr(udp_end, "RECEIVE_BUFFER_LIMIT", "receive.limit")
    monkeypatch.setattr(DatagramSocket, "size_buffers", lambda self, size_bytes: (3_000, 2_000))
    said = refusal(UdpSettings(window=4_000), both_ways=both_ways)
    assert said == (
        "the kernel allows a socket buffer of 2000 bytes, not 4000 bytes"
        " (see sysctl receive.limit and send.limit)"
    )
