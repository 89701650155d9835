"""The report that this project began with comes out of the simulator again, and kcp-bbr answers it."""

from __future__ import annotations

from functools import cache

import pytest

from tests.studies.paths.seed import HEADING, Outcome, row, run

pytestmark = pytest.mark.slow

UP, DOWN = "up, 24 Mb/s with a queue", "down, policed to 20 Mb/s"


@cache
def _outcome(path: str, transport: str) -> Outcome:
    return run(path, transport)


def test_the_simulated_upload_resembles_the_report() -> None:
    """17.7 Mb/s, 25 % lost; and why: the queue that it fills makes its timers run out."""
    kcp = _outcome(UP, "kcp")
    assert kcp.goodput_mbps == pytest.approx(17.7, rel=0.1)
    assert kcp.lost == pytest.approx(25, abs=3)
    assert kcp.spurious is not None
    assert kcp.spurious > 50
    assert kcp.lost > 2 * kcp.dropped


def test_the_simulated_download_resembles_the_report() -> None:
    """8.1 Mb/s, 121 % retransmitted, because the policer drops the part of a window above its rate."""
    kcp = _outcome(DOWN, "kcp")
    assert kcp.goodput_mbps == pytest.approx(8.1, rel=0.1)
    assert kcp.retransmitted == pytest.approx(121, rel=0.1)
    assert kcp.spurious is not None
    assert kcp.spurious < 10
    assert kcp.dropped > 40


@pytest.mark.parametrize("path", [UP, DOWN])
def test_kcp_bbr_delivers_more_and_retransmits_less_on_the_same_path(path: str) -> None:
    """kcp-bbr delivers more, sends again only dropped segments, and never waits for a timeout."""
    kcp, bbr = _outcome(path, "kcp"), _outcome(path, "kcp-bbr")
    assert bbr.goodput_mbps > 1.15 * kcp.goodput_mbps
    assert bbr.lost == 0
    assert bbr.dropped < kcp.dropped / 2
    assert bbr.retransmitted < kcp.retransmitted / 5
    assert bbr.mean_rtt_ms < kcp.mean_rtt_ms
    assert not bbr.spurious or bbr.spurious < 2


@pytest.mark.parametrize("path", [UP, DOWN])
def test_the_sender_knows_its_spurious_retransmissions(path: str) -> None:
    """`spurious` agrees with the path's own count, but for the last round trip, not answered yet."""
    kcp = _outcome(path, "kcp")
    assert kcp.spurious is not None
    assert kcp.reported == pytest.approx(kcp.spurious, abs=2)


def test_the_table_has_a_cell_for_every_heading() -> None:
    line = row(UP, "kcp", _outcome(UP, "kcp"))
    assert line.count("|") == HEADING.splitlines()[0].count("|") == HEADING.splitlines()[1].count("|")
