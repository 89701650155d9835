"""The examples of the Python API run, the guides show them, and docs/python-api.md has every public name."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import iperfpy
from iperfpy.experiments.compare import CompareKeywords
from iperfpy.experiments.latency_run import LatencyKeywords
from iperfpy.measure_keywords import DiagnosisKeywords, MeasureKeywords, ServeKeywords
from tests.interop.free_port import free_port
from tests.interop.programs import wait_until
from tests.open_ports import open_ports

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted(
    path
    for path in (ROOT / "examples").glob("*.py")
    if re.search(r"^(from|import) iperfpy\b", path.read_text(), re.M)
)
PAGE = (ROOT / "docs" / "python-api.md").read_text()
GUIDES = PAGE + (ROOT / "docs" / "simulator.md").read_text()

OUTPUT = {
    "measure_one": r"\d+ Mbit/s, \d\.\d\d % sent again\nRTT of each interval, us: \[.*\]\n",
    "simulate_congestion_control": (
        r"random loss 0%: \d+\.\d Mbit/s, \d\.\d\d% dropped, \d+ ms in the queue\n"
        r"random loss 1%: \d\.\d Mbit/s, 0\.\d\d% dropped, \d+ ms in the queue\n"
    ),
    "two_at_once": r"kcp-bbr forward: \d+ Mbit/s\ntcp reverse: \d+ Mbit/s\n",
    "watch_intervals": r"(.* s +\d+\.\d Mbit/s\n)+\d+ intervals; ten million bytes have been carried\n",
}
"""Example -> pattern of its output."""


def test_every_example_has_a_test() -> None:
    assert {path.stem for path in EXAMPLES} == set(OUTPUT)


@pytest.mark.live
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_prints_the_expected_lines(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(OUTPUT[path.stem], done.stdout)


@pytest.mark.live
@pytest.mark.parametrize(("mode", "sent", "received"), [("sink", 70_000, 0), ("echo", 70_000, 70_000)])
def test_the_target_of_a_tunnel_reads_and_returns(mode: str, sent: int, received: int) -> None:
    """Its third mode sends without end."""
    port = free_port()
    words = [sys.executable, str(ROOT / "examples" / "tcp_target.py"), str(port), mode]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as target:
        assert target.stdout is not None
        wait_until(lambda: port in open_ports(), "the target does not listen")
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(bytes(sent))
            connection.shutdown(socket.SHUT_WR)
            read = 0
            while data := connection.recv(1 << 16):
                read += len(data)
        assert read == received
        assert target.stdout.readline() == f"{sent} bytes read\n"
        target.terminate()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_guide_shows_every_example_unchanged(path: Path) -> None:
    code = path.read_text().partition('"""\n\n')[2]
    assert f"```python\n{code}```" in GUIDES


@pytest.mark.parametrize("name", sorted({*iperfpy.__all__} - {"__version__"}))
def test_the_page_names_every_public_name(name: str) -> None:
    assert re.search(rf"\b{name}\b", PAGE)


@pytest.mark.parametrize(
    ("heading", "keywords"),
    [
        ("One test", MeasureKeywords),
        ("A server", ServeKeywords),
        ("What limits a path", DiagnosisKeywords),
        ("Which transport", CompareKeywords),
        ("Latency of messages", LatencyKeywords),
    ],
)
def test_the_page_has_every_keyword(heading: str, keywords: type) -> None:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = " ".join(row.split(" | ")[0] for row in section.splitlines() if row.startswith("| `"))
    assert [name for name in keywords.__annotations__ if f"`{name}`" not in cells] == []
