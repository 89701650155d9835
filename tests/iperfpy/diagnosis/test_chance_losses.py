"""Losses of a constant share, and losses of what exceeds a rate."""

from __future__ import annotations

import numpy as np
import pytest

from iperfpy.diagnosis.chance_losses import are_chance
from iperfpy.diagnosis.stretches import Stretch

SECONDS, PACKET = 1.5, 582
LOADS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25)
"""Of a ladder, in parts of its centre."""


def stretch(offered: float, lost: np.ndarray) -> Stretch:
    """A stretch whose packets, (n,), were lost or not."""
    runs = int((np.diff(lost.astype(int), prepend=0) == 1).sum())
    sent, gone = len(lost), int(lost.sum())
    return Stretch(offered, PACKET, SECONDS, sent, gone, runs, gone, 0, {}, None)


def in_bursts(generator: np.random.Generator, count: int, enter: float, leave: float) -> np.ndarray:
    """Losses of Gilbert's model, (n,) bool."""
    lost, bad = np.zeros(count, bool), generator.random() < enter / (enter + leave)
    for at in range(count):
        lost[at] = bad
        bad = generator.random() >= leave if bad else generator.random() < enter
    return lost


def ladder(
    seed: int,
    rate: float,
    enter: float,
    leave: float,
    police: float = 1.0,
    burst_s: float = 0.0,
    tick_s: float = 0.0,
) -> list[Stretch]:
    """The stretches of a path of that rate and losses, policed at a part of the ladder's centre."""
    generator = np.random.default_rng(seed)
    found = []
    for load in LOADS:
        offered = load * rate
        count = round(offered * SECONDS / 8 / PACKET)
        tokens, drops = burst_s * police * rate / 8, np.zeros(count, bool)
        depth = tokens = max(tokens, 2 * PACKET)
        due = 0.0  # tokens that come with the next tick
        for at in range(count):
            due += PACKET * police * rate / offered
            if not tick_s or at * PACKET * 8 / offered % tick_s < PACKET * 8 / offered:
                tokens, due = min(depth, tokens + due), 0.0
            drops[at] = tokens < PACKET
            tokens -= PACKET * (not drops[at])
        found.append(stretch(offered, drops | in_bursts(generator, count, enter, leave)))
    return found


@pytest.mark.parametrize("rate", [1.2e6, 5e6])
@pytest.mark.parametrize(("enter", "leave"), [(0.034, 0.24), (0.01, 0.3), (0.02, 0.98), (0.1, 0.9)])
def test_losses_of_a_constant_share_are_chance(rate: float, enter: float, leave: float) -> None:
    found = [are_chance(ladder(seed, rate, enter, leave, police=2.0)) for seed in range(25)]
    assert sum(found) >= 23


@pytest.mark.parametrize("rate", [1.2e6, 5e6])
@pytest.mark.parametrize(("enter", "leave"), [(0.0, 0.3), (0.01, 0.3), (0.02, 0.98)])
@pytest.mark.parametrize("burst_s", [0.0, 0.1])
def test_losses_of_what_exceeds_a_rate_are_none(
    rate: float, enter: float, leave: float, burst_s: float
) -> None:
    found = [are_chance(ladder(seed, rate, enter, leave, 0.8, burst_s)) for seed in range(25)]
    assert sum(found) <= 2


@pytest.mark.parametrize("rate", [1.2e6, 5e6])
@pytest.mark.parametrize("tick_s", [0.05, 0.25])
def test_a_policer_that_gets_its_tokens_in_large_parts_is_none(rate: float, tick_s: float) -> None:
    """It loses long runs, which are not those of chance."""
    assert not are_chance(ladder(1, rate, 0.0, 0.5, 0.8, burst_s=tick_s, tick_s=tick_s))


def test_slow_stretches_that_bursts_spared() -> None:
    """A path of 1.7 Mbit/s that loses an eighth of its packets, four at a time: no stretch exceeded it."""
    numbers = ((40, 0), (100, 1), (200, 7), (300, 32), (360, 66), (400, 39), (440, 53), (500, 58))
    ladder = [
        Stretch(sent * 4656 / SECONDS, PACKET, SECONDS, sent, lost, lost // 4 or lost, lost, 0, {}, None)
        for sent, lost in numbers
    ]
    assert are_chance(ladder)


def test_without_losses_there_is_nothing_to_tell() -> None:
    assert not are_chance(ladder(1, 5e6, 0.0, 0.5, police=2.0))
    assert not are_chance([])
