"""Benchmark: the transports and their peers in one run, taking turns.

    make bench                                   everything, five rounds: about twenty minutes
    make bench ARGS="--only streams"             from 1 to 128 streams, beside iperf3: about eight minutes
    python -m tests.studies.speed --only kcp --rounds 3 --seconds 2
    python -m tests.studies.speed --list

Peers that are not installed are named, with the package that brings them. Only ratios of one run mean
anything: the machine's absolute speed varies from minute to minute.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.studies import chart, record
from tests.studies.machine import RESULTS, surroundings
from tests.studies.speed.cases import Group, chosen
from tests.studies.speed.run import Measured, measure

BUSY_LOAD = 0.5
"""Load average above which a warning says that other programs use the machine."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    groups = chosen(tuple(options.only))
    if options.list:
        for row in (row for group in groups for row in group.rows):
            print(f"{row.key:28}{row.what}")
        return 0
    if not groups:
        print(f"no row is named {' or '.join(options.only)}: see --list", file=sys.stderr)
        return 1
    if not sys.platform.startswith("linux"):
        print("the benchmark reads /proc: it runs on Linux only", file=sys.stderr)
        return 1
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    return _run(options, groups, out)


def _run(options: argparse.Namespace, groups: Sequence[Group], out: Path) -> int:
    began, around = datetime.now().astimezone(), surroundings()
    if around["load_average"] > BUSY_LOAD:
        _print_error(
            f"the machine is busy (load average {around['load_average']:.1f}): only ratios are valid"
        )
    measured = [measure(group, options.rounds, options.seconds, _print_error) for group in groups]
    head = {
        "date": began.isoformat(timespec="seconds"),
        "command": _command(options),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "surroundings": around,
    }
    base = out / f"bench-{began:%Y%m%d-%H%M%S}"
    _report(base, head, measured, f"{around['cpu']}, {around['cores']} cores, {around['kernel']}")
    return 1 if any(one.failures for one in measured) else 0


def _command(options: argparse.Namespace) -> str:
    """Give the command that repeats this run, without the folder of the record."""
    only = [part for key in options.only for part in ("--only", shlex.quote(key))]
    flags = [*only, "--rounds", str(options.rounds), "--seconds", f"{options.seconds:g}"]
    return " ".join(["python -m tests.studies.speed", *flags])


def _report(base: Path, head: dict[str, Any], measured: Sequence[Measured], machine: str) -> None:
    # Imported late: the kernel reports at least this process's size as the peak memory of each child.
    from tests.studies.speed import bars, rows

    results = [result for one in measured for result in one.results()]
    rounds = f"{head['rounds']} round{'s' if head['rounds'] != 1 else ''}"
    title = f"{machine}; {rounds} of {head['seconds']:g} s, medians"
    notes = rows.remarks(measured)
    record.write_json(base.with_suffix(".json"), rows.document(head, measured))
    record.write_csv(base.with_suffix(".csv"), map(rows.values, results), rows.COLUMNS)
    base.with_suffix(".md").write_text(rows.page(head, results, notes))
    rows.table(results, title).show()
    for sentence in notes:
        print(sentence)
    written = [base.with_suffix(end) for end in (".json", ".csv", ".md")]
    try:
        if bars.draw(base.with_suffix(".png"), results, f"iperfpy against its targets\n{title}"):
            written.append(base.with_suffix(".png"))
    except ImportError:
        print(chart.MISSING)
    print("written:", ", ".join(str(path) for path in written))


def _print_error(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.studies.speed", description="iperfpy and its peers."
    )
    parser.add_argument("--rounds", type=_positive(int), default=5, help="runs of each contestant [5]")
    parser.add_argument("--seconds", type=_positive(float), default=2.0, help="length of a run [2]")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="KEY",
        help="rows to measure, as --list names them: kcp, kcp/stock, '*/cpu' (may be repeated)",
    )
    parser.add_argument("--out", default=str(RESULTS), help="folder of the record [results/]")
    parser.add_argument("--list", action="store_true", help="list the rows and exit")
    return parser


class _positive:  # noqa: N801 - reads as a type in an option's declaration
    def __init__(self, kind: type[int] | type[float]) -> None:
        self._kind, self.__name__ = kind, f"positive {kind.__name__}"

    def __call__(self, text: str) -> float:
        value = self._kind(text)
        if value <= 0:
            raise ValueError(text)
        return value


if __name__ == "__main__":
    sys.exit(main())
