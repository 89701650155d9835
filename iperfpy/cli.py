"""The command line: what was typed becomes a `Plan` and options, and those are run.

    argv -> rewritten (other spellings) -> click -> checked (what goes with what) -> Plan, ...Options -> run

Nothing here imports numpy, rich or an event loop before a test is about to run: `--help` and
`--version` answer at once.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

import click

from iperfpy import __version__
from iperfpy.cli_flags import base_flags
from iperfpy.cli_help import GroupedCommand
from iperfpy.cli_plan import Given, ParameterError, Request, request_of, transport_name
from iperfpy.cli_refused import REFUSED
from iperfpy.cli_transports import click_flags, option_of, rewritten, shared_flags, spellings_of
from protocols.contract import Transport
from protocols.errors import SettingsError, TransportError

FAILED = 1
VARIABLE = "_IPERFPY_COMPLETE"
"""Set by a shell that asks for completions."""


class CommandLine:
    """The flags of this program and of every transport it knows.

    Raises `SettingsError` when two of them cannot live together.
    """

    def __init__(self, transports: Mapping[str, Transport]) -> None:
        self.transports = transports
        base = base_flags(list(transports), {name: one.flags for name, one in transports.items()})
        self.shared = shared_flags(transports, click_flags(base))
        generated = [option_of(one, transports) for one in self.shared]
        self.command = GroupedCommand("iperfpy", params=[*base, *generated], add_help_option=False)
        self.command.transports = tuple(transports)

    def parse(self, argv: Sequence[str]) -> Request:
        """Raises `ParameterError`; `click.exceptions.Exit` after help or version were shown."""
        words = completed(rewritten(argv, spellings_of(self.shared)), self.command.params)
        try:
            context = self.command.make_context("iperfpy", words)
        except click.UsageError as error:
            raise ParameterError(sentence(error)) from None
        given = Given(context)
        if given["version"]:
            click.echo(f"iperfpy {__version__}")
            raise click.exceptions.Exit(0)
        if given["json_schema"]:
            click.echo((resources.files("iperfpy") / "report" / "schema.json").read_text().rstrip())
            raise click.exceptions.Exit(0)
        if given["help"] or given["help_all"]:
            click.echo(self.command.get_whole_help() if given["help_all"] else self.command.get_help(context))
            raise click.exceptions.Exit(0)
        try:
            if given["explain"]:
                from iperfpy.report.explain import explanation

                chosen = self.transports[transport_name(given, self.transports)]
                click.echo("\n".join(explanation(chosen, given["letter"] or "")))
                raise click.exceptions.Exit(0)
            return request_of(given, self.transports, self.shared)
        except TransportError as error:
            raise ParameterError(str(error)) from None


def completed(argv: Sequence[str], options: Iterable[click.Parameter]) -> list[str]:
    """`argv` with the long words spelled out that were cut short, where only one option begins so, as
    getopt_long allows."""
    known = {word: option for option in options for word in (*option.opts, *option.secondary_opts)}
    result = []
    for argument in argv:
        word, equals, value = argument.partition("=")
        fitting = [full for full in known if full.startswith(word)] if word.startswith("--") else []
        if len(word) > 2 and word not in known and len({id(known[full]) for full in fitting}) == 1:
            word = fitting[0]
        result.append(word + equals + value)
    return result


def sentence(error: click.UsageError) -> str:
    """click's complaint, with the flag at its end where it concerns a value."""
    if isinstance(error, click.NoSuchOption):
        if error.option_name in REFUSED:
            return f"{error.option_name} is not supported: {REFUSED[error.option_name]}"
        near = f" (did you mean {' or '.join(error.possibilities)}?)" if error.possibilities else ""
        return f"unknown option {error.option_name}{near}"
    text = error.message if isinstance(error, click.BadParameter) else error.format_message()
    text = text.strip().rstrip(".")
    if isinstance(error, click.BadParameter) and error.param is not None and error.param.opts:
        flag = error.param.opts[0]
        return text if text.startswith(flag) else f"{text} ({flag})"
    return text[:1].lower() + text[1:]


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
        from iperfpy.report.json import JsonSink, JsonStreamSink

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
    if words[:1] == ["demo"]:
        from iperfpy.demo import main as demo

        return demo(words[1:])
    from protocols.registry import transports

    try:
        line = CommandLine(transports())
        if VARIABLE in os.environ or words[:1] == ["completion"]:
            from iperfpy.cli_completion import completion

            return completion(line.command, words)
        if not words:
            print(line.command.get_short_usage(), file=sys.stderr)
            return FAILED
        request = line.parse(words)
    except click.exceptions.Exit as finished:
        return finished.exit_code
    except (ParameterError, SettingsError) as error:
        return complain(str(error), words, "parameter error")
    from iperfpy.cli_run import run

    return run(request)
