"""KCP over loopback without any of Linux's features, beside bare datagrams in the same rounds.

    python -m tests.studies.portable              (the second half of `make portable`)

Client and server run with `tests/portable/sitecustomize.py`: one datagram per system call, no control
messages, asyncio's event loop. The peer is a pair of Python processes that send and count datagrams of the
same length. Loopback is shared with everything else that the machine does: trust the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.studies.machine import RESULTS, ROOT, surroundings
from tests.studies.record import write_json
from tests.studies.table import Table

SWITCHED_OFF = ROOT / "tests" / "portable"
BARE = ROOT / "tests" / "studies" / "windows" / "bare_datagrams.py"
BARE_NAME = "bare datagrams"
MEASURE = """
import iperfpy, json, sys
rates = {}
with iperfpy.LocalServer() as server:
    for name in ("kcp", "kcp-bbr"):
        for reverse in (False, True):
            run = iperfpy.measure(
                "127.0.0.1", port=server.port, transport=name, seconds=float(sys.argv[1]), reverse=reverse
            )
            rates[f"{name} {'reverse' if reverse else 'forward'}"] = run.bits_per_second
print(json.dumps(rates))
"""


def output_of(*words: str) -> str:
    """Standard output of a Python program in the portable surroundings."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(SWITCHED_OFF), str(ROOT)))}
    argv = [sys.executable, *words]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout


def measured(seconds: float) -> dict[str, float]:
    """Bit/s of one round, by name."""
    return {BARE_NAME: float(output_of(str(BARE))), **json.loads(output_of("-c", MEASURE, str(seconds)))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="portable", help="of the file in results/")
    asked = parser.parse_args()
    rounds = [measured(asked.seconds) for _ in range(asked.rounds)]
    medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    bare = medians[BARE_NAME]
    rows = [
        (name, f"{rate / 1e6:.0f}", f"{rate / bare:.2f}", f"{max(each[name] for each in rounds) / 1e6:.0f}")
        for name, rate in medians.items()
    ]
    Table(("without Linux's features", "Mbit/s", "of bare datagrams", "best round"), rows).show()
    RESULTS.mkdir(exist_ok=True)
    document: dict[str, Any] = {"command": sys.argv[1:], "machine": surroundings(), "rounds": rounds}
    write_json(Path(RESULTS / f"{asked.name}.json"), document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
