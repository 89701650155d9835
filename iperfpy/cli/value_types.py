"""What a flag is, and what its values may be.

Values are parsed here and ranges are checked here, so that whoever reads the result can trust it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.units import parse_duration_us, parse_rate, parse_rate_and_burst, parse_size

SECOND_US = 1_000_000
LONGEST_US = 86_400 * SECOND_US
LONGEST_OMIT_US = 600 * SECOND_US
SHORTEST_INTERVAL_US, LONGEST_INTERVAL_US = 100_000, 60 * SECOND_US
LARGEST_BLOCK = 1 << 20
MOST_STREAMS = 128
MOST_BURST = 1000

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    ParamType = click.ParamType[Any]
else:  # generic only since click 8.5
    ParamType = click.ParamType


class Parsed(ParamType):
    """A click type made of a function that raises `SettingsError`. `choices`: what a shell may propose."""

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

    `role`: "client" or "server" when only that one has it. `rare`: the short help only names it.
    `transports`: those whose setting it is.
    """

    def __init__(
        self,
        heading: str,
        names: Sequence[str],
        help: str,
        *,
        role: str = "",
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

    def parse(text: str) -> int:
        digits = text.strip()
        sign, digits = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
            raise SettingsError(f"{text!r} is not {what}: expected a whole number from {low} to {high}")
        if not low <= int(sign + digits) <= high:
            raise SettingsError(f"{what} must be from {low} to {high}, not {text}")
        return int(digits)

    return parse


def duration(what: str, low_us: int, high_us: int, zero: bool = True) -> Callable[[str], int]:
    """A parser for durations in microseconds; `zero` allows 0 below `low_us`."""

    def parse(text: str) -> int:
        value = parse_duration_us(text)
        if (value == 0 and zero) or (low_us <= value <= high_us and value):
            return value
        low, high = low_us / SECOND_US, high_us / SECOND_US
        raise SettingsError(f"{what} must be from {low:g} to {high:g} seconds, not {text}")

    return parse


def size(what: str, low: int, high: int) -> Callable[[str], int]:
    """A parser for sizes in bytes."""

    def parse(text: str) -> int:
        value = parse_size(text)
        if not low <= value <= high:
            raise SettingsError(f"{what} must be from {low} to {high} bytes, not {text}")
        return value

    return parse


def rate_and_burst(text: str) -> tuple[int, int]:
    """iperf3's `rate[/burst]`, the burst at most 1000 blocks."""
    rate, burst = parse_rate_and_burst(text)
    if burst > MOST_BURST:
        raise SettingsError(f"a burst must be from 1 to {MOST_BURST} blocks, not {burst}")
    return rate, burst


def one_of(what: str, choices: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
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


def transport_name(known: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in known:
            raise SettingsError(f"unknown transport {text!r} (known: {', '.join(known)})")
        return text

    return parse


def cpu(text: str) -> int:
    """The number of a processor."""
    return integer("a processor", 0, 1024)(text)


def affinity(text: str) -> tuple[int | None, int | None]:
    """iperf3's `n`, `n,m` or `,m`: where this end, and where the server, is to run."""
    here, comma, there = text.partition(",")
    if not here and not there:
        raise SettingsError(f"{text!r} is not an affinity: expected N, or N,M with M for the server")
    return cpu(here) if here else None, cpu(there) if comma and there else None


def type_of_service(text: str) -> int:
    """iperf3's -S: 0 to 255, in C's notation (52, 064, 0x34)."""
    return _c_integer(text, "a type of service", 255)


def flow_label(text: str) -> int:
    """The flow label of an IPv6 header: 20 bits, in C's notation."""
    label = _c_integer(text, "a flow label", 0xFFFFF)
    if not label:
        raise SettingsError("a flow label must be from 1 to 1048575, not 0")
    return label


def dscp(text: str) -> int:
    """The type of service whose upper six bits are this code point: 0 to 63 in C's notation, or a name of
    RFC 2474, 2597, 3246 or 5865, or one of RFC 1349."""
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
"""The names that `dscp` knows, of those in use."""
_CODE_POINTS = {"ef": 0xB8, "va": 0xB0, "lowdelay": 0x10, "throughput": 0x08, "reliability": 0x04}


def _c_integer(text: str, what: str, high: int) -> int:
    """A whole number as C writes it: 52, 064, 0x34."""
    digits = text.strip().lower()
    octal = len(digits) > 1 and digits.startswith("0") and digits.isdigit()
    try:
        value = int("0o" + digits[1:] if octal else digits, 0)
    except ValueError:
        raise SettingsError(f"{text!r} is not {what}: expected a number from 0 to {high}") from None
    if not 0 <= value <= high:
        raise SettingsError(f"{what} must be from 0 to {high}, not {text}")
    return value


def rate(text: str) -> int:
    """Bits per second."""
    return parse_rate(text)


def rate_and_seconds(text: str) -> tuple[int, int]:
    """iperf3's `rate[/seconds]`: (bit/s, seconds over which they are averaged), 5 when not said."""
    value, slash, seconds = text.partition("/")
    return parse_rate(value), integer("the seconds of an average", 1, 1000)(seconds) if slash else 5


def keepalive(text: str) -> tuple[int, int, int]:
    """iperf3's `idle/interval/count`; what is left out or 0 stays as the system has it."""
    parts = text.split("/")
    if len(parts) > 3:
        raise SettingsError(f"{text!r} is not idle/interval/count")
    number = integer("a part of idle/interval/count", 0, 32767)
    idle, interval, count = (number(part) if part else 0 for part in [*parts, "", ""][:3])
    return idle, interval, count
