"""Plug-ins are found by their entry points; one that cannot be loaded leaves the others alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from iperfpy.cli.commands import COMMANDS
from iperfpy.cli.main import main
from iperfpy.protocols import registry
from tests.interop.free_port import free_port
from tests.warm_program import run_warm

IMPORTS_NOTHING = "import no_such_module_anywhere\n"
EXITS = "raise SystemExit('this plug-in wants another Python')\n"
WRONG_SETTING = """
from dataclasses import dataclass
from iperfpy.protocols.settings import Settings, option
from iperfpy.protocols.tcp import Tcp

@dataclass(frozen=True)
class Weighted(Settings):
    weight: float = option(1.0, help="no type of a flag")

class Mine(Tcp):
    name = "broken"
    settings = Weighted
"""
WRONG_NAME = """
from iperfpy.protocols.tcp import Tcp

class Mine(Tcp):
    name = "other"
"""
INCOMPLETE = """
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.metrics import Metric
from iperfpy.protocols.settings import Settings

class Mine(Transport):
    name, summary, settings, metrics = "broken", "a plug-in", Settings, ()
    block_bytes = connect = accept = lambda *arguments: 0
"""
PREFIX = "    prefix = 'broken'\n"
NO_TRANSPORT = "class Mine:\n    pass\n"
SENTENCE = (
    "transport 'broken' (broken_plugin:Mine) cannot be loaded: No module named 'no_such_module_anywhere'"
)

CASES = {
    "an import that fails": (IMPORTS_NOTHING, "No module named 'no_such_module_anywhere'"),
    "a module that exits": (EXITS, "this plug-in wants another Python"),
    "a setting of another type": (
        WRONG_SETTING,
        "a setting must be bool, int or str: weight: <class 'float'>",
    ),
    "no prefix": (INCOMPLETE, "it does not declare `prefix`"),
    "metrics that are none": (
        INCOMPLETE + PREFIX + "    metrics = 5\n",
        "`metrics` must be tuple[Metric, ...], not 5",
    ),
    "another name": (WRONG_NAME, "it calls itself 'other'"),
    "no transport": (NO_TRANSPORT, "it is not a Transport"),
}


def installed(folder: Path, module: str, name: str = "broken") -> dict[str, str]:
    """The environment of a process in which a plug-in with this module is installed."""
    (folder / "broken_plugin.py").write_text(module)
    information = folder / "broken_plugin-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[iperfpy.transports]\n{name} = broken_plugin:Mine\n")
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path}


def iperfpy(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "iperfpy", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def main_with_plugins() -> int:
    """The program in a warm process, which has not read PYTHONPATH as an interpreter does."""
    sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
    registry._registry.cache_clear()
    return main()


def warm(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_warm(arguments, env=environment, entry=f"{__name__}:main_with_plugins")


@pytest.mark.live
@pytest.mark.parametrize(("module", "cause"), CASES.values(), ids=CASES)
def test_a_broken_plugin_is_left_out_with_one_warning(tmp_path: Path, module: str, cause: str) -> None:
    sentence = f"transport 'broken' (broken_plugin:Mine) cannot be loaded: {cause}"
    environment = installed(tmp_path, module)
    help_text = warm(environment, "--help")
    assert (help_text.returncode, help_text.stderr) == (0, f"iperfpy: warning - {sentence}\n")
    assert "--proto NAME" in help_text.stdout
    # Nothing listens at port 1: the test over TCP fails because of that, not because of the plug-in.
    test = warm(environment, "-c", "127.0.0.1", "-p", "1")
    assert test.stderr.startswith(f"iperfpy: warning - {sentence}\n")
    assert "connection refused" in test.stderr


@pytest.mark.live
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_uses_transports_warns_of_a_broken_plugin(tmp_path: Path, name: str) -> None:
    done = warm(installed(tmp_path, IMPORTS_NOTHING), name, "--help")
    assert done.returncode == 0
    assert done.stderr == (f"iperfpy: warning - {SENTENCE}\n" if COMMANDS[name].uses_transports else "")


def test_the_commands_that_warn_are_those_that_load_the_transports() -> None:
    """The others neither name a transport nor read a run; the comparison that `demo` starts warns itself."""
    quiet = {name for name, command in COMMANDS.items() if not command.uses_transports}
    assert quiet == {"demo", "lab", "runs", "completion"}


@pytest.mark.parametrize(
    "line",
    [
        "-c 127.0.0.1 --proto broken",
        "-c 127.0.0.1 --proto=broken",
        "compare 127.0.0.1 --proto tcp,broken",
        "compare 127.0.0.1 --proto=broken:20M",
        "latency 127.0.0.1 --load none,broken",
        "kcp-peer 127.0.0.1:1 --proto broken",
    ],
)
def test_asking_for_a_broken_plugin_is_an_error_with_its_cause(tmp_path: Path, line: str) -> None:
    done = warm(installed(tmp_path, IMPORTS_NOTHING), *line.split())
    assert done.returncode == 1
    flag = " (--proto)" if line.startswith(("-c", "kcp-peer")) else ""
    assert done.stderr == f"iperfpy: parameter error - {SENTENCE}{flag}\n"


def test_a_plugin_does_not_replace_a_built_in_transport(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "from iperfpy.protocols.tcp import Tcp\n\nclass Mine(Tcp):\n    summary = 'not ours'\n"
    done = iperfpy(installed(tmp_path, module, "tcp"), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._registry.cache_clear()
    try:
        assert registry.transport("tcp").summary != "not ours"
    finally:
        registry._registry.cache_clear()


@pytest.mark.live
def test_a_test_over_tcp_runs_beside_a_broken_plugin(tmp_path: Path) -> None:
    environment, port = installed(tmp_path, IMPORTS_NOTHING), str(free_port())
    server = [sys.executable, "-m", "iperfpy", "-s", "-1", "-B", "127.0.0.1", "-p", port]
    with subprocess.Popen(server, env=environment, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        assert any("listening" in line for line in serving.stdout)
        done = iperfpy(environment, "-c", "127.0.0.1", "-p", port, "-n", "1M")
        assert done.returncode == 0, done.stderr
        assert serving.wait(30) == 0


def test_a_checkout_without_installed_metadata_has_the_built_in_transports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda *, group: ())
    registry._registry.cache_clear()
    try:
        assert list(registry.transports()) == list(registry.BUILT_IN)
        assert registry.built_in_transports() == registry.transports()
    finally:
        registry._registry.cache_clear()
