"""Runs attacks on a server beside honest tests, and prints what they cost those.

    make abuse                                        two minutes
    python -m tests.studies.abuse --seconds 60 --only kcp
    python -m tests.studies.abuse --program ../old    the program in another folder, with these attacks

Each attack has a server of its own, and is compared with the seconds before it. A tcp and a kcp-bbr test at
50 Mb/s each run through both, and a newcomer comes every second. The server has one processor for itself, the
rest run on another; attackers come from another address and have less priority than the honest tests.

An attack that misses a target is run once more, and the second run counts. Exit status: 0 if every target
holds, 1 if one is missed, 2 if one could not be measured.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.studies import record
from tests.studies.abuse.attacks import ATTACKS, REFLECTED
from tests.studies.abuse.client import newcomer_delay_s
from tests.studies.abuse.figures import Row, Window, interval_bytes
from tests.studies.machine import RESULTS, ROOT, surroundings
from tests.studies.table import Table

HONEST, ATTACKER, SERVER = "127.0.0.1", "127.0.0.2", "127.0.0.1"
OFFERED_BPS = 50e6
TRANSPORTS = ("tcp", "kcp-bbr")
QUIET_S, START_S = 4.0, 3.0
HIGH, LOW = -10, 0
"""Priorities of server and honest tests, and of attackers, above most other work of the machine."""
PATIENCE_S = 10.0
"""Longest wait of a newcomer; one that is refused counts as one that waited so long."""


class Server:
    """The program's server in a process of its own, and what it says on standard error."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.port = free_port()
        self._errors = (folder / "server.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "iperfpy", "-s", "-p", str(self.port), "-V"],
            cwd=program,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            preexec_fn=lambda: place(0, HIGH),
        )

    def answers(self) -> bool:
        """Wait for the first test; False if there is none."""
        until_s = time.monotonic() + 20
        while newcomer_delay_s((SERVER, self.port), HONEST, 1.0) >= 1.0:
            if time.monotonic() > until_s or self.process.poll() is not None:
                return False
            time.sleep(0.1)
        return True

    @property
    def tracebacks(self) -> int:
        return Path(self._errors.name).read_text(errors="replace").count("Traceback")

    @property
    def memory_mib(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0.0


class Honest:
    """A test that is read interval by interval, as they come."""

    def __init__(self, program: Path, port: int, transport: str, seconds: float) -> None:
        self.moved: list[tuple[float, int]] = []  # (time, bytes since the start)
        words = ["-c", SERVER, "-p", str(port), "--proto", transport, "-b", f"{OFFERED_BPS / 1e6:g}M"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "iperfpy", *words, "-t", f"{seconds:.0f}", "-i", "0.25", "--json-stream"],
            cwd=program,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=lambda: place(-1, HIGH),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        total = 0
        for line in self.process.stdout:
            moved = interval_bytes(line)
            if moved is not None:
                total += moved
                self.moved.append((time.monotonic(), total))

    def rate_bps(self, since_s: float, until_s: float) -> float:
        """Payload rate between two moments, as far as rows have come."""
        return 8 * (self._total(until_s) - self._total(since_s)) / (until_s - since_s)

    def _total(self, at_s: float) -> float:
        """Bytes until a moment, evenly spread over the time between two rows."""
        before, before_s = 0.0, 0.0
        for row_s, total in self.moved:
            if row_s >= at_s:
                return before + (total - before) * (at_s - before_s) / (row_s - before_s)
            before, before_s = total, row_s
        return before


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    names = [name for name in ATTACKS if not options.only or any(each in name for each in options.only)]
    if not names:
        print(f"could not measure: no attack has that name; there are {', '.join(ATTACKS)}", file=sys.stderr)
        return 2
    if not sys.platform.startswith("linux") or (os.cpu_count() or 1) < 2:
        print("could not measure: this needs Linux and two processors", file=sys.stderr)
        return 2
    began = datetime.now().astimezone()
    program, each_s = (
        Path(options.program).resolve(),
        max(2.0, options.seconds / len(names) - START_S - QUIET_S),
    )
    rows = []
    for name in names:
        print(name, file=sys.stderr, flush=True)
        row = measure(program, name, each_s)
        # A busy machine stalls for a moment, a server that an attack harms is harmed again.
        if row.missed or row.why_not_measured(OFFERED_BPS):
            row = measure(program, name, each_s)
        rows.append(row)
    table(rows).show()
    unmeasured = {row.attack: reason for row in rows if (reason := row.why_not_measured(OFFERED_BPS))}
    missed = {
        row.attack: ", ".join(row.missed) for row in rows if row.missed and row.attack not in unmeasured
    }
    for attack, reason in unmeasured.items():
        print(f"could not measure: {attack}: {reason}")
    for attack, reason in missed.items():
        print(f"missed: {attack}: {reason}")
    base = Path(options.out) / f"abuse-{began:%Y%m%d-%H%M%S}"
    head = {"date": began.isoformat(), "machine": surroundings(), "seconds_of_attack": each_s}
    record.write_json(base.with_suffix(".json"), {**head, "rows": [asdict(row) for row in rows]})
    base.with_suffix(".md").write_text(table(rows).markdown())
    return 1 if missed else 2 if unmeasured else 0


def measure(program: Path, name: str, seconds: float) -> Row:
    """Run one attack on a server of its own, after a time without it."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        server = started(program, folder)
        stack.callback(stop, server.process)
        honest = {each: Honest(program, server.port, each, seconds + QUIET_S + 60) for each in TRANSPORTS}
        for each in honest.values():
            stack.callback(stop, each.process)
        until_s = time.monotonic() + 20
        while min(len(each.moved) for each in honest.values()) < 4 and time.monotonic() < until_s:
            time.sleep(0.1)
        before = watch(server, honest, QUIET_S)
        with attacking(name, server.port, seconds) as attacker:
            during = watch(server, honest, seconds)
        harm = attacker.stdout.read() if attacker.stdout is not None else ""
        return Row(name, before, during, int(harm or 0), attacker.returncode == REFLECTED)


def started(program: Path, folder: Path) -> Server:
    """A server that answers. Another program may take its port first: then it gets another one."""
    for _ in range(3):
        server = Server(program, folder)
        if server.answers():
            return server
        stop(server.process)
    raise SystemExit("could not measure: the server did not start")


@contextlib.contextmanager
def attacking(name: str, port: int, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Run an attack; it has ended when the context ends."""
    words = [name, SERVER, str(port), ATTACKER, str(seconds)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.studies.abuse.attacks", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: place(-1, LOW),
    )
    try:
        yield process
        process.wait(seconds + 30)
    finally:
        stop(process)


def watch(server: Server, honest: dict[str, Honest], seconds: float) -> Window:
    """Look at the server for a time: a newcomer every second, and its memory in between."""
    window = Window()
    began_s, tracebacks = time.monotonic(), server.tracebacks
    delays: list[threading.Thread] = []

    def newcomer() -> None:
        window.delays_s.append(newcomer_delay_s((SERVER, server.port), HONEST, PATIENCE_S))

    while time.monotonic() - began_s < seconds:
        if time.monotonic() - began_s > len(delays):
            delays.append(threading.Thread(target=newcomer))
            delays[-1].start()
        window.memory_mib = max(window.memory_mib, server.memory_mib)
        time.sleep(0.1)
    ended_s = time.monotonic()
    for thread in delays:
        thread.join()
    time.sleep(0.3)  # the last row of the window
    window.rates = {name: each.rate_bps(began_s, ended_s) for name, each in honest.items()}
    window.tracebacks = server.tracebacks - tracebacks
    return window


def place(at: int, priority: int) -> None:
    """Run on the first processor, or on the last (-1), with this priority if the user may have it."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[at]})
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, priority)


def stop(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """End a process that this study started."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def table(rows: Sequence[Row]) -> Table:
    """A row per attack."""
    lost = (f"{name} lost" for name in TRANSPORTS)
    headings = ("attack", "done", *lost, "newcomer", "memory", "tracebacks", "")
    return Table(
        headings,
        [
            (
                row.attack,
                f"{row.harm:,}",
                *(f"{row.lost[name]:.1%}" for name in TRANSPORTS),
                f"{row.during.delay_s:.2f} s" if row.during.delay_s < PATIENCE_S else "never",
                f"{row.more_mib:+.0f} MiB",
                str(row.during.tracebacks),
                row.verdict(OFFERED_BPS),
            )
            for row in rows
        ],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.studies.abuse", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="of all attacks and pauses [120]")
    parser.add_argument("--only", action="append", metavar="TEXT", help="attacks whose name has this text")
    parser.add_argument(
        "--program", default=str(ROOT), metavar="FOLDER", help="where `python -m iperfpy` runs"
    )
    parser.add_argument("--out", default=str(RESULTS), metavar="FOLDER", help="where the record goes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
