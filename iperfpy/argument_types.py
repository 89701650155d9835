"""The types of arguments, by the annotations of the call that takes them.

A value of another type would pass through the plan and the options, and be an exception far from the call:
so each entrance of the Python interface calls `checked`, and goes on with what it returns.
"""

from __future__ import annotations

import dataclasses
import functools
import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from iperfpy.errors import PlanError
from iperfpy.protocols.annotations import fits

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")

SECRETS = "secrets"
"""The argument whose value is in no sentence."""
MOST_SHOWN = 60
"""Characters of a value that a sentence quotes."""


def checked(arguments: Mapping[str, Any], declared: type) -> dict[str, Any]:
    """The arguments, checked against the annotations of a class that has them all.

    Numbers of other libraries become those of Python, which JSON and the system take; True is not a number.
    Raises `PlanError`.
    """
    hints = _hints(declared)
    for name, value in arguments.items():
        if not fits(value, hints[name], _is_number):
            given = f"this {type(value).__name__}" if name == SECRETS else shown(value)
            raise PlanError(f"{name} must be {_words(hints[name])}, not {given}")
    return {name: _plain(value) for name, value in arguments.items()}


def checked_record(record: R) -> R:
    """A ready plan or ready options, with fields of the declared types. Raises `PlanError`."""
    fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    plain = checked(fields, type(record))
    changed = {name: value for name, value in plain.items() if value is not fields[name]}
    return dataclasses.replace(record, **changed) if changed else record


_hints = functools.cache(get_type_hints)


def _is_number(value: object, kind: type) -> bool:
    # Numbers of other libraries, such as numpy's, count as well.
    number = numbers.Integral if kind is int else numbers.Real
    return isinstance(value, number) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """The value with Python's own numbers."""
    if isinstance(value, numbers.Real) and not isinstance(value, (bool, int, float)):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return list(map(_plain, value)) if isinstance(value, list) else value


_WORDS: Mapping[Any, tuple[str, str]] = {
    bool: ("True or False", "True or False"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    bytes: ("bytes", "bytes"),
    NoneType: ("None", "None"),
}
"""Type -> words for a value of it, and for several."""


def _words(hint: Any, *, several: bool = False) -> str:
    """The words for a value of an annotated type, or for several."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_words(one, several=several) for one in parts)
    if origin is Sequence:
        return f"a list of {_words(parts[0], several=True)}"
    if origin is Mapping:
        return f"a mapping from texts to {_WORDS[parts[1]][1]}" if parts[1] in _WORDS else "a mapping"
    if origin is tuple:
        return f"a tuple of {len(parts)} {_words(parts[0], several=True)}"
    if origin is Callable:
        return "a function"
    if origin is os.PathLike:
        return "a path"
    return _WORDS[hint][several] if hint in _WORDS else str(hint.__name__)


def shown(value: object) -> str:
    """The value as a sentence quotes it."""
    try:
        text = repr(value)
    except Exception:  # a class with a fault of its own, or a number with thousands of digits
        text = f"this {type(value).__name__}"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
