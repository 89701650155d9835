"""A small part of the study of paths, checked against the simulator's own counts, and the study's arithmetic.

`make sim` runs the whole study.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path as File
from statistics import median

import pytest

from iperfpy.protocols.kcp.engine_factory import with_bbr
from iperfpy.protocols.kcp.settings import KcpBbrSettings
from iperfpy.protocols.simulator import Paced, Simulation
from iperfpy.protocols.simulator.path import Bursts, Path, wire_bytes
from iperfpy.protocols.simulator.truth import Truth
from tests.studies import record
from tests.studies.paths.cases import (
    RATES,
    REPAIR_RTTS,
    WINDOW,
    Case,
    Stage,
    all_cases,
    link,
    lossy,
    policers,
    thinned,
    window_share,
)
from tests.studies.paths.rows import document, table, text, values
from tests.studies.paths.run import Outcome, jain, run, run_all, settling, steady, together
from tests.studies.paths.targets import GRID, TARGETS, Target, Verdict, judge
from tests.studies.paths.watched import MSS, PAYLOAD_SHARE, Snapshot, bbr_engine, single, watch

RATE, RTT_MS = 3e6, 60.0
SECONDS = 10.0
"""Of a small case. Five of them count, of which a PROBE_RTT takes one at half the rate."""


def _case(line: str, **fields: object) -> Case:
    forward, backward = link(RATE, RTT_MS, 1.0, **fields)
    average = forward.bursts.average if forward.bursts else forward.loss
    limit = RATE * (1 - average) * PAYLOAD_SHARE
    return Case(line, line, forward, backward, RTT_MS * 1e3, limit, SECONDS)


POLICED = next(case for case in policers() if "20 Mb/s, bucket 32 KB, 20 ms, 0" in case.name)
SLOWER = replace(
    POLICED,
    forward=POLICED.forward.with_(police_bits_per_s=10e6, delay_us=20e3),
    backward=Path(delay_us=20e3),
    rtt_us=40e3,
    limit_bits_per_s=POLICED.limit_bits_per_s / 2,
    seconds=6.0,
)
"""As many segments in a round trip as in the study, in twice the time."""
SMALL = (
    _case("loss"),
    _case("loss", loss=0.01),
    _case("loss", loss=0.1),
    _case("loss", loss=0.3),
    _case("hard", loss=0.4),
    _case("bursts", bursts=Bursts.averaging(0.05, 5)),
    _case("reorder", reorder=0.05, reorder_us=RTT_MS * 500),
    replace(_case("acks"), backward=Path(delay_us=RTT_MS * 500, loss=0.4)),
    SLOWER,
)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: f"{case.line} {case.forward.loss:g}")
def test_the_path_is_filled_and_the_engine_reports_what_happened(case: Case) -> None:
    watched = single(case.forward, case.backward, 3, case.seconds)
    figures = steady(watched, case)
    for target in TARGETS:
        if case.line in target.lines and target.metric in figures:
            low, high = target.limit
            assert low <= figures[target.metric] <= high, target.what
    truth, counts = watched.flow.forward.truth, watched.sender.counts
    receiving, recovery = watched.receiver.receiving, watched.sender.recovery
    resent = counts.fast + counts.early + counts.lost
    assert counts.segments_sent == truth.sent
    assert truth.delivered == receiving.segments + receiving.stored + receiving.duplicates + receiving.refused
    # The first copy of a retransmitted segment was dropped, arrives as well, or is still on the way.
    assert resent - truth.dropped <= receiving.duplicates + truth.on_the_way
    # A retransmission counts as spurious only if the first copy arrived.
    assert recovery.spurious <= receiving.duplicates + truth.on_the_way
    assert counts.segments_sent - resent == watched.sender.sending.nxt


@pytest.mark.slow
def test_two_flows_share_a_bottleneck() -> None:
    case = next(case for case in all_cases() if case.line == "fair" and case.flows == 2)
    forward, backward = link(8e6, 30.0, 1.0)
    small = replace(
        case,
        forward=forward,
        backward=backward,
        rtt_us=30e3,
        limit_bits_per_s=8e6 * PAYLOAD_SHARE,
        seconds=10,
    )
    values = run(small, 1).values
    assert values["jain"] >= 0.85
    assert values["shared_goodput"] >= 0.93


@pytest.mark.slow
def test_jitter_does_not_hide_the_loss_floor_or_the_bandwidth() -> None:
    """With 20 ms of jitter and 10 % loss most RTTs lie far above the minimum, although no queue exists."""
    forward, backward = link(20e6, RTT_MS, 1.0, loss=0.1, jitter_us=20_000.0)
    stretch = single(forward, backward, seed=1, seconds=6.5).between(3.5, 6.5)
    assert stretch.goodput_bits_per_s > 0.75 * 20e6 * 0.9 * PAYLOAD_SHARE
    assert stretch.last.state["noise_percent"] == pytest.approx(10.0, abs=2.0)


@pytest.mark.slow
def test_a_flow_that_joins_a_full_queue_does_not_add_its_losses_to_the_floor() -> None:
    """Eight flows start within 0.35 s.

    The later ones never see an empty queue, and their losses during STARTUP do not depend on their own rate.
    """
    eight = replace(_case("fair"), forward=link(20e6, RTT_MS, 1.0)[0], seconds=6.5)
    flows = together(eight, 1, [bbr_engine] * 8, [0.05 * number for number in range(8)])
    late = [one.state["noise_percent"] for flow in flows for one in flow.snapshots if one.now_us >= 4_000_000]
    assert late
    assert all(isinstance(noise, float) and noise <= 10.0 for noise in late)


@pytest.mark.slow
def test_flows_in_a_full_queue_do_not_take_its_losses_for_the_path_s_own() -> None:
    """Eight flows that start within 0.35 s, with 2.6 segments each in a round trip of 30 ms.

    The losses of a flow that sends half as much hardly change. Each one took them for the path's own, and all
    paced at 2.5 times their share: the queue dropped three of four segments.
    """
    eight = replace(
        _case("fair"), forward=link(8e6, 30.0, 1.0)[0], backward=link(8e6, 30.0, 1.0)[1], seconds=7.0
    )
    flows = together(eight, 1, [bbr_engine] * 8, [0.05 * number for number in range(8)])
    truths = [flow.between(4.0, 7.0).truth for flow in flows]
    assert sum(truth.overflowed for truth in truths) < 0.5 * sum(truth.sent for truth in truths)


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True,
    reason="each of eight flows takes the queue of the others for a longer path: it alone hardly changes it",
)
def test_flows_that_start_together_find_the_minimum_rtt_behind_their_queue() -> None:
    """Eight flows in a buffer of five BDP: most never saw it empty, and no single flow can empty it."""
    eight = replace(_case("fair"), forward=link(20e6, RTT_MS, 5.0)[0], seconds=8.0)
    flows = together(eight, 1, [bbr_engine] * 8, [0.1 * number for number in range(8)])
    found_us = [flow.snapshots[-1].state["min_rtt_us"] for flow in flows]
    assert all(isinstance(us, int) and us < 1.25 * RTT_MS * 1e3 for us in found_us)


def test_the_queue_of_startup_drains_on_a_long_path() -> None:
    """With a buffer of ten BDP and an RTT of 300 ms, three rounds without growth would last 850 ms each."""
    forward, backward = link(10e6, 300.0, 10.0)
    watched = single(forward, backward, seed=1, seconds=7.0)
    assert watched.between(3.0, 7.0).mean_rtt_us < 1.6 * 300e3


def test_acknowledgements_that_wait_for_more_segments_bring_no_queue() -> None:
    """With the time for which they are held back in the rate samples, the best one is 5 % too good, and the
    round-trip time 1.41 times the path's."""
    case = replace(lossy(20e6, 10.0, 1.0, 0.1), seconds=9.0)
    figures = steady(single(case.forward, case.backward, 1, case.seconds), case)
    assert figures["rtt"] < 1.25
    assert figures["goodput"] > 0.95


@pytest.mark.slow
def test_bursts_as_long_as_the_window_do_not_lower_the_goodput() -> None:
    """5 Mb/s and 170 ms are 73 segments in flight; a burst loses up to 50 of them."""
    case = next(case for case in all_cases() if case.name == "5 Mb/s 170 ms 1 BDP, 5 % in bursts of 20")
    case = replace(case, seconds=12.0)
    runs = (steady(single(case.forward, case.backward, seed, case.seconds), case) for seed in (7, 8, 9))
    assert median(run["goodput"] * 0.95 / (1 - run["dropped"]) for run in runs) >= 0.93


@pytest.mark.parametrize("rtt_ms", [20.0, 100.0])
@pytest.mark.slow
def test_an_application_gets_its_rate_on_a_lossy_path(rtt_ms: float) -> None:
    """The application uses a quarter of the path.

    It builds no queue, so the losses could be those of a queue that other flows keep full.
    """
    forward, backward = link(20e6, rtt_ms, 1.0, loss=0.3)
    simulation, sender, receiver = Simulation(1), bbr_engine(1), bbr_engine(1)
    there, back = simulation.link(forward), simulation.link(backward)
    flow = simulation.flow(sender, receiver, there, back, Paced(sender, 5e6))
    watched = watch(simulation, flow, sender, receiver)
    simulation.run(9_000_000)
    assert watched.between(5.0, 9.0).goodput_bits_per_s == pytest.approx(5e6, rel=0.05)


@pytest.mark.parametrize("loss", [0.2, 0.3])
@pytest.mark.slow
def test_the_bandwidth_is_found_although_the_window_limits_the_sender(loss: float) -> None:
    """A window of 256 segments holds 175 in flight and those that wait for retransmission.

    The delivery rate of such a sender says nothing about the bandwidth, and it builds no queue.
    """
    forward, backward = link(20e6, 100.0, 10.0, loss=loss)
    settings = KcpBbrSettings(sndwnd=256, rcvwnd=256)
    watched = single(forward, backward, 1, 6.5, make=lambda number: with_bbr(number, settings))
    carried = 20e6 / 8 / wire_bytes(1_400)
    known = [snapshot.state["bandwidth_segments_per_s"] for snapshot in watched.snapshots[50:]]
    assert all(isinstance(bandwidth, float) and bandwidth > 0.6 * carried for bandwidth in known)


def test_the_grid_has_every_case_in_a_fixed_order() -> None:
    cases = all_cases()
    assert len({case.name for case in cases}) == len(cases)
    assert sum(case.line in GRID for case in cases) == 4 * 4 * 3 * 8
    assert {line for target in TARGETS for line in target.lines} == {case.line for case in cases}
    assert [case.name for case in all_cases()] == [case.name for case in cases]
    some = thinned(cases, 2)
    assert all(sum(one.line == case.line for one in some) == 2 for case in some)
    assert {case.forward.rate_bits_per_s for case in all_cases(RATES[:1]) if case.line in GRID} == {5e6}


def test_a_window_of_65535_segments_limits_long_fat_paths() -> None:
    assert window_share(20e6, 60e3, 0.1) == 1.0
    assert window_share(500e6, 300e3, 0.0) == 1.0
    assert 0.5 < window_share(500e6, 300e3, 0.3) < 0.7
    # In one round trip of 13 some segment needs four retransmissions, so six round trips; five fit.
    assert 0.9 < window_share(500e6, 300e3, 0.05) < 0.97
    assert lossy(500e6, 300, 1, 0.3).limit_bits_per_s < 500e6 * 0.7 * PAYLOAD_SHARE
    # If only the window limits: at 40 % loss one segment of a window needs 9 to 13 retransmissions.
    for rate in (500e6, 2_000e6):
        windows_per_s = lossy(rate, 300, 1, 0.4).limit_bits_per_s / (8 * MSS * WINDOW)
        assert 1 + 9 * REPAIR_RTTS < 1 / windows_per_s / 0.3 < 1 + 13 * REPAIR_RTTS


def test_jains_index_is_1_for_equal_rates() -> None:
    assert jain([1.0, 1.0, 1.0]) == 1.0
    assert jain([1.0, 0.0]) == 0.5
    assert jain([0.0, 0.0]) == 0.0


def _snapshots(rates: list[float], rtt_us: int) -> list[Snapshot]:
    """Return snapshots every 100 ms, with these rates in bits per second between them."""
    made, received = [], 0
    for at, rate in enumerate([*rates, 0.0]):
        made.append(Snapshot(at * 100_000, 0, received, 0, 0, 0, at * rtt_us, at, Truth()))
        received += int(rate / 80)
    return made


@pytest.mark.parametrize(
    ("rates", "rtt_us", "settled_s"),
    [
        ([8e6] * 40, 50_000, 0.0),
        ([4e6] * 10 + [8e6] * 90, 50_000, 1.0),
        ([8e6] * 40, 90_000, 4.0),  # the rate is reached, but behind a queue
        ([8e6] * 20 + [1e6] * 20, 50_000, 4.0),  # the rate does not last
    ],
)
def test_a_flow_has_settled_once_its_rate_lasts_without_a_queue(
    rates: list[float], rtt_us: int, settled_s: float
) -> None:
    found = settling(_snapshots(rates, rtt_us), Stage(0.0, 8e6, 50e3), len(rates) / 10)
    assert found == pytest.approx(settled_s, abs=0.11)


FLOOR = Target("goodput", ("loss",), "goodput", (0.93, float("inf")), (0.97, float("inf")))
SHARE = Target("share", ("rival",), "share", (0.4, 1.8), (0.7, 1.3))


def _outcomes(line: str, metric: str, *values: float) -> list[Outcome]:
    return [Outcome(line, f"path {at}", 1, {metric: value}) for at, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "verdict", "failing"),
    [
        ((0.98, 0.99), Verdict.AIM, 0),
        ((0.95, 0.99), Verdict.LIMIT, 0),
        ((0.98, 0.2, 0.5), Verdict.BELOW, 2),
        ((), Verdict.MISSING, 0),
    ],
)
def test_the_worst_run_decides_the_verdict(values: tuple[float, ...], verdict: Verdict, failing: int) -> None:
    judged = judge(FLOOR, _outcomes("loss", "goodput", *values) + _outcomes("rival", "share", 9.0))
    assert (judged.verdict, judged.failing, judged.runs) == (verdict, failing, len(values))


def test_a_range_is_missed_on_either_side() -> None:
    judged = judge(SHARE, _outcomes("rival", "share", 0.3, 1.0, 1.9))
    assert judged.verdict is Verdict.BELOW
    assert judged.worst == ((0.3, "path 0, seed 1"), (1.9, "path 2, seed 1"))
    assert "0.300 at path 0" in text([judged])
    assert "| 0.300 to 1.900 |" in table([judged]).markdown()


def test_several_processes_give_the_same_outcomes() -> None:
    case = replace(_case("loss", loss=0.01), forward=link(5e5, RTT_MS, 1.0, loss=0.01)[0], seconds=5.2)
    jobs = [(case, seed, "") for seed in (1, 2)]
    shared = sorted(run_all(iter(jobs), processes=2), key=lambda outcome: outcome.seed)
    assert shared == list(run_all(iter(jobs), processes=1))


def test_a_stopped_run_is_continued_from_its_record(tmp_path: File) -> None:
    path = tmp_path / "sim.jsonl"
    outcomes = _outcomes("loss", "goodput", 0.9, 0.95)
    for outcome in outcomes:
        record.append_line(path, outcome.fields())
    with path.open("a") as file:
        file.write('{"line": "loss", "na')
    assert [Outcome(**line) for line in record.read_lines(path)] == outcomes
    rows = [judge(FLOOR, outcomes)]
    record.write_json(tmp_path / "sim.json", document({"date": "today"}, rows, outcomes))
    written = json.loads((tmp_path / "sim.json").read_text())
    assert written["table"][0]["verdict"] == "BELOW"
    assert written["table"][0]["target"]["limit"] == [0.93, None]
    record.write_csv(tmp_path / "sim.csv", map(values, outcomes))
    assert (tmp_path / "sim.csv").read_text().splitlines()[0] == "line,case,seed,goodput"
