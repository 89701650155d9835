"""The settings that a user gave a contender, as a text for tables and CSV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def settings_text(settings: Mapping[str, Any]) -> str:
    """`fec=10:3 crypt=aes`; empty without settings."""
    return " ".join(f"{name}={_word(value)}" for name, value in settings.items())


def settings_line(contenders: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """The line below a table for the contenders, (name, settings), whose names do not show their settings:
    `Settings: kcp with fec=10:3 crypt=aes; ...`. Empty if there are none."""
    found = dict.fromkeys(
        f"{name} with {settings_text(settings)}"
        for name, settings in contenders
        if not all(_is_shown(key, value, name) for key, value in settings.items())
    )
    return f"Settings: {'; '.join(found)}" if found else ""


def _is_shown(key: str, value: object, name: str) -> bool:
    """True if a contender's name tells this setting: `tcp bbr`, `kcp sndwnd=512`, `kcp-bbr push`."""
    words = name.split()[1:]
    return f"{key}={_word(value)}" in words or _word(value) in words or (value is True and key in words)


def _word(value: object) -> str:
    return "on" if value is True else "off" if value is False else str(value)
