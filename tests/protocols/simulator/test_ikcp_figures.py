"""ikcp's published latencies, from its own library and from our engine, over its path in the simulator.

Means of 20 seeds; those of our engine in the normal and the fast mode, which take longest, are of two seeds
here, and of 20 in `make ikcp`.
"""

from __future__ import annotations

import pytest

from tests.protocols.simulator.ikcp_path import (
    PUBLISHED_MS,
    SEEDS,
    SHARE,
    TODAY_MS,
    Make,
    Ours,
    Row,
    c_library,
    mean_ms,
)

FEW = range(2)


@pytest.mark.parametrize(
    ("make", "mode", "seeds"),
    [
        pytest.param(c_library, "normal", SEEDS, id="C library, normal"),
        pytest.param(c_library, "fast", SEEDS, id="C library, fast"),
        pytest.param(
            Ours(early=False, grows_by_one=True),
            "default",
            SEEDS,
            marks=pytest.mark.slow,
            id="ours with the window of the published version, default",
        ),
        pytest.param(Ours(early=False), "normal", FEW, marks=pytest.mark.slow, id="ours, normal"),
        pytest.param(Ours(), "fast", FEW, id="ours, fast"),
    ],
)
def test_published_means_are_reproduced_within_10_percent(make: Make, mode: str, seeds: range) -> None:
    assert mean_ms(make, mode, seeds) == pytest.approx(PUBLISHED_MS[mode], rel=SHARE)


@pytest.mark.slow
def test_kcp_gos_early_retransmissions_shorten_the_normal_mode() -> None:
    """ikcp has none, so its published mean is not that of the deployed kcp-go."""
    assert mean_ms(Ours(), "normal", [0]) < 0.95 * mean_ms(Ours(early=False), "normal", [0])


def test_the_default_mode_is_that_of_the_library_today() -> None:
    """The window of the published version grew too fast (`ikcp_path`)."""
    assert mean_ms(c_library, "default", SEEDS) == pytest.approx(TODAY_MS["default"], rel=SHARE)


def test_a_row_names_the_modes_that_are_not_as_published() -> None:
    means = {"default": 99.0, "normal": 172.0, "fast": 124.0}
    assert Row("any", means).differs == []
    assert Row("any", means, ("normal", "fast")).text().endswith("172.0    124.0  MISS normal, fast")
    assert Row("any", {**means, "normal": 171.0, "fast": 125.0}, ("normal", "fast")).differs == []
    assert Row("any", {"default": 767.4}, ("default",)).text().endswith("767.4        -        -")
