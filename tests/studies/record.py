"""Files that a study leaves in results/: a JSON document, a CSV table, JSON lines of a run that continues.

append_line(path, values)      one line per finished measurement, flushed: a killed run loses nothing
read_lines(path)               the lines of earlier runs; the study skips what they contain
write_json(path, document)     head (date, command, machine), table and raw figures
write_csv(path, rows)          the table
write_table(where, ...)        the three files of a table
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from tests.studies.machine import surroundings
from tests.studies.table import Table


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Append one JSON line to the file; make the file if there is none."""
    with path.open("a") as file:
        file.write(json.dumps(dict(values)) + "\n")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of earlier runs. A line that was cut off by a kill is skipped."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write the document; infinities and NaN become null, because JSON has neither."""
    path.parent.mkdir(parents=True, exist_ok=True)  # a folder that is missing must not cost the figures
    path.write_text(json.dumps(_finite(document), indent=1) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Write the rows. Without `columns` the header has every key, in the order of first appearance; a missing
    cell is empty, and floats are rounded to 6 decimals."""
    listed = list(rows)
    header = columns or list(dict.fromkeys(name for row in listed for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, header, restval="")
        writer.writeheader()
        writer.writerows(
            {name: round(cell, 6) if isinstance(cell, float) else cell for name, cell in row.items()}
            for row in listed
        )


def write_table(where: Path, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of a study as .json (with the machine), as .csv, and its table as .md."""
    write_json(where.with_suffix(".json"), {"machine": surroundings(), "rows": rows})
    write_csv(where.with_suffix(".csv"), rows)
    where.with_suffix(".md").write_text(table.markdown())
