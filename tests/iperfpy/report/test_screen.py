"""Text of others on a terminal."""

from __future__ import annotations

import pytest

from iperfpy.report.screen import printable


@pytest.mark.parametrize(
    "code", [0x07, 0x1B, 0x9B, 0x2028, 0x202E, 0x2066, 0x2069, 0x200F, 0x061C, 0xFEFF, 0xD800]
)
def test_a_character_that_is_not_printed_is_replaced(code: int) -> None:
    """Bidirectional isolates and marks reorder a line as the older overrides do."""
    assert printable(f"a{chr(code)}b") == "a?b"


def test_letters_of_any_script_and_blanks_stay() -> None:
    text = "Ünïcode\u00a0עברית 漢字 — 5 µs\u202f%"
    assert printable(text) == text
