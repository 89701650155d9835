"""The golden trajectories of kcp-bbr, and a check that they can fail."""

from __future__ import annotations

import pytest

from tests.protocols.trajectories import CASES, FOLDER, ROUNDS, Case, file_of, trajectory


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_controller_follows_its_golden_trajectory(case: Case) -> None:
    """After an intended change: python -m tests.protocols.trajectories, and read the difference."""
    assert trajectory(case) == file_of(case).read_text(encoding="utf-8")


def test_the_window_changes_in_every_trajectory() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == {case.name for case in CASES}
    for case in CASES:
        lines = file_of(case).read_text(encoding="utf-8").splitlines()
        assert len(lines) == ROUNDS + 2
        assert len({line.split()[2] for line in lines[2:]}) > 3, "a window that hardly moves proves little"
