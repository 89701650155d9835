"""Do kcp-go and kcptun understand our engine, and it them, in every envelope?

    python -m tests.studies.envelope [--megabytes 10] [--only kcp-go] [--name envelope-2026-11-30]

Every cipher with and without forward error correction, both peers, both roles, 10 MB each. Some of them also
lose 5 % of the datagrams of both directions, at our socket or on a path of `iperfpy lab`. A transfer is exact
if both ends hash the same bytes. kcptun also compresses, in six. A run that was stopped continues from its
JSON lines.

Needs Debian's golang-go, golang-github-xtaci-kcp-dev and kcptun. With IPERFPY_KCPGO=FOLDER, kcp-go is that of
the programs in the folder (tests/README.md); one that has AES-GCM and out-of-band datagrams is also measured
with these.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from iperfpy.protocols.kcp.envelope.crypt_names import KINDS
from tests.interop.envelope_exchange import Case, run
from tests.studies.machine import RESULTS
from tests.studies.record import append_line, read_lines, write_table
from tests.studies.speed.programs import kcpgo_library, kcpgo_missing
from tests.studies.table import Table

PEERS = ("kcp-go", "kcptun")
UNKNOWN = {"kcptun": ("null", "aes-128-gcm")}
"""Debian's kcptun, of 2021, takes a name that it does not know for `aes`."""
FEC, LOSS, LOSSY_CRYPTS = "10:3", 0.05, ("null", "none", "aes", "aes-128-gcm")
LAB_PATH = "both:50M,delay=20ms,queue=4bdp,loss=5"
OOB_MS, OOB_CRYPTS = 2, ("null", "aes", "aes-128-gcm")


def cases(peers: Sequence[str], total: int) -> Iterator[Case]:
    for peer in peers:
        for sends in (True, False):
            for crypt in crypts(peer):
                for fec in ("off", FEC):
                    yield Case(peer, sends, crypt, fec, 0.0, total)
                    if crypt in LOSSY_CRYPTS:
                        yield Case(peer, sends, crypt, fec, LOSS, total)
                        yield Case(peer, sends, crypt, fec, 0.0, total, path=LAB_PATH)
                if crypt == "aes" and peer == "kcptun":
                    yield Case(peer, sends, crypt, FEC, 0.0, total, compressed=True)
                    yield Case(peer, sends, crypt, FEC, LOSS, total, compressed=True)
                    yield Case(peer, sends, crypt, FEC, 0.0, total, path=LAB_PATH, compressed=True)
                if crypt in OOB_CRYPTS and peer == "kcp-go" and kcpgo_library().oob:
                    yield Case(peer, sends, crypt, FEC, 0.0, total, oob_ms=OOB_MS)
                    yield Case(peer, sends, crypt, FEC, LOSS, total, oob_ms=OOB_MS)
                    yield Case(peer, sends, crypt, FEC, 0.0, total, oob_ms=OOB_MS, path=LAB_PATH)


def crypts(peer: str) -> list[str]:
    """The ciphers of the peer."""
    known = kcpgo_library().ciphers if peer == "kcp-go" else tuple(KINDS)
    return [name for name in KINDS if name in known and name not in UNKNOWN.get(peer, ())]


def measured(case: Case) -> dict[str, Any]:
    """Run one case; its row."""
    row: dict[str, Any] = dataclasses.asdict(case)
    if case.peer == "kcp-go":
        row["version"] = kcpgo_library().version
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
        "out_of_band": outcome.out_of_band,
        "lab_late_ms": outcome.late_ms,
        "lab_lost": outcome.lab_lost,
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
        "out of band",
    )
    return Table(
        headings,
        [
            (
                row["peer"] + (", compressed" if row.get("compressed") else ""),
                "sends" if row["sends"] else "receives",
                row["crypt"],
                row["fec"],
                "5 %, lab" if row.get("path") else f"{row['loss'] * 100:g} %",
                "yes" if row["exact"] else f"no: {row['error']}",
                f"{row.get('seconds', 0):.1f}",
                *(str(row.get(key) if row.get(key) is not None else "") for key in _COUNTS),
            )
            for row in rows
        ],
        left=5,
    )


_COUNTS = ("recovered_here", "recovered_there", "rejected", "out_of_band")
_KEYS = {field.name: field.default for field in dataclasses.fields(Case)}
"""The fields of a case. A line of an earlier version lacks some, which have their defaults."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.envelope")
    parser.add_argument("--megabytes", type=int, default=10)
    parser.add_argument("--only", choices=PEERS)
    parser.add_argument("--name", default="envelope")
    options = parser.parse_args(arguments)
    where = Path(RESULTS, options.name)
    lines = where.with_suffix(".jsonl")
    lines.parent.mkdir(parents=True, exist_ok=True)
    done = {tuple(row.get(key, default) for key, default in _KEYS.items()): row for row in read_lines(lines)}
    peers, rows = (options.only,) if options.only else PEERS, []
    if "kcp-go" in peers and (missing := kcpgo_missing()):
        parser.error(missing)
    for case in cases(peers, options.megabytes * 1_000_000):
        key = dataclasses.astuple(case)
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
