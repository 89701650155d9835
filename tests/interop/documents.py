"""JSON documents of real runs: every mode with iperf3 and with ours at either end.

All runs happen once, several at a time, and at low rates, because only the documents are compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interop.free_port import free_port
from tests.interop.programs import OURS, Program, finished, listening

Json = dict[str, Any]

TCP, UDP = ("-b", "20M", "-i", "0.5"), ("-u", "-b", "2M", "-l", "1400", "-i", "0.5")
MODES: dict[str, tuple[str, ...]] = {
    "tcp": (*TCP, "-t", "1"),
    "tcp reverse": (*TCP, "-t", "1", "-R"),
    "tcp bidir": (*TCP, "-t", "1", "--bidir"),
    "tcp parallel": (*TCP, "-t", "1", "-P", "4"),
    "tcp omit": (*TCP, "-t", "1", "-O", "1"),
    "tcp bytes": (*TCP, "-n", "2M"),
    "tcp blocks": (*TCP, "-k", "16"),
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
    name: ("--proto", *flags, "-b", "5M", "-t", "1", "-i", "0.5")
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


def run(client: Program, server: Program, flags: Sequence[str], folder: Path) -> Run:
    """Run one test between two programs, both with -J."""
    port = free_port()
    serving = listening(server, port, ["-1", "-J"], folder)
    # The server runs one test, so it ends by itself and its JSON is complete.
    try:
        document = finished(client, ["-c", "127.0.0.1", "-p", str(port), "-J", *flags], folder).document
        serving.wait()
    finally:
        serving.stop()
    ours = {role for role, program in (("client", client), ("server", server)) if program == OURS}
    return Run(document, json.loads(serving.output.read_text()), frozenset(ours))


def all_runs(programs: Mapping[str, Program], folder: Path) -> dict[tuple[str, str], Run]:
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
