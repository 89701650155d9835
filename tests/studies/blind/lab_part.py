"""The lab part of the blind test: real programs over the drawn paths, one run at a time."""

from __future__ import annotations

import argparse
import time
from typing import Any

from tests.studies import record
from tests.studies.blind.lab_cases import cases
from tests.studies.blind.lab_run import RunFailedError, judge, run_clean
from tests.studies.blind.outcome import Outcome

KEPT = ("diagnosis", "idle", "not_checked", "warnings", "error")
"""Keys of the document that the record keeps beside the outcome, so that a miss can be explained."""


def measure(options: argparse.Namespace) -> list[Outcome]:
    """Run the cases that the record lacks; give the outcomes of the clean runs that are known then."""
    file = options.out / f"{options.name}.jsonl"
    found, skipped = cases(options.seeds, options.parts)
    done = {_key(Outcome(**line["outcome"])): line for line in record.read_lines(file)}
    left = [] if options.show else [case for case in found if (case.seed, case.kinds) not in done]
    print(f"{len(found)} runs, {len(left)} of them to do", flush=True)
    for reason, count in skipped.items():
        print(f"{count} drawn paths skipped: {reason}", flush=True)
    until = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    for case in left:
        if time.monotonic() > until:
            break
        try:
            run, runs = run_clean(case)
        except RunFailedError as error:
            print(f"failed: {case.name}: {error}", flush=True)
            continue
        outcome = judge(case, run.document)
        line = {
            "outcome": outcome.fields(),
            "runs": runs,
            "unclean": run.unclean,
            "lab": dict(run.counters),
            "document": {key: run.document[key] for key in KEPT if key in run.document},
            "directions": [_short(one) for one in run.document.get("directions", ())],
        }
        record.append_line(file, line)
        done[_key(outcome)] = line
        print(told(outcome, run.unclean), flush=True)
    keys = [(case.seed, case.kinds) for case in found]
    return known([done[key] for key in keys if key in done])


def _key(outcome: Outcome) -> tuple[int, tuple[str, ...]]:
    """Name a case: its seed, and its kinds without the mark of the lab."""
    return outcome.seed, tuple(outcome.kinds[1:])


def known(lines: list[dict[str, Any]]) -> list[Outcome]:
    """Give the outcomes of clean runs, and print the count of the others: they are no verdict."""
    clean = [line for line in lines if not line["unclean"]]
    print(f"{len(lines) - len(clean)} of {len(lines)} left out: unclean twice")
    return [Outcome(**line["outcome"]) for line in clean]


def told(outcome: Outcome, unclean: str) -> str:
    """Say in one line how a run went."""
    wrong = [f"missed {c}" for c in sorted(outcome.missed)]
    wrong += [f"invented {c}" for c in sorted(outcome.invented)]
    return f"{outcome.name[:100]}  {', '.join(wrong) or 'right'}{f' (unclean: {unclean})' if unclean else ''}"


def _short(direction: dict[str, Any]) -> dict[str, Any]:
    """Keep a direction's figures: its rungs and rounds without percentiles of streams."""
    rungs = [
        {key: rung[key] for key in ("offered_bits_per_s", "packet_bytes", "sent", "arrived", "rtt_us")}
        for rung in direction["rungs"]
    ]
    rounds = [
        [
            {
                "transport": run["transport"],
                "bits_per_second": run["bits_per_second"],
                "cpu_percent": run["cpu_percent"],
                "limited_us": [path["limited_us"] for path in run["path"]],
            }
            for run in tests
        ]
        for tests in direction["rounds"]
    ]
    return {**direction, "rungs": rungs, "rounds": rounds}
