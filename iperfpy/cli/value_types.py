"""The type of an option, and the parsers of values.

A parser turns text into a value of the right type, unit and range, or raises `SettingsError`. Ranges of a
test come from `plan_limits`, the table by which both ends check a plan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from iperfpy.control.option_limits import CLIENT_LIMITS, KEEPALIVE, SERVER_LIMITS
from iperfpy.control.plan_limits import LIMITS, Limit
from iperfpy.plan import Role
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.registry import unknown_transport
from iperfpy.protocols.units import (
    SECOND_US,
    between,
    exact_size,
    parse_duration_us,
    parse_rate,
    parse_rate_and_burst,
    parse_size,
)

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    ParamType = click.ParamType[Any]
else:  # generic only since click 8.5
    ParamType = click.ParamType


class Parsed(ParamType):
    """A click type made of a parser. `choices` are the words that a shell proposes."""

    def __init__(self, name: str, parse: Callable[[str], object], choices: Sequence[str] = ()) -> None:
        self.name = name
        self._parse = parse
        self._choices = choices

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        if self.name.strip("[]") == "FILE":
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(choice) for choice in self._choices if choice.startswith(incomplete)]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except SettingsError as error:
            self.fail(str(error), param, ctx)


class Flag(click.Option):
    """An option with the heading under which the help lists it.

    Parameters
    ----------
    role : the only role that has the option; None: both have it
    rare : True if the short help only names it
    transports : the names of the transports that have it as a setting
    """

    def __init__(
        self,
        heading: str,
        names: Sequence[str],
        help: str,
        *,
        role: Role | None = None,
        rare: bool = False,
        transports: Sequence[str] = (),
        **attributes: Any,
    ) -> None:
        super().__init__(list(names), help=help, **attributes)
        self.heading = heading
        self.role = role
        self.rare = rare
        self.transports = tuple(transports)


def integer(what: str, low: int, high: int) -> Callable[[str], int]:
    """A parser for whole numbers from `low` to `high`."""
    noun = f"a value of {what}" if what.startswith("-") else what

    def parse(text: str) -> int:
        digits = text.strip()
        sign, digits = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
            raise SettingsError(f"{text!r} is not {noun}: expected a whole number from {low} to {high}")
        if not low <= int(sign + digits) <= high:
            raise SettingsError(f"{what} must be between {low} and {high}, not {text}")
        return int(digits)

    return parse


def milliseconds(limit: Limit) -> Callable[[str], int]:
    """A parser for whole milliseconds within the limit of a time in microseconds."""
    return integer("a timeout in milliseconds", *limit.range(SECOND_US // 1000))


def whole_seconds(limit: Limit) -> Callable[[str], int]:
    """A parser for whole seconds, at least 1, within the limit of a time in microseconds."""
    low, high = limit.range(SECOND_US)
    return integer("a time", max(1, low), high)


def duration(what: str, low_us: int, high_us: int, zero: bool = True) -> Callable[[str], int]:
    """A parser for durations, giving microseconds. `zero`: 0 is allowed although it is below `low_us`."""

    def parse(text: str) -> int:
        value = parse_duration_us(text)
        if (value == 0 and zero) or (low_us <= value <= high_us and value):
            return value
        low, high = low_us / SECOND_US, high_us / SECOND_US
        raise SettingsError(f"{what} must be between {low:g} and {high:g} seconds, not {text}")

    return parse


def size(what: str, low: int, high: int, unit: str = "bytes") -> Callable[[str], int]:
    """A parser for numbers with iperf3's 1024-based suffixes; `unit` names their unit in errors."""

    def parse(text: str) -> int:
        try:
            value = parse_size(text)
        except SettingsError:
            if unit == "bytes":
                raise
            raise SettingsError(f"{text!r} is not a number of {unit}") from None
        if not low <= value <= high:
            allowed = f"between {low} and {high} {unit}"
            if unit == "bytes":
                allowed = between(exact_size(low), exact_size(high))
            raise SettingsError(f"{what} must be {allowed}, not {text}")
        return value

    return parse


def or_zero(default: int, parse: Callable[[str], int]) -> Callable[[str], int]:
    """A parser that takes 0 for the default, as iperf3 does: programs that call it pass 0 for "not set"."""

    def parse_or_default(text: str) -> int:
        digits = text.strip()
        return default if digits and not digits.strip("0") else parse(text)

    return parse_or_default


def rate_and_burst(text: str) -> tuple[int, int]:
    """iperf3's `rate[/burst]`, the burst at most 1000 blocks."""
    rate, burst = parse_rate_and_burst(text)
    longest = LIMITS["burst_blocks"].maximum
    if burst > longest:
        raise SettingsError(f"a burst must be between 1 and {longest} blocks, not {burst}")
    return rate, burst


def one_of(what: str, choices: Sequence[str]) -> Callable[[str], str]:
    """A parser for one of a few words."""

    def parse(text: str) -> str:
        if text not in tuple(choices):  # a text of letters would have all its parts
            raise SettingsError(f"{text!r} is not {what}: expected one of {', '.join(choices)}")
        return text

    return parse


def named(what: str) -> Callable[[str], str]:
    """A parser for names that must not be empty (hosts, addresses)."""

    def parse(text: str) -> str:
        if not text.strip():
            raise SettingsError(f"{what} must not be empty")
        return text.strip()

    return parse


UNNAMED = "\0"
"""Stands for a value that was left out, as in `--csv` alone: no word of a command line has this character."""


def file_or_none(text: str) -> str:
    """The name of a file, empty for `UNNAMED`."""
    return "" if text == UNNAMED else named("a file name")(text)


def known_transport(known: Sequence[str], unusable: Mapping[str, str]) -> Callable[[str], str]:
    """A parser for the name of a transport. `unusable`: name -> the error for a user's choice of it."""

    def parse(text: str) -> str:
        if text in unusable:
            raise SettingsError(unusable[text])
        if text not in known:
            raise unknown_transport(text, known)
        return text

    return parse


def cpu(text: str) -> int:
    """The number of a processor."""
    return integer("a processor", 0, LIMITS["server_cpu"].maximum)(text)


def affinity(text: str) -> tuple[int | None, int | None]:
    """iperf3's `n`, `n,m` or `,m`: the processors of this end and of the server, None if not named."""
    here, comma, there = text.partition(",")
    if not here and not there:
        raise SettingsError(f"{text!r} is not an affinity: expected N, or N,M with M for the server")
    return cpu(here) if here else None, cpu(there) if comma and there else None


def type_of_service(text: str) -> int:
    """iperf3's -S: 0 to 255, in C's notation (52, 064, 0x34)."""
    return _c_integer(text, "a type of service", LIMITS["tos"].maximum)


def flow_label(text: str) -> int:
    """The flow label of an IPv6 header: 20 bits, in C's notation."""
    low, high = CLIENT_LIMITS["flow_label"].range()
    label = _c_integer(text, "a flow label", high)
    if label < low:
        raise SettingsError(f"a flow label must be between {low} and {high}, not {label}")
    return label


def dscp(text: str) -> int:
    """The type of service with a code point as its upper six bits.

    The code point is a number from 0 to 63 in C's notation, or a name of RFC 2474, 2597, 3246 or 5865; the
    names of RFC 1349 stand for a whole type of service.
    """
    name = text.strip().lower()
    if found := re.fullmatch(r"af([1-4])([1-3])", name):
        return int(found[1]) << 5 | int(found[2]) << 3
    if found := re.fullmatch(r"cs([0-7])", name):
        return int(found[1]) << 5
    if name in _CODE_POINTS:
        return _CODE_POINTS[name]
    return _c_integer(text, "a code point (such as ef, af41, cs1)", 63) << 2


CODE_POINTS = (
    *("ef", "va", *(f"cs{upper}" for upper in range(8))),
    *(f"af{upper}{lower}" for upper in range(1, 5) for lower in range(1, 4)),
)
"""The names that a shell proposes for --dscp; `dscp` knows the obsolete ones of RFC 1349 as well."""
_C_INTEGER = re.compile(r"(?P<hex>0x[0-9a-f]{1,16})|(?P<octal>0[0-7]{1,18})|0|[1-9][0-9]{0,17}")
_CODE_POINTS = {"ef": 0xB8, "va": 0xB0, "lowdelay": 0x10, "throughput": 0x08, "reliability": 0x04}


def _c_integer(text: str, what: str, high: int) -> int:
    """A whole number as C writes it: 52, 064, 0x34."""
    found = _C_INTEGER.fullmatch(text.strip().lower())
    if found is None:
        raise SettingsError(f"{text!r} is not {what}: expected a number from 0 to {high}")
    value = int(found[0], 16 if found["hex"] else 8 if found["octal"] else 10)
    if value > high:
        raise SettingsError(f"{what} must be between 0 and {high}, not {text}")
    return value


def rate(text: str) -> int:
    """Bits per second."""
    return parse_rate(text)


def rate_and_seconds(text: str) -> tuple[int, int]:
    """iperf3's `rate[/seconds]`: bit/s, and the seconds over which they are averaged (5 by default)."""
    value, slash, seconds = text.partition("/")
    average = integer("the seconds of an average", *SERVER_LIMITS["rate_window_us"].range(SECOND_US))
    return parse_rate(value), average(seconds) if slash else 5


def host_and_device(text: str) -> tuple[str, str]:
    """Split iperf3's `host%dev`. After an IPv6 address, `%dev` is the scope and stays part of the address."""
    host, _, device = text.partition("%")
    return (text, "") if ":" in host else (host, device)


def keepalive(text: str) -> tuple[int, int, int]:
    """iperf3's `idle/interval/count`. A part that is missing or 0 keeps the system's value, as all do with
    `UNNAMED`."""
    parts = [""] if text == UNNAMED else text.split("/")
    if len(parts) > 3 or not text:
        raise SettingsError(f"{text!r} is not idle/interval/count")
    number = integer("a part of idle/interval/count", *KEEPALIVE.range())
    idle, interval, count = (number(part) if part else 0 for part in [*parts, "", ""][:3])
    return idle, interval, count
