"""Step 1, parse: the words of a command line become `ParsedOptions`.

    words --other spellings--> --shortened words completed--> click --> ParsedOptions

The flags are those of `common_flags` and the ones that the transports' `Settings` declare
(`transport_flags`); `value_types` parses their values. Nothing here imports numpy, rich or an event loop, so
that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

from iperfpy.cli.common_flags import base_flags, chooser
from iperfpy.cli.help import GroupedCommand
from iperfpy.cli.transport_flags import (
    SharedFlag,
    click_flags,
    option_of,
    rewritten,
    shared_flags,
    spellings_of,
)
from iperfpy.cli.usage_errors import sentence
from iperfpy.cli.value_types import Flag
from iperfpy.errors import ParameterError
from iperfpy.protocols.contract import Transport


class ParsedOptions:
    """The value of every option, by click's parameter name, and which of them the user typed."""

    def __init__(
        self, context: click.Context, transports: Mapping[str, Transport], shared: Sequence[SharedFlag]
    ) -> None:
        self._context = context
        self.transports = transports
        self.shared = shared

    def __getitem__(self, name: str) -> Any:
        return self._context.params[name]

    @property
    def values(self) -> Mapping[str, Any]:
        """Every value by parameter name."""
        return self._context.params

    @property
    def command(self) -> click.Command:
        """The command that was parsed, with all its options."""
        return self._context.command

    @property
    def transport(self) -> Transport:
        """The transport that --proto, or a flag of its own such as -u, selects.

        Raises
        ------
        ParameterError
            When the flags select more than one.
        """
        chosen = [name for name, one in self.transports.items() if one.flags and self[chooser(name)]]
        named: str = self["proto"]
        if not chosen:
            return self.transports[named]
        if len(chosen) > 1 or (self.typed("proto") and named != chosen[0]):
            flag = self.transports[chosen[0]].flags[0]
            raise ParameterError(f"{flag} and another transport exclude each other")
        return self.transports[chosen[0]]

    def typed(self, name: str) -> bool:
        """True if the user typed the option, False if the value is its default."""
        return self._context.get_parameter_source(name) is ParameterSource.COMMANDLINE

    def typed_flags(self, role: str) -> list[str]:
        """The flags of one role that were typed, as the help shows them."""
        return [
            option.opts[0]
            for option in self.command.params
            if isinstance(option, Flag) and option.role == role and self.typed(option.name or "")
        ]


class CommandLine:
    """The flags of this program and of every transport it knows.

    Raises
    ------
    SettingsError
        When the flags of two transports, or of a transport and this program, contradict each other.
    """

    def __init__(self, transports: Mapping[str, Transport]) -> None:
        self.transports = transports
        base = base_flags(list(transports), {name: one.flags for name, one in transports.items()})
        self.shared = shared_flags(transports, click_flags(base))
        generated = [option_of(one, transports) for one in self.shared]
        self.command = GroupedCommand("iperfpy", params=[*base, *generated], add_help_option=False)
        self.command.transports = tuple(transports)

    def parse(self, words: Sequence[str]) -> ParsedOptions:
        """The options that the words set. Raises `ParameterError`."""
        spelled = completed(rewritten(words, spellings_of(self.shared)), self.command.params)
        try:
            context = self.command.make_context("iperfpy", spelled)
        except click.UsageError as error:
            raise ParameterError(sentence(error)) from None
        return ParsedOptions(context, self.transports, self.shared)


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
