"""A window that limits the sender, in front of a buffer of a few datagrams, in virtual time."""

from __future__ import annotations

import pytest

from iperfpy.protocols.kcp.engine_factory import with_bbr
from iperfpy.protocols.kcp.settings import KcpBbrSettings
from iperfpy.protocols.simulator import Path, Simulation
from iperfpy.protocols.simulator.application import Bulk

RATE, RTT_US, WINDOW, SECOND = 20e6, 60_000, 70, 1_000_000


@pytest.mark.parametrize("end", ["rcvwnd", "sndwnd"])
def test_a_window_that_opens_releases_no_burst(end: str) -> None:
    """While a window is closed the pacer earns nothing: 8 ms worth, which a late timer is allowed, would be
    14 datagrams here, and the rate would be 2.8 to 5.4 of 12.8 Mb/s behind a receive window."""
    sends, receives = KcpBbrSettings(), KcpBbrSettings(rcvwnd=WINDOW)
    if end == "sndwnd":
        sends, receives = KcpBbrSettings(sndwnd=WINDOW), KcpBbrSettings()
    sender, receiver = with_bbr(1, sends), with_bbr(1, receives)
    simulation = Simulation(1)
    there = simulation.link(Path(RATE, 5 * 1_428, RTT_US / 2))
    back = simulation.link(Path(delay_us=RTT_US / 2))
    simulation.flow(sender, receiver, there, back, Bulk(sender))
    simulation.run(2 * SECOND)
    before = receiver.receiving.bytes
    simulation.run(4 * SECOND)
    rate = (receiver.receiving.bytes - before) * 8 / 2
    assert rate > 0.9 * WINDOW * sender.sending.mss * 8e6 / RTT_US
