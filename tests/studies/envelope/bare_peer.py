"""How fast is `iperfpy kcp-peer` beside kcp-go's own client, towards the same sink over kcp-go?

    python -m tests.studies.envelope.bare_peer [--rounds 5] [--seconds 2] [--name kcp-peer-2026-11-29]

Over loopback, in turns: each round runs every sender once per envelope, each towards a sink of its own. The
figure is the sink's: payload that it read, per second from its first byte to its last. Windows, MTU and
tunings are equal. A run that was stopped continues from its JSON lines. Needs Debian's golang-go and
golang-github-xtaci-kcp-dev.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.interop.free_port import free_port
from tests.studies.machine import RESULTS
from tests.studies.record import append_line, read_lines, write_table
from tests.studies.speed.programs import built_kcp_peer
from tests.studies.table import Table

WINDOW, MTU, KEY, LIMIT_S = 1_024, 1_400, "a secret of this study", 30.0
GO = ("-window", str(WINDOW), "-mtu", str(MTU), "-silence", "500ms")
OURS = ("--kcp-sndwnd", str(WINDOW), "--kcp-rcvwnd", str(WINDOW), "--kcp-mtu", str(MTU))
ENVELOPES = {
    "none": ((), ()),
    "FEC 10:3": (("-ds", "10", "-ps", "3"), ("--kcp-fec", "10:3")),
    "aes": (("-crypt", "aes", "-key", KEY), ("--kcp-crypt", "aes", "--kcp-key", KEY)),
}
"""Envelope -> flags of the program over kcp-go, and of kcp-peer."""
SENDERS = ("kcp-go", "kcp-peer kcp", "kcp-peer kcp-bbr")


def command_of(sender: str, envelope: str, address: str, seconds: float) -> list[str]:
    """The command of a sender."""
    go, ours = ENVELOPES[envelope]
    if sender == SENDERS[0]:
        return [built_kcp_peer(), "-dial", address, "-seconds", f"{seconds:g}", *GO, *go]
    proto = sender.rpartition(" ")[2]
    return [
        sys.executable,
        "-m",
        "iperfpy",
        "kcp-peer",
        address,
        "--proto",
        proto,
        "-t",
        f"{seconds:g}",
        *OURS,
        *ours,
    ]


def measured(sender: str, envelope: str, seconds: float) -> dict[str, Any]:
    """One run; its row. `mbit_per_s` is None if it failed."""
    address = f"127.0.0.1:{free_port()}"
    row: dict[str, Any] = {"sender": sender, "envelope": envelope, "mbit_per_s": None, "error": ""}
    words = [built_kcp_peer(), "-listen", address, "-once", *GO, *ENVELOPES[envelope][0]]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sink:
        try:
            assert sink.stderr is not None
            sink.stderr.readline()  # it listens
            command = command_of(sender, envelope, address, seconds)
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
            if done.returncode:
                return row | {"error": done.stderr.strip()}
            output, _ = sink.communicate(timeout=LIMIT_S)
            counted = json.loads(output)
            row["mbit_per_s"] = 8e-6 * counted["bytes_read"] / counted["seconds"]
        except (subprocess.TimeoutExpired, ValueError, ZeroDivisionError) as error:
            row["error"] = repr(error)
        finally:
            sink.kill()
    return row


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Medians and ranges of each sender in each envelope, and its ratio to kcp-go's client."""
    lines = []
    for envelope in ENVELOPES:
        medians = {}
        for sender in SENDERS:
            rates = [
                row["mbit_per_s"]
                for row in rows
                if (row["sender"], row["envelope"]) == (sender, envelope) and row["mbit_per_s"]
            ]
            if not rates:
                continue
            medians[sender] = statistics.median(rates)
            ratio = medians[sender] / medians[SENDERS[0]] if SENDERS[0] in medians else None
            lines.append(
                (
                    envelope,
                    sender,
                    f"{medians[sender]:.0f}",
                    f"{min(rates):.0f} to {max(rates):.0f}",
                    str(len(rates)),
                    "" if ratio is None else f"{ratio:.2f}",
                )
            )
    headings = ("envelope", "sender", "Mbit/s", "range", "runs", "to kcp-go")
    return Table(headings, lines, left=2)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.envelope.bare_peer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--name", default="kcp-peer")
    options = parser.parse_args(arguments)
    where = Path(RESULTS, options.name)
    where.parent.mkdir(parents=True, exist_ok=True)
    lines = where.with_suffix(".jsonl")
    done = {(row["round"], row["envelope"], row["sender"]) for row in read_lines(lines)}
    for turn in itertools.product(range(options.rounds), ENVELOPES, SENDERS):
        if turn not in done:
            number, envelope, sender = turn
            append_line(lines, measured(sender, envelope, options.seconds) | {"round": number})
    rows = list(read_lines(lines))
    found = table(rows)
    found.show()
    write_table(where, found, rows)
    return 0 if all(row["mbit_per_s"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
