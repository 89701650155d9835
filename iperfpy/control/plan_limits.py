"""The limits of a test: one set of rules, which both ends apply.

    client   the user's words --> Plan --> check_plan --> connect, send the parameters
    server   the client's parameters --> Plan --> check_plan --> accept, or answer with `PlanError.i_errno`

A value of the wrong type never reaches a `Plan`: the command line and `parameters.decode_parameters` refuse
it. A transport's `Settings` check themselves when they are made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from iperfpy.error_numbers import ErrorNumber
from iperfpy.errors import PlanError
from iperfpy.plan import Direction, EndCondition, Plan
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.units import SECOND_US, between, exact_size

INT64_MAX = 2**63 - 1
SHORTEST_INTERVAL_US = 100_000


@dataclass(frozen=True, slots=True)
class Limit:
    """The range of one number.

    `zero`: 0 is allowed although it is below `minimum`, as it stands for "none". `scale` is the number of the
    field's units in the unit that the sentence names: a duration is stored in microseconds and refused in
    seconds. `i_errno` is iperf3's number for a value outside.
    """

    what: str
    minimum: int
    maximum: int
    i_errno: ErrorNumber = ErrorNumber.PARAMETERS
    unit: str = ""
    scale: int = 1
    zero: bool = False

    def range(self, unit: int = 1) -> tuple[int, int]:
        """(minimum, maximum) in a multiple of the field's unit."""
        return self.minimum // unit, self.maximum // unit

    def check(self, value: int) -> None:
        """Raise `PlanError` unless the value is within the range."""
        if self.minimum <= value <= self.maximum or (self.zero and value == 0):
            return
        low, high, given = map(self._in_unit, (self.minimum, self.maximum, value))
        unit = f" {self.unit}" if self.unit not in ("", "bytes") else ""
        allowed = f"{'0, or ' if self.zero else ''}{between(low, high)}{unit}"
        raise PlanError(f"{self.what} must be {allowed}, not {given}", self.i_errno)

    def _in_unit(self, value: int) -> str:
        if abs(value) > INT64_MAX:  # Python's numbers may have more digits than a text or a float
            return f"about {'-' if value < 0 else ''}1e{math.log10(abs(value)) - math.log10(self.scale):.0f}"
        if self.unit == "bytes":
            return exact_size(value)
        return str(value) if self.scale == 1 else f"{value / self.scale:.15g}"


def _seconds(what: str, maximum_s: int, i_errno: ErrorNumber) -> Limit:
    return Limit(what, 0, maximum_s * SECOND_US, i_errno, "seconds", SECOND_US)


LIMITS = {
    "duration_us": _seconds("the duration", 86_400, ErrorNumber.DURATION),
    "omit_us": _seconds("the omitted time", 600, ErrorNumber.OMIT),
    "interval_us": Limit(
        "the report interval",
        SHORTEST_INTERVAL_US,
        60 * SECOND_US,
        ErrorNumber.INTERVAL,
        "seconds",
        SECOND_US,
        zero=True,
    ),
    "total_bytes": Limit("the number of bytes", 0, INT64_MAX),
    "total_blocks": Limit("the number of blocks", 0, INT64_MAX),
    "parallel": Limit("the number of streams", 1, 128, ErrorNumber.STREAMS),
    "block_bytes": Limit("the block length", 1, 1024 * 1024, ErrorNumber.BLOCK_LENGTH, "bytes"),
    "rate_bps": Limit("the rate", 0, INT64_MAX, unit="bit/s"),
    "burst_blocks": Limit("the number of blocks in a burst", 0, 1000, ErrorNumber.BURST),
    "tos": Limit("the type of service", 0, 255, ErrorNumber.TYPE_OF_SERVICE),
    "fq_rate_bps": Limit("the rate of the kernel's pacing", 0, INT64_MAX, unit="bit/s"),
    "pacing_timer_us": Limit("the pacing timer", 0, 1 << 31, unit="microseconds"),
    "server_cpu": Limit("the server's processor", 0, 1024, ErrorNumber.AFFINITY),
    "messages_per_s": Limit("the rate of messages", 0, 10_000, unit="messages per second"),
}
"""Field of `Plan` -> its range. A field that is None is not checked."""


MOST_MESSAGES = 2_000_000
"""Messages of a test. The client keeps 16 bytes of each, the server nothing."""
SHORTEST_MESSAGE, LONGEST_MESSAGE = 16, 65_507
"""Bytes of a message: its header, and the longest datagram."""


def _check_messages(plan: Plan, transport: Transport) -> None:
    """Raise `PlanError` unless a message test of this plan is possible."""
    if not transport.both_ways:
        raise PlanError(f"{transport.name} cannot carry messages and their echoes on one stream")
    if plan.direction is not Direction.FORWARD or plan.parallel != 1 or plan.omit_us or plan.rate_bps:
        raise PlanError("a message test has one stream, from the client, without -O, -P and -b")
    if plan.ends_by is not EndCondition.TIME:
        raise PlanError("a message test ends after a time (-t)", ErrorNumber.DURATION)
    if plan.message_count > MOST_MESSAGES:
        text = f"a message test has at most {MOST_MESSAGES:,} messages, not {plan.message_count:,}"
        raise PlanError(f"{text}: choose a lower rate or a shorter time")
    allowed = Limit("the size of a message", SHORTEST_MESSAGE, LONGEST_MESSAGE, unit="bytes")
    allowed.check(plan.block_bytes)


def check_plan(plan: Plan, transport: Transport) -> None:
    """Raise `PlanError`, with iperf3's number for the reason, unless every value of the plan is allowed."""
    for field, limit in LIMITS.items():
        value = getattr(plan, field)
        if value is not None:
            limit.check(value)
    if plan.messages_per_s:
        _check_messages(plan, transport)
    low, high = transport.block_limits
    if not low <= plan.block_bytes <= high:
        i_errno = ErrorNumber.DATAGRAM_SIZE if transport.datagrams else ErrorNumber.BLOCK_LENGTH
        allowed = f"{between(exact_size(low), exact_size(high))}, not {plan.block_bytes}"
        raise PlanError(f"a block of {transport.name} must have {allowed}", i_errno)
