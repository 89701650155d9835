"""The verdict on one program over one path: medians of each instrument, and the limits that they miss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.studies.lab_check.checked_paths import CheckedPath

SIMULATOR, LAB, EMULATOR = "simulator", "lab", "emulator"
INSTRUMENTS = (SIMULATOR, LAB, EMULATOR)
FIGURES = ("mbit", "idle_p50", "loaded_p50", "loaded_p95", "loss", "burst")
GOODPUT_SHARE, IDLE_MS, LOADED_SHARE, ERRORS = 0.02, 1.0, 0.05, 3.0
"""Limits: of the goodput, of the idle RTT, of the loaded RTT, and in standard errors of losses."""

Run = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Agreement:
    """One row: figure -> instrument -> median, and the misses, a phrase each."""

    path: CheckedPath
    program: str
    medians: Mapping[str, Mapping[str, float]]
    misses: Sequence[str]
    runs: int
    unclean: int

    @property
    def word(self) -> str:
        """PASS or MISS; empty if an instrument gave no goodput."""
        if self.misses:
            return "MISS"
        return "PASS" if {LAB, EMULATOR} <= self.medians["mbit"].keys() else ""


def judge(path: CheckedPath, program: str, runs: Iterable[Run]) -> Agreement:
    """The verdict on the runs of one program over one path.

    runs : records with `instrument`, the figures, and `unclean`, or `error`. Runs that are not clean count
        only for an instrument that has no others.
    """
    listed = list(runs)
    medians = {figure: _medians(listed, figure) for figure in FIGURES}
    misses = [f"{run['instrument']} failed: {run['error']}" for run in listed if run.get("error")][:1]
    misses += [*_apart(medians), *_wrong_losses(path, medians)]
    unclean = sum(bool(run.get("unclean")) for run in listed)
    return Agreement(path, program, medians, tuple(misses), len(listed), unclean)


def _medians(runs: Sequence[Run], figure: str) -> dict[str, float]:
    found = {}
    for instrument in INSTRUMENTS:
        its = [run for run in runs if run["instrument"] == instrument and run.get(figure) is not None]
        clean = [run for run in its if not run.get("unclean")]
        if its:
            found[instrument] = median(run[figure] for run in clean or its)
    return found


def _apart(medians: Mapping[str, Mapping[str, float]]) -> Iterable[str]:
    """Figures in which the lab differs from another instrument."""
    for figure, limit, relative in (
        ("mbit", GOODPUT_SHARE, True),
        ("idle_p50", IDLE_MS, False),
        ("loaded_p50", LOADED_SHARE, True),
        ("loaded_p95", LOADED_SHARE, True),
    ):
        values = medians[figure]
        for other in (SIMULATOR, EMULATOR):
            if other in values and LAB in values:
                apart = values[LAB] - values[other]
                apart = apart / values[other] if relative else apart
                if abs(apart) > limit:
                    by = f"{100 * apart:+.1f} %" if relative else f"{apart:+.2f} ms"
                    yield f"{figure} {by} of the {other}'s"


def _wrong_losses(path: CheckedPath, medians: Mapping[str, Mapping[str, float]]) -> Iterable[str]:
    if path.loss is None:
        return
    loss = path.loss
    for figure, meant, error in (
        ("loss", loss.share, loss.share_error),
        ("burst", loss.burst, loss.burst_error),
    ):
        for instrument, value in medians[figure].items():
            if abs(value - meant) > ERRORS * error:
                yield f"{figure} of the {instrument} is {(value - meant) / error:+.1f} standard errors off"
