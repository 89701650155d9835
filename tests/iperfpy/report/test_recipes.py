"""The recipes of docs/runs.md work as they are printed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from iperfpy.report.json_report import JsonStreamSink
from iperfpy.store.direction_figures import about_test
from iperfpy.store.folder import Folder
from tests.iperfpy.report.scenes import forward
from tests.iperfpy.store.test_direction_figures import IPERF3
from tests.iperfpy.store.test_round_trip import run_of

PAGE = (Path(__file__).parents[3] / "docs" / "runs.md").read_text()
RECIPES = PAGE.partition("## Recipes")[2].partition("## From Python")[0]
SHELL = re.findall(r"```sh\n(.*?)```", RECIPES, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", RECIPES, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the lines of a test, two kept runs, and a program `iperfpy` that prints the lines."""
    out = io.StringIO()
    forward().play(JsonStreamSink(out))
    (tmp_path / "lines.jsonl").write_text(out.getvalue())
    store = Folder(tmp_path / "results")
    ours = run_of(forward()).document()
    finding = {"sentence": "the line: 20 Mbit/s", "direction": "forward"}
    store.save({**ours, "diagnosis": [finding]}, about_test(ours))
    store.save(IPERF3, about_test(IPERF3))
    program = tmp_path / "iperfpy"
    program.write_text('#!/bin/sh\n[ "$1" = -c ] && exec cat lines.jsonl\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_has_recipes() -> None:
    assert len(SHELL) >= 5
    assert len(PYTHON) == 2


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
@pytest.mark.parametrize("number", range(len(SHELL)))
def test_a_recipe_of_jq(folder: Path, number: int) -> None:
    done = subprocess.run(["sh", "-e", "-c", SHELL[number]], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    expected = {
        0: r'"2026-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",\d+(\.\d+)?\n',
        1: r"2026-\S+Z slow\n",
        2: r"\d{8}-\d{6}\tscene bbr\tforward\t\d+",
        3: r'"transport": "tcp cubic",\s+"runs": 1,\s+"median": 11000000',
        4: r"^\d{8}-\d{6}: the line: 20 Mbit/s$",
    }[number]
    assert re.search(expected, done.stdout, re.MULTILINE), done.stdout


def test_the_recipe_of_the_standard_library(folder: Path) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(PYTHON[0], "recipe", "exec"), {})
    assert re.search(r"^\d\d:\d\d:\d\d +[\d.]+ Mbit/s$", out.getvalue(), re.MULTILINE)
    assert "tcp cubic 1 11000000.0" in out.getvalue()


def test_the_recipe_of_pandas(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PYTHON[1]], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"tcp cubic +1 +(11000000\.0|1\.1\d*e\+07)", done.stdout)


def test_the_recipes_read_what_the_program_writes(folder: Path) -> None:
    events = [json.loads(line) for line in (folder / "lines.jsonl").read_text().splitlines()]
    assert [set(line) for line in events if line["event"] == "interval"] == [{"event", "time", "data"}] * len(
        forward().intervals
    )
