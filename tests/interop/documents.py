"""JSON documents of real runs: every mode with iperf3 and with ours at either end.

All runs happen once, several at a time, and at low rates, because only the documents are compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interop.conftest import PATIENCE_S, wait_until
from tests.interop.free_port import free_port

Json = dict[str, Any]

TCP, UDP = ("-b", "50M", "-i", "0.5"), ("-u", "-b", "8M", "-l", "1400", "-i", "0.5")
MODES: dict[str, tuple[str, ...]] = {
    "tcp": (*TCP, "-t", "1"),
    "tcp reverse": (*TCP, "-t", "1", "-R"),
    "tcp bidir": (*TCP, "-t", "1", "--bidir"),
    "tcp parallel": (*TCP, "-t", "1", "-P", "4"),
    "tcp omit": (*TCP, "-t", "1", "-O", "1"),
    "tcp bytes": (*TCP, "-n", "5M"),
    "tcp blocks": (*TCP, "-k", "40"),
    "tcp options": (
        *TCP,
        "-t",
        "1",
        "-M",
        "1000",
        "-w",
        "128K",
        "-T",
        "a title",
        "--extra-data",
        "some text",
    ),
    "udp": (*UDP, "-t", "1"),
    "udp reverse": (*UDP, "-t", "1", "-R"),
    "udp bidir": (*UDP, "-t", "1", "--bidir"),
    "udp parallel": (*UDP, "-t", "1", "-P", "4"),
    "udp omit": (*UDP, "-t", "1", "-O", "1"),
}
OURS_ALONE = {
    name: ("--proto", *flags, "-b", "20M", "-t", "1", "-i", "0.5")
    for name, flags in (
        ("kcp", ("kcp",)),
        ("kcp reverse", ("kcp", "-R")),
        ("kcp-bbr bidir parallel", ("kcp-bbr", "--bidir", "-P", "2")),
    )
}
PAIRS = {
    "iperf3 and iperf3": ("iperf3", "iperf3"),
    "ours and iperf3": ("ours", "iperf3"),
    "iperf3 and ours": ("iperf3", "ours"),
    "ours and ours": ("ours", "ours"),
}
AT_ONCE = 6


@dataclass(frozen=True, slots=True)
class Run:
    """Output of one test: the client's and the server's."""

    client: Json
    server: Json
    ours: frozenset[str]

    def documents_of_ours(self) -> list[Json]:
        return [getattr(self, role) for role in sorted(self.ours)]


def run(client: Sequence[str], server: Sequence[str], flags: Sequence[str], folder: Path) -> Run:
    """Run one test between two programs, both with -J."""
    port = free_port()
    log, errors = folder / f"server-{port}.json", folder / f"server-{port}.txt"
    with log.open("w") as output, errors.open("w") as complaints:
        serving = subprocess.Popen(
            [*server, "-s", "-1", "-J", "-B", "127.0.0.1", "-p", str(port)], stdout=output, stderr=complaints
        )
    # The server runs one test, so it ends by itself and its JSON is complete.
    try:
        wait_until(lambda: listens(port), f"no server listens: {errors.read_text()}")
        command = [*client, "-c", "127.0.0.1", "-p", str(port), "-J", *flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        serving.wait(PATIENCE_S)
    finally:
        serving.kill()
        serving.wait(5)
    ours = {role for role, program in (("client", client), ("server", server)) if sys.executable in program}
    return Run(json.loads(done.stdout), json.loads(log.read_text()), frozenset(ours))


def listens(port: int) -> bool:
    """True if a server listens. The kernel's tables tell: a connection would be the one test of `-1`."""
    wanted = f":{port:04X}"
    tables = [Path(name) for name in ("/proc/net/tcp", "/proc/net/tcp6")]
    rows = [row.split() for table in tables if table.exists() for row in table.read_text().splitlines()]
    return any(len(row) > 3 and row[1].endswith(wanted) and row[3] == "0A" for row in rows)


def all_runs(programs: Mapping[str, Sequence[str]], folder: Path) -> dict[tuple[str, str], Run]:
    """Run every mode: (mode, pair) -> output. Pairs with a missing program are left out."""
    wanted = [
        (mode, pair, flags, client, server)
        for mode, flags in (MODES | OURS_ALONE).items()
        for pair, (client, server) in PAIRS.items()
        if {client, server} <= set(programs) and (mode in MODES or (client, server) == ("ours", "ours"))
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = pool.map(lambda one: run(programs[one[3]], programs[one[4]], one[2], folder), wanted)
        return {(mode, pair): output for (mode, pair, *_), output in zip(wanted, runs, strict=True)}
