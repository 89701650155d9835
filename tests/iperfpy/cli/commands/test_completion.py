"""`iperfpy completion`: the words that a shell proposes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from iperfpy.cli.main import main
from tests.interop.conftest import peer
from tests.warm_program import run_warm


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
        "PYTHONPATH": str(Path(__file__).parents[4]),
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
