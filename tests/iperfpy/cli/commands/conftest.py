"""The folder of runs that the commands use, and the program in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from iperfpy.cli.main import main
from iperfpy.store.folder import Folder
from tests.iperfpy.cli.commands.stored_runs import Run


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """The folder that the commands use."""
    monkeypatch.setenv("IPERFPY_RESULTS", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    return Folder(tmp_path)


@pytest.fixture
def iperfpy(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the program in this process: (status, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        status = main(list(words))
        output = capsys.readouterr()
        return status, output.out, output.err

    return run
