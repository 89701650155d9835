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
    ("runs", "in_bursts"),
    [([6] * 5, None), ([6] * 6, True), ([1] * 6, False), ([1, 2, 1, 1, 1, 1], False), ([6] * 20, True)],
)
def test_few_long_runs_are_bursts(runs: list[int], in_bursts: bool | None) -> None:
    """Of 6,000 datagrams, 1 in 100 lost: two in a row are chance, six in a row are not."""
    found = random_loss.measure(stretches(1_000, runs))
    assert found.in_bursts is in_bursts
    assert found.lost == sum(runs)
