"""The programs under test, and the peers with which they are compared."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from iperfpy import DocumentError, Run
from tests.studies.speed.contestants import Figures, Pair, Received, Send, Serve, Watch, parse
from tests.studies.speed.processes import Both, RunError

HOST = "127.0.0.1"
MTU = 1400


@cache
def iperfpy() -> tuple[str, ...]:
    """Give the command that starts iperfpy: the installed script, or else the module."""
    script = Path(sys.executable).with_name("iperfpy")
    return (str(script),) if script.exists() else (sys.executable, "-m", "iperfpy")


def duration(seconds: float) -> tuple[str, ...]:
    """Give iperf's flags for a test of `seconds`, or for the shortest possible one."""
    return ("-t", f"{max(1, round(seconds))}") if seconds else ("-n", "1")


def ours(
    name: str,
    *flags: str,
    env: dict[str, str] | None = None,
    watch: Callable[[float], Watch] | None = None,
    why_missing: Callable[[], str] = str,
) -> Pair:
    """Measure iperfpy at both ends, `flags` at the client."""

    def serve(port: int) -> Sequence[str]:
        return (*iperfpy(), "-s", "-1", "-p", str(port))

    def send(port: int, seconds: float) -> Sequence[str]:
        return (*iperfpy(), "-c", HOST, "-p", str(port), "-J", *duration(seconds), *flags)

    def received(both: Both) -> Received:
        return of_run(both.client.output, name)

    return Pair(
        name,
        serve,
        send,
        received,
        why_missing=why_missing,
        env=env or {},
        reverse="-R" in flags,
        watch=watch,
    )


def iperf3(name: str, *flags: str, watch: Callable[[float], Watch] | None = None) -> Pair:
    """Measure iperf3 at both ends, `flags` at the client."""

    def serve(port: int) -> Sequence[str]:
        return ("iperf3", "-s", "-1", "-p", str(port))

    def send(port: int, seconds: float) -> Sequence[str]:
        return ("iperf3", "-c", HOST, "-p", str(port), "-J", *duration(seconds), *flags)

    def received(both: Both) -> Received:
        return of_iperf3_json(both.client.output, name)

    def missing() -> str:
        if shutil.which("iperf3") is None:
            return "iperf3 is missing: apt-get install iperf3"
        unknown = [flag for flag in flags if flag.startswith("--") and flag not in _help("iperf3")]
        return f"this iperf3 has no {' '.join(unknown)}: it came with iperf3 3.19" if unknown else ""

    return Pair(name, serve, send, received, why_missing=missing, reverse="-R" in flags, watch=watch)


def of_run(text: str, name: str) -> Received:
    """Read the receiver's count from our own JSON, and the rate error of the sender's seconds."""
    try:
        run = Run.from_document(parse(text, name))
    except DocumentError as error:
        raise RunError(f"{name}: {error}") from error
    if not run.complete:
        raise RunError(f"{name}: {run.error}")
    counted = Received(run.total("bytes"), run.total("seconds"))
    if run.plan.parallel > 1:
        counted.figures["fairness"] = jain([run.total("bytes", stream=row.stream) for row in run.rows])
    seconds = run.column("bits_per_second")[run.column("seconds") > 0.5]
    if run.plan.rate_bps and len(seconds):
        worst = float(abs(seconds - run.plan.rate_bps).max())
        counted.figures["rate_error_percent"] = 100 * worst / run.plan.rate_bps
    return counted


def jain(shares: Sequence[float]) -> float:
    """Jain's fairness index, (sum x)^2 / (n sum x^2): 1 for equal shares, 1/n for one that has all."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


def of_iperf3_json(text: str, name: str) -> Received:
    """Read the receiver's count from iperf3's JSON, and the rate error of the sender's seconds."""
    document = parse(text, name)
    try:
        total = document["end"]["sum_received"]
        counted = Received(float(total["bytes"]), float(total["seconds"]))
        target = float(document.get("start", {}).get("test_start", {}).get("target_bitrate") or 0)
        sums: list[dict[str, Any]] = [interval["sum"] for interval in document.get("intervals", ())]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{name}: {document.get('error') or 'the JSON has no sum of the received data'}"
        ) from error
    # A last interval of a fraction of a second says nothing about the rate.
    whole = [float(one["bits_per_second"]) for one in sums if one["seconds"] > 0.5]
    if target and whole:
        worst = max(abs(rate - target) for rate in whole)
        counted.figures["rate_error_percent"] = 100 * worst / target
    return counted


def iperf2(name: str, *flags: str) -> Pair:
    """Measure iperf2 at both ends; its only machine-readable report is a line without a header."""

    def serve(port: int) -> Sequence[str]:
        return ("iperf", "-s", "-P", "1", "-p", str(port), "-y", "C")

    def send(port: int, seconds: float) -> Sequence[str]:
        # One block at least: iperf2 does not end if it has less than its own header to send.
        length = duration(seconds) if seconds else ("-n", "128K")
        return ("iperf", "-c", HOST, "-p", str(port), *length, *flags)

    def received(both: Both) -> Received:
        fields = (both.server.output.strip().splitlines() or [""])[-1].split(",")
        try:
            size, rate = float(fields[7]), float(fields[8])
            return Received(size, 8 * size / rate)
        except (IndexError, ValueError, ZeroDivisionError) as error:
            raise RunError(f"{name} printed no report") from error

    def missing() -> str:
        return "" if shutil.which("iperf") else "iperf2 is missing: apt-get install iperf"

    return Pair(name, serve, send, received, why_missing=missing)


@cache
def _help(program: str) -> str:
    done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=10, check=False)
    return done.stdout + done.stderr


def of_counts(text: str, name: str) -> Received:
    """Read the JSON {"bytes", "seconds"} of a sink of this package."""
    document = parse(text, name)
    return Received(float(document["bytes"]), float(document["seconds"]))


def ceiling(name: str, env: dict[str, str] | None = None) -> Pair:
    """Measure bare datagrams, without a protocol, over the socket class of our transports."""
    module = (sys.executable, "-m", "tests.studies.speed.ceiling")

    def serve(port: int) -> Sequence[str]:
        return (*module, "serve", str(port))

    def send(port: int, seconds: float) -> Sequence[str]:
        return (*module, "send", str(port), str(seconds))

    def received(both: Both) -> Received:
        return of_counts(both.server.output, name)

    return Pair(name, serve, send, received, listens="udp", env=env or {})


# ---------------------------------------------------------------------- kcp-go

GO_LIBRARY = Path("/usr/share/gocode/src/github.com/xtaci/kcp-go")
GO_SOURCE = Path(__file__).parents[2] / "peers" / "kcpgo"
GO_PEER_SOURCE = Path(__file__).parents[3] / "examples" / "kcp_peer.go"
GO_PROGRAMS = "IPERFPY_KCPGO"
"""Environment variable: a folder with the programs `kcpgo` and `kcp_peer`, built over another kcp-go."""


@dataclass(frozen=True, slots=True)
class GoSetting:
    """One setting of kcp-go. All have nodelay 1, resend 2, nc 1, as its users choose for speed."""

    window: int
    flush_ms: int

    def flags(self) -> tuple[str, ...]:
        return ("-window", str(self.window), "-flush", str(self.flush_ms), "-mtu", str(MTU))


GO_SETTINGS = (
    GoSetting(512, 10),
    GoSetting(1024, 10),
    GoSetting(1024, 20),
    GoSetting(1024, 40),
    GoSetting(2048, 20),
)
TRIALS = 2
STALLED, MOST_REPEATS = "stalled", 5
"""Message of a sender that stalled, and the number of times a run is repeated for that."""


@dataclass
class KcpGo:
    """kcp-go at the best of several settings, chosen by short trials before the first round."""

    name: str
    setting: GoSetting = GO_SETTINGS[0]
    stalls: int = 0
    """Runs so far that stalled."""
    trials: dict[str, float] = field(default_factory=dict)
    envelope: tuple[str, ...] = ()
    """Flags of forward error correction and encryption."""

    def missing(self) -> str:
        return kcpgo_missing()

    def prepare(self, seconds: float, figures: Set[str]) -> str:
        best = 0.0
        # The best setting depends on the machine: try all, and measure with the fastest.
        for setting in GO_SETTINGS:
            pair = self._pair(setting)
            for _ in range(TRIALS):
                rate = self._measure(pair, min(seconds, 1.0))["bits_per_s"]
                label = f"{setting.window}/{setting.flush_ms}"
                self.trials[label] = max(rate, self.trials.get(label, 0.0))
                if rate > best:
                    best, self.setting = rate, setting
        self._chosen = self._pair(self.setting)
        empty = self._chosen.prepare(seconds, figures)
        tried = ", ".join(f"{name} ms {rate / 1e6:.0f} Mb/s" for name, rate in self.trials.items())
        chosen = f"window {self.setting.window}, flush {self.setting.flush_ms} ms (tried {tried})"
        if version := kcpgo_library().version:
            chosen = f"{version}, {chosen}"
        return f"{chosen}; {empty}" if empty else chosen

    def measure(self, seconds: float) -> Figures:
        return self._measure(self._chosen, seconds)

    def _measure(self, pair: Pair, seconds: float) -> Figures:
        """Repeat a run until it does not stall; give its figures and the number of stalled runs."""
        before = self.stalls
        for _ in range(MOST_REPEATS):
            try:
                return {**pair.measure(seconds), "stalled_runs": self.stalls - before}
            except RunError as error:
                if STALLED not in str(error):
                    raise
                self.stalls += 1
        raise RunError(f"{self.name} stalled {MOST_REPEATS} times in a row")

    def _pair(self, setting: GoSetting) -> Pair:
        program = built_kcpgo()

        def received(both: Both) -> Received:
            return of_counts(both.server.output, self.name)

        return Pair(self.name, self._serve(program, setting), self._send(program, setting), received, "udp")

    def _serve(self, program: str, setting: GoSetting) -> Serve:
        flags = (*setting.flags(), *self.envelope)
        return lambda port: (program, "-serve", "-address", f"{HOST}:{port}", *flags)

    def _send(self, program: str, setting: GoSetting) -> Send:
        flags = (*setting.flags(), *self.envelope)
        return lambda port, seconds: (
            program,
            *("-address", f"{HOST}:{port}", "-seconds", str(seconds), *flags),
        )


def kcpgo_missing() -> str:
    """Give the reason for which no program over kcp-go can be had; empty if one can."""
    if os.environ.get(GO_PROGRAMS):
        return ""
    if shutil.which("go") is None or not GO_LIBRARY.is_dir():
        return "kcp-go is missing: apt-get install golang-go golang-github-xtaci-kcp-dev"
    return ""


@dataclass(frozen=True, slots=True)
class GoLibrary:
    """The kcp-go of the program `kcpgo`.

    Attributes
    ----------
    version : as its module tells; empty for Debian's package, which is no module
    ciphers : that it has and the program offers, by kcptun's names
    oob : True if it has out-of-band datagrams
    """

    version: str
    ciphers: tuple[str, ...]
    oob: bool


@cache
def kcpgo_library() -> GoLibrary:
    """Ask the program `kcpgo` for its library. Raises `RunError`."""
    done = subprocess.run([built_kcpgo(), "-about"], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise RunError(f"kcpgo does not tell its library: {done.stderr.strip()[-200:]}")
    told = parse(done.stdout, "kcpgo")
    return GoLibrary(str(told["version"]), tuple(told["ciphers"]), bool(told["oob"]))


def built_kcpgo() -> str:
    """Give the program that sends and takes over kcp-go. Raises `RunError`."""
    return built_go(GO_SOURCE, "kcpgo")


def built_kcp_peer() -> str:
    """Give the program of the examples, an endpoint over kcp-go. Raises `RunError`."""
    return built_go(GO_PEER_SOURCE, "kcp_peer")


@cache
def built_go(source: Path, name: str) -> str:
    """Give a program of the folder that IPERFPY_KCPGO names. Without that, build it over Debian's kcp-go in
    the user's cache folder.

    Parameters
    ----------
    source : a file, or a folder of files

    Raises
    ------
    RunError
        The compiler reported an error, or the folder has no such program.
    """
    if named := os.environ.get(GO_PROGRAMS):
        program = Path(named, name).absolute()
        if not os.access(program, os.X_OK):
            raise RunError(f"{GO_PROGRAMS} names {named}, which has no program {name}")
        return str(program)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    # Trees of several versions share the folder, so the name tells the sources.
    files = [source] if source.is_file() else sorted(source.glob("*.go"))
    target = Path(base, "iperfpy-bench", f"{name}-{_digest(files)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        # The cache folder cannot be written, so the program is built for this run only.
        target = Path(tempfile.mkdtemp(prefix="iperfpy-bench-"), name)
    if not target.exists():
        env = {**os.environ, "GOPATH": "/usr/share/gocode", "GO111MODULE": "off"}
        folder, what = (source.parent, source.name) if source.is_file() else (source, ".")
        unfinished = target.with_name(f"{target.name}.{os.getpid()}")  # another process may build, too
        command = ["go", "build", "-o", str(unfinished), what]
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode:
            raise RunError(f"{source.name} did not build: {done.stderr.strip()[-200:]}")
        unfinished.replace(target)
    return str(target)


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
