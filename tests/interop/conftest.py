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
from tests.studies.speed.programs import GO_PROGRAMS, kcpgo_library, kcpgo_missing


def peer(name: str) -> str:
    """Find the path of a program; skip or fail the calling test if it is not installed."""
    found = shutil.which(name)
    if found is not None:
        return found
    if os.environ.get("IPERFPY_REQUIRE_PEERS") == "1":
        pytest.fail(f"{name} is not installed, and IPERFPY_REQUIRE_PEERS=1 asks for it")
    pytest.skip(f"{name} is not installed")


def kcp_go() -> None:
    """Skip or fail the calling test if no program over kcp-go can be had."""
    missing = kcpgo_missing()
    if missing and os.environ.get("IPERFPY_REQUIRE_PEERS") == "1":
        pytest.fail(f"{missing}; IPERFPY_REQUIRE_PEERS=1 asks for it")
    if missing:
        pytest.skip(missing)


def newer_kcp_go() -> None:
    """Skip the calling test if kcp-go has no AES-GCM and no out-of-band datagrams, as Debian's."""
    kcp_go()
    if not kcpgo_library().oob:
        pytest.skip(
            "this kcp-go has neither AES-GCM nor out-of-band datagrams:"
            f" {GO_PROGRAMS}=FOLDER names the programs of tests/README.md over kcp-go 5.6.60 or newer"
        )


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
