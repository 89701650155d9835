"""How often does `iperfpy diff` call equal sets different, and how often does it find a true fall?

    python -m tests.studies.diff_check [--pairs 1000] [--seed 1] [--name diff-2026-11-29] [--out FOLDER]

Sets are drawn from a stated model (simulated_runs.py) and go through the code of the command: documents,
samples, comparison. "Different": any figure is worse or better. "Found": exit status 1. "Cannot tell": exit
status 3. The exit status of this program is 1 if one of the two rates of the heading misses its bound.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from iperfpy.store.difference import ChangeVerdict, Difference, differences
from iperfpy.store.run_samples import RunSample, samples_of
from tests.studies.diff_check.simulated_runs import Model, documents
from tests.studies.machine import RESULTS
from tests.studies.record import write_table
from tests.studies.table import Table

MOST_FALSE, LEAST_FOUND = 0.05, 0.90


class Case(NamedTuple):
    """One row. `fall`: of the second set. `bound`: --fail-below, None without it."""

    name: str
    model: Model
    fall: float = 0.0
    bound: float | None = None


HEADLINE = (
    Case("equal, 5 + 5", Model(5)),
    Case("fall of 5 %, 5 + 5", Model(5), 0.05),
)
FURTHER = (
    *(Case(f"equal, {n} + {n}", Model(n)) for n in (4, 6, 10, 20)),
    Case("equal, 5 + 5, heavy tails", Model(5, heavy=True)),
    Case("equal, 5 + 5, runs vary by 10 %", Model(5, run_sd=0.10)),
    *(Case(f"fall of 5 %, {n} + {n}", Model(n), 0.05) for n in (4, 6, 10)),
    Case("fall of 5 %, 5 + 5, heavy tails", Model(5, heavy=True), 0.05),
    Case("fall of 2 %, 5 + 5", Model(5), 0.02),
    Case("fall of 2 %, 5 + 5, --fail-below 5%", Model(5), 0.02, 0.05),
    Case("fall of 7 %, 5 + 5, --fail-below 5%", Model(5), 0.07, 0.05),
    Case("fall of 5 %, 3 + 3", Model(3), 0.05),
    Case("equal, 1 + 1 of 30 s, runs alike", Model(1, 0.0, 30)),
    Case("equal, 1 + 1 of 30 s, runs vary by 1.5 %", Model(1, 0.015, 30)),
    Case("fall of 10 %, 1 + 1 of 30 s, runs alike", Model(1, 0.0, 30), 0.10),
    Case("fall of 10 %, 1 + 1 of 10 s, runs alike", Model(1, 0.0, 10), 0.10),
)


def samples(made: list[dict[str, Any]]) -> list[RunSample]:
    """The samples of one side, as the command reads them."""
    return [sample for document in made for sample in samples_of(document)]


def compared(case: Case, rng: np.random.Generator) -> Difference:
    """Compare one pair of sets."""
    first, second = documents(case.model, 0.0, rng), documents(case.model, case.fall, rng)
    return differences(samples(first), samples(second), case.bound)


def row(case: Case, pairs: int, seed: int) -> dict[str, Any]:
    """The rates of one case."""
    rng = np.random.default_rng(seed)
    different = rate_different = found = open_ones = 0
    for _ in range(pairs):
        result = compared(case, rng)
        changed = [
            one.verdict in (ChangeVerdict.WORSE, ChangeVerdict.BETTER) for one in result.groups[0].figures
        ]
        different += any(changed)
        rate_different += changed[0]
        found += result.status == 1
        open_ones += result.status == 3
    return {
        "case": case.name,
        "pairs": pairs,
        "different": different / pairs,
        "rate_different": rate_different / pairs,
        "found": found / pairs,
        "cannot_tell": open_ones / pairs,
    }


def rows_of(cases: tuple[Case, ...], pairs: int, seed: int) -> Iterator[dict[str, Any]]:
    """The rows, each with its own seed."""
    for number, case in enumerate(cases):
        yield row(case, pairs, seed + number)


def table_of(rows: list[dict[str, Any]]) -> Table:
    names = ("different", "rate_different", "found", "cannot_tell")
    return Table(
        ("sets", "different", "its rate", "status 1", "status 3"),
        [(one["case"], *(f"{100 * one[name]:.1f} %" for name in names)) for one in rows],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000, help="of sets in each case [1000]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="the two rates of the heading alone")
    parser.add_argument("--name", default="diff", help="of the files")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the files [results]")
    asked = parser.parse_args()
    cases = HEADLINE if asked.quick else (*HEADLINE, *FURTHER)
    rows = list(rows_of(cases, asked.pairs, asked.seed))
    table = table_of(rows)
    table.show()
    false, found = rows[0]["different"], rows[1]["found"]
    print(f"equal sets called different: {100 * false:.1f} % (at most {100 * MOST_FALSE:.0f} %)")
    print(f"falls of 5 % found, 5 + 5 runs: {100 * found:.1f} % (at least {100 * LEAST_FOUND:.0f} %)")
    write_table(asked.out / asked.name, table, rows)
    return 0 if false <= MOST_FALSE and found >= LEAST_FOUND else 1


if __name__ == "__main__":
    sys.exit(main())
