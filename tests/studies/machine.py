"""The machine and the versions that a study ran with."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
"""The root of the repository."""
RESULTS = ROOT / "results"
PACKAGES = ("iperfpy", "numpy", "uvloop", "kcp")
DEBIAN_PACKAGES = ("iperf3", "iperf", "golang-go", "golang-github-xtaci-kcp-dev")


def surroundings() -> dict[str, Any]:
    """Describe the machine: processor, kernel, Python, commit, versions of peers, load average."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": _output_of("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "packages": {name: found for name in PACKAGES if (found := _package(name))},
        "debian": {name: found for name in DEBIAN_PACKAGES if (found := _debian(name))},
        "load_average": os.getloadavg()[0],
    }


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _debian(name: str) -> str:
    return _output_of("dpkg-query", "-W", "-f", "${Version}", name)


def _output_of(*command: str) -> str:
    """Return the program's output, or an empty string if it is not installed, fails or is late: a study goes
    on without it."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


PRIORITY = 1
"""Of SCHED_RR: below the emulator's."""


def go_first() -> None:
    """Let this process and the programs that it starts go before other work of the machine.

    A sender that does not get the processor when its timer is due measures the machine, not the path; the
    emulator, which has real-time priority, does not notice.
    """
    if not hasattr(os, "sched_setscheduler"):
        return
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
    except OSError as error:
        print(f"no real-time priority, other work may disturb the runs: {error}", file=sys.stderr)
