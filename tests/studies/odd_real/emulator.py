"""The emulator's script: two namespaces with a path between them, for one run.

The emulator is not part of this tree; its folder has `lab.sh` and the program `pathsim`.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.studies.wire.namespaces import PathError, why_not

SERVER = "10.77.0.2"
LATE_US = 10_000
"""A run during which one in a hundred packets left later than this is not clean."""
_UNCLEAN = ("tun_in_drop_p", "tun_out_drop_p", "write_err_p")


@dataclass
class Lab:
    """A path in place.

    Attributes
    ----------
    counters : the emulator's own, once the path is down
    """

    folder: Path
    name: str
    counters: dict[str, Any] = field(default_factory=dict)

    def inside(self, side: str, *command: str) -> list[str]:
        """The command that runs `command` in namespace a (the client's) or b."""
        return ["ip", "netns", "exec", f"{self.name}{side.upper()}", *command]

    def script(self, *arguments: str) -> str:
        """Run the script; its output. Raises `PathError`."""
        command = [str(self.folder / "lab.sh"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise PathError(f"lab.sh {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    @property
    def unclean(self) -> str:
        """The reason why the emulator did not keep to the path; empty if it did."""
        late = self.counters.get("late_us", {}).get("p99", 0)
        if late > LATE_US:
            return f"packets left {late / 1e3:.1f} ms late (p99)"
        dropped = [key for way in ("ab", "ba") for key in _UNCLEAN if self.counters.get(way, {}).get(key)]
        return f"the emulator dropped packets: {', '.join(dropped)}" if dropped else ""


def missing(folder: str) -> str:
    """The reason why no path can be made, in one sentence; empty if one can."""
    if not folder:
        return "no emulator: give its folder, which has lab.sh and pathsim (make odd-paths PATHSIM=FOLDER)"
    for name in ("lab.sh", "pathsim"):
        if not os.access(Path(folder) / name, os.X_OK):
            return f"no emulator: {Path(folder) / name} is missing, or cannot be run (is it built?)"
    return why_not()


@contextmanager
def lab(folder: Path, options: Sequence[str], trace: Path | None = None) -> Iterator[Lab]:
    """A path for the block. TCP searches for its segment size: a path may drop long packets silently."""
    made = Lab(folder.resolve(), f"odd{os.getpid()}")
    traced = ("--trace", str(trace)) if trace is not None else ()
    made.script("up", made.name, *options, *traced)
    try:
        for side in "ab":
            probing = made.inside(side, "sysctl", "-qw", "net.ipv4.tcp_mtu_probing=1")
            subprocess.run(probing, check=False, timeout=20)
        yield made
    finally:
        lines = made.script("down", made.name).strip().splitlines()
        made.counters = json.loads(lines[-1]) if lines else {}


def first_second_lost(trace: Path, packet_bytes: int = 1428) -> float | None:
    """Share of the packets of the first second of data that found the bottleneck's queue full, by the
    emulator's trace; random loss is no part of it. None if no data left."""
    with trace.open() as file:
        rows = [row for row in csv.DictReader(file) if row["dir"] == "ab"]
    begun = next((at for at, row in enumerate(rows) if int(row["in_b"]) > 8 * packet_bytes), None)
    if begun is None:
        return None
    second = rows[begun : begun + 10]  # of 100 ms each
    sent = sum(int(row["in_b"]) for row in second) / packet_bytes
    return sum(int(row["queue_drop_p"]) for row in second) / sent if sent else None
