"""A transport in a separate package, installed beside iperfpy: its flag, its columns, both directions."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from iperfpy.protocols.contract import Channel
from iperfpy.report.csv_columns import header as csv_header

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tests" / "example_transport"
GUIDE = (ROOT / "docs" / "writing-a-transport.md").read_text()
pytestmark = pytest.mark.live


@dataclass(frozen=True)
class Machine:
    """An environment in which the plug-in is installed, and a server that runs in it."""

    environment: dict[str, str]
    port: int = field(default=0)

    def iperfpy(self, *arguments: str, deadline_s: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "iperfpy", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )

    def python(self, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run Python in `folder`, so that no settings of this project apply."""
        return subprocess.run(
            [sys.executable, *arguments],
            env=self.environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def client(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.iperfpy("-c", "127.0.0.1", "-p", str(self.port), *arguments)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Build the example and install it with pip into a new folder, without network access."""
    source = tmp_path_factory.mktemp("source") / "example_transport"
    target = tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The checkout under test comes before an installed iperfpy, whichever folder a test runs in.
    path = os.pathsep.join(filter(None, [str(target), str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return Machine({**os.environ, "PYTHONPATH": path})


@pytest.fixture(scope="module")
def machine(installed: Machine) -> Iterator[Machine]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "iperfpy", "-s", "-B", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(
        command, env=installed.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            _wait_for_port(server, port)
            yield Machine(installed.environment, port)
        finally:
            server.terminate()


def _wait_for_port(server: subprocess.Popen[str], port: int) -> None:
    for _ in range(200):
        assert server.poll() is None, server.stderr.read() if server.stderr else ""
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the server did not listen within 10 s")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("direction", [[], ["-R"]], ids=["forward", "reverse"])
def test_the_flag_takes_effect_and_the_column_is_shown(
    machine: Machine, tmp_path: Path, direction: list[str]
) -> None:
    """Three chunks make a block: the count says which chunk length the sender had, at either end."""
    saved = tmp_path / "echo.csv"
    size = ["-n", "600000", "-l", "30000", "--echo-chunk", "10000"]
    done = machine.client("--proto", "echo", *size, "--csv", str(saved), *direction)
    assert done.returncode == 0, done.stderr
    header = next(line for line in done.stdout.splitlines() if line.startswith("[ ID]"))
    assert header.split()[-1] == "Chunks"
    summary = next(line for line in done.stdout.splitlines() if line.rstrip().endswith("sender"))
    assert summary.split()[-2] == "60"
    # The file has the columns of the built-in transports, and the plug-in's figures in one of them.
    result = next(row for row in rows_of(saved) if row["type"] == "sum")
    figures = json.loads(result["plugin_metrics"])
    assert list(result) == list(csv_header())
    assert figures["chunks"] == 60
    # A client that receives ends the test with its last byte, perhaps before the server has read all echoes.
    assert int(result["sender_bytes"]) + figures["unechoed_bytes"] == 600_000
    if not direction:
        assert figures["unechoed_bytes"] == 0
    assert result["receiver_bytes"] == "600000"
    assert figures["reads"] >= 60


def test_the_setting_and_the_metrics_are_in_the_json(machine: Machine) -> None:
    done = machine.client("--proto", "echo", "-R", "-n", "100K", "--echo-chunk", "4K", "-J")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["start"]["settings"] == {"chunk": 4096}
    assert document["end"]["streams"][0]["sender"]["chunks"] == 25


def test_the_transport_is_among_the_choices(installed: Machine) -> None:
    help_text = installed.iperfpy("--help").stdout
    assert "--echo-chunk" in help_text
    assert "echo" in next(line for line in help_text.splitlines() if "--proto NAME" in line)
    unknown = installed.iperfpy("-c", "127.0.0.1", "--proto", "nonsense")
    assert unknown.returncode != 0
    assert "echo" in unknown.stderr


def test_the_kit_prints_a_line_per_check_and_needs_no_pytest(installed: Machine, tmp_path: Path) -> None:
    (tmp_path / "pytest.py").write_text("raise ImportError('there is no pytest here')\n")
    kit = ["-m", "iperfpy.protocols.testing", "iperfpy_echo:Echo"]
    done = installed.python(*kit, "--setting", "chunk=4096", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, total = done.stdout.splitlines()
    assert lines
    assert all(line.startswith("holds  ") for line in lines)
    assert total == f"{len(lines)} of {len(lines)} checks hold"
    assert total in GUIDE


def test_the_tests_of_the_guide_run_without_options_and_plugins(installed: Machine, tmp_path: Path) -> None:
    tests = next(code for code in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "CHECKS" in code)
    (tmp_path / "test_echo.py").write_text(tests)
    plain = {**installed.environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = Machine(plain).python("-m", "pytest", "-q", "test_echo.py", folder=tmp_path)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d\d passed", done.stdout, re.MULTILINE), done.stdout


def test_the_guide_shows_the_package_unchanged() -> None:
    declaration = (EXAMPLE / "iperfpy_echo" / "__init__.py").read_text()
    assert f"```python\n{declaration}```" in GUIDE
    entry_point = re.search(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    assert entry_point is not None
    assert entry_point[1] in (EXAMPLE / "pyproject.toml").read_text()


def test_the_guide_names_every_member_of_a_channel() -> None:
    table = GUIDE.partition("\n## The channel\n")[2].partition("\n## ")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)", row.split(" | ")[0])}
    members = {name for name in vars(Channel) if not name.startswith("_")}
    # The guide leaves out transports with `bare_peer`.
    assert members - named == {"returned"}


def test_the_setting_is_checked_before_connecting(installed: Machine) -> None:
    done = installed.iperfpy("-c", "127.0.0.1", "-p", "1", "--proto", "echo", "--echo-chunk", "0")
    assert done.returncode != 0
    assert "echo-chunk" in done.stderr or "chunk must be" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_transport_is_unknown_without_the_package() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "iperfpy", "-c", "127.0.0.1", "--proto", "echo"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "echo" in done.stderr
    assert "Traceback" not in done.stderr
