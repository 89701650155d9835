"""Datagrams without -l fit the packets of the control connection."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iperfpy.endpoint.client import fitted
from iperfpy.plan import Plan
from iperfpy.protocols.registry import transport
from iperfpy.protocols.udp import UdpSettings

UDP = Plan("udp", UdpSettings(), block_bytes=1_400, fits_path=True)


@pytest.mark.parametrize(
    ("host", "packet", "block"),
    [
        ("192.0.2.1", 1_500, 1_400),
        ("192.0.2.1", 1_420, 1_392),
        ("192.0.2.1", 1_280, 1_252),
        ("2001:db8::1", 1_420, 1_372),
        ("2001:db8::1", 1_280, 1_232),
        ("::ffff:192.0.2.1", 1_280, 1_252),
        ("192.0.2.1", 9_000, 1_400),
        ("192.0.2.1", None, 1_400),
        ("192.0.2.1", 30, 16),
    ],
)
def test_the_default_length_follows_the_path(host: str, packet: int | None, block: int) -> None:
    assert fitted(UDP, transport("udp"), (host, 5201), packet).block_bytes == block


def test_a_length_that_the_user_chose_is_kept() -> None:
    plan = replace(UDP, fits_path=False)
    assert fitted(plan, transport("udp"), ("192.0.2.1", 5201), 1_280) == plan
    bytes_plan = replace(UDP, block_bytes=131_072)
    assert fitted(bytes_plan, transport("tcp"), ("192.0.2.1", 5201), 1_280) == bytes_plan
