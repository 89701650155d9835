"""The clocks of an end, as its peer reads them."""

from __future__ import annotations

from typing import Any

import pytest

from iperfpy.control.clock_codec import CLOCK, LONGEST_NAME, decode_clock, encode_clock
from iperfpy.records import HostClock


def test_clocks_round_trip() -> None:
    clock = HostClock(1_764_000_000_000_000, -3, "0123456789abcdef")
    assert decode_clock(encode_clock(clock)) == clock


def test_an_end_without_clocks_sends_no_key() -> None:
    assert encode_clock(None) == {}
    assert decode_clock({}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"wall_us": None},
        {"wall_us": 2**62},
        {"wall_us": "5"},
        {"wall_step_us": 0.5},
        {"host": 7},
        {"host": None},
    ],
)
def test_wrong_clocks_count_as_none(change: dict[str, Any]) -> None:
    body = encode_clock(HostClock(5, 6, "name"))
    assert decode_clock({CLOCK: {**body[CLOCK], **change}}) is None
    assert decode_clock({CLOCK: 5}) is None
    assert decode_clock(None) is None


def test_a_long_name_is_cut() -> None:
    body = encode_clock(HostClock(5, 6, "x" * 1_000))
    found = decode_clock(body)
    assert found is not None
    assert len(found.host) == LONGEST_NAME
