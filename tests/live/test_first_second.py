"""A sender's figure of its first second is the payload that the path carried, not the fill of its buffers."""

from __future__ import annotations

import pytest

from tests.studies.wire.case import Case, measure
from tests.studies.wire.namespaces import PathSpec, why_not

RATE_MBIT, QUEUE_MS = 20.0, 60.0
IN_THE_QUEUE = 2 * QUEUE_MS / 1000
"""Beyond a second's worth: what the path's queue holds, and as much again that it dropped at first."""


@pytest.mark.live
@pytest.mark.parametrize(
    ("transport", "flags"),
    [("tcp", ("-w", "4M")), ("kcp", ()), ("kcp-bbr", ())],
    ids=["tcp", "kcp", "kcp-bbr"],
)
def test_the_first_interval_of_an_upload_has_no_more_than_the_path_carries(
    transport: str, flags: tuple[str, ...]
) -> None:
    if reason := why_not():
        pytest.skip(reason)
    slow = PathSpec("20 Mb/s", rate_mbit=RATE_MBIT, queue_ms=QUEUE_MS)
    outcome = measure(Case(transport, slow, flags=flags, seconds=2))
    carried_mbit = outcome.sender.intervals("bytes")[0] * 8e-6
    assert 0 < carried_mbit <= RATE_MBIT * (outcome.sender.intervals("seconds")[0] + IN_THE_QUEUE)
