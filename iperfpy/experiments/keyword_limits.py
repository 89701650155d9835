"""The ranges of what `compare`, `latency` and `diagnose` take, for their flags and for a Python program."""

from __future__ import annotations

from iperfpy.control.option_limits import DAY_US, time_limit
from iperfpy.control.plan_limits import LIMITS, LONGEST_MESSAGE, SHORTEST_MESSAGE, Limit
from iperfpy.protocols.units import SECOND_US

BUDGET_BYTES = Limit("the budget", 5_000_000, 1 << 50, unit="bytes", zero=True)
"""Bytes of IP packets; 0: no limit. The least pays for a test of each kind."""
COMPARISON_US = time_limit("the time of the comparison", 5 * SECOND_US, DAY_US)
SEED = Limit("the seed", 0, (1 << 62) - 1)
MESSAGE_TEST_US = time_limit("the time of a test", 100_000, 3_600 * SECOND_US)
MESSAGE_BYTES = Limit("the size of messages", SHORTEST_MESSAGE, LONGEST_MESSAGE, unit="bytes")
MESSAGE_RATE = Limit("the rate of messages", 1, LIMITS["messages_per_s"].maximum, unit="messages per second")
ROUNDS = Limit("the number of rounds", 1, 1_000)
