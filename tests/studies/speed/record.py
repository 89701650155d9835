"""What a benchmark leaves on disk: everything as JSON, the table as CSV; both say where and how."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.studies.speed.contestants import ROOT
from tests.studies.speed.run import Measured
from tests.studies.speed.summary import Result, Spread

PACKAGES = ("iperfpy", "numpy", "uvloop", "kcp")
DEBIAN_PACKAGES = ("iperf3", "iperf", "golang-go", "golang-github-xtaci-kcp-dev")
COLUMNS = (
    *("key", "what", "figure", "ours", "ours_median", "ours_min", "ours_max"),
    *("theirs", "theirs_median", "theirs_min", "theirs_max"),
    *("judged", "ratio_min", "ratio_max", "less_is_better", "limit", "aim", "verdict"),
)


def surroundings() -> dict[str, Any]:
    """The machine and the versions."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": _said("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "packages": {name: found for name in PACKAGES if (found := _package(name))},
        "debian": {name: found for name in DEBIAN_PACKAGES if (found := _debian(name))},
        "load_average": os.getloadavg()[0],
    }


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _debian(name: str) -> str:
    return _said("dpkg-query", "-W", "-f", "${Version}", name)


def _said(*command: str) -> str:
    """What a program printed, or nothing where there is no such program."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def remarks(measured: Sequence[Measured]) -> list[str]:
    """What stands below the table: who is missing, how contestants were set up, what failed."""
    missing = dict.fromkeys(reason for one in measured for reason in one.missing)
    return [
        *(f"not measured: {reason}" for reason in missing),
        *(f"{one.group.title}, {name}: {said}" for one in measured for name, said in one.remarks.items()),
        *(f"failed: {failure}" for one in measured for failure in one.failures),
        *(
            f"{name}: {stalled:.0f} runs stalled and were repeated"
            for one in measured
            for name, runs in one.rounds.items()
            if (stalled := sum(run.get("stalled_runs", 0.0) for run in runs if run))
        ),
    ]


def write_json(path: Path, head: dict[str, Any], measured: Sequence[Measured]) -> None:
    groups = [
        {
            "title": one.group.title,
            "rows": [line(result) for result in one.results()],
            "runs": one.rounds,
            "remarks": one.remarks,
            "missing": one.missing,
            "failures": one.failures,
        }
        for one in measured
    ]
    path.write_text(json.dumps({**head, "groups": groups}, indent=1) + "\n")


def write_csv(path: Path, results: Sequence[Result]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(line(result) for result in results)


def line(result: Result) -> dict[str, Any]:
    """A row of the table as plain values; None where there is no number."""
    row = dataclasses.asdict(result.row)
    low, high = result.ratio_spread or (None, None)
    found = {
        **{f"ours_{name}": value for name, value in _spread(result.ours).items()},
        **{f"theirs_{name}": value for name, value in _spread(result.theirs).items()},
        "judged": result.judged,
        "ratio_min": low,
        "ratio_max": high,
        "verdict": result.verdict.value,
    }
    return {name: {**row, **found}[name] for name in COLUMNS}


def _spread(spread: Spread | None) -> dict[str, float | None]:
    if spread is None:
        return dict.fromkeys(("median", "min", "max"))
    return {"median": spread.median, "min": spread.low, "max": spread.high}
