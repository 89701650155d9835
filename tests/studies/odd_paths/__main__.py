"""Run kcp-bbr and three other senders over drawn odd paths and print the tables.

    python -m tests.studies.odd_paths                             # seeds 1 to 150, alone and in pairs: hours
    python -m tests.studies.odd_paths --seeds 1:25 --cheap        # fewer paths, the cheapest first
    python -m tests.studies.odd_paths --only kcp-bbr --peers results/odd-paths-<date>.jsonl --name try
    python -m tests.studies.odd_paths --alone --kinds J G         # paths that have one of these kinds
    python -m tests.studies.odd_paths --minutes 30              # stop after that; the same command continues
    python -m tests.studies.odd_paths --show --worst 20           # tables of recorded runs
    python -m tests.studies.odd_paths --presets                   # every preset of `iperfpy lab list`
    python -m tests.studies.odd_paths --path preset=geo,loss=1    # a path in the language of paths

Neighbouring seeds have all kinds in turn, and paths of one kind and of two alternate, so a run that is
stopped covers the kinds evenly. Every finished simulation is kept in results/<name>.jsonl and not run again,
unless --fresh is given.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

from tests.studies import record
from tests.studies.machine import surroundings
from tests.studies.odd_paths import rows
from tests.studies.odd_paths.contenders import CONTENDERS
from tests.studies.odd_paths.drawing import KINDS, OddPath, draw, fixed_cases
from tests.studies.odd_paths.named import given, presets
from tests.studies.odd_paths.simulate import Job, Outcome, run
from tests.studies.odd_paths.verdicts import FIXED, OURS, TARGETS, Runs, by_path, judge
from tests.studies.paths.run import spread
from tests.studies.seed_range import seeds

DEVELOP = range(1, 151)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.studies.odd_paths", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seeds", type=seeds, default=DEVELOP, help="FIRST:END, END excluded (1:151)")
    parser.add_argument("--alone", action="store_true", help="paths of one kind only")
    parser.add_argument("--pairs", action="store_true", help="paths of two kinds only")
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS, *FIXED], help="paths with one of these kinds")
    parser.add_argument("--path", action="append", type=given, metavar="TEXT", help="this path instead")
    parser.add_argument("--presets", action="store_true", help="the presets instead, for 20 s each")
    parser.add_argument("--only", action="append", choices=list(CONTENDERS), help="run this sender only")
    parser.add_argument("--peers", type=Path, help="take the other senders' runs from this record")
    parser.add_argument("--cheap", action="store_true", help="run the paths that take the least time first")
    parser.add_argument("--minutes", type=float, help="start no simulation after this time")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder (results)")
    parser.add_argument("--name", default=f"odd-paths-{datetime.now(UTC):%Y-%m-%d}", help="name of the files")
    parser.add_argument("--show", action="store_true", help="show the tables of recorded runs and stop")
    parser.add_argument(
        "--worst", type=int, default=0, metavar="N", help="list the N paths with least goodput"
    )
    parser.add_argument("--fresh", action="store_true", help="discard recorded runs")
    return parser


def chosen(options: argparse.Namespace) -> list[OddPath]:
    """List the paths that the options select, in an order that covers all kinds evenly."""
    if options.path or options.presets:
        paths = (options.path or []) + (presets() if options.presets else [])
        return cheapest(paths) if options.cheap else paths
    paths = [] if options.pairs else fixed_cases()
    both = options.alone == options.pairs
    for seed in options.seeds:
        for pair, wanted in ((False, both or options.alone), (True, both or options.pairs)):
            if wanted:
                paths.append(draw(seed, pair=pair))
    if options.kinds:
        paths = [path for path in paths if set(path.kinds) & set(options.kinds)]
    return cheapest(paths) if options.cheap else paths


def cheapest(paths: list[OddPath]) -> list[OddPath]:
    """Sort paths by the time that their simulation takes, the least first."""
    return sorted(paths, key=lambda path: (path.forward.mean_bits_per_s or 0.0) * path.seconds)


def outcomes_in(path: Path) -> list[Outcome]:
    """Read the outcomes of a record in JSON lines."""
    return [Outcome(**line) for line in record.read_lines(path)]


def simulate(options: argparse.Namespace, paths: list[OddPath]) -> dict[tuple[str, str], Outcome]:
    """Run the simulations that the record lacks; return all of these paths that are known then."""
    file = options.out / f"{options.name}.jsonl"
    # The record of the peers may have runs of an older version of the senders that are to run now.
    done = by_path(outcomes_in(options.peers)) if options.peers else {}
    if options.only:
        done = {key: one for key, one in done.items() if one.contender not in options.only}
    done |= by_path(outcomes_in(file))
    wanted: list[Job] = [(path, name) for path in paths for name in options.only or CONTENDERS]
    left = [(path, name) for path, name in wanted if (path.name, name) not in done]
    print(f"{len(wanted)} simulations, {len(wanted) - len(left)} of them recorded before", flush=True)
    left = [] if options.show else left
    until = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    in_time = takewhile(lambda _: time.monotonic() < until, left)
    for outcome in spread(in_time, options.processes, run):
        record.append_line(file, outcome.fields())
        done[outcome.key] = outcome
        figures = outcome.values
        print(
            f"{outcome.contender:8}{figures['goodput']:6.3f} of the limit, RTT x{figures['rtt']:5.2f}, "
            f"{figures['cost_s']:5.1f} s: {outcome.name}",
            flush=True,
        )
    keys = [(path.name, name) for path in paths for name in CONTENDERS]
    return {key: done[key] for key in keys if key in done}


def report(options: argparse.Namespace, runs: Runs) -> None:
    """Print the tables and write the files."""
    named = options.path or options.presets
    judged = [] if named else [judge(target, runs) for target in TARGETS]
    tables = [rows.given(runs)] if named else [rows.targets(judged), rows.kinds(runs)]
    if options.worst:
        tables.append(rows.worst(runs, options.worst))
    print("\n" + "\n".join(table.text() for table in tables))
    where = options.out / options.name
    where.with_suffix(".md").write_text("\n".join(table.markdown() for table in tables))
    record.write_csv(where.with_suffix(".csv"), map(rows.values, runs.values()))
    table = [
        {"target": one.target.what, "bound": one.target.bound, "figure": one.value}
        | {"runs": one.runs, "verdict": one.verdict}
        for one in judged
    ]
    head = {"date": f"{datetime.now(UTC):%Y-%m-%d}", **surroundings(), "simulations": len(runs)}
    runs_listed = [dataclasses.asdict(one) for one in runs.values()]
    record.write_json(where.with_suffix(".json"), {**head, "table": table, "runs": runs_listed})


def main() -> None:
    options = parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        (options.out / f"{options.name}.jsonl").unlink(missing_ok=True)
    runs = simulate(options, chosen(options))
    if any(one.contender == OURS for one in runs.values()):
        report(options, runs)


if __name__ == "__main__":
    main()
