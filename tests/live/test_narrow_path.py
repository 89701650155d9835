"""KCP over a kernel path that is narrow in its middle and says nothing about it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.studies.mtu.__main__ import Case, measure
from tests.studies.wire.namespaces import why_not

pytestmark = [pytest.mark.live, pytest.mark.slow]
CASES = [Case(1_280, ipv6=reverse, icmp=False, reverse=reverse) for reverse in (False, True)]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Rows of the study. Both cases run at once, in namespaces of their own: they wait most of the time."""
    if reason := why_not():
        pytest.skip(reason)
    with ThreadPoolExecutor(len(CASES)) as pool:
        return list(pool.map(measure, CASES, [3.0] * len(CASES)))


@pytest.mark.parametrize("at", range(len(CASES)), ids=lambda at: CASES[at].name)
def test_a_silent_path_of_1280_bytes_carries_whole_packets(rows: list[dict[str, Any]], at: int) -> None:
    found = rows[at]
    assert "error" not in found, found
    assert found["size"] == (1_232 if found["ipv6"] else 1_252)
    assert found["fragments"] == 0
    assert any("1,400 bytes" in sentence for sentence in found["warnings"])
