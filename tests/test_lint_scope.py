"""`iperfpy/protocols` links to `protocols/`: ruff and mypy must read each file there once, not twice."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

from mypy.main import process_options

ROOT = Path(__file__).parents[1]


def seen_once(files: list[Path]) -> set[Path]:
    """Return the real paths of `files`; fail if two of them are the same file."""
    real = Counter(path.resolve() for path in files)
    assert {path: count for path, count in real.items() if count > 1} == {}
    return set(real)


def expected() -> set[Path]:
    return {path for folder in ("iperfpy", "protocols", "tests") for path in (ROOT / folder).rglob("*.py")}


def test_ruff_reads_every_file_once() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--show-files", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    files = [Path(line) for line in done.stdout.splitlines() if line.endswith(".py")]
    assert expected() - seen_once(files) == set()


def test_mypy_reads_every_file_of_the_package_once() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["packages"]
    sources, _ = process_options([word for package in packages for word in ("-p", package)])
    files = [Path(source.path) for source in sources if source.path]
    modules = {source.module for source in sources}
    assert {path for path in expected() if "example_transport" not in path.parts} - seen_once(files) == set()
    assert "iperfpy.protocols.contract" in modules
    assert "protocols.contract" not in modules
