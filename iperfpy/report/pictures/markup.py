"""HTML and SVG text: every string that enters a page is cleaned and escaped here.

Titles, host names and a peer's text may hold markup, terminal escapes, or characters that reorder the line in
which they stand. Control and format characters are replaced, so that none of these has an effect.
"""

from __future__ import annotations

import html
import json
import unicodedata
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)
else:
    T = TypeVar("T")

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
LONGEST_TEXT = 2000
"""Characters of one text; more are cut, because a page has a bounded size."""


def cleaned(text: str) -> str:
    """The text on one line, without characters that are not printed, and not longer than `LONGEST_TEXT`."""
    if len(text) > LONGEST_TEXT:
        text = text[: LONGEST_TEXT - 1] + "…"
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else " " if each.isspace() or _is_blank(each) else REPLACEMENT
        for each in text
    )


def cleaned_record(record: T) -> T:
    """A copy of a frozen record with all its texts `cleaned`, also those in tuples and records inside it."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return cleaned(value)
        if isinstance(value, tuple) and not (value and isinstance(value[0], (int, float))):
            return tuple(clean(one) for one in value)
        return cleaned_record(value) if is_dataclass(value) and not isinstance(value, type) else value

    changes = {one.name: clean(getattr(record, one.name)) for one in fields(record)}
    return replace(record, **changes)


def _is_blank(character: str) -> bool:
    return unicodedata.category(character) == "Zs"


def escaped(text: str) -> str:
    """The cleaned text, for the content of an element or for an attribute in double quotes."""
    return html.escape(cleaned(text), quote=True)


def isolated(text: str) -> str:
    """The escaped text as an element of its own direction: Arabic in a name does not reorder its
    neighbours."""
    return f"<bdi>{escaped(text)}</bdi>"


def tag(name: str, content: str = "", **attributes: object) -> str:
    """An element. `content` is markup; values of attributes are escaped, and their texts `cleaned` by the
    caller. None leaves an attribute out. In a name, an underscore stands for a hyphen, and at its end for
    nothing."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{content}</{name}>"


def script_data(value: Any) -> str:
    """JSON for a script element: its texts are `cleaned`, and no character can end the element."""
    plain = _cleaned_value(value)
    text = json.dumps(plain, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    # Within JSON these characters occur in strings only, where their escapes mean the same.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _cleaned_value(value: Any) -> Any:
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, dict):
        return {cleaned(key): _cleaned_value(one) for key, one in value.items()}
    if isinstance(value, list) and any(isinstance(one, (str, list, dict)) for one in value):
        return [_cleaned_value(one) for one in value]
    return value
