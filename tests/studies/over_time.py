"""The receiver's rate over time where a path changes or varies: kcp-bbr beside the kernel's BBR.

    python -m tests.studies.over_time [--runs 3] [--only jitter] [--name NAME] [--out FOLDER]

Real programs in `iperfpy lab`, in turn, so that both meet the same minutes of the machine. results/NAME.jsonl
has every run, results/NAME.png the picture. A run that the lab calls unclean is repeated. Needs a system that
allows namespaces, and matplotlib for the picture.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from iperfpy.lab.world import IPV4
from tests.studies import chart
from tests.studies.machine import RESULTS, surroundings
from tests.studies.record import append_line

INTERVAL_S = 0.5
REPEATS = 3
COLOURS = {"kcp-bbr": chart.GREEN, "tcp bbr": chart.BLUE}
FLAGS = {"kcp-bbr": ("--proto", "kcp-bbr"), "tcp bbr": ("-C", "bbr")}


@dataclass(frozen=True, slots=True)
class Scene:
    """A path, towards the client, and the length of a test.

    limit_mbit : payload that the path carries from each time of the test on, Mbit/s in datagrams of 1,428
        bytes. The clock of the lab begins about a second before the test
    """

    title: str
    path: str
    seconds: int
    limit_mbit: tuple[tuple[float, float], ...]


PAYLOAD = 1_376 / 1_428
SCENES = {
    "loss": Scene(
        "20 Mb/s, 60 ms, 10 % of loss from about 5 s on",
        "delay=30ms down:rate=20M,queue=1bdp @6s:down:loss=10",
        16,
        ((0.0, 20 * PAYLOAD), (5.0, 18 * PAYLOAD)),
    ),
    "jitter": Scene(
        "50 Mb/s, round trips of 10 to 110 ms, in order",
        "up:delay=5ms down:delay=55ms,rate=50M,queue=500k,jitter=50ms",
        12,
        ((0.0, 50 * PAYLOAD),),
    ),
}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("--only", choices=list(SCENES), help="one path")
    made.add_argument("--runs", type=int, default=3, help="runs of each program [3]")
    made.add_argument("--name", help="of the files [over-time-DATE]")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder of the files [results]")
    return made


def measure(scene: Scene, program: str) -> dict[str, Any]:
    """Run one test; its rates by interval, Mbit/s, or `error`, and whether the lab kept up."""
    iperfpy = (sys.executable, "-m", "iperfpy")
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        lab = (*iperfpy, "lab", scene.path, "--json", "--report", report.name)
        server = " ".join((*iperfpy, "-s", "-1"))
        test = (
            *iperfpy,
            "-c",
            IPV4["far"],
            "-R",
            *FLAGS[program],
            "-t",
            str(scene.seconds),
            "-i",
            str(INTERVAL_S),
        )
        done = subprocess.run(
            [*lab, "--server", server, "--", *test, "-i", str(INTERVAL_S), "-J"],
            capture_output=True,
            text=True,
            timeout=scene.seconds + 60,
            check=False,
        )
        counters = json.loads(Path(report.name).read_text() or "{}")
    try:
        document = json.loads(done.stdout)
    except ValueError:
        return {"error": done.stderr.strip() or "no report", "unclean": True}
    rates = [one["sum"]["bits_per_second"] for one in document.get("intervals", [])]
    return {
        "mbit": [None if rate is None else round(rate / 1e6, 3) for rate in rates],
        "unclean": not counters.get("clean"),
        **({"error": document["error"]} if document.get("error") else {}),
    }


def draw(file: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Draw a panel for each path, with a line for each run and the limit of the path."""
    names = list(dict.fromkeys(line["scene"] for line in lines))
    title = "Rate at the receiver, kcp-bbr and the kernel's BBR"
    with chart.figure(file, title, nrows=len(names), squeeze=False, figsize=(8, 3 * len(names))) as (_, axes):
        for axis, name in zip(axes[:, 0], names, strict=True):
            scene, labelled = SCENES[name], set()
            for line in (line for line in lines if line["scene"] == name):
                program, rates = line["program"], line["mbit"]
                times = [(at + 0.5) * INTERVAL_S for at in range(len(rates))]
                label = None if program in labelled else program
                labelled.add(program)
                axis.plot(times, rates, color=COLOURS[program], label=label, linewidth=1.2, alpha=0.8)
            starts, limits = zip(
                *scene.limit_mbit, (float(scene.seconds), scene.limit_mbit[-1][1]), strict=True
            )
            axis.step(starts, limits, where="post", color="0.6", linestyle="--", label="limit of the path")
            axis.set_title(scene.title, fontsize=9)
            axis.set_ylabel("Mbit/s")
            axis.set_ylim(bottom=0)
            axis.legend(fontsize=8, loc="lower right")
        axes[-1, 0].set_xlabel("seconds")


def main(arguments: Sequence[str]) -> int:
    """Run the programs over the paths; 1 if a run failed or no run of a program was clean."""
    options = parser().parse_args(arguments)
    name = options.name or f"over-time-{datetime.now(UTC):%Y-%m-%d}"
    options.out.mkdir(parents=True, exist_ok=True)
    print(surroundings(), flush=True)
    lines: list[dict[str, Any]] = []
    failed = False
    for scene in [options.only] if options.only else SCENES:
        for number in range(options.runs):
            for program in FLAGS:
                for _ in range(REPEATS):
                    found = measure(SCENES[scene], program)
                    if not found["unclean"]:
                        break
                line = {"scene": scene, "program": program, "run": number, **found}
                append_line(options.out / f"{name}.jsonl", line)
                if found.get("error") or found["unclean"]:
                    failed = True
                    print(f"{scene:8} {program:8} {found.get('error') or 'the lab was late'}", flush=True)
                    continue
                rates = [rate for rate in found["mbit"] if rate is not None]
                print(f"{scene:8} {program:8} {fmean(rates):6.2f} Mbit/s on average", flush=True)
                lines.append(line)
    if lines:
        try:
            draw(options.out / f"{name}.png", lines)
        except ImportError:
            print(chart.MISSING)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
