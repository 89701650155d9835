"""Which size of datagrams does KCP find, and what does it carry, on paths that are narrow in the middle?

    python -m tests.studies.mtu [--only 1280] [--seconds 8] [--name mtu-2026-11-29]

Every path: MTU 1,280, 1,420, 1,500 or 9,000 in the middle; IPv4 and IPv6; forward and reverse; with ICMP and
without. Columns: size found, share of what the path carries in datagrams of that size, IP fragments in
all namespaces; of a path that shrinks in mid-test the longest silence, and the time from the change to the
sentence that names it. Needs Linux, root, ip, tc and nft.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any, NamedTuple

from tests.studies.machine import RESULTS, surroundings
from tests.studies.mtu.narrow_path import RATE_MBIT, NarrowPath, narrow_path
from tests.studies.record import append_line, read_lines, write_csv, write_json
from tests.studies.table import Table
from tests.studies.wire.case import await_listener
from tests.studies.wire.namespaces import why_not
from tests.warm_program import WarmProgram

MTUS = (1_280, 1_420, 1_500, 9_000)
SHRUNK = 1_280
SETTLED_S = 2.0
"""The rate is measured from then on: STARTUP is another study's subject."""
PORT = 5301
ETHERNET_BYTES = 14
"""Bytes of the link's header, which the rate limit counts."""


class Case(NamedTuple):
    """One test. `shrinks`: the middle falls to `SHRUNK` bytes after half of the time."""

    mtu: int
    ipv6: bool
    icmp: bool
    reverse: bool
    transport: str = "kcp-bbr"
    shrinks: bool = False

    @property
    def name(self) -> str:
        words = (
            f"{self.mtu}{f' to {SHRUNK}' if self.shrinks else ''}",
            "IPv6" if self.ipv6 else "IPv4",
            "ICMP" if self.icmp else "silent",
            "reverse" if self.reverse else "forward",
            self.transport,
        )
        return " ".join(words)


def cases() -> Iterator[Case]:
    for mtu in MTUS:
        for ipv6 in (False, True):
            for icmp in (True, False):
                for reverse in (False, True):
                    yield Case(mtu, ipv6, icmp, reverse)
    for mtu in (1_500, 9_000):
        for ipv6 in (False, True):
            for icmp in (True, False):
                for reverse in (False, True):
                    yield Case(mtu, ipv6, icmp, reverse, shrinks=True)


def limit_bps(size: int, *, ipv6: bool) -> float:
    """Payload bits per second of full datagrams of `size` bytes at the rate of the middle."""
    packet = size + (48 if ipv6 else 28) + ETHERNET_BYTES
    return RATE_MBIT * 1e6 * (size - 24) / packet


def measure(case: Case, seconds: float) -> dict[str, Any]:
    """Run one case; the figures of its row."""
    edge = 9_000 if case.mtu == 9_000 else 1_500
    stem = f"iperfpy-mtu-{os.getpid()}-{threading.get_ident()}"  # threads may measure at once
    with narrow_path(case.mtu, edge, icmp=case.icmp, stem=stem) as path:
        server = WarmProgram(("-s", "-p", str(PORT)), stdout=DEVNULL, stderr=PIPE, namespace=path.server)
        try:
            await_listener(server, path.server, PORT)
            client = subprocess.Popen(
                _inside(
                    path.client,
                    *(sys.executable, "-m", "tests.studies.mtu.measure_one"),
                    path.server6 if case.ipv6 else path.server4,
                    *(str(PORT), case.transport, str(int(case.reverse)), str(seconds)),
                ),
                stdout=PIPE,
                text=True,
            )
            shrunk_at = 0.0
            if case.shrinks:
                time.sleep(1.0 + seconds / 2)
                shrunk_at = time.monotonic()  # on a busy machine the commands take a while
                path.set_mtu(SHRUNK)
            out, _ = client.communicate(timeout=seconds + 60)
            return row(case, json.loads(out), path, shrunk_at)
        finally:
            server.terminate()
            server.communicate(timeout=10)


def row(case: Case, result: dict[str, Any], path: NarrowPath, shrunk_at: float) -> dict[str, Any]:
    """The figures of a finished test."""
    intervals = result["intervals"]
    figures: dict[str, Any] = {"case": case.name, **case._asdict(), "fragments": path.fragments()}
    if "error" in result or not intervals:
        return figures | {"error": result.get("error", "no interval")}
    size = intervals[-1][2]
    since_s = SETTLED_S
    if case.shrinks:
        figures["silent_s"] = longest_silence_s(intervals)
        figures["named_s"] = None if result["noticed_s"] is None else result["noticed_s"] - shrunk_at
        since_s = next((end for end, _, mtu in intervals if mtu == size), 0.0) + 1.0
    settled = [each for each in intervals if each[0] > since_s]
    if not settled:
        return figures | {"error": f"nothing was measured after {since_s:.1f} s: give more --seconds"}
    begun_s = max((end for end, _, _ in intervals if end <= since_s), default=0.0)
    carried = sum(each[1] for each in settled) * 8 / (settled[-1][0] - begun_s)
    return figures | {
        "size": size,
        "mbit": carried / 1e6,
        "share": carried / limit_bps(size, ipv6=case.ipv6),
        "warnings": result["warnings"],
    }


def longest_silence_s(intervals: list[list[float]]) -> float:
    """Seconds of the longest run of intervals in which nothing arrived, to the interval with the new size."""
    longest = run = 0.0
    before = 0.0
    for end, received, _ in intervals:
        run = run + end - before if not received else 0.0
        longest, before = max(longest, run), end
    return longest


def _inside(namespace: str, *argv: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", namespace, *argv)


def table_of(rows: list[dict[str, Any]]) -> Table:
    return Table(
        ("path", "size", "Mbit/s", "of limit", "fragments", "silence (s)", "named after (s)", "error"),
        [
            (
                each["case"],
                f"{each['size']:,}" if "size" in each else "",
                f"{each['mbit']:.1f}" if "mbit" in each else "",
                f"{each['share']:.3f}" if "share" in each else "",
                str(each["fragments"]),
                f"{each['silent_s']:.1f}" if "silent_s" in each else "",
                f"{each['named_s']:.1f}" if each.get("named_s") is not None else "",
                each.get("error", ""),
            )
            for each in rows
        ],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name has all of these words")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--name", default="mtu", help="of the files in results/")
    asked = parser.parse_args()
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 1
    lines = RESULTS / f"{asked.name}.jsonl"
    known = {each["case"]: each for each in read_lines(lines)}
    chosen = [case for case in cases() if all(word in case.name.split() for word in asked.only.split())]
    for case in chosen:
        if case.name not in known:
            known[case.name] = measure(case, asked.seconds)
            append_line(lines, known[case.name])
            print(known[case.name], file=sys.stderr, flush=True)
    rows = [known[case.name] for case in chosen]
    table = table_of(rows)
    table.show()
    head = {"command": sys.argv[1:], "rate_mbit": RATE_MBIT, "machine": surroundings()}
    write_json(Path(RESULTS / f"{asked.name}.json"), head | {"rows": rows})
    write_csv(Path(RESULTS / f"{asked.name}.csv"), rows)
    Path(RESULTS / f"{asked.name}.md").write_text(table.markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
