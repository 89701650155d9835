"""Conversion of the kernel's time stamps to the monotonic clock, even if the wall clock is set."""

from __future__ import annotations

import socket
import time

import numpy as np
import pytest

from iperfpy.protocols.datagrams import arrival_time
from iperfpy.protocols.datagrams.arrival_time import (
    COMPARE_EVERY_US,
    LATEST_US,
    TIMESPEC,
    ArrivalClock,
    split_off_stamp,
)
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.datagram_socket import DatagramSocket
from iperfpy.protocols.operating_system import SO_TIMESTAMPNS, SOL_UDP, UDP_GRO

NOW_US = 50_000_000
STAMP = TIMESPEC.pack(1_000_049, 995_000_000)
"""The wall clock is ahead by a million seconds, and something arrived 5 ms ago."""


@pytest.fixture
def ahead_us(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time by which the wall clock is ahead of the monotonic one, us."""
    ahead_us = [1_000_000 * 1e6]
    monkeypatch.setattr(arrival_time, "wall_minus_monotonic_us", lambda: ahead_us[0])
    return ahead_us


def test_a_stamp_is_a_time_of_the_monotonic_clock(ahead_us: list[float]) -> None:
    assert ArrivalClock().arrived_us(STAMP, NOW_US) == NOW_US - 5_000


@pytest.mark.parametrize("set_by_us", [-1_000_000, 1_000_000])
def test_setting_the_wall_clock_is_noticed(set_by_us: int, ahead_us: list[float]) -> None:
    """Until the change is noticed, arrival times are those of reading; afterwards they are correct."""
    clock = ArrivalClock()
    clock.arrived_us(STAMP, NOW_US)
    ahead_us[0] += set_by_us
    later = TIMESPEC.pack(1_000_049 + set_by_us // 1_000_000, 996_000_000)
    assert clock.arrived_us(later, NOW_US) == NOW_US
    # No reader is that late, so the time of reading counts.
    assert clock.arrived_us(later, NOW_US + COMPARE_EVERY_US) == NOW_US + COMPARE_EVERY_US
    assert clock.arrived_us(later, NOW_US + LATEST_US - 4_000) == NOW_US - 4_000


def test_the_stamp_is_separated_from_other_messages() -> None:
    size = (SOL_UDP, UDP_GRO, b"\x78\x05\0\0")
    stamp = (socket.SOL_SOCKET, SO_TIMESTAMPNS, STAMP)
    assert split_off_stamp([stamp, size]) == (STAMP, [size])
    assert split_off_stamp([size]) == (b"", [size])
    assert split_off_stamp([]) == (b"", [])


@pytest.mark.live
def test_runs_have_a_stamp_if_it_was_requested() -> None:
    """Stamps arrive with and without a GRO batch."""
    receiver = DatagramSocket.bound(("127.0.0.1", 0))
    with receiver, DatagramSocket.connected(receiver.local_address) as sender:
        if not arrival_time.ask_for_stamps(receiver.raw):
            pytest.skip("this system does not stamp")
        receiver.stamped = True
        # The conversion from the wall clock may be a millisecond off.
        for count in (1, 8):
            before_us = time.monotonic_ns() // 1000
            assert sender.send(DatagramBatch.of(np.zeros(1000 * count, np.uint8), 1000)) == count
            received = receiver.receive()
            assert received is not None
            assert received[0].stride == 1000
            now_us = time.monotonic_ns() // 1000
            assert before_us - 1000 <= ArrivalClock().arrived_us(receiver.stamp, now_us) <= now_us
