"""`iperfpy demo`: the comparison over a path of the lab, or over loopback where there is no lab."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from iperfpy.cli.commands import compare, demo
from iperfpy.cli.main import main
from iperfpy.protocols import registry
from iperfpy.protocols.registry import transports

LINUX_ONLY = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the lab needs Linux")


class BecameError(Exception):
    """The process would be another program now."""


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every program that the demo would start, in place of the program itself."""
    started: list[Any] = []

    def become(path: str, words: list[str], variables: dict[str, str]) -> None:
        started.append(words)
        raise BecameError

    def compared(words: list[str]) -> int:
        started.append(words)
        return 7

    monkeypatch.setattr(os, "execve", become)
    monkeypatch.setattr(compare, "main", compared)
    monkeypatch.setattr(
        demo, "LocalServer", lambda: nullcontext(SimpleNamespace(host="127.0.0.1", port=4711))
    )
    return started


def trial(monkeypatch: pytest.MonkeyPatch, status: int, errors: str) -> None:
    """Let the trial of the lab end so."""
    done = subprocess.CompletedProcess([], status, "", errors)
    monkeypatch.setattr(subprocess, "run", lambda *words, **more: done)


def test_without_a_lab_the_comparison_is_over_loopback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], programs: list[Any]
) -> None:
    monkeypatch.setattr(registry, "unusable", lambda: {"broken": "a plug-in is broken"})
    trial(monkeypatch, 1, "a warning\niperfpy: error - this system refused namespaces\n")
    assert main(["demo"]) == 7
    assert programs == [["127.0.0.1", "-p", "4711", "-t", "40", "--proto", ",".join(transports())]]
    shown = capsys.readouterr()
    assert shown.err == "iperfpy: warning - a plug-in is broken\n"
    assert shown.out == (
        "Every transport over loopback, as there is no emulated path here (this system refused namespaces):"
        " about 40 s\n"
    )


@LINUX_ONLY
def test_with_a_lab_the_process_becomes_the_comparison_over_its_path(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], programs: list[Any]
) -> None:
    trial(monkeypatch, 0, "")
    with pytest.raises(BecameError):
        main(["demo", "-t", "12"])
    (words,) = programs
    own = [sys.executable, "-P", "-m", "iperfpy"]
    place = words.index("--")
    assert words[:6] == [*own, "lab", demo.PATH]
    assert words[place + 1 :] == [
        *own,
        *("compare", "10.77.0.2", "-t", "12", "--proto", ",".join(transports())),
    ]
    assert words[words.index("--server") + 1].endswith("-m iperfpy -s")
    assert "about 12 s" in capsys.readouterr().out


def test_a_lab_that_does_not_start_is_none(monkeypatch: pytest.MonkeyPatch, programs: list[Any]) -> None:
    def refuse(*words: Any, **more: Any) -> None:
        raise subprocess.TimeoutExpired("lab", 1)

    monkeypatch.setattr(subprocess, "run", refuse)
    assert main(["demo"]) == 7
    assert len(programs) == 1


@pytest.mark.parametrize("words", [["-t", "x"], ["-t", "1"], ["--fast"]])
def test_a_wrong_word_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *words]) == 1
    assert capsys.readouterr().err.startswith("iperfpy: parameter error - ")


PROGRAM = [sys.executable, "-m", "iperfpy", "demo"]


def variables(folder: Path) -> dict[str, str]:
    """The variables of a demo that writes into the folder."""
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "IPERFPY_RESULTS": str(folder)}


@pytest.mark.live
@pytest.mark.slow
def test_the_demo_compares_every_transport(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "-t", "5"], capture_output=True, text=True, timeout=120, env=variables(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    first, *table = done.stdout.splitlines()
    assert first.startswith("Every transport over ")
    names = {line[6:].split()[0] for line in table if re.match(r"(up|down|    ) {2,5}\S", line)}
    assert names >= {*transports()}
    # The loss of UDP is in the table, in the last column but one.
    losses = [line.split()[-2] for line in table if line[6:].startswith("udp ") and "(" in line]
    assert len(losses) == 2
    assert all(float(loss) >= 0 for loss in losses)
    assert any(line.startswith("For bulk, ") for line in table)
    assert list(tmp_path.glob("*.json"))


@pytest.mark.live
@LINUX_ONLY
def test_a_signal_ends_the_demo_with_the_table_of_the_tests_so_far(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "-t", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables(tmp_path),
    ) as running:
        assert running.stderr is not None
        begun = 0
        for line in running.stderr:
            begun += "round 1: " in line
            if begun == 2:  # one test has ended
                break
        running.send_signal(signal.SIGINT)
        out, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    assert "Comparison over the path to " in out
    assert "iperfpy: interrupt - the client has terminated by signal Interrupt(2)" in errors
