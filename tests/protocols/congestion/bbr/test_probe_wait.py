"""The wait between two probes for bandwidth."""

from __future__ import annotations

import pytest

from iperfpy.protocols.congestion.bbr.probe_wait import ProbeWait

SECOND = 1_000_000


@pytest.mark.parametrize(("rtt_us", "wait_us"), [(20_000.0, 300_000), (200_000.0, 600_000)])
def test_the_first_probe_comes_soon_but_after_startups_queue_has_drained(rtt_us: float, wait_us: int) -> None:
    wait = ProbeWait(1)
    wait.start(SECOND, 1_000.0, rtt_us, policed=False)
    assert not wait.due(SECOND + wait_us, policed=False)
    assert wait.due(SECOND + wait_us + 1, policed=False)
    wait.start_probe()
    wait.start(2 * SECOND, 1_000.0, rtt_us, policed=False)
    wait.skip_first_wait()  # it is not the first any more
    assert not wait.due(4 * SECOND, policed=False)
    assert wait.due(5 * SECOND, policed=False)


def test_the_first_probe_begins_at_once_if_the_loss_floor_explains_the_end_of_startup() -> None:
    wait = ProbeWait(1)
    wait.start(SECOND, 1_000.0, 20_000.0, policed=False)
    wait.skip_first_wait()
    assert wait.due(SECOND + 1, policed=False)


def test_the_wait_is_twice_as_long_behind_a_policer() -> None:
    waits = [ProbeWait(1), ProbeWait(1)]
    for wait, policed in zip(waits, (False, True), strict=True):
        wait.start_probe()
        wait.start(0, 1_000.0, 20_000.0, policed=policed)
    last_us = max(
        now_us for now_us in range(0, 4 * SECOND, 10_000) if not waits[0].due(now_us, policed=False)
    )
    assert not waits[1].due(2 * last_us, policed=True)
    assert waits[1].due(2 * (last_us + 10_000) + 1, policed=True)


@pytest.mark.parametrize(("bdp", "rounds"), [(4.0, 25), (10.0, 10), (40.0, 40), (1e4, 63)])
def test_rounds_between_probes_are_renos_but_enough_to_evaluate_losses(bdp: float, rounds: int) -> None:
    wait = ProbeWait(1)
    wait.start_probe()
    wait.start(0, bdp, 1_000.0, policed=False)
    passed = 0
    while not wait.due(1, policed=False):
        assert not wait.due(1, policed=True)  # rounds do not count behind a policer
        wait.end_round()
        passed += 1
    assert rounds - 1 <= passed <= rounds
    assert not wait.due(1, policed=True)
