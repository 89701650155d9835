"""Fuzz every decoder and record how many inputs each took: datagrams, where a decoder takes datagrams.

    python -m tests.studies.fuzz                       # 5 minutes each
    python -m tests.studies.fuzz --only kcp-rack --seconds 60
    python -m tests.studies.fuzz --inputs 10000000 --name fuzz-2026-11-29      # counted with earlier runs

An input that makes a harness raise is kept in results/, its traceback printed, and the status is 1. The
corpus in this folder is replaced by --keep: by some of the inputs that reached new code.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.studies import record
from tests.studies.fuzz.harnesses import HARNESSES
from tests.studies.machine import RESULTS, surroundings

CORPUS = Path(__file__).parent / "corpus"
MOST_KEPT = 15
"""Most inputs of a harness in the corpus."""
MOST_MEMORY_MB = 8192
"""libFuzzer's 2 GB are too few for a long run: under atheris a process grows by some kilobytes with each
input of some harnesses, and not at all where the same harness takes such inputs without it."""
_DONE = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_COVERED = re.compile(r"cov: (\d+)")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(HARNESSES), help="may be repeated")
    parser.add_argument("--seconds", type=int, help="time of each harness (300; with --inputs no limit)")
    parser.add_argument("--inputs", type=int, help="inputs of each harness, with those of earlier runs")
    parser.add_argument("--name", help="name of the record (fuzz-<date>)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the record (results)")
    parser.add_argument("--keep", action="store_true", help="make a corpus of inputs that reach new code")
    return parser


def fuzz(
    name: str, counter: Path, most: int, options: Sequence[str], folders: Sequence[Path]
) -> tuple[int, str]:
    """Run one harness; the exit status and the output of libFuzzer. `counter`: file for the datagrams, of
    which the harness takes `most`, or any number with 0."""
    command = [sys.executable, "-m", "tests.studies.fuzz.one", name, str(counter), str(most)]
    limits = [f"-max_len={HARNESSES[name].longest_bytes}", f"-rss_limit_mb={MOST_MEMORY_MB}"]
    done = subprocess.run(
        [*command, *limits, "-print_final_stats=1", *options, *map(str, folders)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout


def write_seeds(name: str, folder: Path) -> None:
    """Write the valid inputs of a harness as files."""
    for seed in HARNESSES[name].seeds():
        (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)


def keep(name: str, found: Path) -> None:
    """Replace the corpus of the tree by inputs that reached new code: some of every length."""
    kept = CORPUS / name
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    by_length = sorted(found.iterdir(), key=lambda path: (path.stat().st_size, path.name))
    for path in by_length[:: max(1, -(-len(by_length) // MOST_KEPT))]:
        shutil.copy(path, kept / path.name)


def run_harness(name: str, options: argparse.Namespace, path: Path, already: int) -> bool:
    """Fuzz one decoder and append a line to the record. True if no input was found that makes it raise."""
    limits = [f"-max_total_time={options.seconds}"] if options.seconds else []
    most = 0
    if options.inputs and HARNESSES[name].takes_datagrams:
        most = options.inputs - already
    elif options.inputs:
        limits.append(f"-runs={options.inputs - already}")
    crashes = options.out / f"{options.name}-"
    with tempfile.TemporaryDirectory() as scratch:
        found, seeds, counter = (Path(scratch, each) for each in ("found", "seeds", "counter"))
        found.mkdir()
        seeds.mkdir()
        write_seeds(name, seeds)
        corpus = [each for each in (CORPUS / name,) if each.exists()]
        began_s = time.monotonic()
        limits.append(f"-artifact_prefix={crashes}")
        status, output = fuzz(name, counter, most, limits, [found, seeds, *corpus])
        seconds = time.monotonic() - began_s
        datagrams = int.from_bytes(counter.read_bytes(), "little") if counter.exists() else None
        if options.keep and not status:
            keep(name, found)
    executed, covered = _DONE.search(output), _COVERED.findall(output)
    inputs = int(executed.group(1)) if executed else 0
    line = {"harness": name, "inputs": inputs, "datagrams": datagrams, "seconds": round(seconds, 1)}
    edges = int(covered[-1]) if covered else None
    record.append_line(path, line | {"failed": bool(status), "edges": edges})
    taken = _taken(line)
    unit = "inputs" if datagrams is None else f"datagrams in {inputs:,} inputs"
    speed = f"{taken / max(seconds, 1e-9):,.0f} a second, {already + taken:,} in all"
    print(f"{name:16} {taken:>12,} {unit} in {seconds:.0f} s: {speed}", flush=True)
    if status:
        print(output[-3000:], flush=True)
    return not status and inputs > 0


def _taken(line: Mapping[str, Any]) -> int:
    """The inputs of a line of the record: its datagrams, where the decoder takes datagrams."""
    return int(line["inputs"] if line.get("datagrams") is None else line["datagrams"])


def main(arguments: Sequence[str]) -> int:
    """Fuzz the chosen decoders; 1 if one of them raised, or took no input."""
    options = parser().parse_args(arguments)
    options.name = options.name or f"fuzz-{datetime.now(UTC):%Y-%m-%d}"
    options.seconds = options.seconds or (0 if options.inputs else 300)
    options.out.mkdir(exist_ok=True)
    path = options.out / f"{options.name}.jsonl"
    counted = dict.fromkeys(HARNESSES, 0)
    for line in record.read_lines(path):
        counted[line["harness"]] = counted.get(line["harness"], 0) + _taken(line)
    print(surroundings(), flush=True)
    most = options.inputs or float("inf")
    names = [name for name in options.only or HARNESSES if counted[name] < most]
    held = [run_harness(name, options, path, counted[name]) for name in names]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
