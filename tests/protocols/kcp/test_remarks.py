"""The sentences about a sender's figures at the end of a test."""

from __future__ import annotations

import pytest

from iperfpy.protocols.kcp import Kcp
from iperfpy.protocols.metrics import Value


@pytest.mark.parametrize(
    ("figures", "sentences"),
    [
        ({"mtu_start_bytes": 1400, "mtu_bytes": 1400, "rtt_us": 200.0}, ()),
        (
            {"mtu_start_bytes": 1400, "mtu_bytes": 1200, "rtt_us": 200.0},
            ("the path does not carry datagrams of 1,400 bytes: 1,200 bytes were used in the end",),
        ),
        (
            {"mtu_start_bytes": 1400, "mtu_bytes": 1200, "rtt_us": None},
            ("none of the datagrams of 1,200 bytes or more was acknowledged",),
        ),
        ({}, ()),
    ],
)
def test_a_shorter_size_is_told_as_far_as_it_is_known(
    figures: dict[str, Value], sentences: tuple[str, ...]
) -> None:
    assert Kcp().remarks(figures) == sentences
