"""Does kcp-bbr carry what the kernel's BBR carries on the paths that people have?

    python -m tests.studies.odd_real FOLDER [--only J] [--runs 3] [--seconds 20] [--minutes 30]

FOLDER is that of the emulator, which is not part of this tree. Each path is run by both programs in turn, so
that both meet the same minutes of the machine, and by CUBIC once. A run during which the emulator was late or
dropped packets of its own is repeated. Needs Linux, root and ip; without iperf3 there is no comparison.

A study that was stopped continues: results/NAME.jsonl has every finished run. Columns: rate of the receiver,
ratio to the kernel's BBR, share of the limit, mean RTT of the senders.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.studies.machine import RESULTS, go_first
from tests.studies.odd_real.emulated_paths import OddPath, odd_paths
from tests.studies.odd_real.emulator import missing
from tests.studies.odd_real.one_run import measure
from tests.studies.odd_real.verdict import CUBIC, KERNEL, OURS, START_LOST, Verdict, judge
from tests.studies.record import append_line, read_lines, write_table
from tests.studies.table import Table
from tests.studies.wire.namespaces import PathError

SECONDS, START_SECONDS = 20.0, 10.0
RUNS, START_RUNS = 3, 5
REPEATS = 3
Run = dict[str, Any]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("folder", nargs="?", default="", help="the emulator's folder: lab.sh, pathsim")
    made.add_argument(
        "--only", action="append", default=[], metavar="ROW", help="rows that begin so; repeatable"
    )
    made.add_argument("--runs", type=int, help=f"runs of each program [{RUNS}, of a start {START_RUNS}]")
    made.add_argument(
        "--seconds", type=float, help=f"length of a run [{SECONDS:g}, of a start {START_SECONDS:g}]"
    )
    made.add_argument("--minutes", type=float, default=0.0, help="begin no run after that time")
    made.add_argument("--repeats", type=int, default=REPEATS, help=f"of a run that is not clean [{REPEATS}]")
    made.add_argument(
        "--ordinary", action="store_true", help="let other work of the machine hold up the programs"
    )
    made.add_argument("--name", default="odd-real", help="of the files")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder of the files [results]")
    return made


def wanted(path: OddPath, runs: int | None, *, iperf3: bool) -> Iterator[tuple[str, int]]:
    """(program, number of the run), in turn."""
    for number in range(runs or (START_RUNS if path.start else RUNS)):
        yield OURS, number
        if iperf3:
            yield KERNEL, number
    if iperf3 and not path.start:
        yield CUBIC, 0


def clean_run(folder: Path, path: OddPath, program: str, seconds: float, repeats: int) -> Run:
    """One run, repeated if the emulator did not keep to the path; the last one is kept as it is."""
    for left in reversed(range(repeats + 1)):
        try:
            run = measure(folder, path, program, seconds)
        except PathError as error:
            run = {"error": str(error), "unclean": ""}
        if not run["unclean"] or not left:
            break
        print(f"{path.name}, {program}: once more, {run['unclean']}", file=sys.stderr, flush=True)
    return run


def run_all(options: argparse.Namespace, paths: list[OddPath]) -> list[Run]:
    """Make the runs that the record lacks; all runs of these paths that it has then."""
    lines, until = options.out / f"{options.name}.jsonl", time.monotonic() + 60 * options.minutes
    done = {(run["path"], run["program"], run["run"], run["seconds"]): run for run in read_lines(lines)}
    iperf3 = shutil.which("iperf3") is not None
    for path in paths:
        seconds = seconds_of(options, path)
        for program, number in wanted(path, options.runs, iperf3=iperf3):
            key = (path.name, program, number, seconds)
            if key in done or (options.minutes and time.monotonic() > until):
                continue
            figures = clean_run(Path(options.folder), path, program, seconds, options.repeats)
            run = {"path": path.name, "program": program, "run": number, "seconds": seconds, **figures}
            done[key] = run
            append_line(lines, run)
            print(run, file=sys.stderr, flush=True)
    return list(done.values())


def seconds_of(options: argparse.Namespace, path: OddPath) -> float:
    """The length of a run."""
    return float(options.seconds or (START_SECONDS if path.start else SECONDS))


def row(verdict: Verdict) -> dict[str, Any]:
    """The plain values of a row."""
    return {
        "path": verdict.path.name,
        "limit_mbit": verdict.limit_mbit,
        "kcp_bbr_mbit": verdict.ours,
        "bbr_mbit": verdict.kernel,
        "cubic_mbit": verdict.cubic,
        "ratio": verdict.ratio,
        "share": verdict.share,
        "kcp_bbr_rtt_ms": verdict.ours_rtt_ms,
        "bbr_rtt_ms": verdict.kernel_rtt_ms,
        "path_rtt_ms": verdict.path.rtt_ms,
        "first_second_lost": verdict.lost,
        "runs": verdict.runs,
        "unclean": verdict.unclean,
        "verdict": verdict.word,
        "misses": "; ".join(verdict.misses),
    }


def table_of(verdicts: list[Verdict]) -> Table:
    headings = (
        "path",
        "limit",
        "kcp-bbr",
        "BBR",
        "cubic",
        "of BBR",
        "of limit",
        "RTT",
        "BBR's",
        "own",
        "verdict",
    )

    def cell(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    rows = []
    for one in verdicts:
        digits = 3 if one.limit_mbit < 1 else 1
        rates = [cell(value, digits) for value in (one.limit_mbit, one.ours, one.kernel, one.cubic)]
        shares = [cell(one.ratio, 2), cell(one.share, 2)]
        rtts = [cell(value, 1) for value in (one.ours_rtt_ms, one.kernel_rtt_ms, one.path.rtt_ms)]
        known = one.lost is not None and one.lost <= START_LOST  # a greater loss is among the misses
        lost = [f"lost in the first second {100 * one.lost:.1f} %"] if known and one.lost is not None else []
        unclean = [f"{one.unclean} runs not clean"] if one.unclean else []
        said = "; ".join(dict.fromkeys((*one.misses, *lost, *unclean)))
        rows.append((one.path.name, *rates, *shares, *rtts, f"{one.word} {said}".strip()))
    return Table(headings, rows)


def main() -> int:
    options = parser().parse_args()
    if reason := missing(options.folder):
        print(reason, file=sys.stderr)
        return 1
    chosen = [
        path
        for path in odd_paths()
        if not options.only or any(path.name.startswith(one) for one in options.only)
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.ordinary:
        go_first()
    runs = run_all(options, chosen)
    verdicts = []
    for path in chosen:
        seconds = seconds_of(options, path)
        its = [run for run in runs if run["path"] == path.name and run["seconds"] == seconds]
        if its:
            verdicts.append(judge(path, its, seconds))
    table = table_of(verdicts)
    table.show()
    where = options.out / options.name
    rows = [row(verdict) for verdict in verdicts]
    write_table(where, table, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
