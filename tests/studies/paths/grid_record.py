"""What a run of the grid leaves on disk, and how the next one takes it up.

`sim-<date>.jsonl` grows by a line per simulation, flushed as it is written: a run that was stopped goes on
where it was. `.json` has the table and every figure, `.csv` the figures.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from pathlib import Path
from typing import Any

from tests.studies.paths.run import Outcome
from tests.studies.paths.targets import Judged


def read(path: Path) -> Iterator[Outcome]:
    """What earlier runs found. A line that was cut off is skipped."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            yield Outcome(**json.loads(line))
        except ValueError:
            continue


def append(path: Path, outcome: Outcome) -> None:
    with path.open("a") as file:
        file.write(json.dumps(dataclasses.asdict(outcome)) + "\n")


def write_json(path: Path, head: dict[str, Any], rows: Sequence[Judged], outcomes: Sequence[Outcome]) -> None:
    table = [{**dataclasses.asdict(row), "verdict": row.verdict.value} for row in rows]
    for row in table:
        for name in ("limit", "aim"):  # JSON has no infinity
            row["target"][name] = [None if abs(end) == inf else end for end in row["target"][name]]
    runs = [dataclasses.asdict(outcome) for outcome in outcomes]
    path.write_text(json.dumps({**head, "table": table, "runs": runs}, indent=1) + "\n")


def write_csv(path: Path, outcomes: Iterable[Outcome]) -> None:
    rows = [{"line": one.line, "case": one.name, "seed": one.seed, **one.values} for one in outcomes]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(
            {name: round(cell, 6) if isinstance(cell, float) else cell for name, cell in row.items()}
            for row in rows
        )
