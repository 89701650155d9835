"""The logs of both ways in mahimahi's format, while a run goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TextIO

from iperfpy.lab.way import Way
from iperfpy.protocols.simulator.link_log import LinkLog, queue_text
from iperfpy.protocols.simulator.path import Path

UPLINK_AND_DOWNLINK = ("uplink", "downlink")
"""Names of the ways in the logs, as mahimahi has them."""


def keep_logs(
    ways: Sequence[Way], paths: Sequence[Path], streams: Sequence[TextIO | None], text: str
) -> list[LinkLog]:
    """Let each way keep a log that has a stream for it.

    text : the path in the user's words
    """
    logs = []
    for way, path, stream, name in zip(ways, paths, streams, UPLINK_AND_DOWNLINK, strict=True):
        if stream is not None:
            init_ms = time.time_ns() // 1_000_000
            logs.append(LinkLog(stream, name, text, queue_text(path), file=stream.name, init_ms=init_ms))
            way.keep_log(logs[-1])
    return logs
