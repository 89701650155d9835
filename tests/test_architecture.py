"""The rules of the house that no single file shows: who may import whom, and who may not know what."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from iperfpy.protocols.registry import transports

ROOT = Path(__file__).parents[1]
PACKAGES = ("protocols", "iperfpy")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

CLOCKS_AND_SOCKETS = {
    "asyncio",
    "socket",
    "select",
    "selectors",
    "time",
    "secrets",
    "threading",
    "uvloop",
}
"""What a sans-IO engine must not touch: `now_us` is an argument."""

SANS_IO = ("iperfpy.protocols.kcp", "iperfpy.protocols.congestion", "iperfpy.control")
BINDINGS = {"iperfpy.protocols.kcp", "iperfpy.protocols.kcp.channel"}
"""Modules of those packages whose task is to join an engine to sockets."""

IPERF3_WORDS = {"iperfpy.control.parameters"}
"""Where iperf3's parameters are spelled out: "tcp" there is a key of its protocol, and its default."""

LAYERS = {
    "iperfpy.errors": {"protocols"},
    "iperfpy.plan": {"protocols"},
    "iperfpy.sampling": {"protocols", "iperfpy.plan"},
    "iperfpy.control": {"protocols", "iperfpy.plan", "iperfpy.errors", "iperfpy.sampling"},
    "iperfpy.endpoint": {
        "protocols",
        "iperfpy.plan",
        "iperfpy.errors",
        "iperfpy.sampling",
        "iperfpy.control",
    },
    "iperfpy.report": {"protocols", "iperfpy.plan", "iperfpy.sampling"},
}
"""Package -> what it may import of this project, beside itself. The command line may import everything."""

LONGEST_FILE, LONGEST_FUNCTION = 450, 60


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def imports_of(path: Path) -> Iterator[str]:
    """Every module imported anywhere in the file, in functions too; `from a import b` is `a.b`."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def ids(path: Path) -> str:
    return module_of(path)


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_what_a_module_may_import(path: Path) -> None:
    module = module_of(path)
    imported = set(imports_of(path))
    if within(module, "protocols"):
        assert not [name for name in imported if within(name, "iperfpy")]
    for package, allowed in LAYERS.items():
        if within(module, package):
            project = {name for name in imported if within(name, "protocols") or within(name, "iperfpy")}
            known = {*allowed, package, "iperfpy.__version__"}
            assert not [name for name in project if not any(within(name, one) for one in known)]
    if module != "iperfpy.runtime.event_loop":
        assert not [name for name in imported if within(name, "uvloop")]


@pytest.mark.parametrize("path", [path for path in FILES if module_of(path) not in BINDINGS], ids=ids)
def test_an_engine_knows_no_clock_socket_or_chance(path: Path) -> None:
    if any(within(module_of(path), package) for package in SANS_IO):
        assert not {name.partition(".")[0] for name in imports_of(path)} & CLOCKS_AND_SOCKETS


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_chance_comes_from_a_seed(path: Path) -> None:
    """`random.Random(seed)` and nothing else of `random`, so that every simulated run can be repeated."""
    tree = tree_of(path)
    uses = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random"
    ]
    seeded = [
        node.func
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args
    ]
    for use in uses:
        assert use.attr == "Random"
        assert use in seeded or not _called(tree, use)
    assert not [name for name in imports_of(path) if name.startswith("random.")]


def _called(tree: ast.Module, function: ast.Attribute) -> bool:
    return any(isinstance(node, ast.Call) and node.func is function for node in ast.walk(tree))


def test_the_program_names_no_transport() -> None:
    """No branch can depend on a protocol that is never named."""
    named = [
        f"{module_of(path)}:{node.lineno} {node.value!r}"
        for path in FILES
        if within(module_of(path), "iperfpy") and module_of(path) not in IPERF3_WORDS
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and node.value in set(transports())
    ]
    assert named == []


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_files_and_functions_can_be_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree_of(path)):
        if isinstance(node, functions):
            assert (node.end_lineno or 0) - node.lineno < LONGEST_FUNCTION, node.name


def loaded_after(arguments: list[str]) -> set[str]:
    """The modules in a fresh interpreter after the program ran with these arguments."""
    script = (
        f"import sys; from iperfpy.cli.main import main; main({arguments!r}); "
        "sys.stderr.write(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout
    return set(done.stderr.split())


@pytest.mark.parametrize("argument", ["--help", "-h", "--version", "-v"])
def test_help_and_version_answer_at_once(argument: str) -> None:
    heavy = {
        "numpy",
        "rich",
        "asyncio",
        "uvloop",
        "iperfpy.protocols.kcp.engine",
        "iperfpy.protocols.datagrams.datagram_socket",
    }
    assert not loaded_after([argument]) & heavy


@pytest.mark.parametrize("argument", ["--version", "-v"])
def test_version_is_answered_without_the_flags(argument: str) -> None:
    assert not loaded_after([argument]) & {
        "click",
        "iperfpy.cli.command_line",
        "iperfpy.plan",
        "iperfpy.protocols.registry",
    }


def test_every_registered_transport_is_the_one_that_it_says_it_is() -> None:
    for name, transport in transports().items():
        assert transport.name == name
        keys = [metric.key for metric in transport.metrics]
        assert len(keys) == len(set(keys))


def test_the_rules_reach_every_package() -> None:
    """A table that names a package which is gone would check nothing."""
    modules = {module_of(path) for path in FILES}
    for package in (*SANS_IO, *LAYERS, *BINDINGS, *IPERF3_WORDS):
        assert any(within(module, package) for module in modules), package
