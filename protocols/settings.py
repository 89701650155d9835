"""One frozen dataclass per transport gives its flags, its wire form and its record.

A transport writes

    @dataclass(frozen=True, slots=True)
    class KcpSettings(Settings):
        mtu: int = option(1400, help="UDP payload bytes per datagram", minimum=64, maximum=9000)

The command line then has `--kcp-mtu`, the peer receives `{"mtu": 1400}`, and the report records the same
mapping. `setting_fields(KcpSettings)` lists the fields with their resolved types.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Self

from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.units import (
    between,
    exact_size,
    parse_duration_ms,
    parse_duration_us,
    parse_rate,
    parse_size,
)

Unit = Literal["", "bytes", "bits_per_second", "microseconds", "milliseconds", "segments"]


@dataclass(frozen=True, slots=True)
class Option:
    """Presentation and limits of one field of a `Settings`.

    `flags` replaces the generated `--<prefix>-<field>`; `aliases` are accepted beside it but
    not shown. `metavar` stands for the value in the help; without it, the type, the unit and the choices tell
    the word. `wire` is the field's key in the parameters sent to the peer (its name when
    empty); `wire_as_number` sends a boolean as 1, as iperf3 does for some of its flags.
    `unit` "bytes" accepts 1024-based suffixes, "bits_per_second" 1000-based ones.
    `at_server`: a server takes the flag as well, although it needs none. `hidden`: the help does not show the
    flag, which is another spelling of one that it shows. `left_out`: values of the same option of another
    program that are no choices here; `left_out_because` is the reason.
    """

    help: str
    flags: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    unit: Unit = ""
    wire: str = ""
    wire_as_number: bool = False
    at_server: bool = False
    hidden: bool = False
    metavar: str = ""
    left_out: tuple[str, ...] = ()
    left_out_because: str = ""


def option(
    default: Any,
    *,
    help: str,
    flags: Sequence[str] = (),
    aliases: Sequence[str] = (),
    minimum: int | None = None,
    maximum: int | None = None,
    choices: Sequence[str] = (),
    unit: Unit = "",
    wire: str = "",
    wire_as_number: bool = False,
    at_server: bool = False,
    hidden: bool = False,
    metavar: str = "",
    left_out: Sequence[str] = (),
    left_out_because: str = "",
) -> Any:
    """Declare a dataclass field that is also a flag. `default` None means "not set, the other end or
    the kernel decides"; the field's type then is `int | None` or `str | None`."""
    declared = Option(
        help,
        tuple(flags),
        tuple(aliases),
        minimum,
        maximum,
        tuple(choices),
        unit,
        wire,
        wire_as_number,
        at_server,
        hidden,
        metavar,
        tuple(left_out),
        left_out_because,
    )
    return dataclasses.field(default=default, metadata={"option": declared})


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a `Settings` class with its type resolved: `kind` is bool, int or str."""

    name: str
    kind: type
    default: object
    option: Option

    @property
    def wire_key(self) -> str:
        """The field's key in the parameters sent to the peer."""
        return self.option.wire or self.name

    @property
    def zero_is_unset(self) -> bool:
        """True if 0 stands for "not set", as in iperf3: the field may be unset, and its minimum is not 0."""
        return self.kind is int and self.default is None and (self.option.minimum or 0) > 0

    def flags(self, prefix: str) -> tuple[str, ...]:
        """The flags shown for the field: its own, or `--<prefix>-<name>`."""
        return self.option.flags or (f"--{prefix}-{self.name.replace('_', '-')}",)

    def spellings(self, prefix: str) -> frozenset[str]:
        """Words that name the field in `KEY=VALUE`: its name, its flags and aliases without dashes."""
        flags = (*self.flags(prefix), *self.option.aliases)
        return frozenset((self.name, *(flag.lstrip("-") for flag in flags)))

    def parsed(self, text: str) -> object:
        """The value that a user's text means, in the field's type and unit. It is not checked yet.

        Raises
        ------
        SettingsError
            When the text is not a value of that type.
        """
        if self.kind is str:
            return text
        if self.kind is bool:
            if text.lower() not in _BOOLEANS:
                raise SettingsError(f"{text!r} is neither on nor off")
            return _BOOLEANS[text.lower()]
        unit = self.option.unit
        if unit == "bytes":
            return parse_size(text)
        if unit == "bits_per_second":
            return parse_rate(text)
        digits = text.strip()
        # A bare number has the field's own unit; only a duration may name another one (`1s`).
        if digits.removeprefix("-").isascii() and digits.removeprefix("-").isdigit() and len(digits) < 20:
            return int(digits)
        if unit == "microseconds":
            return parse_duration_us(text)
        if unit == "milliseconds":
            return parse_duration_ms(text)
        raise SettingsError(f"{text!r} is not a whole number")

    def check(self, value: object) -> None:
        """Raise `SettingsError` unless `value` fits the field's type, range and choices."""
        if value is None and self.default is None:
            return
        # An exact comparison: bool is a subclass of int, and True is no window.
        if type(value) is not self.kind:
            raise SettingsError(f"{self.name}: expected {self.kind.__name__}, got {value!r}")
        low, high, choices = self.option.minimum, self.option.maximum, self.option.choices
        if isinstance(value, int) and self.kind is int:
            if (low is not None and value < low) or (high is not None and value > high):
                shown = exact_size if self.option.unit == "bytes" else str
                raise SettingsError(f"{self.name} must be {_range(low, high, shown)}, not {shown(value)}")
        elif choices and value not in choices:
            left_out = self.option.left_out
            reason = f"; {', '.join(left_out)} {self.option.left_out_because}" if value in left_out else ""
            raise SettingsError(f"{self.name} must be one of {', '.join(choices)}, not {value!r}{reason}")

    def to_wire(self, value: object) -> object:
        """The JSON value for the peer."""
        return int(bool(value)) if self.option.wire_as_number else value

    def from_wire(self, received: object) -> object:
        """The value for a JSON value from the peer, not checked yet."""
        if self.option.wire_as_number and received in (0, 1):
            return bool(received)
        if self.zero_is_unset and type(received) is int and received == 0:
            return None
        return received


_BOOLEANS = {"on": True, "true": True, "yes": True, "1": True}
_BOOLEANS |= {"off": False, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class Settings:
    """Base of every transport's settings. Fields are bool, int or str, or those or None.

    Raises
    ------
    SettingsError
        On construction, when a value is of the wrong type or out of range.
    """

    def __post_init__(self) -> None:
        for setting in setting_fields(type(self)):
            setting.check(getattr(self, setting.name))

    def to_wire(self) -> dict[str, Any]:
        """The fields that differ from their defaults, by wire key: JSON values only."""
        return {
            setting.wire_key: setting.to_wire(value)
            for setting in setting_fields(type(self))
            if (value := getattr(self, setting.name)) != setting.default
        }

    @classmethod
    def from_wire(cls, received: Mapping[str, Any]) -> Self:
        """Settings from the parameters of a peer. Unknown keys are ignored, known ones are checked.

        Raises
        ------
        SettingsError
            When a value has the wrong type or is out of range.
        """
        known = {setting.wire_key: setting for setting in setting_fields(cls)}
        present = [(known[key], value) for key, value in received.items() if key in known]
        return cls(**{setting.name: setting.from_wire(value) for setting, value in present})

    def record(self) -> dict[str, Any]:
        """Every field by name, for reports."""
        return {setting.name: getattr(self, setting.name) for setting in setting_fields(type(self))}

    def by_flag(self, prefix: str) -> dict[str, str]:
        """The values for people, under the long spellings of their flags; empty for a flag without a value.
        A value that is not set, and a flag that is off as it is by default, are left out."""
        found: dict[str, str] = {}
        for setting in setting_fields(type(self)):
            value, flag = getattr(self, setting.name), max(setting.flags(prefix), key=len)
            if value is True:
                found[flag] = ""
            elif value is False and setting.default is True:
                found[f"--no-{flag.lstrip('-')}"] = ""
            elif value is not None and value is not False:
                found[flag] = str(value)
        return found

    def check_file(self) -> None:
        """Raise `SettingsError` if these settings exclude a file (-F) as payload."""
        return


def setting_fields(owner: type[Settings]) -> tuple[Setting, ...]:
    """The fields of a `Settings` class in order of declaration.

    Raises
    ------
    TypeError
        When an annotation is not bool, int or str (or one of those or None, or a `Literal` of them), or a
        field is not declared by `option`.
    """
    return _resolved(owner)  # type: ignore[arg-type]  # mypy takes the instances' __hash__ for the class's


@cache
def _resolved(owner: Any) -> tuple[Setting, ...]:
    """`setting_fields`, computed once per class."""
    hints, fields = typing.get_type_hints(owner), dataclasses.fields(owner)
    undeclared = next((field.name for field in fields if "option" not in field.metadata), "")
    if undeclared:
        raise TypeError(f"a setting must be declared by option(): {undeclared}")
    kinds = [_kind(field.name, hints[field.name]) for field in fields]
    return tuple(
        Setting(field.name, kind, field.default, field.metadata["option"])
        for field, kind in zip(fields, kinds, strict=True)
    )


def _kind(name: str, annotation: object) -> type:
    """bool, int or str: the type of the field's values when they are set."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = {_kind(name, part) for part in typing.get_args(annotation) if part is not types.NoneType}
    elif typing.get_origin(annotation) is Literal:
        parts = {type(value) for value in typing.get_args(annotation) if value is not None}
    else:
        parts = {annotation} if isinstance(annotation, type) else set()
    if len(parts) != 1 or not parts <= {bool, int, str}:
        raise TypeError(f"a setting must be bool, int or str: {name}: {annotation}")
    return parts.pop()


def _range(low: int | None, high: int | None, shown: Callable[[int], str]) -> str:
    least, most = (None if one is None else shown(one) for one in (low, high))
    if least is not None and most is not None:
        return between(least, most)
    return f"at most {most}" if least is None else f"at least {least}"
