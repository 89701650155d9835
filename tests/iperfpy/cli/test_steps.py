"""The five steps of a test in their order: parse, request, check, open, run."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import pytest

from iperfpy.cli.main import main

STEPS = ("command_line.py", "request.py", "preflight.py", "outputs.py", "client.py")


def steps_entered(words: list[str]) -> list[str]:
    """Return the files of the steps in the order in which they were entered; repeated entries count once."""
    entered: list[str] = []

    def watch(frame: FrameType, event: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        # A module is also entered when it is imported: that is no step.
        if event == "call" and frame.f_code.co_name != "<module>" and path.name in STEPS:
            step = path.name
            if entered[-1:] != [step]:
                entered.append(step)

    # Import everything first, so that the classes which a module makes are not taken for a step.
    main(words)
    sys.setprofile(watch)
    try:
        main(words)
    finally:
        sys.setprofile(None)
    return entered


def test_a_test_passes_the_steps_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """Port 1 refuses the connection, so the test ends in its last step."""
    entered = steps_entered(["-c", "127.0.0.1", "-p", "1"])
    assert "connection refused" in capsys.readouterr().err
    # The reports are closed when the test is over.
    assert entered == [*STEPS, "outputs.py"]


@pytest.mark.parametrize(
    ("words", "entered"),
    [
        (["-c", "127.0.0.1", "--frobnicate-it"], STEPS[:1]),
        (["-c", "127.0.0.1", "-t", "x"], STEPS[:1]),
        (["--explain"], STEPS[:1]),
        (["-c", "127.0.0.1", "-R", "--bidir"], STEPS[:2]),
        (["-c", "127.0.0.1", "-u", "-l", "2"], STEPS[:3]),
        # The row about the error goes no way back to a step.
        (["-c", "127.0.0.1", "-t", "x", "--csv", "-"], STEPS[:1]),
        (["-c", "127.0.0.1", "-R", "--bidir", "--csv", "-"], STEPS[:2]),
        (["-c", "127.0.0.1", "-u", "-l", "2", "--csv", "-"], STEPS[:3]),
        (["-c", "127.0.0.1", "--csv", "/no/such/folder/x.csv"], STEPS[:4]),
    ],
)
def test_a_failed_step_is_the_last_one(
    words: list[str], entered: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert steps_entered(words) == [*entered]
