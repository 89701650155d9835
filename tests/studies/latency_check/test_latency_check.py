"""The verdict, the figures of a run of the lab, and messages without a protocol; no run of the lab."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from iperfpy.experiments.contender import contenders_of
from iperfpy.protocols.simulator import Path
from tests.studies.latency_check.__main__ import record_of, rows_of, table_of
from tests.studies.latency_check.message_agreement import LAB, SIMULATOR, judge
from tests.studies.latency_check.message_ends import exchange
from tests.studies.latency_check.message_paths import PATHS, TRANSPORTS
from tests.studies.latency_check.message_runs import HELD_US, figures_of, lab_figures

FIGURES = {"mean": 110.0, "p50": 100.0, "p95": 200.0, "p99": 220.0, "lost": 0.0, "unclean": ""}


def runs(**changed: float | str) -> list[dict[str, Any]]:
    """Three equal runs of each instrument, those of the lab with other figures."""
    return [
        {**FIGURES, **(changed if name == LAB else {}), "instrument": name}
        for name in (SIMULATOR, LAB)
        for _ in range(3)
    ]


@pytest.mark.parametrize("figure", ["mean", "p50", "p95", "p99"])
def test_each_figure_is_compared(figure: str) -> None:
    value = float(FIGURES[figure])  # type: ignore[arg-type]
    for factor in (1 / 1.099, 1.099):
        assert judge("loss 2 %", "kcp-bbr", runs(**{figure: value * factor})).word == "PASS"
    for factor in (1 / 1.101, 1.101):
        assert judge("loss 2 %", "kcp-bbr", runs(**{figure: value * factor})).word == f"MISS {figure}"


def test_unclean_runs_count_only_without_clean_ones_and_never_pass() -> None:
    unclean = {**FIGURES, "p99": 900.0, "unclean": "late", "instrument": LAB}
    found = judge("loss 2 %", "udp", [*runs(), unclean, unclean, unclean, unclean])
    assert (found.word, found.runs, found.unclean) == ("PASS", 7, 4)
    found = judge("loss 2 %", "udp", [*runs()[:3], {**unclean, "p99": 220.0}])
    assert (found.word, found.passes) == ("unclean", False)
    (shown,) = table_of([found]).rows
    assert shown[-1] == "unclean; 1 of 1 unclean"


def test_a_row_without_a_run_does_not_pass() -> None:
    failed = {"instrument": LAB, "error": "no server", "unclean": ""}
    found = judge("loss 2 %", "udp", [*runs()[:3], failed])
    assert (found.word, found.passes) == ("no server", False)
    assert record_of(found)["p99_lab"] is None
    assert judge("loss 2 %", "udp", [{**FIGURES, "instrument": LAB}]).passes is False


def test_lost_messages_have_no_round_trip() -> None:
    assert figures_of([1.0, 3.0], 4) == {"mean": 2.0, "p50": 2.0, "p95": 2.9, "p99": 2.98, "lost": 0.5}
    assert figures_of([], 4) == {"lost": 1.0}


def test_a_run_of_the_lab_is_clean_if_relay_and_client_kept_their_times() -> None:
    row = {"figures": {"held_p99_us": 900.0}, "rounds": [{"round_trip_us": [100_000, None]}]}
    counters = {"unclean": "", "late_us": {"p99": 400.0}}
    found = lab_figures({"rows": [row]}, counters)
    assert (found["p50"], found["lost"], found["unclean"]) == (100.0, 0.5, "")
    assert lab_figures({"rows": [row]}, {**counters, "unclean": "late"})["unclean"] == "late"
    row["figures"] = {"held_p99_us": HELD_US + 1_000}
    assert lab_figures({"rows": [row]}, counters)["unclean"] == "messages left 6.0 ms late (p99)"
    assert lab_figures({"rows": [], "error": "busy"}, counters)["error"] == "busy"


def test_every_path_has_the_round_trip_and_the_loss_of_its_name() -> None:
    for path in PATHS:
        assert [way.delay_us for way in path.ways] == [50_000.0] * 2
        kept = [1 - way.loss for way in path.ways]
        assert 1 - kept[0] * kept[1] == pytest.approx(path.loss, abs=1e-6)
    assert len(rows_of([])) == len(PATHS) * len(TRANSPORTS)
    assert {path.loss for path, _ in rows_of(["loss 2"])} == {0.02}
    assert {transport for _, transport in rows_of(["kcp-bbr"])} == {"kcp-bbr"}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_messages_of_every_transport_are_echoed_in_the_simulator(transport: str) -> None:
    (contender,) = contenders_of([transport], needs_rates=False)
    way = Path(delay_us=50_000.0)
    found = exchange(contender, (way, way), 0.3, seed=1)
    trips = found.round_trips_ms
    assert len(trips) == 30
    assert found.ip_bytes_sent >= 30 * (100 + 28)
    # Neither end waits for its tick.
    assert np.all((trips >= 100.0) & (trips < 101.0))
