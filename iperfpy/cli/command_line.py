"""Step 1, parse: the words of a command line become `ParsedOptions`.

    words --other spellings--> --shortened words completed--> click --> ParsedOptions

The flags are those of `common_flags` and the ones that the transports' `Settings` declare
(`transport_flags`); `value_types` parses their values. Nothing here imports numpy, rich or an event loop, so
that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import click

from iperfpy.cli.common_flags import base_flags
from iperfpy.cli.help import GroupedCommand
from iperfpy.cli.parsed_options import ParsedOptions
from iperfpy.cli.secret_flags import secret_flags
from iperfpy.cli.transport_flags import (
    SharedFlag,
    click_flags,
    option_of,
    rewritten,
    shared_flags,
    spellings_of,
    without_conflicts,
)
from iperfpy.cli.usage_errors import sentence
from iperfpy.protocols.contract import Transport


class CommandLine:
    """The flags of this program and of the transports.

    A transport is left out if its flags contradict those of this program, or of a transport before it:
    `unusable` has its name and the reason.
    """

    def __init__(self, transports: Mapping[str, Transport]) -> None:
        own = click_flags(base_flags(list(transports), {}))
        transports, self.unusable = without_conflicts(transports, own)
        self.transports = transports
        chosen_by = {name: one.flags for name, one in transports.items()}
        base = base_flags(list(transports), chosen_by, self.unusable)
        self.shared = shared_flags(transports)
        generated = [option_of(one, transports) for one in self.shared]
        flags: list[click.Parameter] = [*base, *generated, *secret_flags(transports)]
        self.command = GroupedCommand("iperfpy", params=flags, add_help_option=False)
        self.command.transports = tuple(transports)

    def parse(self, words: Sequence[str]) -> ParsedOptions:
        """The options that the words set, and the first error among the words."""
        return parse(self.command, words, self.transports, self.shared)


def parse(
    command: click.Command,
    words: Sequence[str],
    transports: Mapping[str, Transport],
    shared: Sequence[SharedFlag],
) -> ParsedOptions:
    """The options that the words of a test set, and the first error among the words."""
    known = {word for option in command.params for word in (*option.opts, *option.secondary_opts)}
    spelled = completed(rewritten(words, spellings_of(shared, known)), command.params)
    error = ""
    try:
        context = command.make_context(command.name, [*spelled])
    except click.UsageError as fault:
        error = sentence(fault)
        # Click gives no values with its error. Now it leaves out what it cannot use.
        context = command.make_context(
            command.name,
            spelled,
            resilient_parsing=True,
            ignore_unknown_options=True,
            allow_extra_args=True,
        )
    return ParsedOptions(context, transports, shared, error)


def completed(words: Sequence[str], options: Iterable[click.Parameter]) -> list[str]:
    """The words with shortened options spelled out (`--rev` as `--reverse`) where only one option begins so,
    as getopt_long allows."""
    known = {word: option for option in options for word in (*option.opts, *option.secondary_opts)}
    result = []
    for argument in words:
        word, equals, value = argument.partition("=")
        fitting = [full for full in known if full.startswith(word)] if word.startswith("--") else []
        # Two spellings of one option (--bitrate, --bandwidth) are one candidate.
        if len(word) > 2 and word not in known and len({id(known[full]) for full in fitting}) == 1:
            word = fitting[0]
        result.append(word + equals + value)
    return result
