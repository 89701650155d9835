"""Descriptions that the program prints: --explain, --help of the subcommands, the manual page."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.resources import files

import pytest

from iperfpy.cli.command_line import CommandLine
from iperfpy.cli.commands import COMMANDS, compare, kcp_peer
from iperfpy.cli.main import main
from iperfpy.cli.manual import page
from iperfpy.protocols.registry import transport, transports
from iperfpy.protocols.settings import Settings, option
from iperfpy.report.explain import explanation


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


@pytest.mark.parametrize("words", [*COMMANDS, "lab list", "lab from-csv"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_subcommand_has_help(words: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words.split(), flag]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: iperfpy {words} ")
    assert ("-h, --help" in out, err) == (True, "")
    assert max(map(len, out.splitlines())) <= 80


def test_the_committed_manual_is_up_to_date() -> None:
    """Renew it by: python -m iperfpy.cli.manual > iperfpy/iperfpy.1"""
    assert files("iperfpy").joinpath("iperfpy.1").read_text() == page()


def test_the_manual_has_no_flags_of_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, slots=True)
    class OwnSettings(Settings):
        depth: int = option(1, help="")

    class PlugIn(type(transport("kcp"))):  # type: ignore[misc]
        name, prefix, settings = "plug-in", "own", OwnSettings

    here = page()
    monkeypatch.setitem(transports(), "plug-in", PlugIn())
    assert "--own-depth" in kcp_peer.subcommand().whole_help()
    assert "--own-key" in compare.subcommand().whole_help()
    assert page() == here


def test_the_manual_has_every_flag() -> None:
    text = page().replace("\\-", "-")
    for each in CommandLine(transports()).command.params:
        assert getattr(each, "hidden", False) or each.opts[0] in text
    assert not re.search(r"^[.'](?!TH|SH|SS|TP|PP|B\b|BR|br|nf|fi)", text, re.MULTILINE)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_troff_accepts_the_manual() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", "-z"], input=page(), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
