"""Processor time of the process: user and system time add up to the total."""

from __future__ import annotations

import pytest

from iperfpy.sampling.host import CpuMeter


def test_processor_time_is_measured_and_its_parts_add_up() -> None:
    meter = CpuMeter()
    sum(number * number for number in range(300_000))
    percent = meter.percent()
    assert percent["host_user"] > 0
    assert percent["host_total"] == pytest.approx(percent["host_user"] + percent["host_system"])
