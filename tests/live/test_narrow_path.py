"""KCP over a kernel path that is narrow in its middle and says nothing about it."""

from __future__ import annotations

import pytest

from tests.studies.mtu.__main__ import Case, measure
from tests.studies.wire.namespaces import why_not

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.alone]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_silent_path_of_1280_bytes_carries_whole_packets(reverse: bool) -> None:
    if reason := why_not():
        pytest.skip(reason)
    found = measure(Case(1_280, ipv6=reverse, icmp=False, reverse=reverse), 3.0)
    assert "error" not in found, found
    assert found["size"] == (1_232 if found["ipv6"] else 1_252)
    assert found["fragments"] == 0
    assert any("1,400 bytes" in sentence for sentence in found["warnings"])
