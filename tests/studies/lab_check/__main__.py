"""Do the lab, the simulator and an emulator of another make agree?

    python -m tests.studies.lab_check FOLDER [--only NAME] [--runs 3] [--seconds 12] [--minutes 30]

FOLDER is that of the emulator, which is not part of this tree. kcp-bbr runs in all three over the same ten
paths, iperf3 in the two real ones. A run that its instrument calls not clean is repeated. Needs Linux, root
and ip; without iperf3 only kcp-bbr runs.

A study that was stopped continues: results/NAME.jsonl has every finished run. Each cell has the medians of
simulator, lab and emulator; RTTs are those of probes beside the traffic.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.studies.lab_check.agreement import EMULATOR, FIGURES, INSTRUMENTS, LAB, SIMULATOR, Agreement, judge
from tests.studies.lab_check.checked_paths import PATHS, CheckedPath
from tests.studies.lab_check.instruments import IPERF3, KCP_BBR, Figures, in_emulator, in_lab, simulated
from tests.studies.machine import RESULTS, go_first
from tests.studies.odd_real.emulator import missing
from tests.studies.record import append_line, read_lines, write_table
from tests.studies.table import Table
from tests.studies.wire.namespaces import PathError

SECONDS, RUNS, REPEATS = 12.0, 3, 3
Job = tuple[CheckedPath, str, str, int]
"""Path, program, instrument, number of the run, which is its seed."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("folder", nargs="?", default="", help="the emulator's folder: lab.sh, pathsim")
    made.add_argument(
        "--only", action="append", default=[], metavar="PATH", help="paths that begin so; repeatable"
    )
    made.add_argument("--runs", type=int, default=RUNS, help=f"runs of each program [{RUNS}]")
    made.add_argument("--seconds", type=float, default=SECONDS, help=f"length of a run [{SECONDS:g}]")
    made.add_argument("--minutes", type=float, default=0.0, help="begin no run after that time")
    made.add_argument("--repeats", type=int, default=REPEATS, help=f"of a run that is not clean [{REPEATS}]")
    made.add_argument("--ordinary", action="store_true", help="let other work hold up the programs")
    made.add_argument("--name", default="lab-check", help="of the files")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder of the files [results]")
    return made


def jobs(paths: list[CheckedPath], runs: int, *, iperf3: bool) -> Iterator[Job]:
    """Every run: simulations, then the others, so that both real instruments meet the same minutes of the
    machine."""
    for number in range(1, runs + 1):
        for path in paths:
            yield path, KCP_BBR, SIMULATOR, number
    for number in range(1, runs + 1):
        for path in paths:
            for program in (KCP_BBR, IPERF3) if iperf3 else (KCP_BBR,):
                yield path, program, LAB, number
                yield path, program, EMULATOR, number


def measure(options: argparse.Namespace, job: Job) -> Figures:
    """One run, repeated if its instrument did not keep to the path; the last one is kept as it is."""
    path, program, instrument, number = job
    if instrument == SIMULATOR:
        return simulated(path, options.seconds, number)
    for left in reversed(range(options.repeats + 1)):
        try:
            if instrument == LAB:
                figures = in_lab(path, program, options.seconds, number)
            else:
                figures = in_emulator(Path(options.folder), path, program, options.seconds, number)
        except PathError as error:
            figures = {"error": str(error), "unclean": ""}
        if not figures["unclean"] or not left:
            break
        print(
            f"{path.name}, {program}, {instrument}: once more, {figures['unclean']}",
            file=sys.stderr,
            flush=True,
        )
    return figures


def run_all(options: argparse.Namespace, paths: list[CheckedPath]) -> list[dict[str, Any]]:
    """Make the runs that the record lacks; all runs of these paths that it has then."""
    lines, until = options.out / f"{options.name}.jsonl", time.monotonic() + 60 * options.minutes
    keys = ("path", "program", "instrument", "run", "seconds")
    done = {tuple(run[key] for key in keys): run for run in read_lines(lines)}
    for job in jobs(paths, options.runs, iperf3=shutil.which("iperf3") is not None):
        key = (job[0].name, *job[1:], options.seconds)
        if key in done or (options.minutes and time.monotonic() > until):
            continue
        if job[2] != SIMULATOR and not options.ordinary:
            go_first()  # from now on; a simulation needs no priority
        run = {**dict(zip(keys, key, strict=True)), **measure(options, job)}
        done[key] = run
        append_line(lines, run)
        print(run, file=sys.stderr, flush=True)
    return list(done.values())


def row(one: Agreement) -> dict[str, Any]:
    """The plain values of a row."""
    figures = {
        f"{figure}_{instrument}": one.medians[figure].get(instrument)
        for figure in FIGURES
        for instrument in INSTRUMENTS
    }
    return {
        "path": one.path.name,
        "text": one.path.text,
        "program": one.program,
        **figures,
        "runs": one.runs,
        "unclean": one.unclean,
        "verdict": one.word,
        "misses": "; ".join(one.misses),
    }


def table_of(agreements: list[Agreement]) -> Table:
    headings = (
        "path",
        "program",
        "Mb/s",
        "idle RTT",
        "loaded p50",
        "loaded p95",
        "loss %",
        "burst",
        "verdict",
    )

    def cell(one: Agreement, figure: str) -> str:
        values = [one.medians[figure].get(instrument) for instrument in INSTRUMENTS]
        scale, digits = (100.0, 2) if figure == "loss" else (1.0, 2 if figure == "burst" else 1)
        if all(value is None for value in values):
            return ""
        return " / ".join("-" if value is None else f"{scale * value:.{digits}f}" for value in values)

    rows = []
    for one in agreements:
        unclean = [f"{one.unclean} runs not clean"] if one.unclean else []
        said = "; ".join((*one.misses, *unclean))
        cells = [cell(one, figure) for figure in FIGURES]
        rows.append((one.path.name, one.program, *cells, f"{one.word} {said}".strip()))
    return Table(headings, rows, left=2)


def main() -> int:
    options = parser().parse_args()
    if reason := missing(options.folder).replace("odd-paths", "lab-check"):
        print(reason, file=sys.stderr)
        return 1
    chosen = [
        path for path in PATHS if not options.only or any(path.name.startswith(one) for one in options.only)
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    runs = run_all(options, chosen)
    agreements = []
    for path in chosen:
        for program in (KCP_BBR, IPERF3):
            its = [run for run in runs if (run["path"], run["program"]) == (path.name, program)]
            its = [run for run in its if run["seconds"] == options.seconds]
            if its:
                agreements.append(judge(path, program, its))
    table = table_of(agreements)
    table.show()
    where = options.out / options.name
    rows = [row(one) for one in agreements]
    write_table(where, table, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
