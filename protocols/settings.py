"""One frozen dataclass per transport is its flags, its wire form and its record.

A transport writes

    @dataclass(frozen=True, slots=True)
    class KcpSettings(Settings):
        mtu: int = option(1400, help="UDP payload bytes per datagram", minimum=64, maximum=9000)

and the command line gets `--kcp-mtu` (flag names are made by `flags_of`), the peer gets
`{"mtu": 1400}`, and the report records the same mapping.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, cast

from iperfpy.protocols.errors import SettingsError

Unit = Literal["", "bytes", "bits_per_second", "microseconds", "milliseconds", "segments"]


@dataclass(frozen=True, slots=True)
class Option:
    """How one field of a `Settings` is shown to a person and checked.

    `flags` replaces the generated `--<prefix>-<field>`; `aliases` are accepted beside it but
    not shown. `wire` is the field's key in the parameters sent to the peer (its name when
    empty). `unit` "bytes" accepts 1024-based suffixes, "bits_per_second" 1000-based ones.
    """

    help: str
    flags: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    unit: Unit = ""
    wire: str = ""


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
) -> Any:
    """A dataclass field that is also a flag. `default` None means "not set, the other end or the
    kernel decides"; the field's type then is `int | None` or `str | None`."""
    described = Option(help, tuple(flags), tuple(aliases), minimum, maximum, tuple(choices), unit, wire)
    return dataclasses.field(default=default, metadata={"option": described})


@dataclass(frozen=True, slots=True)
class Settings:
    """Base of every transport's settings. Fields are bool, int or str, or those or None.

    Raises
    ------
    SettingsError
        On construction, when a value is of the wrong type or out of range.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check_value(field, getattr(self, field.name))

    def to_wire(self) -> dict[str, Any]:
        """The fields that differ from their defaults, by wire key: JSON values only."""
        return {
            described(field).wire or field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }

    @classmethod
    def from_wire(cls, received: Mapping[str, Any]) -> Self:
        """Settings from what a peer sent. Unknown keys are ignored, known ones are checked.

        Raises
        ------
        SettingsError
            When a value has the wrong type or is out of range.
        """
        known = {described(field).wire or field.name: field.name for field in dataclasses.fields(cls)}
        return cls(**{known[key]: value for key, value in received.items() if key in known})

    def record(self) -> dict[str, Any]:
        """Every field by name, for reports."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def described(field: dataclasses.Field[Any]) -> Option:
    """The `Option` that a field was declared with."""
    return cast(Option, field.metadata["option"])


def value_type(field: dataclasses.Field[Any]) -> type:
    """bool, int or str: the type that a field's values have when they are set."""
    for kind in (bool, int, str):
        if kind.__name__ in str(field.type):
            return kind
    raise TypeError(f"a setting must be bool, int or str: {field.name}: {field.type}")


def check_value(field: dataclasses.Field[Any], value: object) -> None:
    """Raise `SettingsError` unless `value` fits the field's type, range and choices."""
    if value is None and field.default is None:
        return
    kind, rule = value_type(field), described(field)
    if type(value) is not kind:
        raise SettingsError(f"{field.name}: expected {kind.__name__}, got {value!r}")
    if isinstance(value, int) and not isinstance(value, bool):
        low, high = rule.minimum, rule.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            raise SettingsError(f"{field.name} must be {_range(low, high)}, not {value}")
    if rule.choices and value not in rule.choices:
        raise SettingsError(f"{field.name} must be one of {', '.join(rule.choices)}, not {value!r}")


def _range(low: int | None, high: int | None) -> str:
    if low is not None and high is not None:
        return f"between {low} and {high}"
    return f"at most {high}" if low is None else f"at least {low}"


def flags_of(prefix: str, field: dataclasses.Field[Any]) -> tuple[str, ...]:
    """The flags shown for a field: its own, or `--<prefix>-<name>`."""
    return described(field).flags or (f"--{prefix}-{field.name.replace('_', '-')}",)
