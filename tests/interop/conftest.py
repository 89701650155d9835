"""Programs of other authors. A missing program skips its tests, or fails them if IPERFPY_REQUIRE_PEERS is
1."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.free_port import free_port
from tests.interop.programs import listening


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
    with iperf3_serving(iperf3, tmp_path) as port:
        yield port


@contextmanager
def iperf3_serving(program: str, folder: Path) -> Iterator[int]:
    """Run a server, and yield its port once it listens."""
    port = free_port()
    server = listening((program,), port, ["--forceflush"], folder)
    try:
        yield port
    finally:
        server.stop()
