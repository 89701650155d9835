"""The one place where bytes of a peer become text: decoded, bounded, fit for a terminal and a file.

    text_of(raw)              a cookie
    document_of(raw, limit)   a JSON object, with the text in it

Control characters would steer a terminal or forge lines of a log. Format characters (Unicode's Cf, among
them the bidirectional controls) reorder or hide text on the screen. Both are replaced here, so that no reader
of a peer's text has to think of it; tests/test_architecture.py finds a module that decodes by itself.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
DEPTH_LIMIT = 100
"""Levels of arrays and objects in a document. None of ours has ten."""
MANY_LINES = frozenset({"server_output_text"})
"""Keys of texts that may have several lines, and tabs."""


@dataclass(frozen=True, slots=True)
class DocumentLimit:
    """The largest document that is accepted. Decoding costs time by the number of its values, not only by its
    length: 4 MB of `{}` take a hundred times as long as 4 MB of one string.

    Attributes
    ----------
    size_bytes : length of the JSON text
    containers : arrays and objects
    values : values in them
    """

    size_bytes: int
    containers: int
    values: int

    def plus_text(self, size_bytes: int) -> DocumentLimit:
        """This limit for documents that may also hold a report, text or JSON, of that many bytes."""
        return DocumentLimit(
            self.size_bytes + size_bytes, self.containers + size_bytes, self.values + size_bytes
        )

    @classmethod
    def of_bytes(cls, size_bytes: int) -> DocumentLimit:
        """A limit of the length alone, for short documents."""
        return cls(size_bytes, size_bytes, size_bytes)


def text_of(raw: bytes, encoding: str = "utf-8") -> str:
    """Decode bytes, and clean the text. Raises `ValueError` if they are not in that encoding."""
    return cleaned(raw.decode(encoding))


def document_of(raw: bytes, limit: DocumentLimit) -> Mapping[str, Any]:
    """The JSON object in `raw`, its keys and texts cleaned.

    Raises
    ------
    ValueError
        The text completes "the client sent ...": no JSON, no object, too many values or levels.
    """
    # Counted before anything is decoded. Brackets and commas inside strings count, too: the limits have room.
    if raw.count(b"{") + raw.count(b"[") > limit.containers or raw.count(b",") >= limit.values:
        raise ValueError("a document with more values than the test has figures")
    try:
        body = json.loads(raw.decode(), parse_constant=_no_constant, parse_float=_finite_number)
    except (ValueError, RecursionError):
        raise ValueError("a message that is not JSON") from None
    if not isinstance(body, dict):
        raise ValueError("JSON that is not an object")
    if _deeper_than(body, DEPTH_LIMIT):
        raise ValueError(f"JSON with more than {DEPTH_LIMIT} levels")
    # JSON has no control characters in strings but DEL, unless they are escaped: most documents are clean.
    if raw.isascii() and b"\\" not in raw and b"\x7f" not in raw:
        return body
    return {cleaned(key): _cleaned_value(value, key in MANY_LINES) for key, value in body.items()}


def cleaned(text: str, *, many_lines: bool = False) -> str:
    """Replace characters that are not printed: controls, formats, surrogates, line and paragraph separators.

    `many_lines`: keep line feeds and tabs.
    """
    if text.isprintable():
        return text
    kept = "\n\t" if many_lines else ""
    return "".join(
        each if each.isprintable() or each in kept or unicodedata.category(each) == "Zs" else REPLACEMENT
        for each in text
    )


def _cleaned_value(value: Any, many_lines: bool = False) -> Any:
    if isinstance(value, str):
        return cleaned(value, many_lines=many_lines)
    if isinstance(value, list):
        return [_cleaned_value(one) for one in value]
    if isinstance(value, dict):
        return {cleaned(key): _cleaned_value(one) for key, one in value.items()}
    return value


def _deeper_than(body: Mapping[str, Any], levels: int) -> bool:
    """True if arrays and objects are nested deeper than that: reports are written recursively."""
    layer: list[Any] = [body]
    for _ in range(levels):
        inside = [each.values() if isinstance(each, Mapping) else each for each in layer]
        layer = [one for values in inside for one in values if isinstance(one, (Mapping, list))]
        if not layer:
            return False
    return True


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is out of range")
    return number
