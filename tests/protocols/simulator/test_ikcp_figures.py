"""ikcp's published latencies, from its own library and from our engine, over its path in the simulator.

Two seeds here; `python -m tests.protocols.simulator.ikcp_path` prints the means of 20, which differ by less
than 3 % from these in the normal and the fast mode.
"""

from __future__ import annotations

import pytest

from tests.protocols.simulator.ikcp_path import (
    BEFORE_2015_MS,
    PUBLISHED_MS,
    TODAY_MS,
    Make,
    Ours,
    c_library,
    mean_ms,
)

SEEDS = range(2)


@pytest.mark.parametrize(
    ("make", "mode"),
    [
        (c_library, "normal"),
        (c_library, "fast"),
        pytest.param(Ours(early=False), "normal", marks=pytest.mark.slow),
        (Ours(), "fast"),
    ],
    ids=["C library, normal", "C library, fast", "ours, normal", "ours, fast"],
)
def test_published_means_are_reproduced_within_10_percent(make: Make, mode: str) -> None:
    assert mean_ms(make, mode, SEEDS) == pytest.approx(PUBLISHED_MS[mode], rel=0.10)


@pytest.mark.slow
def test_kcp_gos_early_retransmissions_shorten_the_normal_mode() -> None:
    """ikcp has none, so its published mean is not that of the deployed kcp-go."""
    assert mean_ms(Ours(), "normal", [0]) < 0.95 * mean_ms(Ours(early=False), "normal", [0])


def test_the_default_mode_is_that_of_the_library_today() -> None:
    """The window of the published version grew too fast (`ikcp_path`). Single seeds take 2.2 to 5.5 s."""
    assert 0.5 < mean_ms(c_library, "default", SEEDS) / TODAY_MS["default"] < 1.5


def test_with_the_window_of_that_version_the_default_mode_is_as_published() -> None:
    found = mean_ms(Ours(early=False, grows_by_one=True), "default", range(2))
    assert 0.6 * BEFORE_2015_MS < found < 1.2 * PUBLISHED_MS["default"]
