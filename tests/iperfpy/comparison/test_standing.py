"""The figures of a contender: medians over its tests, without the failed ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iperfpy.comparison.message_standing import message_standings
from iperfpy.comparison.standing import idle_rtt_us, standings
from tests.iperfpy.report.compare_scenes import DOWN, MEANS, TCP_BBR, UP, measured, nothing, whole


def test_a_direction_has_its_contenders_by_rate_and_udp_behind_them() -> None:
    found = standings(whole(7), DOWN)
    assert [one.contender.name for one in found] == ["kcp-bbr", "tcp bbr", "tcp cubic", "kcp", "udp"]
    first = found[0]
    assert first.rate is not None
    assert first.rate.median == pytest.approx(MEANS["kcp-bbr", DOWN], rel=0.01)
    assert not first.rate.is_range
    assert (first.tests, first.failures) == (7, 0)


def test_a_load_below_80_percent_of_the_best_rate_has_no_letter() -> None:
    letters = {one.contender.name: one.grade for one in standings(whole(7), UP)}
    assert letters == {"tcp bbr": "C", "tcp cubic": "C", "kcp-bbr": "A", "kcp": "", "udp": "C"}
    assert all(one.increase_us is not None for one in standings(whole(7), UP))


def test_a_failed_test_is_counted_and_has_no_figure() -> None:
    report = whole(2)
    failed = replace(measured(TCP_BBR, UP, 3, 1e3), error="the path died")
    unmeasured = replace(measured(TCP_BBR, UP, 4, 1e3), steady_bits_per_second=None)
    more = replace(report, tests=(*report.tests, failed, unmeasured))
    (before,) = (one for one in standings(report, UP) if one.contender is TCP_BBR)
    (after,) = (one for one in standings(more, UP) if one.contender is TCP_BBR)
    assert after == replace(before, failures=2)


def test_figures_that_no_test_has_are_not_known() -> None:
    report = whole(2)
    bare = [replace(one, rtt_us={}, idle_rtt_us=None, startup_s=None) for one in report.tests]
    bare_report = replace(report, tests=tuple(bare))
    assert idle_rtt_us(bare_report) is None
    for one in standings(bare_report, UP):
        assert (one.rtt_us, one.increase_us, one.grade, one.startup_s) == (None, None, "", None)


def test_a_percentile_needs_enough_messages() -> None:
    few, many = message_standings(whole(4)), message_standings(whole(6))
    assert all(one.p99_us is None and one.p90_us is not None for one in few)
    assert all(one.p99_us is not None for one in many)
    assert many[0].contender.name == "kcp-bbr"
    assert many[-1].contender.name == "udp"
    assert many[0].wire_ratio == pytest.approx(90_000 / 40_000)


def test_unanswered_messages_are_late() -> None:
    report = whole(6)
    lossy = [replace(one, due=one.due + 50) for one in report.messages]
    for before, after in zip(
        message_standings(report), message_standings(replace(report, messages=tuple(lossy))), strict=True
    ):
        assert before.late_percent is not None
        assert after.late_percent is not None
        assert after.late_percent > before.late_percent


def test_without_tests_there_is_no_standing() -> None:
    assert standings(nothing(), UP) == []
    assert message_standings(nothing()) == []
