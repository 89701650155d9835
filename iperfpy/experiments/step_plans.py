"""From a step of the schedule to the plan of a test, by what is known of the path so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from iperfpy.diagnosis import ladder
from iperfpy.experiments.check_schedule import CheckStep, StepPart
from iperfpy.experiments.measured_path import MeasuredPath
from iperfpy.experiments.serial_tests import SHORTEST_S
from iperfpy.options import ClientOptions
from iperfpy.plan import WAYS, Direction, Plan
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.registry import transport as transport_named
from iperfpy.protocols.settings import Settings

INTERVAL_US = 100_000
"""Report interval of each test: the shortest one."""
IDLE_BPS, IDLE_BLOCK_BYTES = 16_000.0, 200
"""Load of the idle path, which fills no queue."""
CONTROL: dict[str, Any] = {"congestion": "bbr"}
"""Setting of a transport that has a choice of congestion control: the kind that KCP's transport has."""
IDLE_ECHOES: dict[str, Any] = {"echoes": 200}
LOADED_ECHOES: dict[str, Any] = {"echoes": 20}
"""Settings of UDP: frequent echoes on the idle path tell lumps from jitter; those under load change none."""
USUAL_SHARE = 0.95
"""Payload in a full packet of any transport, while none was measured."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A test that can be run, or the reason why not.

    Parameters
    ----------
    plan, options : arguments of `watch`
    skipped : phrase for the things that were not checked; empty: run the test
    remark : phrase about a part of the step that is left out
    """

    plan: Plan
    options: ClientOptions
    skipped: str = ""
    remark: str = ""


def prepared(
    step: CheckStep,
    path: MeasuredPath,
    capacities: Mapping[Direction, float],
    options: ClientOptions,
    tos: int,
) -> Prepared:
    """The test of a step.

    Parameters
    ----------
    capacities : IP bits per second of each direction, for the rungs
    tos : type-of-service byte of the data
    """
    transport = transport_named(step.transport)
    settings, remark = _settings(step)
    rate_bps = _rate_bps(step, path, capacities)
    block_bytes = _block_bytes(step, path, settings, capacities.get(step.direction, 0.0))
    share = path.payload_share(step.transport) or USUAL_SHARE
    if transport.datagrams:
        share = block_bytes / (block_bytes + path.header_bytes)
    seconds = step.seconds
    if rate_bps and step.limit_bytes:
        seconds = min(seconds, step.limit_bytes * 8 / rate_bps)
    plan = Plan(
        transport.name,
        settings,
        step.direction,
        duration_us=max(1, round(seconds * 1e6)),
        block_bytes=block_bytes,
        fits_path=True,
        rate_bps=max(1, round(rate_bps * share)) if rate_bps else 0,
        interval_us=INTERVAL_US,
        tos=tos,
    )
    name = f"{step.transport} {WAYS[step.direction]}"
    if rate_bps is None:
        return Prepared(plan, options, f"{name} (no rate to go by)")
    if seconds < min(step.seconds, SHORTEST_S):
        return Prepared(plan, options, f"{name} (the budget of bytes)")
    if not rate_bps and step.limit_bytes:
        # An amount ends the test, and the client ends it after the planned time.
        amount = max(1, round(step.limit_bytes * share))
        options = replace(options, longest_us=plan.duration_us)
        plan = replace(plan, duration_us=0, total_bytes=amount)
    return Prepared(plan, options, remark=remark)


def _settings(step: CheckStep) -> tuple[Settings, str]:
    """The settings of the transport, and a remark if this machine cannot have the wanted ones."""
    transport = transport_named(step.transport)
    if transport.datagrams:
        return transport.settings(**(IDLE_ECHOES if step.part is StepPart.IDLE else LOADED_ECHOES)), ""
    if transport.variant not in CONTROL or step.part is StepPart.IDLE:
        return transport.settings(), ""
    chosen = transport.settings(**CONTROL)
    try:
        transport.check(chosen, sends=step.direction is Direction.FORWARD)
    except SettingsError as error:
        return transport.settings(), f"{step.transport} with {CONTROL['congestion']} ({error})"
    return chosen, ""


def _block_bytes(step: CheckStep, path: MeasuredPath, settings: Settings, capacity_bps: float) -> int:
    """Short datagrams on the idle path, which any path carries; later ones as long as KCP found to pass, and
    shorter where a rung would have too few."""
    transport = transport_named(step.transport)
    usual = transport.block_bytes(settings)
    if not transport.datagrams:
        return usual
    if step.part is StepPart.IDLE:
        return IDLE_BLOCK_BYTES
    longest = min(usual, path.datagram_bytes() or usual)
    if not capacity_bps:
        return longest
    return ladder.packet_bytes(capacity_bps, longest + path.header_bytes) - path.header_bytes


def _rate_bps(step: CheckStep, path: MeasuredPath, capacities: Mapping[Direction, float]) -> float | None:
    """IP bits per second of a step, 0: as fast as it goes; None: there is nothing to go by."""
    if step.part is StepPart.BULK:
        return 0.0
    if step.part is StepPart.IDLE:
        return IDLE_BPS
    basis = capacities.get(step.direction)
    if step.part is StepPart.UDP:
        basis = path.round_bps(step.direction, step.round) or basis
    return basis * step.share if basis else None
