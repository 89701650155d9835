"""The check of a transport's declaration: the attributes that the program reads before any test.

The annotations of `Transport` are the rule, so that a new attribute of the contract is checked as well. A
plug-in that fails here is left out; without the check, its first reader would end the program.
"""

from __future__ import annotations

import re
import reprlib
from functools import cache
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from iperfpy.protocols.annotations import fits
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
        if not fits(setting.option, Option, _is_number):
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
    if not fits(value, hint, _is_number):
        raise TypeError(f"`{name}` must be {_words(hint)}, not {reprlib.repr(value)}")


def _check_flag(owner: str, flag: str) -> None:
    if not _FLAG.fullmatch(flag):
        raise ValueError(f"{owner}: {flag!r} is not a flag such as -x or --xyz")


@cache
def _attributes() -> dict[str, Any]:
    """The class attributes of the contract, with their types."""
    hints = get_type_hints(Transport)
    return {name: get_args(hint)[0] for name, hint in hints.items() if get_origin(hint) is ClassVar}


def _is_number(value: object, kind: type) -> bool:
    # Exact comparisons: True is not a number of bytes.
    return type(value) is int or (kind is float and type(value) is float)


def _words(hint: Any) -> str:
    """An annotation as the contract spells it: `tuple[Metric, ...]`."""
    plain = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", plain)
