"""Run kcp-bbr over the grid of paths and print the table.

    python -m tests.studies.paths                    # everything, worst of 3 seeds: hours
    python -m tests.studies.paths --quick            # a few cases of every line, one seed: minutes
    python -m tests.studies.paths --only policer --only fair --seeds 5
    python -m tests.studies.paths --minutes 30       # stops after that; the same command continues

Cases come in a fixed shuffled order, so a partial run samples the whole grid. Every finished simulation is
kept in results/sim-<date>.jsonl and not run again, unless --fresh is given.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from tests.studies import chart, record
from tests.studies.machine import surroundings
from tests.studies.paths.cases import RATES, Case, all_cases, thinned
from tests.studies.paths.panels import draw
from tests.studies.paths.rows import document, table, text, values
from tests.studies.paths.run import Outcome, run_all
from tests.studies.paths.targets import GRID, TARGETS, judge

_QUICK = 4
LINES = sorted({case.line for case in all_cases(RATES[:1])})  # every line has cases at this rate


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.studies.paths", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds per case, from 1 (3)")
    parser.add_argument("--only", action="append", choices=LINES, help="run this line only (may be repeated)")
    parser.add_argument("--rates", type=float, nargs="+", default=[rate / 1e6 for rate in RATES], help="Mb/s")
    parser.add_argument("--most", type=int, help="highest number of cases per line")
    parser.add_argument("--quick", action="store_true", help=f"--most {_QUICK} --seeds 1")
    parser.add_argument("--minutes", type=float, help="start no simulation after this time")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder (results)")
    parser.add_argument("--name", default=f"sim-{datetime.now(UTC):%Y-%m-%d}", help="name of the files")
    parser.add_argument(
        "--show", action="store_true", help="show the table of recorded runs, and run nothing"
    )
    parser.add_argument("--fresh", action="store_true", help="discard recorded runs")
    return parser


def jobs(options: argparse.Namespace) -> list[tuple[Case, int]]:
    """List the simulations: every case with its first seed, then with the next."""
    cases = all_cases([1e6 * rate for rate in options.rates])
    if options.only:
        cases = [case for case in cases if case.line in options.only]
    most = _QUICK if options.quick else options.most
    if most:
        cases = thinned(cases, most)
    seeds = 1 if options.quick else options.seeds
    return [(case, seed) for seed in range(1, seeds + 1) for case in cases]


def _outcome(line: dict[str, Any]) -> Outcome:
    return Outcome(**line)


def simulate(options: argparse.Namespace, wanted: Sequence[tuple[Case, int]]) -> list[Outcome]:
    """Run the simulations that the record lacks; return all of `wanted` that are in the record then."""
    path = options.out / f"{options.name}.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    done = {(one.name, one.seed): one for one in map(_outcome, record.read_lines(path))}
    left = [(case, seed) for case, seed in wanted if (case.name, seed) not in done and not options.show]
    before = sum((case.name, seed) in done for case, seed in wanted)
    print(f"{len(wanted)} simulations, {before} of them recorded before", flush=True)
    until = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    in_time = takewhile(lambda _: time.monotonic() < until, left)
    for outcome in run_all(in_time, options.processes):
        record.append_line(path, dataclasses.asdict(outcome))
        done[outcome.name, outcome.seed] = outcome
        shown = " ".join(f"{name} {value:.3f}" for name, value in outcome.values.items())
        print(f"{outcome.name}, seed {outcome.seed}: {shown}", flush=True)
    return [done[case.name, seed] for case, seed in wanted if (case.name, seed) in done]


def main() -> None:
    options = parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = jobs(options)
    outcomes = simulate(options, wanted)
    rows = [judge(target, outcomes) for target in TARGETS]
    print(text(rows))
    bound = sorted({case.name for case, _ in wanted if case.window_share < 1.0})
    if bound:
        print(f"paths limited by KCP's window, and judged by the rate that it allows: {len(bound)}")
    where = options.out / options.name
    head = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        **surroundings(),
        "simulations": len(outcomes),
        "of": len(wanted),
        "window_bound": bound,
    }
    record.write_json(where.with_suffix(".json"), document(head, rows, outcomes))
    record.write_csv(where.with_suffix(".csv"), map(values, outcomes))
    where.with_suffix(".md").write_text(table(rows).markdown())
    try:
        count = sum(outcome.line in GRID for outcome in outcomes)
        title = f"kcp-bbr, one flow over random loss: {count} simulations, median of the seeds and the worst"
        draw(where.with_suffix(".png"), outcomes, title)
    except ImportError:
        print(chart.MISSING)


if __name__ == "__main__":
    main()
