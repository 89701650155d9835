"""The exit status of the program, and the sentence on standard error that belongs to it.

    0    everything was measured and every report was written; or help, a version, a script was shown;
         or one signal stopped the test, which then ended at both ends (as in iperf3 since 3.19)
    1    a failure: one sentence on standard error, and `error` in the JSON that the user asked for
    130  stopped without a clean shutdown: by a second signal, or by a Ctrl-C that no handler took

`IperfpyError.exit_status` says which of the first two an error means. `iperfpy diff` answers by its status,
and has more of them (commands/diff.py).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from iperfpy.options import IPERF3_TEXT
from iperfpy.report.screen import folded, printable, terminal_width, write_line

if TYPE_CHECKING:
    from iperfpy.plan import Plan, Texts

DONE = 0
FAILED = 1
INTERRUPTED = 130

JSON_DOCUMENT, JSON_STREAM = "document", "stream"
TEXT_VARIABLE = "IPERFPY_TEXT"
"""Environment variable with the form of the text, unless --text chooses it."""


def json_form(words: Sequence[str]) -> str:
    """The JSON that a command line asks for, or empty, as far as an unparsed command line tells."""
    if "--json-stream" in words or "--json-stream-full-output" in words:
        return JSON_STREAM
    return JSON_DOCUMENT if "-J" in words or "--json" in words else ""


def text_form(words: Sequence[str]) -> str:
    """The form of the text that a command line asks for, as far as an unparsed command line tells."""
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
        if word == "--text" or word.startswith("--text="):
            return word.partition("=")[2] or following
    return os.environ.get(TEXT_VARIABLE, "")


def complain(
    message: str, json: str = "", kind: str = "error", plan: Plan | Texts | None = None, text: str = ""
) -> int:
    """Print one sentence on standard error, and write it as `error` into the JSON form that `json` names.

    A JSON stream has it once, as an event on standard output. `plan`: the test that failed, or its
    texts, if they are known.
    `text`: the form of the text. Returns the exit status.
    """
    # The sentence may quote a word that the user typed, or a peer's text: it stays one line.
    if text == IPERF3_TEXT:
        from iperfpy.report.iperf3_lines import complaint

        with contextlib.suppress(OSError):  # as in `on_stderr`
            write_line(sys.stderr, "\n".join(map(printable, complaint(message, kind))))
    elif json != JSON_STREAM:
        on_stderr(kind, message)
    try:
        if json:
            # iperf3's `error` has this prefix after an end that the user wanted.
            write_error(f"{kind} - {message}" if kind == "interrupt" else message, json, plan)
    except OSError:
        if json == JSON_STREAM:
            on_stderr(kind, message, json)
        raise
    return FAILED


def write_error(message: str, json: str, plan: Plan | Texts | None = None) -> None:
    """Write the JSON form that `json` names, for a test that did not start."""
    from iperfpy.report.json_report import JsonSink, JsonStreamSink

    sink = JsonStreamSink(sys.stdout) if json == JSON_STREAM else JsonSink(sys.stdout, plan)
    sink.error(message)
    sink.close()


def warn(message: str, json: str = "") -> None:
    """Print one warning on standard error."""
    on_stderr("warning", message, json)


def interrupted(how: str, json: str = "") -> int:
    """Report a stop without a clean shutdown. Returns the exit status."""
    on_stderr("interrupt", f"{how}; stopped without a clean shutdown", json)
    return INTERRUPTED


def on_stderr(kind: str, message: str, json: str = "") -> None:
    """Print a line on standard error: of a JSON stream an event, so that both streams may be one (2>&1)."""
    if json == JSON_STREAM:
        from iperfpy.report.json_report import event_line

        line = event_line(kind, message)
    else:
        line = "\n".join(folded(f"iperfpy: {kind} - {printable(message)}", terminal_width(sys.stderr)))
    with contextlib.suppress(OSError):  # standard error is gone or full: no place is left for the line
        write_line(sys.stderr, line)
