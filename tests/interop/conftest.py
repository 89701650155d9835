"""Programs of other authors. A missing program skips its tests, or fails them if IPERFPY_REQUIRE_PEERS is
1."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.free_port import free_port

PATIENCE_S = 120.0
"""Longest wait for a program. A busy machine takes a while to start one; only a hanging one takes so long."""


def peer(name: str) -> str:
    """Find the path of a program; skip or fail the calling test if it is not installed."""
    found = shutil.which(name)
    if found is not None:
        return found
    if os.environ.get("IPERFPY_REQUIRE_PEERS") == "1":
        pytest.fail(f"{name} is not installed, and IPERFPY_REQUIRE_PEERS=1 asks for it")
    pytest.skip(f"{name} is not installed")


@pytest.fixture(scope="session")
def iperf3() -> str:
    """Path of iperf3: the one that IPERFPY_IPERF3 names, or the installed one."""
    return os.environ.get("IPERFPY_IPERF3") or peer("iperf3")


@pytest.fixture
def iperf3_server(iperf3: str, tmp_path: Path) -> Iterator[int]:
    """Port of an iperf3 server that runs for the test."""
    with iperf3_serving(iperf3, tmp_path / "iperf3-server.txt") as port:
        yield port


@contextmanager
def iperf3_serving(program: str, log: Path) -> Iterator[int]:
    """Run a server, and yield its port once it listens."""
    port = free_port()
    with log.open("w") as output:
        process = subprocess.Popen(
            [program, "-s", "-B", "127.0.0.1", "-p", str(port), "--forceflush"],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "Server listening" in log.read_text(), "iperf3 did not listen")
        yield port
    finally:
        process.terminate()
        process.wait(5)


def wait_until(ready: Callable[[], bool], complaint: str, seconds: float = PATIENCE_S) -> None:
    """Poll until `ready()` is true."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)
