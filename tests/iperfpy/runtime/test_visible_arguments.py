"""Other users do not see a typed key in the list of processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from iperfpy.cli.main import VISIBLE_SECRET, main
from iperfpy.runtime import visible_arguments
from iperfpy.runtime.visible_arguments import _SECRET, _masked, hide_secrets

SECRET = "do not show this"
LOOK = """
import sys
import iperfpy.cli.main
def looked(words, signals, **more):
    print(open("/proc/self/cmdline").read().split("\\0"))
    print(words, "click" in sys.modules, "numpy" in sys.modules)
    return 0
iperfpy.cli.main._run = looked
import iperfpy.__main__
iperfpy.__main__.main()
"""


@pytest.mark.linux
@pytest.mark.parametrize(
    "words",
    [
        ["-s", "--kcp-key", SECRET, "more"],
        ["-s", f"--kcp-key={SECRET}", "more"],
        ["lab", "20M", "--server", f"iperfpy -s --kcp-key '{SECRET}' -1", "--", "iperfpy", "more"],
        ["lab", "20M", "--", "sh", "-c", f'iperfpy -c $LAB_FAR --kcp-key="{SECRET}" -t 1', "more"],
        ["lab", "20M", "--", "iperfpy", "-c", "10.77.0.2", "--my-plugin-key", SECRET, "more"],
    ],
)
def test_a_key_is_hidden_before_anything_is_loaded(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", LOOK, *words], capture_output=True, text=True, check=True)
    visible, used = done.stdout.splitlines()
    assert SECRET not in visible
    assert "'more'" in visible
    assert used == f"{words} False False"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("iperfpy\0-s\0--kcp-key\0a b'c\0x\0", "iperfpy\0-s\0--kcp-key\0*****\0x\0"),
        ("--kcp-key=a b\0x\0", "--kcp-key=***\0x\0"),
        ("--kcp-key-file\0name\0", None),
        ("--server\0iperfpy -s --kcp-key-file name\0", None),
        ("x\0iperfpy --kcp-key 'a b'\"c d\"e\\ f more\0", "x\0iperfpy --kcp-key ************** more\0"),
        ("x\0iperfpy --kcp-key=abc; more\0", "x\0iperfpy --kcp-key=**** more\0"),
        ("x\0iperfpy --kcp-key\0", None),
        ("--kcp-key\0\0--my-key\0a\0", "--kcp-key\0\0--my-key\0*\0"),
    ],
)
def test_the_word_behind_the_flag_is_masked(before: str, after: str | None) -> None:
    found = re.sub(_SECRET, _masked, before.encode())
    assert found.decode() == (before if after is None else after)


@pytest.mark.parametrize("word", ["_STAT", "_MEMORY"])
def test_a_key_that_stays_visible_is_a_warning(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(visible_arguments, word, os.fspath(tmp_path / "none"))
    assert not hide_secrets(["--kcp-key", SECRET])
    assert hide_secrets(["--kcp-key-file", "x"])
    monkeypatch.setenv("COLUMNS", "400")
    main(["--version", "--kcp-key", SECRET])
    assert capsys.readouterr().err == f"iperfpy: warning - {VISIBLE_SECRET}\n"
    main(["--version", "--kcp-key-file", "x"])
    assert not capsys.readouterr().err
