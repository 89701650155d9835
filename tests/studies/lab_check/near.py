"""The near end of a run: probes the idle path, then the loaded one, then counts losses; prints the figures.

    python -m tests.studies.lab_check.near ADDRESS SECONDS COUNT COMMAND...

COMMAND is a client that runs SECONDS and prints a JSON document; without one no load is measured. COUNT is
the number of datagrams that count losses.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.studies.lab_check.ports import COUNT, ECHO, REPORT, settle_tcp
from tests.studies.odd_real.one_run import figures_of

PROBE_BYTES, PROBES_PER_S = 24, 100.0
COUNTED_BYTES, COUNTED_PER_S = 72, 2_000.0
IDLE_S, SETTLED_S = 4.0, 4.0
"""Length of the idle probe, and the time of a run that its figures leave out."""
PATIENCE_S = 60.0
_GOLDEN = 0.618_033_988_749_895


def probe(address: str, seconds: float) -> list[float]:
    """Round-trip times of probes, microseconds. Probes leave at times that keep step with nothing."""
    rtts, begun, sent, total = [], time.monotonic(), 0, int(seconds * PROBES_PER_S)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, ECHO))
        while True:
            at = (
                begun + (sent + sent * _GOLDEN % 1.0) / PROBES_PER_S
                if sent < total
                else begun + seconds + 0.5
            )
            left = at - time.monotonic()
            if left > 0:
                sock.settimeout(left)
                try:
                    data = sock.recv(PROBE_BYTES)
                except TimeoutError:
                    continue
                rtts.append((time.monotonic_ns() - int.from_bytes(data[:8], "big")) / 1e3)
            elif sent < total:
                sock.send(time.monotonic_ns().to_bytes(8, "big").ljust(PROBE_BYTES, b"\0"))
                sent += 1
            else:
                return rtts


def losses(address: str, total: int) -> dict[str, float]:
    """Share of lost datagrams and their mean burst, by numbered datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, COUNT))
        begun = time.monotonic()
        for number in range(total):
            sock.send(number.to_bytes(8, "big").ljust(COUNTED_BYTES, b"\0"))
            left = begun + (number + 1) / COUNTED_PER_S - time.monotonic()
            if left > 0:
                time.sleep(left)
    time.sleep(1.0)
    with socket.create_connection((address, REPORT), PATIENCE_S) as sock:
        sock.sendall(b"?")
        with sock.makefile() as answer:
            return bursts(json.load(answer), total)


def bursts(seen: Sequence[int], total: int) -> dict[str, float]:
    """`loss`: the share of `total` numbers that is missing; `burst`: mean length of a run of missing ones."""
    lost = np.ones(total, np.bool_)
    lost[list(seen)] = False
    begins = int(np.count_nonzero(lost[1:] & ~lost[:-1])) + int(lost[0])
    missing = int(np.count_nonzero(lost))
    return {"loss": missing / total, "burst": missing / begins if begins else 0.0}


def await_far(address: str) -> None:
    """Wait until everything at the far end is ready."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection((address, REPORT), 2.0).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the far end is not ready")


def quantiles(name: str, rtts_us: Sequence[float]) -> dict[str, float]:
    """p50 and p95 in milliseconds."""
    return {f"{name}_p{share}": float(np.percentile(rtts_us, share)) / 1e3 for share in (50, 95)}


def loaded(address: str, seconds: float, command: Sequence[str]) -> dict[str, Any]:
    """Goodput of the client, and the round-trip times of probes beside it."""
    with tempfile.TemporaryFile("w+") as output:
        with subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL) as client:
            time.sleep(SETTLED_S)
            rtts = probe(address, seconds - SETTLED_S)
            client.wait(seconds + PATIENCE_S)
        output.seek(0)
        document = json.load(output)
    if "error" in document:
        return {"error": str(document["error"])}
    return {"mbit": figures_of(document, SETTLED_S, whole=False)["mbit"], **quantiles("loaded", rtts)}


def main() -> int:
    """Measure; print the figures as one line of JSON."""
    address, seconds, counted, command = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    settle_tcp()
    await_far(address)
    figures: dict[str, Any] = quantiles("idle", probe(address, IDLE_S))
    if command:
        figures |= loaded(address, seconds, command)
    if counted:
        figures |= losses(address, counted)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
