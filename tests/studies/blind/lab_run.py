"""One case in the lab: `iperfpy diagnose` over the path, against a server at the far end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iperfpy.diagnosis.finding import Cause
from iperfpy.plan import Direction
from tests.studies.blind.lab_cases import LabCase
from tests.studies.blind.outcome import Outcome

PATIENCE_S, START_S = 300.0, 30.0
ROOT = Path(__file__).parents[3]
Json = Mapping[str, Any]


class RunFailedError(Exception):
    """The lab or the diagnosis gave no document. The message is the end of the output."""


@dataclass(frozen=True, slots=True)
class LabRun:
    """The documents of a diagnosis and of the lab."""

    document: Json
    counters: Json

    @property
    def unclean(self) -> str:
        """The reason why the machine disturbed the run, as the lab gives it; or empty."""
        return str(self.counters["unclean"])


def run_once(case: LabCase) -> LabRun:
    """Diagnose the path of a case. Raises RunFailedError."""
    near = " && ".join([*([case.near] if case.near else []), case.program])
    far = " && ".join([*([case.far] if case.far else []), f"exec {case.server}"])
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report"
        command = [sys.executable, "-m", "iperfpy", "lab", "--seed", str(case.seed), "--json"]
        command += ["--report", str(report), "--server-wait", f"{START_S:.0f}", "--server", far]
        command += [case.path, "--", "sh", "-c", near]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as made:
            try:
                output, errors = made.communicate(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                # The lab takes both ends down on a signal.
                made.send_signal(signal.SIGTERM)
                output, errors = made.communicate()
        try:
            return LabRun(json.loads(output), json.loads(report.read_text()))
        except (ValueError, OSError) as error:
            raise RunFailedError(errors.strip()[-300:] or "no output") from error


def run_clean(case: LabCase, once: Callable[[LabCase], LabRun] = run_once) -> tuple[LabRun, int]:
    """Run a case, a second time if the machine disturbed it; give the last run and the number of runs."""
    first = once(case)
    return (once(case), 2) if first.unclean else (first, 1)


def judge(case: LabCase, document: Json) -> Outcome:
    """Put the truth of the direction towards the far end beside its diagnosis."""
    forward = Direction.FORWARD.value
    # The finding that compares both directions names the slower one.
    findings = [
        one for one in document["diagnosis"] if one["direction"] == forward or one["cause"] == Cause.ASYMMETRY
    ]
    # The document of one test has findings, but no directions.
    directions: dict[str, Json] = {one["direction"]: one for one in document.get("directions", ())}
    direction = directions.get(forward)
    return Outcome(
        case.seed,
        ["lab", *case.kinds],
        case.name,
        {str(cause): figures for cause, figures in case.truth.items()},
        {one["cause"]: dict(one["evidence"]) for one in findings},
        [f"{one['cause']}: {one['sentence']} ({one['because']})" for one in findings],
        case.rate,
        direction["capacity_bits_per_s"] if direction else None,
        direction["capacity_error_bits_per_s"] if direction else None,
        measures_rate=not case.feeder,
    )
