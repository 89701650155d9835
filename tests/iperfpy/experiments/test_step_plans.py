"""The plan of each step: rates, sizes and limits by what is known of the path."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iperfpy.experiments.check_schedule import TCP, UDP, CheckStep, StepPart
from iperfpy.experiments.measured_path import MeasuredPath, Outcome
from iperfpy.experiments.step_plans import IDLE_BLOCK_BYTES, Prepared, prepared
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.registry import transport
from tests.iperfpy.experiments.test_run_figures import row, run_of, started

FORWARD = Direction.FORWARD
OPTIONS = ClientOptions("host")
BULK = CheckStep(StepPart.BULK, FORWARD, TCP, 2.0, 1)
RUNG = CheckStep(StepPart.RUNG, FORWARD, UDP, 1.5, share=0.5)
ROUND_UDP = CheckStep(StepPart.UDP, FORWARD, UDP, 2.0, 1, share=0.9)


def planned(step: CheckStep, path: MeasuredPath | None = None) -> Prepared:
    return prepared(step, path or MeasuredPath(), {FORWARD: 20e6}, OPTIONS, 0x28)


def measured(name: str = "tcp", bits: float = 12e6) -> MeasuredPath:
    """A path after one round of one transport."""
    size = round(bits / 8 / (1500 / 1448))
    run = run_of(started(name), row({"bytes": size}, {"bytes": size}), row({}, {"bytes": size}))
    return MeasuredPath([Outcome(replace(BULK, transport=name), run)])


def test_a_bulk_test_runs_for_a_time_without_a_rate() -> None:
    plan = planned(BULK).plan
    assert (plan.duration_us, plan.rate_bps, plan.total_bytes, plan.tos) == (2_000_000, 0, 0, 0x28)


def test_a_budget_makes_it_end_by_an_amount_as_well() -> None:
    test = planned(replace(BULK, limit_bytes=150_000), measured())
    assert (test.plan.duration_us, test.plan.total_bytes) == (0, 144_800)
    assert test.options.longest_us == 2_000_000


def test_a_rung_is_a_share_of_the_capacity_in_packets() -> None:
    plan = planned(RUNG, MeasuredPath([Outcome(RUNG, run_of(started("udp"), row({}, {})))])).plan
    assert plan.rate_bps == round(10e6 * 1400 / 1428)
    assert plan.direction is FORWARD


def test_a_budget_shortens_a_rung_and_leaves_out_one_without_time() -> None:
    assert planned(replace(RUNG, limit_bytes=1_000_000)).plan.duration_us == 800_000
    assert planned(replace(RUNG, limit_bytes=1_000)).skipped == "udp up (the budget of bytes)"


def test_udp_in_a_round_goes_by_the_rate_of_tcp() -> None:
    plan = planned(ROUND_UDP, measured(bits=10e6)).plan
    assert plan.rate_bps == pytest.approx(9e6 * 1400 / 1428, rel=1e-3)


def test_without_tcp_in_the_round_it_goes_by_the_capacity() -> None:
    assert planned(ROUND_UDP).plan.rate_bps == pytest.approx(18e6 * 1400 / 1428)
    assert prepared(ROUND_UDP, MeasuredPath(), {}, OPTIONS, 0).skipped == "udp up (no rate to go by)"


def test_datagrams_are_short_on_the_idle_path_and_later_as_long_as_kcp_found_to_pass() -> None:
    assert planned(CheckStep(StepPart.IDLE, FORWARD, UDP, 1.0)).plan.block_bytes == IDLE_BLOCK_BYTES
    assert planned(RUNG).plan.block_bytes == 1400
    searched = run_of(started("kcp-bbr"), row({"mtu_bytes": 1252}, {}))
    path = MeasuredPath([Outcome(replace(BULK, transport="kcp-bbr"), searched)])
    assert planned(RUNG, path).plan.block_bytes == 1252


def test_a_slow_path_gets_shorter_datagrams() -> None:
    slow = prepared(RUNG, MeasuredPath(), {FORWARD: 1e6}, OPTIONS, 0).plan
    assert slow.block_bytes == 468 - 28  # 400 of these IP packets take a rung at the path's rate
    assert slow.rate_bps == round(0.5e6 * 440 / 468)


def test_a_machine_without_the_wanted_control_uses_its_own_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def check(self: object, settings: object, *, sends: bool) -> None:
        if sends:
            raise SettingsError("there is no bbr")

    monkeypatch.setattr(type(transport(TCP)), "check", check)
    test = planned(BULK)
    assert test.plan.settings.record()["congestion"] is None
    assert test.remark == "tcp with bbr (there is no bbr)"
    back = planned(replace(BULK, direction=Direction.REVERSE))
    assert back.plan.settings.record()["congestion"] == "bbr"
    assert not back.remark
