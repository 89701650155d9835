"""Errors of the command line, as one sentence each; and the iperf3 options that iperfpy rejects."""

from __future__ import annotations

from difflib import SequenceMatcher

import click

REJECTED = {
    "--sctp": "iperfpy has no SCTP transport",
    "--nstreams": "iperfpy has no SCTP transport",
    "-X": "iperfpy has no SCTP transport",
    "--xbind": "iperfpy has no SCTP transport",
}
"""iperf3 option -> the reason that the user is shown. docs/options.md has the whole table."""


NEAR = 0.75
"""Similarity of a mistyped option and the suggested one, both without dashes: `revrse` and `reverse` have
0.92, `nonsense` and `username` 0.5."""


def sentence(error: click.UsageError) -> str:
    """The text of an error of click, followed by the flag if it concerns a value."""
    if isinstance(error, click.NoSuchOption):
        if error.option_name in REJECTED:
            return f"{error.option_name} is not supported: {REJECTED[error.option_name]}"
        found = [one for one in error.possibilities or () if _is_near(error.option_name, one)]
        near = f" (did you mean {' or '.join(found)}?)" if found else ""
        return f"unknown option {error.option_name}{near}"
    text = error.message if isinstance(error, click.BadParameter) else error.format_message()
    text = text.strip().rstrip(".")
    if isinstance(error, click.BadParameter) and error.param is not None and error.param.opts:
        # A range check begins with the flag; a value parser does not know it.
        named = text.partition(" ")[0] in error.param.opts
        return text if named else f"{text} ({error.param.opts[0]})"
    return text[:1].lower() + text[1:]


def _is_near(typed: str, known: str) -> bool:
    """True if an option may be the meant one: it begins with the typed letters, or differs by a few."""
    first, second = typed.lstrip("-"), known.lstrip("-")
    return second.startswith(first) or SequenceMatcher(None, first, second).ratio() >= NEAR
