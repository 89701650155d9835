"""Processor time: something was spent, and the parts add up."""

from __future__ import annotations

import pytest

from iperfpy.sampling.host import CpuMeter


def test_work_is_seen_and_the_parts_add_up() -> None:
    meter = CpuMeter()
    sum(number * number for number in range(300_000))
    percent = meter.percent()
    assert percent["host_user"] > 0
    assert percent["host_total"] == pytest.approx(percent["host_user"] + percent["host_system"])
