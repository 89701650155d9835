"""Settings that follow from the model of a path."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iperfpy.diagnosis import path_model
from iperfpy.diagnosis.advice import KCP_HEADER_BYTES, KCP_MOST_SEGMENTS, recommend
from iperfpy.protocols.kcp import KcpBbr
from iperfpy.protocols.kcp.engine_options import MAX_WINDOW
from tests.iperfpy.diagnosis import synthetic
from tests.iperfpy.diagnosis.synthetic import Path

LONG_US = 2e6
PACKET_BYTES = 1_428


def test_the_sizes_are_those_of_the_recommended_transport() -> None:
    model = path_model.fit(synthetic.direction(Path(queue=5_000)))
    assert recommend(model).transport == KcpBbr.name
    assert KcpBbr.header_bytes == KCP_HEADER_BYTES
    assert KCP_MOST_SEGMENTS == MAX_WINDOW


def window(path: Path, rtt_us: float = LONG_US) -> float:
    """The recommended window for a path with this round-trip time, bandwidth-delay products."""
    model = replace(path_model.fit(synthetic.direction(path)), base_rtt_us=rtt_us)
    return recommend(model).window * PACKET_BYTES * 8e6 / (path.rate * rtt_us)


@pytest.mark.parametrize(
    ("path", "products"),
    [
        (Path(queue=5_000), 2.5),
        # One of 1,750 segments is lost two times in a row; each repair takes 1.25 round trips.
        (Path(queue=5_000, loss=0.03), 5.0),
        (Path(queue=5_000, loss=0.2), 9.7),
        (Path(queue=5_000, lump_us=25e3), 2.5),
    ],
)
def test_a_window_waits_for_no_repair(path: Path, products: float) -> None:
    assert window(path) == pytest.approx(products, rel=0.08)


def test_a_window_is_no_longer_than_the_transport_allows() -> None:
    model = replace(path_model.fit(synthetic.direction(Path(queue=5_000, loss=0.2))), base_rtt_us=60e6)
    assert recommend(model).window == 65_535
