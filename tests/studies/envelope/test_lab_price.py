"""The price study over the lab: its path, its simulations, its table; no run of the lab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iperfpy.experiments.contender import contenders_of
from tests.studies.envelope import lab_price
from tests.studies.envelope.lab_price import KEYS, PricePath, overhead_percent, run_all, table
from tests.studies.latency_check.message_agreement import LAB, SIMULATOR
from tests.studies.latency_check.message_ends import exchange
from tests.studies.latency_check.message_runs import program_word

JOBS = [("kcp", 0.05, "off"), ("kcp", 0.05, "2:1")]


def run_of(fec: str, instrument: str, size: int, **more: Any) -> dict[str, Any]:
    return {
        **dict(zip(KEYS, ("kcp", 0.05, fec, instrument, 1.0), strict=True)),
        **dict(zip(("p50", "p95", "p99"), (170.0, 300.0, 400.0), strict=True)),
        "ip_bytes_sent": size,
        "unclean": "",
        **more,
    }


def test_the_simulator_has_the_envelope_of_the_settings() -> None:
    """Sets of 2:1 add half of the datagrams: more bytes, and losses that need no retransmission."""
    path = PricePath(0.05)
    assert [way.loss for way in path.ways] == [0.05] * 2
    plain, corrected = (
        exchange(contenders_of([word], needs_rates=False)[0], path.ways, 1.0, 1)
        for word in ("kcp-bbr", "kcp-bbr:fec=2:1")
    )
    assert 1.3 < corrected.ip_bytes_sent / plain.ip_bytes_sent < 1.8
    assert corrected.round_trips_ms.mean() < plain.round_trips_ms.mean()


def test_the_program_understands_the_sets_beside_another_setting() -> None:
    (contender,) = contenders_of([program_word("kcp:fec=10:3")], needs_rates=False)
    assert (contender.chosen["fec"], contender.chosen["mtu"]) == ("10:3", 1_400)


def test_overhead_is_the_growth_in_the_same_instrument() -> None:
    runs = [run_of("off", SIMULATOR, 100), run_of("off", LAB, 200), run_of("2:1", LAB, 300)]
    assert overhead_percent(runs[2], runs) == 50
    assert overhead_percent(runs[0], runs) == 0
    assert overhead_percent(runs[2], runs[2:]) is None


def test_a_row_has_both_instruments_and_names_an_unclean_run() -> None:
    runs = [
        run_of("off", SIMULATOR, 100),
        run_of("off", LAB, 100, p99=410.0, late_p99_us=400.0),
        run_of("2:1", LAB, 150, unclean="late", late_p99_us=12_000.0),
    ]
    first, second = table(runs, JOBS).rows
    assert first[3:] == ("170 / 170", "300 / 300", "400 / 410", "+0 % / +0 %", "0.4", "clean")
    assert second[5:] == (" / 400", " / +50 %", "12.0", "late")


def test_a_stopped_run_continues(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[tuple[str, str]] = []

    def measure(kind: str, loss: float, fec: str, instrument: str, seconds: float) -> dict[str, Any]:
        made.append((fec, instrument))
        return {"error": "no server" if (fec, instrument) == ("2:1", LAB) and len(made) < 5 else ""}

    monkeypatch.setattr(lab_price, "measure", measure)
    assert len(list(run_all(JOBS, 1.0, 0.0, tmp_path / "price"))) == 4
    assert made == [(fec, name) for name in (SIMULATOR, LAB) for _, _, fec in JOBS]
    assert len(list(run_all(JOBS, 1.0, 0.0, tmp_path / "price"))) == 4
    assert made[4:] == [("2:1", LAB)]
