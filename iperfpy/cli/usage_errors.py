"""Errors of the command line, as one sentence each; and the iperf3 options that iperfpy rejects."""

from __future__ import annotations

import click

REJECTED = {
    "--sctp": "iperfpy has no SCTP transport",
    "--nstreams": "iperfpy has no SCTP transport",
    "-X": "iperfpy has no SCTP transport",
    "--xbind": "iperfpy has no SCTP transport",
}
"""iperf3 option -> the reason that the user is shown. docs/options.md has the whole table."""


def sentence(error: click.UsageError) -> str:
    """The text of an error of click, followed by the flag if it concerns a value."""
    if isinstance(error, click.NoSuchOption):
        if error.option_name in REJECTED:
            return f"{error.option_name} is not supported: {REJECTED[error.option_name]}"
        near = f" (did you mean {' or '.join(error.possibilities)}?)" if error.possibilities else ""
        return f"unknown option {error.option_name}{near}"
    text = error.message if isinstance(error, click.BadParameter) else error.format_message()
    text = text.strip().rstrip(".")
    if isinstance(error, click.BadParameter) and error.param is not None and error.param.opts:
        # A range check begins with the flag; a value parser does not know it.
        named = text.partition(" ")[0] in error.param.opts
        return text if named else f"{text} ({error.param.opts[0]})"
    return text[:1].lower() + text[1:]
