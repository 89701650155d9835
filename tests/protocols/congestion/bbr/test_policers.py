"""A policer whose bucket lets STARTUP through at first, in virtual time."""

from __future__ import annotations

import pytest

from iperfpy.protocols.simulator import bdp_bytes
from iperfpy.protocols.simulator.path import Path
from tests.studies.paths.watched import single


@pytest.mark.parametrize(
    ("line", "policed", "bucket_bytes", "rtt_us", "most_dropped"),
    [
        pytest.param(50e6, 10e6, 1_250_000, 170_000, 3_500, id="before a flat round"),
        pytest.param(20e6, 5e6, 400_000, 100_000, 1_350, id="at a quarter of the line"),
        pytest.param(10e6, 2e6, 250_000, 100_000, 700, id="at a fifth of the line"),
        pytest.param(40e6, 1e6, 600_000, 60_000, 1_700, id="at a fortieth of the line"),
    ],
)
def test_an_empty_bucket_ends_the_overload_in_two_seconds(
    line: float, policed: float, bucket_bytes: int, rtt_us: int, most_dropped: int
) -> None:
    """STARTUP learns the rate of the line. Then nine tenths are lost and more, also in PROBE_RTT.

    If those losses become the loss floor, 44 % are dropped without end at a fifth of the line, and 97 % for
    six seconds at a fortieth, where each run of losses is as long as a burst of errors. If STARTUP keeps the
    rate of the line, 1,448 and 2,083 datagrams are dropped at a quarter and at a fortieth; if it waits for a
    flat round though less is delivered than before, 4,741 in the first case.
    """
    forward = Path(line, bdp_bytes(line, rtt_us, 1.0), rtt_us / 2)
    forward = forward.with_(police_bits_per_s=policed, bucket_bytes=bucket_bytes)
    watched = single(forward, Path(delay_us=rtt_us / 2), seed=1, seconds=5.0)
    begun, steady = watched.between(0.0, 2.0).truth, watched.between(2.0, 5.0).truth
    assert 0.4 * begun.sent < begun.policed <= most_dropped
    assert steady.policed < 0.05 * steady.sent
    assert steady.sent * 1_428 * 8 / 3 > 0.8 * policed


def test_the_answer_about_losses_holds_until_the_path_may_be_asked_again() -> None:
    """Otherwise 15 % are dropped: the flow may not examine all losses, and goes on with those it may not."""
    forward = Path(100e6, 1_000_000, 30_000, loss=0.02, police_bits_per_s=5e6, bucket_bytes=64_000)
    watched = single(forward, Path(delay_us=30_000), seed=1, seconds=20.0)
    truth = watched.between(0.0, 20.0).truth
    assert truth.policed + truth.lost < 0.11 * truth.sent
