"""Tests of the ablation: every switch changes a simulation and restores everything; the tables of effects."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path as File

import pytest

from iperfpy.protocols.congestion.bbr import (
    ack_aggregation,
    bandwidth_probe,
    bbr,
    congestion_response,
    control_parameters,
    full_pipe,
    inflight_bound,
    loss_epochs,
    loss_floor,
    loss_scatter,
    max_bandwidth,
    path_delay,
    phases,
    probe_rtt,
    probe_wait,
    recent_losses,
    rounds,
    standing_queue,
    startup_losses,
    startup_queue,
)
from iperfpy.protocols.simulator.path import Bursts, Path
from tests.studies import record
from tests.studies.paths.__main__ import ablation_jobs, completed, outcomes_in, parser
from tests.studies.paths.ablation import MECHANISMS, Patch, without
from tests.studies.paths.ablation_shadow import run_with_shadows
from tests.studies.paths.ablation_table import effects, lines_that_move, markdown
from tests.studies.paths.cases import Case, Kind, cheapest_first, link
from tests.studies.paths.run import Outcome, run

MODULES = (
    *(ack_aggregation, bandwidth_probe, bbr, congestion_response, control_parameters, full_pipe),
    *(inflight_bound, loss_epochs, loss_floor, loss_scatter, max_bandwidth, path_delay, phases),
    *(probe_rtt, probe_wait, recent_losses, rounds, standing_queue, startup_losses, startup_queue),
)


def _policed(rate: float, rtt_ms: float, seconds: float) -> Case:
    forward = Path(police_bits_per_s=rate, bucket_bytes=32_000, delay_us=rtt_ms * 500, loss=0.05)
    return Case("policer-loss", "policed", forward, Path(delay_us=rtt_ms * 500), rtt_ms * 1e3, rate, seconds)


def _rival(rtt_ms: float, seconds: float) -> Case:
    forward, backward = link(1e6, rtt_ms, 5.0)
    return Case("rival", "rival", forward, backward, rtt_ms * 1e3, 1e6, seconds, Kind.RIVAL, 2, "cubic")


def _small_buffer(rate: float, rtt_ms: float, datagrams: int, seconds: float) -> Case:
    forward = Path(rate, datagrams * 1_428, rtt_ms * 500)
    return Case("loss", "a few datagrams", forward, Path(delay_us=rtt_ms * 500), rtt_ms * 1e3, rate, seconds)


def _deep(rate: float, rtt_ms: float, seconds: float) -> Case:
    # Without losses STARTUP ends with its own queue, before it has a flat round.
    forward, backward = link(rate, rtt_ms, 10.0, loss=0.03)
    return Case("loss", "deep buffer", forward, backward, rtt_ms * 1e3, rate, seconds)


def _lossy(rate: float, rtt_ms: float, seconds: float) -> Case:
    forward, backward = link(rate, rtt_ms, 1.0, loss=0.3)
    return Case("loss", "lossy", forward, backward, rtt_ms * 1e3, rate, seconds)


def _bursty(rate: float, rtt_ms: float, seconds: float) -> Case:
    # 8 % of the datagrams are lost, in bursts of 20.
    leave = 1 / 20
    forward, backward = link(rate, rtt_ms, 1.0, bursts=Bursts(leave * 0.08 / 0.92, leave))
    return Case("bursts", "bursts", forward, backward, rtt_ms * 1e3, rate, seconds)


SHORT = (
    *(_policed(2e6, 20.0, 6.0), _deep(2e6, 300.0, 6.0), _small_buffer(8e6, 100.0, 7, 7.0)),
    *(_bursty(4e6, 60.0, 7.0), _lossy(1e6, 100.0, 8.0), _small_buffer(40e6, 40.0, 4, 5.5)),
    *(_small_buffer(2e6, 40.0, 7, 10.0), _rival(60.0, 20.0)),
)
"""Every mechanism acts in at least one of them. The last two run only if one has not acted before."""


@cache
def _first() -> tuple[Outcome, list[Outcome]]:
    return run_with_shadows((SHORT[0], 1))


@pytest.mark.slow
def test_every_switch_changes_a_short_simulation() -> None:
    unchanged = {one.without for one in _first()[1]}
    for case in SHORT[1:]:
        # Only the mechanisms that have not acted yet, which saves most of the time.
        if unchanged:
            unchanged = {one.without for one in run_with_shadows((case, 1), unchanged)[1]}
    assert unchanged == set()


def test_a_mechanism_that_does_not_act_changes_no_figure() -> None:
    outcome, unchanged = _first()
    assert unchanged[0] == run(SHORT[0], 1, unchanged[0].without)
    assert unchanged[0].values == outcome.values


def _state() -> list[dict[str, object]]:
    """Everything that a switch may replace."""
    owners: list[object] = list(MODULES)
    owners += [thing for module in MODULES for thing in vars(module).values() if isinstance(thing, type)]
    return [dict(vars(owner)) for owner in owners] + [dict(phases.PHASES)]  # type: ignore[arg-type]


@pytest.mark.parametrize("key", MECHANISMS)
def test_a_switch_restores_everything(key: str) -> None:
    before = _state()
    with without(key):
        assert _state() != before
    assert _state() == before


def _interrupted(key: str) -> None:
    with without(key):
        raise KeyboardInterrupt


def test_a_switch_restores_everything_after_an_error() -> None:
    before = _state()
    with pytest.raises(KeyboardInterrupt):
        _interrupted("refute")
    assert _state() == before


def test_an_empty_key_switches_nothing() -> None:
    before = _state()
    with without(""):
        assert _state() == before


def test_a_switch_of_a_name_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError):
        Patch().put(congestion_response, "NO_SUCH_CONSTANT", 1)


def _outcomes(without: str, *values: float) -> list[Outcome]:
    return [
        Outcome("acks", f"path {at}", 1, {"goodput": value, "excess": 0.0, "spurious": 0.0}, without)
        for at, value in enumerate(values)
    ]


def test_the_table_names_the_cases_that_fall() -> None:
    on, off = _outcomes("", 0.99, 0.95, 0.85), _outcomes("caps", 0.985, 0.5, 0.95)
    goodput = next(one for one in effects("caps", off, on) if one.target.metric == "goodput")
    assert (goodput.fallen, goodput.risen, goodput.moved) == (("path 1",), ("path 2",), True)
    assert (goodput.off.failing, goodput.on.failing, goodput.off.runs) == (1, 1, 3)
    assert lines_that_move("caps", off, on) == {"acks": False}
    assert 'Below "20 or 40 % of ACKs lost: goodput / limit": path 1.' in markdown(["caps"], off, on)


def test_a_change_below_a_hundredth_of_the_target_is_no_move() -> None:
    on, off = _outcomes("", 0.99, 0.95), _outcomes("caps", 0.985, 0.945)
    assert lines_that_move("caps", off, on) == {}


def test_a_line_may_move_for_the_better() -> None:
    on, off = _outcomes("", 0.95, 0.96), _outcomes("caps", 0.97, 0.98)
    assert lines_that_move("caps", off, on) == {"acks": True}


def test_the_record_names_the_mechanism_that_was_off(tmp_path: File) -> None:
    path = tmp_path / "ablation.jsonl"
    outcomes = [*_outcomes("", 0.9), *_outcomes("caps", 0.8)]
    for outcome in outcomes:
        record.append_line(path, outcome.fields())
    assert outcomes_in(path) == outcomes
    assert ["without" in line for line in path.read_text().splitlines()] == [False, True]


def test_cheap_cases_come_first_and_others_in_order() -> None:
    case = SHORT[0]
    long, other = replace(case, seconds=20.0), replace(case, name="other")
    assert cheapest_first([long, case, other]) == [case, other, long]


def test_an_ablation_tries_every_mechanism_before_a_second_case_of_a_line() -> None:
    options = completed(
        parser().parse_args(["--ablation", "--cheap", "--most", "2", "--only", "late", "--rates", "5"])
    )
    jobs = ablation_jobs(options)
    assert [key for _, _, key in jobs] == [*MECHANISMS, *MECHANISMS]
    assert len({case.name for case, _, _ in jobs[: len(MECHANISMS)]}) == 1
    assert {seed for _, seed, _ in jobs} == {1}
