"""Diagnose drawn paths with known causes, and print how often that was right.

    python -m tests.studies.blind                                # seeds 1 to 300: an hour or more
    python -m tests.studies.blind --seeds 1:51 --cheap           # fewer paths, the slowest first
    python -m tests.studies.blind --show --name blind-DATE       # tables of a record
    python -m tests.studies.blind --misses                       # and each path that went wrong
    python -m tests.studies.blind --lab --seeds 2001:2031        # real programs in the lab: a minute each

Every finished path is kept in results/<name>.jsonl and not run again, unless --fresh is given.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

from iperfpy.diagnosis.finding import Cause
from tests.studies import record
from tests.studies.blind import lab_part, rows, verdicts
from tests.studies.blind.drawing import draw
from tests.studies.blind.outcome import Outcome, examine, prove
from tests.studies.machine import surroundings
from tests.studies.paths.run import spread
from tests.studies.seed_range import seeds

DEVELOP, LAB = range(1, 301), range(2001, 2041)
"""Seeds unless others are given; those of the lab have eight of each part."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.studies.blind", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seeds", type=seeds, help="FIRST:END, END excluded (1:301; with --lab 2001:2041)")
    parser.add_argument("--cheap", action="store_true", help="run the slowest paths first: they cost least")
    parser.add_argument("--minutes", type=float, help="start no simulation, and no run, after this time")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--lab", action="store_true", help="run real programs over `iperfpy lab`")
    parser.add_argument(
        "--parts", type=int, metavar="N", help="with --lab: limits of an end for the first N seeds only"
    )
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder (results)")
    parser.add_argument("--name", help="name of the files (blind-DATE, blind-lab-DATE)")
    parser.add_argument("--show", action="store_true", help="show the tables of recorded paths and stop")
    parser.add_argument("--advice", action="store_true", help="try the advice on each path, too")
    parser.add_argument("--misses", action="store_true", help="list each path that went wrong")
    parser.add_argument("--fresh", action="store_true", help="discard recorded paths")
    return parser


def simulate(options: argparse.Namespace) -> list[Outcome]:
    """Examine the paths that the record lacks; return all of these seeds that are known then."""
    file = options.out / f"{options.name}.jsonl"
    done = {line["seed"]: Outcome(**line) for line in record.read_lines(file)}
    left = [] if options.show else [seed for seed in options.seeds if seed not in done]
    print(f"{len(options.seeds)} paths, {len(left)} of them to do", flush=True)
    if options.cheap:
        left.sort(key=lambda seed: draw(seed).rate)
    until = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    for outcome in spread(takewhile(lambda _: time.monotonic() < until, left), options.processes, examine):
        record.append_line(file, outcome.fields())
        done[outcome.seed] = outcome
        wrong = [f"missed {c}" for c in outcome.missed] + [f"invented {c}" for c in outcome.invented]
        print(f"{outcome.cost_s:5.1f} s  {outcome.name[:80]}  {', '.join(wrong)}", flush=True)
    known = [done[seed] for seed in options.seeds if seed in done]
    if options.advice and not options.show:
        # Where the application is the limit, the advice is to leave the settings as they are.
        untried = [one for one in known if not one.trial and str(Cause.APPLICATION) not in one.found]
        tried = takewhile(lambda _: time.monotonic() < until, untried)
        for outcome in spread(tried, options.processes, prove):
            record.append_line(file, outcome.fields())  # the last line of a seed counts
            done[outcome.seed] = outcome
            faults = "; ".join(verdicts.advice_faults(outcome))
            print(f"advice  {outcome.name[:80]}  {faults or 'kept'}", flush=True)
    return [done[seed] for seed in options.seeds if seed in done]


def report(options: argparse.Namespace, outcomes: Sequence[Outcome]) -> None:
    """Print the tables and write the files."""
    tables = [rows.targets(outcomes), rows.confusion(outcomes), rows.figures(outcomes)]
    if any(one.trial for one in outcomes):
        tables.append(rows.advice(outcomes))
    print("\n" + "\n".join(table.text() for table in tables))
    wrong = rows.misses(outcomes)
    if options.misses:
        print(wrong)
    where = options.out / options.name
    pages = [table.markdown() for table in tables]
    where.with_suffix(".md").write_text("\n".join([*pages, "```", wrong, "```", ""]))
    head = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "lab": options.lab,
        **surroundings(),
        "paths": len(outcomes),
    }
    scores = [
        {"cause": one.cause, "right": one.right, "invented": one.invented, "missed": one.missed}
        for one in verdicts.scores(outcomes)
    ]
    record.write_json(where.with_suffix(".json"), {**head, "causes": scores})


def main() -> None:
    options = parser().parse_args()
    options.seeds = options.seeds or (LAB if options.lab else DEVELOP)
    options.name = options.name or f"blind-{'lab-' * options.lab}{datetime.now(UTC):%Y-%m-%d}"
    options.out.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        (options.out / f"{options.name}.jsonl").unlink(missing_ok=True)
    outcomes = lab_part.measure(options) if options.lab else simulate(options)
    if outcomes:
        report(options, outcomes)


if __name__ == "__main__":
    main()
