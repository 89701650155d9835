"""The program under the Windows interpreter: its behaviour is checked, its speed printed.

    make windows                       checks and speed
    make windows ARGS="--no-speed"     checks alone: a minute on a quiet machine

Needs Wine (64 bit), and the first time a network: the interpreter and its packages go to the user's cache.
The status is 1 if a check fails. No check asks for a rate.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iperfpy.options import RESULTS as SAVED
from iperfpy.protocols.kcp.size_range import JUMBO_PACKET, USUAL
from tests.studies.machine import RESULTS, surroundings
from tests.studies.record import write_json
from tests.studies.table import Table
from tests.studies.windows.program_output import (
    BIDIRECTIONAL,
    comparison_peaks,
    received_bytes,
    received_rates,
)
from tests.studies.windows.windows_python import MissingWineError, WindowsPython, windows_path

TRANSPORTS = ("tcp", "udp", "kcp", "kcp-bbr")
PROGRAM = ("-m", "iperfpy")
BARE = Path(__file__).parent / "bare_datagrams.py"
MEASURED = {
    **{f"{name} forward": f"--proto {name}" for name in ("tcp", "kcp", "kcp-bbr")},
    **{f"{name} reverse": f"--proto {name} -R" for name in ("tcp", "kcp", "kcp-bbr")},
    # Wine takes as long for a long datagram as for a short one: the rate is one of datagrams.
    **{f"{name}, {USUAL} bytes": f"--proto {name} --kcp-mtu {USUAL}" for name in ("kcp", "kcp-bbr")},
}
BARE_SIZES = {f"bare datagrams, {size} bytes": size for size in (USUAL, JUMBO_PACKET - 28)}
TARGET_MBIT = 200


class Study:
    """The checks and measurements of one run, in a folder of their own.

    Attributes
    ----------
    checks : (name, reason of its failure or empty) of each check
    """

    def __init__(self, python: WindowsPython, folder: Path) -> None:
        self.checks: list[tuple[str, str]] = []
        self._python = python
        self._folder = folder

    def check_all(self) -> None:
        """Every check. The demo has each transport in each direction, and its messages."""
        self._demo()
        with self._server() as port:
            for name in TRANSPORTS:
                self._bidirectional(port, name)
            self._csv(port)
            self._interrupted_client(port)
        self._interrupted_server()

    def rates(self, seconds: int, rounds: int) -> list[dict[str, Any]]:
        """Mbit/s of the transports, and of datagrams without the program in the same rounds."""
        rows = []
        with self._server() as port:
            for turn in range(rounds):
                for label, size in BARE_SIZES.items():
                    output = self._python.run(windows_path(BARE), str(size), folder=self._folder)[1]
                    rows.append({"what": label, "round": turn, "mbit": float(output) / 1e6})
                for label, words in MEASURED.items():
                    _, document = self._client(port, *words.split(), "-t", str(seconds))
                    rows.append({"what": label, "round": turn, "mbit": received_rates(document)[0] / 1e6})
        return rows

    # ------------------------------------------------------------------ the checks

    def _demo(self) -> None:
        status, output = self._python.run(*PROGRAM, "demo", "-t", "20", folder=self._folder, seconds=240)
        self._note("demo", status == 0, f"status {status}: {output[-400:]}")
        stored = [json.loads(file.read_text()) for file in self._folder.glob(f"{SAVED}/*.json")]
        found = comparison_peaks(stored[0]) if stored else {}
        for name in TRANSPORTS:
            rates = found.get(name, {})
            self._note(f"{name}: both directions", len(rates) == 2 and min(rates.values()) > 0, f"{rates}")

    def _bidirectional(self, port: int, name: str) -> None:
        rate = ("-b", "5M") if name == "udp" else ()
        status, document = self._client(port, "--proto", name, "--bidir", "-t", "1", *rate)
        rates = received_rates(document, BIDIRECTIONAL)
        said = document.get("error", "")
        self._note(f"{name}: --bidir", status == 0 and min(rates) > 0, f"status {status}, {rates}, {said}")

    def _csv(self, port: int) -> None:
        words = ("-c", "127.0.0.1", "-p", str(port), "--proto", "kcp", "-t", "1", "--csv", "one.csv")
        status, output = self._python.run(*PROGRAM, *words, folder=self._folder)
        file = self._folder / "one.csv"
        size = received_bytes(file) if file.exists() else 0
        self._note("CSV", status == 0 and size > 0, f"status {status}: {output[-400:]}")

    def _interrupted_client(self, port: int) -> None:
        words = ("-c", "127.0.0.1", "-p", str(port), "--proto", "kcp-bbr", "-t", "60")
        status, output = self._python.in_terminal(
            *PROGRAM, *words, folder=self._folder, ready=lambda text: text.count("[  1]") > 2
        )
        told = "has terminated by signal Interrupt" in output and "RTT:" in output
        self._note("Ctrl-C at a client: summary, status 0", status == 0 and told, output[-600:])

    def _interrupted_server(self) -> None:
        words = ("-s", "-B", "127.0.0.1", "-p", str(_free_port()))
        status, output = self._python.in_terminal(
            *PROGRAM, *words, folder=self._folder, ready=lambda text: "listening" in text
        )
        self._note("Ctrl-C at an idle server", status >= 0 and "Interrupt" in output, output[-600:])

    def _note(self, name: str, passed: bool, why: str) -> None:
        self.checks.append((name, "" if passed else why))
        print(f"{'passed' if passed else 'FAILED'}  {name}{'' if passed else ': ' + why}", flush=True)

    # ------------------------------------------------------------------ the program

    def _client(self, port: int, *words: str) -> tuple[int, dict[str, Any]]:
        """(exit status, JSON document) of one test."""
        argv = (*PROGRAM, "-c", "127.0.0.1", "-p", str(port), "-J", *words)
        status, output = self._python.run(*argv, folder=self._folder)
        try:
            return status, json.loads(output)
        except ValueError:
            return status, {"error": output[-400:]}

    @contextlib.contextmanager
    def _server(self) -> Iterator[int]:
        port = _free_port()
        words = (*PROGRAM, "-s", "-B", "127.0.0.1", "-p", str(port))
        with self._python.start(*words, folder=self._folder) as process:
            try:
                _wait_for(port, process)
                # The server's reports are not read, which must not stop it.
                yield port
            finally:
                process.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[str]) -> None:
    """Wait until the server takes connections. One that sends nothing is closed without harm."""
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)
    raise SystemExit("the server did not start under Wine")


def table_of(rows: list[dict[str, Any]]) -> Table:
    """Medians, and their ratio to bare datagrams."""
    grouped: dict[str, list[float]] = {}
    for row in rows:
        grouped.setdefault(row["what"], []).append(row["mbit"])
    bare = statistics.median(grouped[next(iter(BARE_SIZES))])
    return Table(
        ("under Wine", "Mbit/s", f"of bare datagrams of {USUAL} bytes", f"kcp: {TARGET_MBIT} Mbit/s wanted"),
        [
            (name, f"{statistics.median(rates):.1f}", f"{statistics.median(rates) / bare:.2f}", "")
            for name, rates in grouped.items()
        ],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--no-speed", action="store_true", help="checks alone")
    parser.add_argument("--no-checks", action="store_true", help="speed alone")
    parser.add_argument("--seconds", type=int, default=3, help="of each test of speed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="windows", help="of the files in results/")
    asked = parser.parse_args()
    try:
        python = WindowsPython.ready()
    except (MissingWineError, subprocess.CalledProcessError) as error:
        print(f"make windows: {error}", file=sys.stderr)
        return 1
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        study = Study(python, Path(folder))
        if not asked.no_checks:
            study.check_all()
        if not asked.no_speed:
            rows = study.rates(asked.seconds, asked.rounds)
            table_of(rows).show()
    checks = [{"check": name, "failed": why} for name, why in study.checks]
    head = {"command": sys.argv[1:], "machine": surroundings(), "checks": checks, "rates": rows}
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{asked.name}.json", head)
    return 1 if any(why for _, why in study.checks) else 0


if __name__ == "__main__":
    sys.exit(main())
