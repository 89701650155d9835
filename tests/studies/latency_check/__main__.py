"""Does the simulator give the latencies of messages that the lab gives?

    python -m tests.studies.latency_check [--only TEXT] [--runs 5] [--seconds 20] [--minutes 30]

100 messages of 100 bytes per second and their echoes, over 100 ms of round trip with 0, 2 and 10 % of loss:
UDP, stock KCP in two modes, and kcp-bbr. The lab runs the program at both ends. Each cell has the medians of
the runs, simulator / lab, and the ratio of the two. A run of the lab whose relay or whose client was late is
repeated, and the row says "unclean" if there is no other. The exit status is 1 if the larger of two medians
is more than 10 % above the smaller one, or if a row has no clean run. Needs Linux.

A study that was stopped continues: results/NAME.jsonl has every finished run. One that failed is made again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.studies.latency_check.message_agreement import LAB, SIMULATOR, LatencyAgreement, Pair, judge
from tests.studies.latency_check.message_paths import PATHS, TRANSPORTS, MessagePath
from tests.studies.latency_check.message_runs import Figures, in_lab, simulated
from tests.studies.machine import RESULTS, go_first
from tests.studies.record import append_line, read_lines, write_table
from tests.studies.table import Table

SECONDS, RUNS, REPEATS = 20.0, 5, 3
KEYS = ("path", "transport", "instrument", "run", "seconds")
Job = tuple[MessagePath, str, str, int]
"""Path, transport, instrument, number of the run, which is its seed."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="paths or transports with TEXT; repeatable",
    )
    made.add_argument("--runs", type=int, default=RUNS, help=f"runs of each row [{RUNS}]")
    made.add_argument("--seconds", type=float, default=SECONDS, help=f"of messages in a run [{SECONDS:g}]")
    made.add_argument("--minutes", type=float, default=0.0, help="begin no run after that time")
    made.add_argument("--repeats", type=int, default=REPEATS, help=f"of a run that is not clean [{REPEATS}]")
    made.add_argument("--ordinary", action="store_true", help="let other work hold up the programs")
    made.add_argument("--name", default="latency-check", help="of the files")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder of the files [results]")
    return made


def rows_of(only: list[str]) -> list[tuple[MessagePath, str]]:
    """The rows of the table."""
    every = [(path, transport) for path in PATHS for transport in TRANSPORTS]
    return [row for row in every if not only or any(text in f"{row[0].name}, {row[1]}" for text in only)]


def jobs(rows: list[tuple[MessagePath, str]], runs: int) -> Iterator[Job]:
    """Every run: simulations, then the others."""
    for instrument in (SIMULATOR, LAB):
        for number in range(1, runs + 1):
            for path, transport in rows:
                yield path, transport, instrument, number


def measure(options: argparse.Namespace, job: Job) -> Figures:
    """One run, repeated if the machine was late; the last one is kept as it is."""
    path, transport, instrument, number = job
    if instrument == SIMULATOR:
        return simulated(path, transport, options.seconds, number)
    for left in reversed(range(options.repeats + 1)):
        figures = in_lab(path, transport, options.seconds, number)
        if not figures["unclean"] or not left:
            break
        print(f"{path.name}, {transport}: once more, {figures['unclean']}", file=sys.stderr, flush=True)
    return figures


def run_all(options: argparse.Namespace, rows: list[tuple[MessagePath, str]]) -> list[dict[str, Any]]:
    """Make the runs that the record lacks; all runs that it has then."""
    lines, until = options.out / f"{options.name}.jsonl", time.monotonic() + 60 * options.minutes
    finished = (run for run in read_lines(lines) if not run.get("error"))
    done = {tuple(run[key] for key in KEYS): run for run in finished}
    for job in jobs(rows, options.runs):
        key = (job[0].name, *job[1:], options.seconds)
        if key in done or (options.minutes and time.monotonic() > until):
            continue
        if job[2] == LAB and not options.ordinary:
            go_first()  # from now on; a simulation needs no priority
        done[key] = {**dict(zip(KEYS, key, strict=True)), **measure(options, job)}
        append_line(lines, done[key])
        print(done[key], file=sys.stderr, flush=True)
    return list(done.values())


def record_of(one: LatencyAgreement) -> dict[str, Any]:
    """The plain values of a row."""
    figures = {
        f"{name}_{column}": getattr(pair, column)
        for name, pair in one.pairs.items()
        for column in (SIMULATOR, LAB, "ratio")
    }
    return {
        "path": one.path,
        "transport": one.transport,
        **figures,
        "lost_simulator": one.lost.simulator,
        "lost_lab": one.lost.lab,
        "lab_runs": one.runs,
        "unclean": one.unclean,
        "verdict": one.word,
    }


def cell(pair: Pair) -> str:
    """Simulator, lab and ratio."""
    if pair.ratio is None:
        return ""
    return f"{pair.simulator:.1f} / {pair.lab:.1f} ({pair.ratio:.3f})"


def table_of(agreements: list[LatencyAgreement]) -> Table:
    headings = ("path", "transport", "mean", "P50", "P95", "P99", "lost %", "verdict")
    rows = []
    for one in agreements:
        lost = [value for value in (one.lost.simulator, one.lost.lab) if value is not None]
        said = f"{one.word}; {one.unclean} of {one.runs} unclean" if one.unclean else one.word
        shown = " / ".join(f"{100 * value:.2f}" for value in lost)
        rows.append((one.path, one.transport, *(cell(pair) for pair in one.pairs.values()), shown, said))
    return Table(headings, rows, left=2)


def main() -> int:
    options = parser().parse_args()
    rows = rows_of(options.only)
    options.out.mkdir(parents=True, exist_ok=True)
    runs = [run for run in run_all(options, rows) if run["seconds"] == options.seconds]
    agreements = [
        judge(
            path.name,
            transport,
            [run for run in runs if (run["path"], run["transport"]) == (path.name, transport)],
        )
        for path, transport in rows
    ]
    table = table_of(agreements)
    table.show()
    write_table(options.out / options.name, table, [record_of(one) for one in agreements])
    return 0 if agreements and all(one.passes for one in agreements) else 1


if __name__ == "__main__":
    sys.exit(main())
