"""`--text iperf3` against iperf3's own text: equal line for line, apart from the numbers.

The reference is iperf3 3.21. With an older one installed, the lines of DIFFERENCES are changed before the
comparison. IPERFPY_IPERF3 names another program than the installed one, such as a newer version.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest

from tests.interop.free_port import free_port
from tests.interop.programs import OURS, Program, finished, listening

pytestmark = [pytest.mark.interop, pytest.mark.slow]

TCP = ("-b", "20M", "-i", "0.5", "-t", "1")
UDP = ("-u", "-b", "1M", "-l", "1000", "-i", "0.5", "-t", "1")
VERBOSE, STAMPED = ("-V",), ("--timestamps=%Y> ",)

MODES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "tcp": (TCP, ()),
    "tcp reverse verbose": ((*TCP, "-R", *VERBOSE, "-M", "1000"), VERBOSE),
    "tcp parallel verbose": ((*TCP, "-P", "2", *VERBOSE), VERBOSE),
    "tcp bidir verbose": ((*TCP, "--bidir", *VERBOSE), VERBOSE),
    "tcp bidir parallel": ((*TCP, "--bidir", "-P", "2", "--get-server-output"), ()),
    "tcp bytes verbose": (("-n", "5M", "-b", "40M", "-i", "0.5", *VERBOSE), VERBOSE),
    "tcp blocks verbose": (("-k", "30", "-b", "40M", "-i", "0.5", *VERBOSE), VERBOSE),
    "tcp whole": (("-b", "20M", "-t", "1", "-i", "0", "-P", "2"), ("-i", "0")),
    "tcp omit": ((*TCP, "-O", "1", "-f", "M", *STAMPED, "-T", "a title"), ("-f", "g", *STAMPED)),
    "udp": (UDP, ()),
    "udp parallel": ((*UDP, "-P", "2", "--get-server-output"), ()),
    "udp reverse verbose": ((*UDP, "-R", *VERBOSE), VERBOSE),
    "udp bidir verbose": ((*UDP, "--bidir", "-P", "2", *VERBOSE), VERBOSE),
    "udp omit": ((*UDP, "-O", "1"), ()),
}
"""Name -> flags of the client, and of the server."""

DIFFERENCES: dict[str, Callable[[str], str]] = {
    # A stream's summary has as many blanks before the word as that of a sum.
    "iperf 3.12": lambda line: re.sub(r"^((?!.*\[SUM\]).*/sec#+) {13}sender$", r"\1            sender", line),
}
"""Version -> the change that makes a line of it one of 3.21."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Standard output of one test: the client's and the server's."""

    client: str
    server: str


def run(client: Program, server: Program, mode: str, folder: Path) -> Texts:
    """Run one test between two programs."""
    port, (flags, server_flags) = free_port(), MODES[mode]
    serving = listening(server, port, ["-1", *server_flags], folder)
    try:
        done = finished(client, ["-c", "127.0.0.1", "-p", str(port), *flags], folder)
        assert done.returncode == 0, done.stderr
        serving.wait()
    finally:
        serving.stop()
    return Texts(done.stdout, serving.output.read_text())


def shape(text: str) -> list[str]:
    """The lines without their numbers, but with the widths of a table's columns.

    Intervals of equal shape count once: iperf3 measures a short one more, or not, as its timers fall.
    """
    lines = [masked(line) for line in text.splitlines()]
    table = next((index for index, line in enumerate(lines) if "[ ID]" in line), len(lines))
    summary = max((index for index, line in enumerate(lines) if "[ ID]" in line), default=len(lines))
    intervals = list(dict.fromkeys(lines[table:summary]))
    return [*lines[:table], *intervals, *(line for line, _ in groupby(lines[summary:]))]


def masked(line: str) -> str:
    line = re.sub(r"^(Linux|.*Cookie:|Time:) .*", r"\1", line)
    line = re.sub(r"\b[KMGT]?(Bytes|bits)\b", r"\1", line)
    is_stream_of_bytes = re.search(r"\](?! local).*/sec( {18}| +\d+ +\S| +\d+ {13})", line)
    if not is_stream_of_bytes or " ms " in line:
        return re.sub(r" *\d[\d.]*", " 9", line)
    # A number and the blanks before it fill a column of fixed width.
    return re.sub(r" *\d[\d.]*", lambda found: "#" * len(found[0]), line)


@pytest.fixture(scope="module")
def texts(iperf3: str, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Texts]:
    """(mode, "theirs" or "ours") -> output of a test between two of the same program."""
    folder = tmp_path_factory.mktemp("text")
    programs: dict[str, tuple[Program, Program]] = {"theirs": ((iperf3,), (iperf3,)), "ours": (OURS, OURS)}
    wanted = [(mode, name) for mode in MODES for name in programs]

    def one(mode: str, name: str) -> Texts:
        client, server = programs[name]
        form = ("--text", "iperf3") if name == "ours" else ()
        return run((*client, *form), (*server, *form), mode, folder)

    with ThreadPoolExecutor(6) as pool:
        return dict(zip(wanted, pool.map(lambda each: one(*each), wanted), strict=True))


@pytest.fixture(scope="module")
def as_reference(iperf3: str) -> Callable[[str], str]:
    """Change a line of the installed version into one of 3.21."""
    text = subprocess.run([iperf3, "--version"], capture_output=True, text=True, check=False).stdout
    version = " ".join(text.split()[:2])
    return DIFFERENCES.get(version, lambda line: line)


@pytest.mark.parametrize("end", ["client", "server"])
@pytest.mark.parametrize("mode", MODES)
def test_the_text_has_the_lines_of_iperf3(
    mode: str, end: str, texts: dict[tuple[str, str], Texts], as_reference: Callable[[str], str]
) -> None:
    theirs, ours = (shape(getattr(texts[mode, name], end)) for name in ("theirs", "ours"))
    theirs = [as_reference(line) for line in theirs]
    if mode.endswith("verbose"):  # the first line names the version
        theirs[0] = ours[0] = "iperf"
    assert ours == theirs


def test_a_refused_connection_has_the_line_of_iperf3(iperf3: str, tmp_path: Path) -> None:
    port = str(free_port())
    outputs = [
        finished(command, ["-c", "127.0.0.1", "-p", port], tmp_path)
        for command in ((iperf3,), (*OURS, "--text", "iperf3"))
    ]
    theirs, ours = ((each.stdout, each.stderr.partition("unable to connect")[0]) for each in outputs)
    assert ours == theirs
    assert "Connection refused" in outputs[1].stderr


def test_an_error_of_the_command_line_has_the_line_of_iperf3(iperf3: str, tmp_path: Path) -> None:
    """The usage that follows it is printed on standard output by 3.12, and on standard error by 3.21."""
    theirs, ours = (
        finished(command, ["-c", "h", "-t", "1", "-n", "1"], tmp_path)
        for command in ((iperf3,), (*OURS, "--text", "iperf3"))
    )
    assert ours.stderr.splitlines()[0] == theirs.stderr.splitlines()[0]
    assert ours.returncode == theirs.returncode == 1
