"""Descriptions that the program prints: --explain, completion, the manual page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from iperfpy.cli.command_line import CommandLine
from iperfpy.cli.commands import COMMANDS
from iperfpy.cli.main import main
from iperfpy.cli.manual import page
from iperfpy.protocols.registry import transport, transports
from iperfpy.report.explain import explanation
from tests.interop.conftest import peer
from tests.warm_program import run_warm


@pytest.mark.parametrize("name", transports())
def test_every_figure_is_explained(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--explain", "--proto", name]) == 0
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    words = " ".join(output.split())
    for metric in transport(name).metrics:
        assert metric.doc in words
        assert metric.key in words
    assert all(title in words for title in ("Interval(s)", "Transfer(MiB)", "Bandwidth(Mbit/s)"))


def test_the_explanation_has_the_requested_units() -> None:
    text = "\n".join(explanation(transport("tcp"), "G"))
    assert "Transfer(GiB)" in text
    assert "Bandwidth(GiB/s)" in text


def completions(words: str) -> list[str]:
    """Return the words that bash proposes for the last word, which may be empty."""
    request = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_IPERFPY_COMPLETE": "bash_complete"}
    done = run_warm([], env=os.environ | request)
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "proposed"),
    [
        ("iperfpy --rev", ["--reverse"]),
        ("iperfpy -c host --kcp-m", ["--kcp-mtu", "--kcp-mode"]),
        ("iperfpy --proto kcp", ["kcp", "kcp-bbr"]),
        ("iperfpy --kcp-mode fast", ["fast", "fast2", "fast3"]),
        ("iperfpy --dscp af4", ["af41", "af42", "af43"]),
        ("iperfpy de", ["demo"]),
    ],
)
def test_a_shell_gets_the_matching_words(words: str, proposed: list[str]) -> None:
    assert completions(words) == proposed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_valid_in_its_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_IPERFPY_COMPLETE={shell}_complete" in script
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=script, text=True, check=True)


PRESS_TAB = {
    "bash": """
        eval "$(iperfpy completion bash)"
        COMP_WORDS=(iperfpy --proto u) COMP_CWORD=2
        _iperfpy_completion iperfpy
        echo "${COMPREPLY[@]}"
    """,
    # Stubs for zsh's completion system, which only an interactive shell has: they print the answer.
    "zsh": """
        compdef() { registered="$*" }
        compadd() { echo ${(P)@[-1]} }
        eval "$(iperfpy completion zsh)"
        [[ $registered == "_iperfpy_completion iperfpy" ]] || echo "registered $registered"
        words=(iperfpy --proto u) CURRENT=3
        _iperfpy_completion
    """,
    "fish": """
        iperfpy completion fish | source
        complete --do-complete "iperfpy --proto u"
    """,
}
"""Shell -> a script that completes `iperfpy --proto u` as a press of the tabulator key does."""


@pytest.mark.parametrize("shell", PRESS_TAB)
def test_a_real_shell_completes(shell: str, tmp_path: Path) -> None:
    """The shell runs the program of this tree as `iperfpy`."""
    # HOME is an empty folder, because start-up files may define completions of their own.
    where = peer(shell)
    program = tmp_path / "iperfpy"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m iperfpy "$@"\n')
    program.chmod(0o755)
    ours = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [where, "-c", PRESS_TAB[shell]],
        env=os.environ | ours,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("udp\n", "")


@pytest.mark.parametrize("words", [["completion"], ["completion", "tcsh"], ["completion", "bash", "x"]])
def test_an_unknown_shell_is_an_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    assert capsys.readouterr().err == (
        "iperfpy: parameter error - completion needs a shell: one of bash, zsh, fish\n"
    )


@pytest.mark.parametrize("words", [*COMMANDS, "lab list", "lab from-csv"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_subcommand_has_help(words: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words.split(), flag]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: iperfpy {words} ")
    assert ("-h, --help" in out, err) == (True, "")


def test_the_committed_manual_is_up_to_date() -> None:
    """Renew it by: python -m iperfpy.cli.manual > iperfpy/iperfpy.1"""
    assert files("iperfpy").joinpath("iperfpy.1").read_text() == page()


def test_the_manual_has_every_flag() -> None:
    text = page().replace("\\-", "-")
    for option in CommandLine(transports()).command.params:
        assert getattr(option, "hidden", False) or option.opts[0] in text
    assert not re.search(r"^[.'](?!TH|SH|SS|TP|PP|B\b|BR|br|nf|fi)", text, re.MULTILINE)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_troff_accepts_the_manual() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", "-z"], input=page(), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
