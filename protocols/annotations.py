"""The check of a value against a type annotation."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

IsNumber = Callable[[object, type], bool]
"""True if a value counts as one of int, or of float."""


def fits(value: object, hint: Any, is_number: IsNumber) -> bool:
    """True if a value has the type of an annotation, down to the elements of collections and the fields of
    dataclasses."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, one, is_number) for one in parts)
    if hint in (int, float):
        return is_number(value, hint)
    if origin is Literal:
        return value in parts
    if origin is type:
        return isinstance(value, type) and issubclass(value, parts[0])
    if origin is Callable:
        return callable(value)
    if origin is os.PathLike:
        return isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)
    if origin is tuple and parts[-1:] != (Ellipsis,):
        if not isinstance(value, tuple) or len(value) != len(parts):
            return False
        return all(fits(one, part, is_number) for one, part in zip(value, parts, strict=True))
    if origin in (tuple, Sequence):
        # A text would be taken for a list of its characters.
        if (
            not isinstance(value, Sequence)
            or isinstance(value, (str, bytes))
            or not isinstance(value, origin)
        ):
            return False
        return all(fits(one, parts[0], is_number) for one in value)
    if origin is Mapping:
        # Values of several types are left to the owner of the mapping, which knows the type for each name.
        return isinstance(value, Mapping) and (
            not isinstance(parts[1], type)
            or all(
                fits(key, parts[0], is_number) and fits(one, parts[1], is_number)
                for key, one in value.items()
            )
        )
    if getattr(hint, "_is_protocol", False):
        return all(callable(getattr(value, name, None)) for name in vars(hint) if not name.startswith("_"))
    if not isinstance(value, hint):
        return False
    inner = _fields(hint) if hasattr(hint, "__dataclass_fields__") else ()
    return all(fits(getattr(value, name), one, is_number) for name, one in inner)


@cache
def _fields(owner: Any) -> tuple[tuple[str, Any], ...]:
    """The fields of a dataclass, with their types."""
    hints = get_type_hints(owner)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(owner))
