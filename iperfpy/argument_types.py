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
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from iperfpy.errors import PlanError

R = TypeVar("R")

SECRETS = "secrets"
"""The argument whose value is in no sentence."""
MOST_SHOWN = 60
"""Characters of a value that a sentence quotes."""


def checked(arguments: Mapping[str, Any], declared: type) -> dict[str, Any]:
    """The arguments, checked against the annotations of a class that has them all.

    Numbers of other libraries become those of Python, which JSON and the system take; True is no number.
    Raises `PlanError`.
    """
    hints = _hints(declared)
    for name, value in arguments.items():
        if not _fits(value, hints[name]):
            given = f"this {type(value).__name__}" if name == SECRETS else shown(value)
            raise PlanError(f"{name} must be {_words(hints[name])}, not {given}")
    return {name: _plain(value) for name, value in arguments.items()}


def checked_record(record: R) -> R:
    """A ready plan or ready options, with fields of the declared types. Raises `PlanError`."""
    fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}  # type: ignore[arg-type]
    plain = checked(fields, type(record))
    changed = {name: value for name, value in plain.items() if value is not fields[name]}
    return dataclasses.replace(record, **changed) if changed else record  # type: ignore[type-var]


_hints = functools.cache(get_type_hints)


def _fits(value: object, hint: Any) -> bool:
    """True if a value has the type of an annotation, down to the elements of lists and of records."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in parts)
    if hint in (int, float):
        kind = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool)
    if origin is Callable:
        return callable(value)
    if origin is os.PathLike:
        return isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)
    if origin is Sequence:  # a text would be taken for a list of its characters
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
            return False
        return all(_fits(one, parts[0]) for one in value)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            return False
        # Values of several types are for their owner to check, who knows which one each name has.
        return not isinstance(parts[1], type) or all(
            _fits(key, parts[0]) and _fits(one, parts[1]) for key, one in value.items()
        )
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
    if getattr(hint, "_is_protocol", False):
        return all(callable(getattr(value, name, None)) for name in vars(hint) if not name.startswith("_"))
    if not isinstance(value, hint):
        return False
    inner = _hints(hint) if hasattr(hint, "__dataclass_fields__") else {}
    return all(_fits(getattr(value, name), one) for name, one in inner.items())


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
