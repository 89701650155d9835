"""Tests of an experiment at a low rate: loopback would take as much as the processors give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import iperfpy
from iperfpy.options import ClientOptions
from iperfpy.plan import Plan

RATE_BPS = 20_000_000
"""Rate of each test without a rate and without an amount of its own."""


def watch_limited(options: ClientOptions, plan: Plan) -> Any:
    """`iperfpy.watch` with a rate for plans that have none. A test of an amount is as fast as it can be."""
    unlimited = not (plan.rate_bps or plan.total_bytes or plan.total_blocks or plan.messages_per_s)
    return iperfpy.watch(options, replace(plan, rate_bps=RATE_BPS) if unlimited else plan)
