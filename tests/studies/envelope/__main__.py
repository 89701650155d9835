"""Do kcp-go and kcptun understand our engine, and it them, in every envelope?

    python -m tests.studies.envelope [--megabytes 10] [--only kcp-go] [--name envelope-2026-11-29]

Every cipher with and without forward error correction, both peers, both roles, 10 MB each, and some of them
with 5 % of the datagrams lost in both directions. A transfer is exact if both ends hash the same bytes. A
run that was stopped continues from its JSON lines. Needs Debian's golang-go, golang-github-xtaci-kcp-dev and
kcptun.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iperfpy.protocols.kcp.envelope.crypt_names import KINDS
from tests.interop.envelope_exchange import Case, run
from tests.studies.machine import RESULTS
from tests.studies.record import append_line, read_lines, write_table
from tests.studies.table import Table

PEERS = ("kcp-go", "kcptun")
CRYPTS = tuple(name for name in KINDS if name != "aes-128-gcm")
"""Debian's kcp-go, of 2020, has no AES-GCM."""
UNKNOWN = {"kcptun": ("null",)}
"""Debian's kcptun, of 2021, takes a name that it does not know for `aes`."""
FEC, LOSS, LOSSY_CRYPTS = "10:3", 0.05, ("null", "none", "aes")


def cases(total: int) -> Iterator[Case]:
    for peer in PEERS:
        for sends in (True, False):
            for crypt in (name for name in CRYPTS if name not in UNKNOWN.get(peer, ())):
                for fec in ("off", FEC):
                    yield Case(peer, sends, crypt, fec, 0.0, total)
                    if crypt in LOSSY_CRYPTS:
                        yield Case(peer, sends, crypt, fec, LOSS, total)


def measured(case: Case) -> dict[str, Any]:
    """Run one case; its row."""
    row: dict[str, Any] = dataclasses.asdict(case)
    try:
        outcome = run(case)
    except (AssertionError, OSError, ValueError) as error:
        return row | {"exact": False, "error": str(error).splitlines()[0] if str(error) else repr(error)}
    return row | {
        "exact": outcome.exact,
        "seconds": round(outcome.seconds, 2),
        "recovered_here": outcome.recovered,
        "recovered_there": outcome.theirs,
        "rejected": outcome.rejected,
        "error": "",
    }


def table(rows: list[dict[str, Any]]) -> Table:
    headings = (
        "peer",
        "iperfpy",
        "cipher",
        "FEC",
        "lost",
        "exact",
        "s",
        "recovered here",
        "there",
        "dropped",
    )
    return Table(
        headings,
        [
            (
                row["peer"],
                "sends" if row["sends"] else "receives",
                row["crypt"],
                row["fec"],
                f"{row['loss'] * 100:g} %",
                "yes" if row["exact"] else f"no: {row['error']}",
                f"{row.get('seconds', 0):.1f}",
                *(str(row.get(key) if row.get(key) is not None else "") for key in _COUNTS),
            )
            for row in rows
        ],
        left=5,
    )


_COUNTS = ("recovered_here", "recovered_there", "rejected")
_KEYS = ("peer", "sends", "crypt", "fec", "loss", "total")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.envelope")
    parser.add_argument("--megabytes", type=int, default=10)
    parser.add_argument("--only", choices=PEERS)
    parser.add_argument("--name", default="envelope")
    options = parser.parse_args(arguments)
    where = Path(RESULTS, options.name)
    lines = where.with_suffix(".jsonl")
    lines.parent.mkdir(parents=True, exist_ok=True)
    done = {tuple(row[key] for key in _KEYS): row for row in read_lines(lines)}
    rows = []
    for case in cases(options.megabytes * 1_000_000):
        if options.only not in (None, case.peer):
            continue
        key = tuple(getattr(case, name) for name in _KEYS)
        if key not in done:
            done[key] = measured(case)
            append_line(lines, done[key])
        rows.append(done[key])
    found = table(rows)
    found.show()
    write_table(where, found, rows)
    return 0 if all(row["exact"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
