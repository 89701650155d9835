"""The verdict, the limits and the counts of losses; a run without the emulator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.studies.lab_check.agreement import EMULATOR, LAB, SIMULATOR, judge
from tests.studies.lab_check.checked_paths import COUNTED, PATHS, CheckedPath
from tests.studies.lab_check.instruments import _counted
from tests.studies.lab_check.near import bursts

LOSSY = next(path for path in PATHS if path.name == "bursts of 5")
PLAIN = PATHS[0]
FIGURES = {"mbit": 19.0, "idle_p50": 40.0, "loaded_p50": 50.0, "loaded_p95": 60.0, "unclean": ""}


def runs(**changed: float | str) -> list[dict[str, object]]:
    """A run of each instrument, equal but for figures of the lab."""
    others = [{**FIGURES, "instrument": name} for name in (SIMULATOR, EMULATOR)]
    return [*others, {**FIGURES, **changed, "instrument": LAB}]


def test_ten_paths_are_checked() -> None:
    assert len({path.name for path in PATHS}) == len(PATHS) == 10
    assert all(path.ways for path in PATHS)


@pytest.mark.parametrize(
    ("figure", "within", "beyond"),
    [
        ("mbit", 19.37, 19.39),
        ("mbit", 18.63, 18.61),
        ("idle_p50", 40.9, 41.1),
        ("loaded_p50", 52.4, 52.6),
        ("loaded_p95", 57.1, 56.9),
    ],
)
def test_the_lab_is_compared_with_both_others(figure: str, within: float, beyond: float) -> None:
    assert judge(PLAIN, "kcp-bbr", runs(**{figure: within})).word == "PASS"
    misses = judge(PLAIN, "kcp-bbr", runs(**{figure: beyond})).misses
    assert [miss.split()[0] for miss in misses] == [figure, figure]
    assert misses[0].endswith("of the simulator's")
    assert misses[1].endswith("of the emulator's")


def test_losses_are_compared_with_the_configured_ones() -> None:
    loss = LOSSY.loss
    assert loss is not None
    good = {"loss": loss.share + 2.9 * loss.share_error, "burst": loss.burst - 2.9 * loss.burst_error}
    assert judge(LOSSY, "kcp-bbr", runs(**good)).word == "PASS"
    bad = {"loss": loss.share + 3.1 * loss.share_error, "burst": loss.burst - 3.1 * loss.burst_error}
    assert judge(LOSSY, "kcp-bbr", runs(**bad)).misses == (
        "loss of the lab is +3.1 standard errors off",
        "burst of the lab is -3.1 standard errors off",
    )


def test_an_unclean_run_counts_only_without_a_clean_one() -> None:
    unclean = {**FIGURES, "mbit": 1.0, "unclean": "late", "instrument": LAB}
    assert judge(PLAIN, "kcp-bbr", [*runs(), unclean]).word == "PASS"
    assert judge(PLAIN, "kcp-bbr", [*runs()[:2], unclean]).word == "MISS"


def test_a_failed_run_is_named() -> None:
    failed = {"instrument": LAB, "error": "no server", "unclean": ""}
    assert judge(PLAIN, "iperf3", [*runs()[:2], failed]).misses == ("lab failed: no server",)


def test_bursts_are_runs_of_missing_numbers() -> None:
    assert bursts([0, 3, 4, 7, 8, 8], 9) == {"loss": 4 / 9, "burst": 2.0}
    assert bursts([1, 2], 3) == {"loss": 1 / 3, "burst": 1.0}
    assert bursts(range(5), 5) == {"loss": 0.0, "burst": 0.0}


@pytest.mark.parametrize("path", [path for path in PATHS if path.loss], ids=lambda path: path.name)
def test_the_standard_errors_are_those_of_many_seeds(path: CheckedPath) -> None:
    loss = path.loss
    assert loss is not None
    found = [_counted(path, seed) for seed in range(8)]
    for name, mean, error in (
        ("loss", loss.share, loss.share_error),
        ("burst", loss.burst, loss.burst_error),
    ):
        values = np.array([each[name] for each in found])
        assert abs(values.mean() - mean) < 3 * error / len(found) ** 0.5
        # The deviation of 8 values is within a third and twice of the true one in all but 2 of 1,000 cases.
        assert 0.29 * error < values.std(ddof=1) < 1.87 * error
    assert COUNTED * loss.share > 100


@pytest.mark.parametrize("folder", ["", "/no/such/folder"])
def test_without_the_emulator_it_says_so(folder: str) -> None:
    command = [sys.executable, "-m", "tests.studies.lab_check", folder]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("no emulator: ")
    assert len(done.stderr.splitlines()) == 1
