"""One object of a stored JSON document: its values are read by their type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from iperfpy.protocols.metrics import Value

LARGEST = 2**64 - 1
LATEST_S = 253_370_764_800
"""The beginning of the year 9999, in seconds since 1970: the calendar of Python ends with that year."""
_NONE: Any = object()


class DocumentPart:
    """Reads the values of one JSON object. Each method takes a key, and raises `ValueError` for a value of
    another type, or for a missing one that has no default.

    Attributes
    ----------
    values : the object itself
    """

    def __init__(self, values: Any) -> None:
        if not isinstance(values, Mapping):
            raise ValueError(f"{_shown(values)} is not a JSON object")
        self.values: Mapping[str, Any] = values

    def text(self, key: str, default: str = _NONE) -> str:
        """A string."""
        value: str = self._typed(key, default, str)
        return value

    def flag(self, key: str, default: bool = _NONE) -> bool:
        """True if the value is true or 1; false and 0 are False."""
        value = self._get(key, default)
        if value not in (0, 1):
            raise ValueError(f"{key} is {_shown(value)}")
        return bool(value)

    def whole(self, key: str, default: int = _NONE) -> int:
        """An integer of at most 64 bits."""
        value: int = self._typed(key, default, int)
        if abs(value) > LARGEST:
            raise ValueError(f"{key} is {_shown(value)}")
        return value

    def whole_or_none(self, *keys: str) -> int | None:
        """The first integer under one of these keys; None if there is none."""
        found = next((key for key in keys if self.values.get(key) is not None), None)
        return None if found is None else self.whole(found)

    def number(self, key: str) -> float:
        """A number with a whole part of at most 64 bits: no infinity, and not NaN."""
        value: float = self._get(key, _NONE)
        if type(value) not in (int, float) or not -LARGEST <= value <= LARGEST:
            raise ValueError(f"{key} is {_shown(value)}")
        return value

    def number_or_none(self, key: str) -> float | None:
        """A finite number; None if there is none."""
        return None if self.values.get(key) is None else self.number(key)

    def microseconds(self, key: str) -> int:
        """A number of seconds, in microseconds."""
        return round(self.number(key) * 1e6)

    def unix_time(self, key: str, per_second: int = 1) -> float:
        """A time from 1970 to 9998, in seconds. `per_second`: units of the stored number in a second."""
        value = self.number(key)
        if not 0 <= value < LATEST_S * per_second:
            raise ValueError(f"{key} is {_shown(value)}")
        return value / per_second

    def figure(self, key: str) -> Value:
        """A metric's value."""
        value = self.values.get(key)
        if value is None or type(value) is str:
            return value
        return self.number(key)

    def part(self, key: str) -> DocumentPart:
        """An object."""
        return DocumentPart(self._get(key, _NONE))

    def parts(self, key: str, default: Sequence[DocumentPart] = _NONE) -> Sequence[DocumentPart]:
        """A list of objects."""
        if key not in self.values and default is not _NONE:
            return default
        return [DocumentPart(each) for each in self._typed(key, _NONE, list)]

    def texts(self, key: str, default: tuple[str, ...] = _NONE) -> tuple[str, ...]:
        """A list of strings."""
        if key not in self.values and default is not _NONE:
            return default
        values = self._typed(key, _NONE, list)
        if not all(isinstance(each, str) for each in values):
            raise ValueError(f"{key} holds more than strings")
        return tuple(values)

    def wholes(self, key: str) -> tuple[int, ...]:
        """A list of integers of at most 64 bits."""
        values = self._typed(key, _NONE, list)
        if not all(type(each) is int and abs(each) <= LARGEST for each in values):
            raise ValueError(f"{key} holds more than whole numbers")
        return tuple(values)

    def _get(self, key: str, default: Any) -> Any:
        if key in self.values:
            return self.values[key]
        if default is _NONE:
            raise ValueError(f"there is no {key}")
        return default

    def _typed(self, key: str, default: Any, kind: type) -> Any:
        value = self._get(key, default)
        if type(value) is not kind:
            raise ValueError(f"{key} is {_shown(value)}")
        return value


def _shown(value: Any) -> str:
    """A value as a message shows it: short, whatever the file holds."""
    # Not repr: Python refuses to print integers of thousands of digits.
    text = repr(value) if not isinstance(value, int) or abs(value) <= LARGEST else "too large a number"
    return text if len(text) <= 40 else text[:37] + "..."
