"""`protocols/congestion/bbr/README.md` names files, classes, attributes and constants that exist, with their
values, and leaves out no constant."""

from __future__ import annotations

import ast
import re
from fractions import Fraction
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from iperfpy.protocols.congestion import bbr
from tests.studies.paths.ablation import MECHANISMS

FOLDER = Path(bbr.__file__).parent
PROTOCOLS = FOLDER.parents[1]
README = (FOLDER / "README.md").read_text()
TEXT = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
SPANS = sorted(set(re.findall(r"`([^`]+)`", TEXT)))
CONSTANTS = re.findall(r"`([A-Z][A-Z_]+)` ([0-9.,/]*[0-9])(?: (s|ms)\b)?", TEXT)
NO_CONSTANTS = {"PHASES", "TRANSITIONS"}
"""Tables; the README gives single entries of them."""


def _files() -> list[Path]:
    return [*FOLDER.glob("*.py"), *FOLDER.parent.glob("*.py"), PROTOCOLS / "kcp" / "delivery.py"]


@cache
def _trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in _files()}


@cache
def _attributes() -> dict[str, set[str]]:
    """Class -> its fields, methods, properties, and attributes that a method assigns to `self`."""
    found: dict[str, set[str]] = {}
    for tree in _trees().values():
        for one in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            names = found.setdefault(one.name, set())
            for node in ast.walk(one):
                if isinstance(node, ast.FunctionDef):
                    names.add(node.name)
                elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    names.add(node.target.id)
                elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                    names.add(node.attr)
    return found


@cache
def _constants() -> dict[str, object]:
    """Constant -> value, of the controller's modules and of `congestion_control.py`."""
    names = [f"{bbr.__name__}.{path.stem}" for path in FOLDER.glob("*.py")]
    names.append(bbr.__name__.rpartition(".")[0] + ".congestion_control")
    found: dict[str, object] = {}
    for name in names:
        found |= {key: value for key, value in vars(import_module(name)).items() if key.isupper()}
    return found


def _exists(span: str) -> bool:
    if span.endswith(".py"):
        return any((folder / span).exists() for folder in (FOLDER, FOLDER.parent, PROTOCOLS))
    owner, _, name = span.partition(".")
    if name:
        return name in _attributes().get(owner, set())
    return span in _attributes() or span in _constants() or span in MECHANISMS


def test_constants_stand_under_their_marker() -> None:
    """Section 4: at the head of each file, or in the table of `phases.py`."""
    drafts, ours = README.partition("### The draft's")[2].split("### Ours, measured")
    for rows, marker in ((drafts, "# draft"), (ours, "# not in the draft; chosen by simulation")):
        names = re.findall(r"`(\w+\.py)`", "".join(re.findall(r"^\| (`.*?) \|", rows, re.MULTILINE)))
        assert len(names) > 8
        for name in set(names) - {"congestion_control.py"}:
            assert marker in (FOLDER / name).read_text(), name


def test_every_name_exists() -> None:
    names = [span for span in SPANS if re.fullmatch(r"[\w./-]+", span)]
    assert len(names) > 200
    assert [name for name in names if not _exists(name)] == ["kcp-bbr"]


@pytest.mark.parametrize("span", ["no_file.py", "Bbr.no_attribute", "NoClass", "NO_CONSTANT", "no-key"])
def test_a_wrong_name_is_found(span: str) -> None:
    assert not _exists(span)


def test_a_step_in_the_drawing_exists() -> None:
    drawn = re.findall(r"[A-Z]\w+\.\w+", "".join(re.findall(r"```.*?```", README, flags=re.DOTALL)))
    assert len(drawn) > 10
    assert [step for step in drawn if not _exists(step)] == []


def test_every_constant_has_its_value() -> None:
    factors = {"": 1, "ms": 1_000, "s": 1_000_000}
    written = {
        name: float(Fraction(value.replace(",", "")) * factors[unit]) for name, value, unit in CONSTANTS
    }
    assert written == {name: _constants()[name] for name in written}


def test_every_constant_is_listed() -> None:
    listed = {name for name, _, _ in CONSTANTS}
    ours = {
        name
        for path in FOLDER.glob("*.py")
        for name in vars(import_module(f"{bbr.__name__}.{path.stem}"))
        if name.isupper() and not name.startswith("_")
    }
    assert ours - NO_CONSTANTS == listed


def test_every_mechanism_has_a_row() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \|", TEXT, flags=re.MULTILINE) == list(MECHANISMS)
