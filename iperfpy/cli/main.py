"""Where the program starts: its exit status, its standard output, and which part of it is meant.

`--version` is answered here, before the flags are loaded: scripts ask it often.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from iperfpy import __version__

FAILED = 1
VARIABLE = "_IPERFPY_COMPLETE"
"""Set by a shell that asks for completions."""


def wants_json(argv: Sequence[str]) -> str:
    """Which JSON a command line asks for, as far as that can be told when it could not be parsed."""
    if "--json-stream" in argv or "--json-stream-full-output" in argv:
        return "stream"
    return "document" if "-J" in argv or "--json" in argv else ""


def complain(message: str, argv: Sequence[str] = (), kind: str = "error") -> int:
    """One sentence on stderr, and as `error` in the JSON that was asked for. Gives the exit status."""
    print(f"iperfpy: {kind} - {message}", file=sys.stderr)
    wanted = wants_json(argv)
    if wanted:
        from iperfpy.report.json_report import JsonSink, JsonStreamSink

        sink = JsonStreamSink(sys.stdout) if wanted == "stream" else JsonSink(sys.stdout)
        sink.error(message)
        sink.close()
    return FAILED


def silence_stdout() -> None:
    """What is still buffered, and what comes, goes nowhere: standard output takes no more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def buffered_stdout() -> None:
    """With PYTHONUNBUFFERED the text layer stands on the bare file and drops what a short write leaves over:
    a long document into a pipe would end at 64 KiB. Whatever reports is flushed all the same."""
    raw = sys.stdout.buffer
    if isinstance(raw, io.RawIOBase):
        whole = io.BufferedWriter(raw)
        sys.stdout = io.TextIOWrapper(whole, sys.stdout.encoding, sys.stdout.errors, line_buffering=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; gives the exit status."""
    if sys.stdout is None:  # started with it closed
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    buffered_stdout()
    try:
        status = dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()
        return FAILED
    except OSError as error:
        silence_stdout()
        return complain(f"cannot write to standard output: {error.strerror}")
    return status


def dispatch(words: list[str]) -> int:
    """Run the subcommand, or the test, that the words ask for."""
    if words in (["-v"], ["--version"]):
        print(f"iperfpy {__version__}")
        return 0
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's, which spin: no matrices here
    if words[:1] == ["demo"]:
        from iperfpy.cli.commands.demo import main as demo

        return demo(words[1:])
    from iperfpy.cli.command_line import run_line

    return run_line(words)
