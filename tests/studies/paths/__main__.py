"""Run kcp-bbr over the grid of paths and print the table.

    python -m tests.studies.paths                    # everything, worst of 3 seeds: hours
    python -m tests.studies.paths --quick            # a few cases of every line, one seed: minutes
    python -m tests.studies.paths --only policer --only fair --seeds 5
    python -m tests.studies.paths --minutes 30       # stops after that; the same command continues
    python -m tests.studies.paths --without caps     # BBR without a mechanism, against the record; 1 seed
    python -m tests.studies.paths --ablation --cheap --most 8       # without each mechanism in turn

Cases come in a fixed shuffled order, so a partial run samples the whole grid. Every finished simulation is
kept in results/sim-<date>.jsonl and not run again, unless --fresh is given. Runs without a mechanism are kept
in results/records/ablation-<date>.jsonl and compared with a record of the whole grid.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

from tests.studies import chart, record
from tests.studies.machine import surroundings
from tests.studies.paths import ablation_table
from tests.studies.paths.ablation import MECHANISMS
from tests.studies.paths.ablation_shadow import Shadows, run_with_shadows
from tests.studies.paths.cases import RATES, Case, all_cases, cheapest_first, thinned
from tests.studies.paths.panels import draw
from tests.studies.paths.rows import document, table, text, values
from tests.studies.paths.run import Job, Outcome, run_all, spread
from tests.studies.paths.targets import GRID, TARGETS, judge

_QUICK = 4
_RECORDS = Path("results/records")
LINES = sorted({case.line for case in all_cases(RATES[:1])})  # every line has cases at this rate


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.studies.paths", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, help="seeds per case, from 1 (3; 1 without a mechanism)")
    parser.add_argument("--only", action="append", choices=LINES, help="run this line only (may be repeated)")
    parser.add_argument("--rates", type=float, nargs="+", default=[rate / 1e6 for rate in RATES], help="Mb/s")
    parser.add_argument("--most", type=int, help="highest number of cases per line")
    parser.add_argument("--cheap", action="store_true", help="run the cases that take the least time first")
    parser.add_argument("--quick", action="store_true", help=f"--most {_QUICK} --seeds 1")
    parser.add_argument("--minutes", type=float, help="start no simulation after this time")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, help="folder (results; results/records without a mechanism)")
    parser.add_argument("--name", help="name of the files (sim-<date>; ablation-<date> without a mechanism)")
    parser.add_argument("--show", action="store_true", help="show the table of recorded runs and stop")
    parser.add_argument("--fresh", action="store_true", help="discard recorded runs")
    parser.add_argument(
        "--without", action="append", choices=list(MECHANISMS), help="switch this mechanism of BBR off"
    )
    parser.add_argument("--ablation", action="store_true", help="--without each of them in turn")
    parser.add_argument("--baseline", type=Path, help="record of the whole grid (the newest)")
    return parser


def completed(options: argparse.Namespace) -> argparse.Namespace:
    """Fill in the defaults that depend on whether a mechanism is off."""
    if options.ablation:
        options.without = list(MECHANISMS)
    off = bool(options.without)
    options.seeds = options.seeds or (1 if off or options.quick else 3)
    options.out = options.out or (_RECORDS if off else Path("results"))
    options.name = options.name or f"{'ablation' if off else 'sim'}-{datetime.now(UTC):%Y-%m-%d}"
    return options


def chosen(options: argparse.Namespace) -> list[Case]:
    """List the cases that the options select."""
    cases = all_cases([1e6 * rate for rate in options.rates])
    if options.only:
        cases = [case for case in cases if case.line in options.only]
    if options.cheap:
        cases = cheapest_first(cases)
    most = _QUICK if options.quick else options.most
    return thinned(cases, most) if most else cases


def jobs(options: argparse.Namespace) -> list[Job]:
    """List the simulations: every case with its first seed, then with the next."""
    return [(case, seed, "") for seed in range(1, options.seeds + 1) for case in chosen(options)]


def ablation_jobs(options: argparse.Namespace) -> list[Job]:
    """List the simulations without mechanisms: the first case of every line without each mechanism, then the
    second cases, so that a stopped run has tried every mechanism about equally often."""
    # The rank of a case is its place within its line.
    ranks: dict[str, int] = {}
    by_rank: dict[int, list[Case]] = {}
    for case in chosen(options):
        rank = ranks[case.line] = ranks.get(case.line, 0) + 1
        by_rank.setdefault(rank, []).append(case)
    return [
        (case, seed, key)
        for seed in range(1, options.seeds + 1)
        for rank in sorted(by_rank)
        for key in options.without
        for case in by_rank[rank]
    ]


def outcomes_in(path: Path) -> list[Outcome]:
    """Read the outcomes of a record in JSON lines."""
    return [Outcome(**line) for line in record.read_lines(path)]


def _until(options: argparse.Namespace) -> float:
    """Monotonic time after which no simulation starts."""
    return time.monotonic() + 60 * options.minutes if options.minutes else float("inf")


def simulate(options: argparse.Namespace, wanted: Sequence[Job]) -> list[Outcome]:
    """Run the simulations that the record lacks; return all of `wanted` that are in the record then."""
    path = options.out / f"{options.name}.jsonl"
    done = {(one.name, one.seed, one.without): one for one in outcomes_in(path)}
    # The same case may be wanted twice, for instance by a repeated --without; it runs once.
    names = {(case.name, seed, off): (case, seed, off) for case, seed, off in wanted}
    left = [job for name, job in names.items() if name not in done and not options.show]
    print(
        f"{len(names)} simulations, {sum(name in done for name in names)} of them recorded before", flush=True
    )
    until = _until(options)
    in_time = takewhile(lambda _: time.monotonic() < until, left)
    for outcome in run_all(in_time, options.processes):
        record.append_line(path, outcome.fields())
        done[outcome.name, outcome.seed, outcome.without] = outcome
        shown = " ".join(f"{name} {value:.3f}" for name, value in outcome.values.items())
        off = f"without {outcome.without}: " if outcome.without else ""
        print(f"{off}{outcome.name}, seed {outcome.seed}: {shown}", flush=True)
    return [done[name] for name in names if name in done]


def copy_unchanged(options: argparse.Namespace, wanted: Sequence[Job], baseline: Sequence[Outcome]) -> None:
    """Record the mechanisms that never act in a case (ablation_shadow.py): their figures are the baseline's.

    A case without any line of equal figures in the record has not been examined yet.
    """
    path = options.out / f"{options.name}.jsonl"
    known = {(one.name, one.seed): one.values for one in baseline}
    recorded = outcomes_in(path)
    done = {(one.name, one.seed, one.without) for one in recorded}
    seen = {(one.name, one.seed) for one in recorded if one.values == known.get((one.name, one.seed))}
    cases = {(case.name, seed): (case, seed) for case, seed, _ in wanted if (case.name, seed) not in seen}
    until = _until(options)
    in_time = takewhile(lambda _: time.monotonic() < until, cases.values())
    found: Shadows
    for found in spread(in_time, options.processes, run_with_shadows):
        outcome, unchanged = found
        # Different code has different figures, and comparing them would blame the mechanisms for it.
        if outcome.values != known.get((outcome.name, outcome.seed), outcome.values):
            raise SystemExit(
                f"{outcome.name}, seed {outcome.seed}: not the figures of the baseline; "
                "record the grid with this code (make sim ARGS=...) and name its file (--baseline)"
            )
        for one in unchanged:
            if (one.name, one.seed, one.without) not in done:
                record.append_line(path, one.fields())
        keys = " ".join(one.without for one in unchanged)
        print(f"{outcome.name}, seed {outcome.seed}: the same without {keys}", flush=True)


def ablate(options: argparse.Namespace) -> None:
    """Run the grid without mechanisms; print and write the comparison with the baseline. The tables cover
    every run of the record, whichever options it was made with."""
    wanted = ablation_jobs(options)
    baseline = outcomes_in(options.baseline or max(_RECORDS.glob("sim-*.jsonl")))
    if not options.show:
        copy_unchanged(options, wanted, baseline)
    simulate(options, wanted)
    where = options.out / options.name
    found = [one for one in outcomes_in(where.with_suffix(".jsonl")) if one.without]
    keys = [key for key in MECHANISMS if any(one.without == key for one in found)]
    print(ablation_table.summary(keys, found, baseline).text())
    where.with_suffix(".md").write_text(ablation_table.markdown(keys, found, baseline))
    record.write_csv(where.with_suffix(".csv"), map(values, found))


def main() -> None:
    options = completed(parser().parse_args())
    options.out.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        (options.out / f"{options.name}.jsonl").unlink(missing_ok=True)
    if options.without:
        ablate(options)
        return
    wanted = jobs(options)
    outcomes = simulate(options, wanted)
    rows = [judge(target, outcomes) for target in TARGETS]
    print(text(rows))
    bound = sorted({case.name for case, *_ in wanted if case.window_share < 1.0})
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
