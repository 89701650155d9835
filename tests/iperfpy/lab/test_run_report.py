"""The text of the counters of `iperfpy lab`."""

from __future__ import annotations

from iperfpy.lab.lateness import Lateness
from iperfpy.lab.run_report import RunReport
from iperfpy.protocols.simulator.truth import Truth


def test_the_counters_of_a_direction_add_up() -> None:
    up = Truth(sent=100, duplicated=2, lost=4, overflowed=1, delivered=94)
    report = RunReport("10M", 1, 2.0, 0, (up, Truth(sent=3, delivered=3)), 0, Lateness(), "")
    _, near, far, _ = report.lines()
    assert near == (
        "  near to far: 100 packets, 0.00 MB; 94 delivered; 1 found the queue full; 4 lost at random;"
        " 3 on the way at the end; 2 sent twice"
    )
    assert far == "  far to near: 3 packets, 0.00 MB; 3 delivered"
