"""The state of objects, kept once and set back in place before each input.

    saved = SavedState(engine, control)
    ... use them ...
    saved.restore()

To set an engine back takes a tenth of the time that it takes to make one, and a fuzzer makes one per input.
Objects keep their identity, so that references among them, bound methods and views of arrays stay right.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

OURS = ("iperfpy.", "tests.")
"""Modules with objects that have state of the program. Others are taken for values, or have no state."""
VALUES = (str, bytes, int, float, type, ModuleType, Enum, np.dtype, np.generic)
_ABSENT = object()


class SavedState:
    """The state of everything that is reached from some objects: attributes, containers and arrays.

    Parameters
    ----------
    roots : objects of this program

    Values that the roots share with the rest of the process (classes, modules, enums, frozen dataclasses) are
    not changed by anybody, and stay as they are.
    """

    def __init__(self, *roots: object) -> None:
        self.roots = roots
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._slots: list[tuple[object, list[tuple[str, object]]]] = []
        self._sequences: list[tuple[Any, list[Any] | bytes]] = []
        self._gathered: list[tuple[Any, list[Any]]] = []
        self._arrays: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
        seen: dict[int, object] = {}
        waiting: list[object] = list(roots)
        while waiting:
            one = waiting.pop()
            if id(one) not in seen:
                seen[id(one)] = one  # kept, so that no other object gets its identity
                waiting += self._keep(one)

    def values(self) -> list[list[object]]:
        """The values kept, a list for each attribute table, container and array, in the order of the walk;
        without arrays of bytes, which are memory for datagrams and may never have been written."""
        kept: list[list[object]] = [[*state, *state.values()] for _, state in self._dicts]
        kept += [[value for _, value in slots] for _, slots in self._slots]
        kept += [list(items) for _, items in (*self._sequences, *self._gathered)]
        return kept + [[one.tobytes()] for _, one in self._arrays if one.dtype != np.uint8]

    def restore(self) -> None:
        """Set everything back."""
        for attributes, kept in self._dicts:
            attributes.clear()
            attributes.update(kept)
        for one, slots in self._slots:
            for name, value in slots:
                if value is not _ABSENT:
                    setattr(one, name, value)
                elif hasattr(one, name):
                    delattr(one, name)
        for sequence, items in self._sequences:
            sequence[:] = items
        for container, items in self._gathered:
            container.clear()
            container.extend(items) if isinstance(container, deque) else container.update(items)
        for array, numbers in self._arrays:
            array[...] = numbers

    def _keep(self, one: object) -> list[object]:
        """Keep the state of one object; the objects that it refers to."""
        if one is None or isinstance(one, VALUES):
            return []
        if isinstance(one, np.ndarray):
            return self._keep_array(one)
        if isinstance(one, FunctionType):
            return [cell.cell_contents for cell in one.__closure__ or ()]
        if isinstance(one, MethodType):
            return [one.__self__]
        if isinstance(one, (tuple, frozenset)):
            return list(one)
        if isinstance(one, (list, bytearray)):
            self._sequences.append((one, one[:] if isinstance(one, list) else bytes(one)))
            return list(one) if isinstance(one, list) else []
        if isinstance(one, (set, deque)):
            self._gathered.append((one, list(one)))
            return list(one)
        if isinstance(one, dict):
            self._dicts.append((one, dict(one)))
            return [*one.keys(), *one.values()]
        return self._keep_object(one) if f"{type(one).__module__}.".startswith(OURS) else []

    def _keep_array(self, array: np.ndarray[Any, Any]) -> list[object]:
        # A view has its numbers in another array, or in a buffer: there they are kept.
        if array.base is None and array.flags.writeable:
            self._arrays.append((array, array.copy()))
        return [array.base, *(array.ravel() if array.dtype.hasobject else ())]

    def _keep_object(self, one: object) -> list[object]:
        attributes = getattr(one, "__dict__", {})
        names = [name for kind in type(one).__mro__ for name in _names(kind)]
        slots = [(name, getattr(one, name, _ABSENT)) for name in names]
        if not _is_frozen(type(one)):
            if slots:
                self._slots.append((one, slots))
            if attributes:
                self._dicts.append((attributes, dict(attributes)))
        return [*attributes.values(), *(value for _, value in slots if value is not _ABSENT)]


def _is_frozen(kind: type) -> bool:
    """True for a dataclass with objects that refuse changes."""
    parameters = getattr(kind, "__dataclass_params__", None)
    return parameters is not None and bool(parameters.frozen)


def _names(kind: type) -> list[str]:
    """The attributes that a class has in slots, as they are named outside of it."""
    declared = kind.__dict__.get("__slots__", ())
    names = (declared,) if isinstance(declared, str) else tuple(declared)
    private = f"_{kind.__name__.lstrip('_')}"
    hidden = ("__dict__", "__weakref__")
    return [
        f"{private}{name}" if name.startswith("__") and not name.endswith("__") else name
        for name in names
        if name not in hidden
    ]
