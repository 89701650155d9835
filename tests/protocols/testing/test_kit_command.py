"""`python -m iperfpy.protocols.testing`: one line per check, exit status, one sentence for a bad argument."""

from __future__ import annotations

import pytest

from iperfpy.protocols.testing import conformance
from iperfpy.protocols.testing.__main__ import main
from iperfpy.protocols.testing.conformance import CHECKS, Check, name_of
from tests.protocols.testing.test_conformance import FaultyTcp, WrongPeer

pytestmark = pytest.mark.live


class WrongPeerTcp(FaultyTcp):
    fault = WrongPeer


HERE = f"{__name__}:WrongPeerTcp"
ECHO = "tests.example_transport.iperfpy_echo:Echo"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """Three checks in place of all."""
    chosen = [
        conformance.declaration_is_complete,
        conformance.addresses_of_both_ends_agree,
        conformance.close_ends_a_waiting_receive,
    ]
    monkeypatch.setattr("iperfpy.protocols.testing.__main__.CHECKS", chosen)
    return chosen


def test_every_check_is_a_line_and_all_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([ECHO, "--setting", "chunk=4096"]) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert lines == [f"holds  {name_of(check)}" for check in CHECKS]
    assert total == f"{len(CHECKS)} of {len(CHECKS)} checks hold"


def test_a_failed_check_says_why_and_the_others_still_run(
    quick: list[Check], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([HERE]) == 1
    first, failed, last, total = capsys.readouterr().out.splitlines()
    assert first.startswith("holds  declaration_is_complete")
    assert failed.startswith("FAILS  addresses_of_both_ends_agree ")
    assert "'127.0.0.9', 9" in failed
    assert last.startswith("holds  close_ends_a_waiting_receive")
    assert total == "2 of 3 checks hold"


@pytest.mark.usefixtures("quick")
def test_the_checks_run_over_ipv6(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([ECHO, "--host", "::1"]) == 0
    assert "3 of 3 checks hold" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nonsense"], "'nonsense' is not of the form MODULE:CLASS"),
        (["no.such.module:Mine"], "module 'no.such.module' cannot be imported: No module named 'no'"),
        ([f"{__name__}:Missing"], f"module '{__name__}' has no 'Missing'"),
        (
            ["iperfpy.protocols.testing.loopback:LoopbackPair"],
            "is not a subclass of iperfpy",
        ),
        (["iperfpy.protocols.contract:Transport"], "cannot be instantiated"),
        ([ECHO, "--setting", "chunk"], "--setting chunk is not of the form NAME=VALUE"),
        ([ECHO, "--setting", "chunks=1"], "no setting is named 'chunks' (known: chunk)"),
        ([ECHO, "--setting", "chunk=many"], "setting chunk takes an integer, not 'many'"),
        ([ECHO, "--setting", "chunk=0"], "chunk must be between 1 byte and 1 MiB, not 0 bytes"),
        (
            ["iperfpy.protocols.tcp:Tcp", "--setting", "nodelay=perhaps"],
            "nodelay takes true or false",
        ),
    ],
)
def test_an_argument_that_cannot_be_used_gets_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert sentence in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.usefixtures("quick")
def test_a_switch_is_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["iperfpy.protocols.tcp:Tcp", "--setting", "nodelay=true"]) == 0
    assert "3 of 3" in capsys.readouterr().out
