"""The check of a transport's declaration: the attributes that the program reads before any test.

The annotations of `Transport` are the rule, so that a new attribute of the contract is checked as well. A
plug-in that fails here is left out; without the check, its first reader would end the program.
"""

from __future__ import annotations

import dataclasses
import re
import reprlib
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from iperfpy.protocols.contract import Transport
from iperfpy.protocols.settings import Option, setting_fields

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_FLAG = re.compile(r"--?[A-Za-z0-9][A-Za-z0-9_-]*")


def check_declaration(transport: Transport) -> None:
    """Raise TypeError or ValueError, with one sentence, unless every attribute of the contract has its type,
    and flags can be made of the settings. An error of the transport's own code is raised unchanged."""
    for name, hint in _attributes().items():
        _check(transport, name, hint)
    for name, member in vars(Transport).items():
        if callable(member) and not callable(getattr(transport, name)):
            raise TypeError(f"`{name}` must be a method, not {reprlib.repr(getattr(transport, name))}")
    for name in ("name", "prefix"):
        word = getattr(transport, name)
        if not _WORD.fullmatch(word):
            raise ValueError(f"`{name}` must be letters, digits and dashes, not {word!r}")
    for setting in setting_fields(transport.settings):
        if not _fits(setting.option, Option):
            raise TypeError(f"setting {setting.name!r}: an argument of option() has a wrong type")
        for flag in setting.flags(transport.prefix):
            _check_flag(f"setting {setting.name!r}", flag)
    for flag in transport.flags:
        _check_flag("`flags`", flag)
    transport.settings()  # the defaults are values that the settings allow


def _check(transport: Transport, name: str, hint: Any) -> None:
    try:
        value = getattr(transport, name)
    except AttributeError:
        raise TypeError(f"it does not declare `{name}`") from None
    if not _fits(value, hint):
        raise TypeError(f"`{name}` must be {_words(hint)}, not {reprlib.repr(value)}")


def _check_flag(owner: str, flag: str) -> None:
    if not _FLAG.fullmatch(flag):
        raise ValueError(f"{owner}: {flag!r} is no flag such as -x or --xyz")


@cache
def _attributes() -> dict[str, Any]:
    """The class attributes of the contract, with their types."""
    hints = get_type_hints(Transport)
    return {name: get_args(hint)[0] for name, hint in hints.items() if get_origin(hint) is ClassVar}


@cache
def _fields(owner: Any) -> tuple[tuple[str, Any], ...]:
    """The fields of a dataclass, with their types."""
    hints = get_type_hints(owner)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(owner))


def _fits(value: object, hint: Any) -> bool:
    """True if the value has the type of an annotation, down to the fields of dataclasses."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is Literal:
        return value in arguments
    if origin is type:
        return isinstance(value, type) and issubclass(value, arguments[0])
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1:] == (Ellipsis,):
            return all(_fits(one, arguments[0]) for one in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if hint in (bool, int):  # an exact comparison: True is no number of bytes
        return type(value) is hint
    if hint is float:
        return type(value) in (int, float)
    if not isinstance(value, hint):
        return False
    inner = _fields(hint) if hasattr(hint, "__dataclass_fields__") else ()
    return all(_fits(getattr(value, name), one) for name, one in inner)


def _words(hint: Any) -> str:
    """An annotation as the contract spells it: `tuple[Metric, ...]`."""
    plain = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", plain)
