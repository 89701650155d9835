"""The command line: what was typed becomes a `Plan` and options, and those are run.

    argv -> rewritten (other spellings) -> click -> checked (what goes with what) -> Plan, ...Options -> run

Nothing here imports numpy, rich or an event loop before a test is about to run: `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

import click

from iperfpy import __version__
from iperfpy.cli.common_flags import base_flags
from iperfpy.cli.help import GroupedCommand
from iperfpy.cli.main import FAILED, VARIABLE, complain
from iperfpy.cli.request import Given, Request, request_of, transport_name
from iperfpy.cli.transport_flags import click_flags, option_of, rewritten, shared_flags, spellings_of
from iperfpy.cli.usage_errors import REFUSED
from iperfpy.errors import ParameterError
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.errors import SettingsError, TransportError
from iperfpy.protocols.registry import transports


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


def run_line(words: list[str]) -> int:
    """Run the test that the words ask for, or say what they ask about."""
    try:
        line = CommandLine(transports())
        if VARIABLE in os.environ or words[:1] == ["completion"]:
            from iperfpy.cli.completion import completion

            return completion(line.command, words)
        if not words:
            print(line.command.get_short_usage(), file=sys.stderr)
            return FAILED
        request = line.parse(words)
    except click.exceptions.Exit as finished:
        return finished.exit_code
    except (ParameterError, SettingsError) as error:
        return complain(str(error), words, "parameter error")
    from iperfpy.cli.outputs import run

    return run(request)
