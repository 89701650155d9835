"""The clocks of an end in its results, of a message test.

    "clock": {"wall_us": n, "wall_step_us": n, "host": text}      as `records.HostClock` has them

An older iperfpy neither sends nor reads the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iperfpy.control.parameters import json_integer
from iperfpy.control.plan_limits import INT64_MAX
from iperfpy.records import HostClock

CLOCK = "clock"
"""Key of the extension in results."""
LONGEST_NAME = 64


def encode_clock(clock: HostClock | None) -> dict[str, Any]:
    """The clocks under their key; empty without them."""
    if clock is None:
        return {}
    return {CLOCK: {"wall_us": clock.wall_us, "wall_step_us": clock.wall_step_us, "host": clock.host}}


def decode_clock(extension: object) -> HostClock | None:
    """The clocks in a peer's extension; None if it sent none, or something else in their place."""
    body = extension.get(CLOCK) if isinstance(extension, Mapping) else None
    if not isinstance(body, Mapping):
        return None
    wall_us, step_us, host = (
        json_integer(body.get("wall_us")),
        json_integer(body.get("wall_step_us")),
        body.get("host"),
    )
    if wall_us is None or step_us is None or not isinstance(host, str):
        return None
    if max(abs(wall_us), abs(step_us)) > INT64_MAX // 2:
        return None
    return HostClock(wall_us, step_us, host[:LONGEST_NAME])
