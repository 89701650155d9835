"""`import iperfpy`: its names, and the modules that it loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import iperfpy
from iperfpy.experiments import path_check


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter loads for a statement, without those of its own start."""
    script = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_import_loads_no_slow_module() -> None:
    heavy = {"numpy", "rich", "asyncio", "uvloop", "click", "socket"}
    loaded = loaded_by("import iperfpy")
    assert not loaded & heavy
    assert {name for name in loaded if name.startswith("iperfpy")} == {"iperfpy"}


def test_the_functions_load_neither_numpy_nor_rich() -> None:
    assert not loaded_by("import iperfpy; iperfpy.measure, iperfpy.Run, iperfpy.LocalServer") & {
        "numpy",
        "rich",
        "click",
    }


def test_the_time_of_the_import_is_shown() -> None:
    script = "import time; a = time.perf_counter(); import iperfpy; print(1e3 * (time.perf_counter() - a))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    print(
        f"import iperfpy: {float(done.stdout):.1f} ms"
    )  # information for a run with -s; no test asserts a time


def test_every_public_name_can_be_imported_and_is_listed() -> None:
    for name in iperfpy.__all__:
        assert getattr(iperfpy, name) is not None
        assert name in dir(iperfpy)


def test_every_importable_name_is_public() -> None:
    lazy = {name for names in iperfpy._MODULES.values() for name in names}
    assert lazy | {"__version__"} == set(iperfpy.__all__)


def test_type_checkers_find_every_name_in_the_module_that_is_loaded() -> None:
    tree = ast.parse(Path(iperfpy.__file__).read_text())
    block = next(
        one for one in tree.body if isinstance(one, ast.If) and ast.unparse(one.test) == "TYPE_CHECKING"
    )
    imported = {
        one.module: {name.name for name in one.names} for one in block.body if isinstance(one, ast.ImportFrom)
    }
    assert imported == {f"iperfpy.{module}": set(names) for module, names in iperfpy._MODULES.items()}


def test_the_documented_tree_of_errors_has_the_public_ones() -> None:
    page = (Path(__file__).parents[3] / "docs" / "python-api.md").read_text()
    public = {
        name
        for name in iperfpy.__all__
        if isinstance(one := getattr(iperfpy, name), type) and issubclass(one, iperfpy.IperfpyError)
    }
    assert {"IperfpyError", *re.findall(r"[├└]── (\w+)", page)} == public


def test_the_progress_of_an_experiment_has_the_public_type() -> None:
    assert isinstance(path_check.Progress(None, "a remark", True, 0.0, 1.0, 0), iperfpy.Progress)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(iperfpy, "mesure")
