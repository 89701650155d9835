"""The loss of calm stretches: its share, and its bursts."""

from __future__ import annotations

import pytest

from iperfpy.diagnosis import random_loss
from iperfpy.diagnosis.stretches import Stretch


def stretches(sent: int, runs: list[int]) -> list[Stretch]:
    """Calm stretches, each with one run of losses of the given length."""
    return [
        Stretch(1e6 * (1 + number), 1_500, 1.0, sent, length, 1, length, 0, {}, None)
        for number, length in enumerate(runs)
    ]


@pytest.mark.parametrize(
    ("sent", "runs", "in_bursts"),
    [
        (1_000, [6] * 5, None),
        (1_000, [6] * 6, True),
        (1_000, [6] * 20, True),
        (1_000, [1] * 6, False),
        (1_000, [1, 1, 1, 2, 2, 2], True),
        # A third longer, but at this share of losses chance makes two pairs.
        (100, [1, 1, 1, 1, 2, 2], False),
        # Chance hardly makes a pair, but one pair makes the mean run only a sixth longer.
        (1_000, [1, 2, 1, 1, 1, 1], False),
        (10_000, [1, 2, 1, 1, 1, 1], False),
    ],
)
def test_bursts_are_runs_that_are_much_longer_and_no_chance(
    sent: int, runs: list[int], in_bursts: bool | None
) -> None:
    """The runs must be a quarter longer than those of independent losses, and beyond 3 sigma."""
    found = random_loss.measure(stretches(sent, runs))
    assert found.in_bursts is in_bursts
    assert found.lost == sum(runs)
