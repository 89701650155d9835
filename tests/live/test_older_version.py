"""Version 0.1.0 at either end, taken from the history. It does not know the proof of an address."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iperfpy.errors import PlanError
from iperfpy.plan import Direction
from iperfpy.protocols.kcp.settings import KcpSettings
from iperfpy.protocols.metrics import Side
from tests.architecture import ROOT
from tests.interop.free_port import free_port
from tests.interop.programs import wait_until
from tests.iperfpy.nat import behind_nat
from tests.iperfpy.support import HURRIED, measure, plan_for, serving
from tests.open_ports import open_ports
from tests.warm_program import PATIENCE_S

pytestmark = pytest.mark.live

COMMIT = "e608b60"
LEAST_BYTES = 20_000
"""Of 75,000 that a test of 0.3 s at 2 Mb/s carries."""
TRANSPORTS = ["tcp", "udp", "kcp", "kcp-bbr"]


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `python -m iperfpy` is version 0.1.0, with its own transports."""
    folder = tmp_path_factory.mktemp("older")
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", COMMIT, "iperfpy", "protocols", "pyproject.toml"],
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        pytest.skip(f"the history does not have the commit {COMMIT}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    # The version that is installed here must not lend it its entry points.
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["iperfpy.transports"]
    info = folder / "iperfpy-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: iperfpy\nVersion: 0.1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[iperfpy.transports]", *lines, ""]))
    return folder


@pytest.fixture(scope="module")
def server_port(older: Path) -> Iterator[int]:
    """The port of a server of that version."""
    port = free_port()
    words = [sys.executable, "-m", "iperfpy", "-s", "-B", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(words, cwd=older, stdout=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: port in open_ports() or server.poll() is not None, "it does not listen")
            assert server.poll() is None, "the older server has ended"
            yield port
        finally:
            server.terminate()


CLIENTS = """
import sys
from iperfpy.cli import main
for transport in sys.argv[1].split(","):
    main([*sys.argv[2:], "--proto", transport])
"""


async def older_clients(
    folder: Path, port: int, transports: list[str], *arguments: str
) -> list[dict[str, Any]]:
    """Run a client of that version for each transport, one after the other, and return their JSON."""
    common = ("-c", "127.0.0.1", "-p", str(port), "-t", "0.3", "-b", "2M", "-J")
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CLIENTS, ",".join(transports), *common, *arguments),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        output, _ = await client.communicate()
    documents = output.decode().replace("\n}\n{\n", "\n}\0{\n").split("\0")
    assert len(documents) == len(transports)
    return [json.loads(document) for document in documents]


def run_test(name: str, direction: Direction) -> Any:
    return plan_for(name, direction=direction, rate_bps=2_000_000)


async def test_an_older_server_serves_every_transport(server_port: int) -> None:
    for name in TRANSPORTS:
        for direction in (Direction.FORWARD, Direction.REVERSE):
            report = await measure(server_port, run_test(name, direction))
            received = [row.of(Side.RECEIVER) for row in report.end_rows]
            assert sum(sample.bytes for sample in received if sample is not None) > LEAST_BYTES


@pytest.mark.parametrize(
    ("fec", "sentence"),
    [
        ("10:3", "too old for forward error correction"),
        ("auto", r"correction that adapts \(--kcp-fec auto\)"),
    ],
)
async def test_an_older_server_is_refused_for_forward_error_correction(
    server_port: int, fec: str, sentence: str
) -> None:
    """It would ignore the setting, and take no datagram for KCP."""
    with pytest.raises(PlanError, match=sentence):
        await measure(server_port, plan_for("kcp", settings=KcpSettings(fec=fec)))


@pytest.mark.parametrize("flags", [(), ("-R",)], ids=["forward", "reverse"])
async def test_older_clients_are_served(older: Path, flags: tuple[str, ...]) -> None:
    async with serving() as server:
        for report in await older_clients(older, server.port, TRANSPORTS, *flags):
            assert "error" not in report
            end = report["end"]
            received = end["sum_received"] if "sum_received" in end else end["sum"]
            assert received["bytes"] > LEAST_BYTES


async def test_an_older_client_hears_that_its_addresses_differ(older: Path) -> None:
    """Its datagrams come from another address than its control connection, and it cannot prove that one."""
    async with serving(HURRIED) as server, behind_nat(server.port, "127.0.0.2") as nat:
        (report,) = await older_clients(older, nat.port, ["kcp"], "-R")
        await server.settled()
        assert not server.tests
    assert "its UDP datagrams came from 127.0.0.2" in report["error"]
