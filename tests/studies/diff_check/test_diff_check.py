"""The study of `iperfpy diff`: its model, its rates, and that it runs the code of the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from iperfpy.cli.main import main
from tests.studies.diff_check import __main__ as study
from tests.studies.diff_check.simulated_runs import Model, documents, mean_sd

PAIRS = 120


def test_the_rates_of_the_heading_keep_their_bounds() -> None:
    """With fewer pairs: bounds of the study, and three standard errors."""
    equal, fall = study.rows_of(study.HEADLINE, PAIRS, 1)
    error = (0.05 * 0.95 / PAIRS) ** 0.5
    assert equal["different"] <= study.MOST_FALSE + 3 * error
    assert fall["found"] >= study.LEAST_FOUND


@pytest.mark.parametrize("run_sd", [0.0, 0.015])
def test_runs_vary_as_the_model_says(run_sd: float) -> None:
    rng = np.random.default_rng(2)
    made = documents(Model(800, run_sd), 0.0, rng)
    rates = [one["end"]["sum_received"]["bits_per_second"] for one in made]
    assert np.std(rates) / np.mean(rates) == pytest.approx(max(run_sd, mean_sd(10)), rel=0.1)


def test_the_command_gives_the_status_of_the_study(tmp_path: Path) -> None:
    case = study.Case("", Model(5), 0.05)
    for seed in (1, 2, 3):
        rng = np.random.default_rng(seed)
        sides: list[list[str]] = [[], []]
        for side, fall in zip(sides, (0.0, case.fall), strict=True):
            for document in documents(case.model, fall, rng):
                path = tmp_path / f"{seed}-{len(side)}-{fall}.json"
                path.write_text(json.dumps(document))
                side.append(str(path))
        expected = study.compared(case, np.random.default_rng(seed)).status
        assert main(["diff", *sides[0], "--", *sides[1]]) == expected
