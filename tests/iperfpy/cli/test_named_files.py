"""Two outputs never share a file, and no output overwrites an input."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from iperfpy.cli.commands import lab_run
from iperfpy.cli.main import main
from iperfpy.errors import LabError
from iperfpy.lab.lateness import Lateness
from iperfpy.lab.run_report import RunReport
from iperfpy.protocols.simulator.truth import Truth

CLIENT = "-c 127.0.0.1 -p 1"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a file that has content, and a symbolic and a hard link to it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IPERFPY_RESULTS", raising=False)
    (tmp_path / "x").write_text("content")
    (tmp_path / "link").symlink_to("x")
    os.link(tmp_path / "x", tmp_path / "hard")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (f"{CLIENT} --csv a --html ./a", "--csv and --html"),
        (f"{CLIENT} --html a --png ./a", "--html and --png"),
        (f"{CLIENT} --html a.flent.gz --flent a.flent.gz", "--html and --flent"),
        (f"{CLIENT} --csv a --logfile a", "--csv and --logfile"),
        (f"{CLIENT} --html a --logfile a", "--logfile and --html"),
        (f"{CLIENT} -F x --html x", "-F and --html"),
        (f"{CLIENT} -F x --html link", "-F and --html"),
        (f"{CLIENT} -F hard --csv link --csv-overwrite", "-F and --csv"),
        (f"{CLIENT} -R -F a --csv a", "-F and --csv"),
        (f"{CLIENT} --kcp-key-file x --csv x --csv-overwrite", "--kcp-key-file and --csv"),
        (f"{CLIENT} --username u --rsa-public-key-path x --html x", "--rsa-public-key-path and --html"),
        (f"{CLIENT} --save --csv results/index.jsonl", "--csv and the index of runs"),
        ("-s -p 1 -F a -I a", "-F and -I"),
        ("-s -p 1 --csv a --logfile a", "--csv and --logfile"),
        ("kcp-peer 127.0.0.1:1 --csv a --html a", "--csv and --html"),
        ("compare 127.0.0.1 -p 1 --csv a --html a", "--csv and --html"),
        ("compare 127.0.0.1 -p 1 --csv results/index.jsonl", "--csv and the index of runs"),
        ("latency 127.0.0.1 -p 1 --logfile a --html a", "--logfile and --html"),
        ("diagnose 127.0.0.1 -p 1 --html a --png a", "--html and --png"),
        ("show x --html link", "the run and --html"),
        ("show x --csv a --html a", "--csv and --html"),
        ("lab 6M --log-up a --log-down a -- true", "--log-up and --log-down"),
        ("lab 6M --report a --server-output a -- true", "--server-output and --report"),
        ("lab from-csv x -o link", "FILE and --output"),
    ],
)
def test_a_file_has_one_use(words: str, flags: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(os.listdir(here))
    assert main(words.split()) == 1
    first, _, second = flags.partition(" and ")
    error = capsys.readouterr().err
    assert (
        f" {first} and {second} need a file each" in error
        or f" {second} and {first} need a file each" in error
    )
    assert (here / "x").read_text() == "content"
    assert sorted(os.listdir(here)) == before


def test_the_lab_does_not_write_over_a_trace(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "up.trace").write_text("1\n2\n")
    for path in ("trace=up.trace", "6M @5s:down:trace=up.trace"):
        assert main(["lab", path, "--log-up", "up.trace", "--", "true"]) == 1
        assert "trace and --log-up need a file each" in capsys.readouterr().err
    assert (here / "up.trace").read_text() == "1\n2\n"


def test_a_run_of_the_lab_that_is_refused_leaves_its_files(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> NoReturn:
        raise LabError("no namespaces here")

    monkeypatch.setattr(lab_run, "_run", refused)
    (here / "log").write_text("earlier")
    words = ["lab", "6M", "--report", "x", "--log-up", "log", "--", "true"]
    assert main(words) == 1
    assert ((here / "x").read_text(), (here / "log").read_text()) == ("content", "earlier")

    def measured(*arguments: Any) -> RunReport:
        arguments[-1][0].write("new log\n")
        return report

    report = RunReport("6M", 1, 2.0, 0, (Truth(), Truth()), 0, Lateness(), "")
    monkeypatch.setattr(lab_run, "_run", measured)
    assert main(words) == 0
    assert (here / "log").read_text() == "new log\n"
    assert "content" not in (here / "x").read_text()


@pytest.mark.live
@pytest.mark.parametrize(
    "words",
    [
        "--csv /dev/null --html /dev/null -F /dev/null -R",
        "--csv - --html a",
        "--csv a --html b -F x",
        "--csv results/other.csv --save",
    ],
)
def test_a_device_and_different_files_are_no_conflict(
    words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "results").mkdir()
    main([*CLIENT.split(), *words.split()])
    assert "connection refused" in capsys.readouterr().err
