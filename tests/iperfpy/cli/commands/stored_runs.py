"""Runs in a folder, for the commands that read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from iperfpy.comparison.comparison_report import (
    ComparisonReport,
    ContenderFacts,
    MeasuredTest,
)
from iperfpy.plan import Direction
from iperfpy.store.direction_figures import about_test
from iperfpy.store.folder import Folder
from tests.studies.diff_check.simulated_runs import Model, documents

Run = Callable[..., tuple[int, str, str]]


def save(store: Folder, made: dict[str, Any], when: float = 1_795_966_017, **changes: Any) -> str:
    facts = replace(about_test(made), unix_time=when, **changes)
    return store.save(made, facts).id


def save_set(store: Folder, title: str, level: float, runs: int = 5, **model: Any) -> list[str]:
    rng = np.random.default_rng(int(level * 1000))
    made = documents(Model(runs, **model), 1 - level, rng)
    # Equal figures without any noise are those of different runs by their times.
    for number, one in enumerate(made):
        one["start"].setdefault("timestamp", {})["timesecs"] = 1_795_966_017 + number
    return [save(store, one, title=title, hosts=("me", "vpn.example")) for one in made]


def comparison_scene(level: float) -> ComparisonReport:
    """Six rounds of two contenders, up."""
    tests = [
        MeasuredTest(
            name,
            Direction.FORWARD,
            number,
            10.0 * number,
            seconds=5.0,
            steady_bits_per_second=rate * level * wobble,
        )
        for number, wobble in enumerate((1.0, 1.01, 0.99, 1.005, 0.995, 1.002), 1)
        for name, rate in (("tcp bbr", 20e6), ("kcp-bbr", 19e6))
    ]
    contenders = tuple(ContenderFacts(name, name.split()[0], ranked=True) for name in ("tcp bbr", "kcp-bbr"))
    return ComparisonReport(
        host="vpn.example",
        port=5201,
        unix_time=1_795_966_017.0,
        seconds=70.0,
        limit_s=480.0,
        sent_bytes=1,
        budget_bytes=0,
        seed=1,
        contenders=contenders,
        directions=(Direction.FORWARD,),
        tests=tuple(tests),
        rounds=6,
        test_s=5.0,
        startup_s=1.0,
        rest_s=1.0,
        converged=True,
        version="iperfpy 9",
        peer_is_iperfpy=True,
    )
