"""The command that repeats a test, from its plan: the flags that differ from their defaults.

The way to the server beyond its name and port (-B, -4, --username ...) is not in a plan, and is left out.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from iperfpy.options import DEFAULT_PORT
from iperfpy.plan import DEFAULT_DURATION_US, UNSIZED_BYTES, Direction, EndCondition, Plan, Role
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.settings import setting_fields
from iperfpy.protocols.units import SECOND_US
from iperfpy.records import RunStarted
from iperfpy.store.stored_transport import StoredTransport

DEFAULT_PACING_TIMER_US = 1000


def repeat_command(start: RunStarted) -> str:
    """The words for a shell; empty for the record of a server, for a test of data from a pipe (-F),
    and for one of messages, which belongs to an experiment."""
    plan = start.plan
    if isinstance(start.transport, StoredTransport):
        return ""  # the flags of a plug-in that is not installed are not known
    if start.role is not Role.CLIENT or plan.total_bytes == UNSIZED_BYTES or plan.messages_per_s:
        return ""
    return shlex.join(["iperfpy", *words_of(start)])


def words_of(start: RunStarted) -> list[str]:
    """The words after the program's name."""
    host, port = start.peer[:2]
    words = ["-c", str(host)]
    if port != DEFAULT_PORT:
        words += ["-p", str(port)]
    return [*words, *_plan_words(start.plan, start.transport), *_setting_words(start.plan, start.transport)]


def contender_word(transport: str, settings: Mapping[str, object], rate_bps: int = 0) -> str:
    """A transport with its settings and rate, as --proto of an experiment takes it: `kcp:sndwnd=512`."""
    parts = [f"{key}={_setting_text(value)}" for key, value in settings.items()]
    return ":".join((transport, *parts, *((f"rate={rate_bps}",) if rate_bps else ())))


def _setting_text(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _plan_words(plan: Plan, transport: Transport) -> Iterator[str]:
    yield from ("--proto", plan.transport)
    if plan.direction is not Direction.FORWARD:
        yield "-R" if plan.direction is Direction.REVERSE else "--bidir"
    if plan.ends_by is EndCondition.AMOUNT:
        yield from ("-n", str(plan.total_bytes)) if plan.total_bytes else ("-k", str(plan.total_blocks))
    elif plan.duration_us != DEFAULT_DURATION_US:
        yield from ("-t", _seconds(plan.duration_us))
    if plan.rate_bps != transport.rate_bps or plan.burst_blocks:
        yield from ("-b", f"{plan.rate_bps}/{plan.burst_blocks}" if plan.burst_blocks else str(plan.rate_bps))
    # A block that the client shortened to fit the path is shortened again.
    if plan.block_bytes != transport.block_bytes(plan.settings) and not plan.fits_path:
        yield from ("-l", str(plan.block_bytes))
    numbers = (
        ("-O", _seconds(plan.omit_us), plan.omit_us, 0),
        ("-P", str(plan.parallel), plan.parallel, 1),
        ("-i", _seconds(plan.interval_us), plan.interval_us, SECOND_US),
        ("-S", str(plan.tos), plan.tos, 0),
        ("--fq-rate", str(plan.fq_rate_bps), plan.fq_rate_bps, 0),
        ("--pacing-timer", str(plan.pacing_timer_us), plan.pacing_timer_us, DEFAULT_PACING_TIMER_US),
        ("-A", f",{plan.server_cpu}", plan.server_cpu, None),
        ("-T", plan.title, plan.title, ""),
        ("--extra-data", plan.extra_data, plan.extra_data, ""),
    )
    for flag, text, value, default in numbers:
        if value != default:
            yield from (flag, text)
    if plan.get_server_output:
        yield "--get-server-output"


def _setting_words(plan: Plan, transport: Transport) -> Iterator[str]:
    """The flags of the transport's settings. A bare number has the unit of its setting."""
    for one in setting_fields(transport.settings):
        value = getattr(plan.settings, one.name)
        if value == one.default:
            continue
        flag = min(one.flags(transport.prefix), key=len)
        if one.kind is bool:
            long = max(one.flags(transport.prefix), key=len)
            yield flag if value else f"--no-{long.lstrip('-')}"
        else:
            yield from (flag, str(value))


def _seconds(us: int) -> str:
    return f"{us / SECOND_US:.6f}".rstrip("0").rstrip(".")
