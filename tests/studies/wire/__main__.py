"""Compares the reports with captured packets, column by column.

    make truth                                    everything: a few minutes, as root
    python -m tests.studies.wire --only kcp-bbr --only 'udp reverse'
    python -m tests.studies.wire --list

Every test gets a kernel path of its own (network namespaces, a router that drops packets and limits the rate,
TUN devices for delay), which is removed afterwards. Packets are captured at both ends.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from tests.studies import record
from tests.studies.machine import RESULTS, surroundings
from tests.studies.table import Table
from tests.studies.wire.capture import CaptureError
from tests.studies.wire.case import Case, CaseError, measure, reports
from tests.studies.wire.judge import Line, judge, stream_sums
from tests.studies.wire.namespaces import PathError, PathSpec, why_not

TRANSPORTS = ("tcp", "udp", "kcp", "kcp-bbr")
COLUMNS = ("case", "column", "wire", "reported", "difference", "allowed", "verdict")
ATTEMPTS = 2
"""Measurements of a case. A program that did not run, a capture with a gap, or a line that does not hold is
measured once more, and the record says so: a wrong count stays wrong, a stalled machine recovers."""


def cases() -> Iterator[Case]:
    """List the cases of every transport in both directions: at full speed, over 20 ms each way below the
    path's rate, and with random loss. Then parallel streams; their sums are compared with the streams, not
    with packets."""
    for transport in TRANSPORTS:
        rate = ("-b", "5M") if transport == "udp" else ()
        delay = PathSpec("20 ms each way" + (" +- 2" if transport == "udp" else ""), delay_ms=20)
        if transport == "udp":
            delay = PathSpec(delay.name, delay_ms=20, jitter_ms=2)
        for reverse in (False, True):
            yield Case(transport, PathSpec("clean"), reverse, rate)
            yield Case(transport, delay, reverse, ("-b", "8M"))
            yield Case(transport, PathSpec("loss 2 %", loss_percent=2), reverse, rate)
        for flags in (("-P", "2"), ("-P", "2", "--bidir")):
            name = " ".join((*flags, "loss 2 %"))
            yield Case(transport, PathSpec(name, loss_percent=2), flags=(*flags, *rate), seconds=2)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    chosen = [case for case in cases() if not options.only or any(each in case.name for each in options.only)]
    if options.list or not chosen:
        print("\n".join(case.name for case in cases()))
        return 0 if options.list else 1
    reason = why_not()
    if reason:
        print(f"the wire cannot be compared with the report: {reason}", file=sys.stderr)
        return 1
    began = datetime.now().astimezone()
    lines: list[Line] = []
    again: list[str] = []
    failures = []
    for case in chosen:
        print(case.name, file=sys.stderr, flush=True)
        try:
            lines += _lines(case, again)
        except (CaseError, CaptureError, PathError) as error:
            failures.append(f"{case.name}: {error}")
    table(lines).show()
    for reason in again:
        print(f"measured again: {reason}")
    for failure in failures:
        print(f"failed: {failure}")
    base = Path(options.out) / f"truth-{began:%Y%m%d-%H%M%S}"
    write(base, began, lines, {"measured_again": again, "failures": failures})
    wrong = [line for line in lines if not line.holds]
    print(f"{len(lines)} figures compared, {len(wrong)} differ; written: {base}.csv, {base}.json")
    return 1 if wrong or failures else 0


def _lines(case: Case, again: list[str]) -> list[Line]:
    """Measure a case. `again` collects a sentence for every reason to measure it a second time."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            lines = _compared(case)
        except (CaseError, CaptureError) as error:
            if attempt == ATTEMPTS:
                raise
            again.append(f"{case.name}: {error}")
            continue
        # A busy machine can disturb a run: only a difference that repeats counts.
        wrong = [line for line in lines if not line.holds]
        if not wrong or attempt == ATTEMPTS:
            return lines
        again += [
            f"{case.name}: {line.column} {line.reported}, on the wire {line.wire:.3f}" for line in wrong
        ]
    return []


def _compared(case: Case) -> list[Line]:
    return list(stream_sums(case.name, reports(case))) if "-P" in case.flags else judge(measure(case))


def table(lines: Sequence[Line]) -> Table:
    """Build the table: a section for each case, named in its first row."""
    rows = []
    before = ""
    for line in lines:
        style = "default" if line.holds else "red"
        figures = (number(each) for each in (line.wire, line.reported, line.difference, line.allowed))
        name = line.case if line.case != before else ""
        rows.append((name, line.column, *figures, f"[{style}]{verdict(line)}[/]"))
        before = line.case
    return Table(COLUMNS, rows, "report against wire", left=2, sections=True)


def verdict(line: Line) -> str:
    return "holds" if line.holds else "WRONG"


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value == round(value) else f"{value:.3f}"


def write(base: Path, began: datetime, lines: Sequence[Line], remarks: dict[str, list[str]]) -> None:
    """Write the lines as CSV, and as JSON with the machine and the remarks."""
    base.parent.mkdir(parents=True, exist_ok=True)
    rows = [{**asdict(line), "difference": line.difference, "verdict": verdict(line)} for line in lines]
    head = {
        "date": began.isoformat(timespec="seconds"),
        "command": " ".join(["python -m tests.studies.wire", *sys.argv[1:]]),
        **surroundings(),
    }
    record.write_csv(base.with_suffix(".csv"), rows, COLUMNS)
    record.write_json(base.with_suffix(".json"), {**head, **remarks, "lines": rows})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.wire", description="Report against wire.")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="run cases whose name contains TEXT, as --list prints them (may be repeated)",
    )
    parser.add_argument("--out", default=str(RESULTS), help="folder of the record [results/]")
    parser.add_argument("--list", action="store_true", help="list the cases and exit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
