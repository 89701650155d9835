"""Step 1, parse: the words of a command line become `ParsedOptions`.

    words --other spellings--> --shortened words completed--> click --> ParsedOptions

The flags are those of `common_flags` and the ones that the transports' `Settings` declare
(`transport_flags`); `value_types` parses their values. Nothing here imports numpy, rich or an event loop, so
that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import click

from iperfpy.cli.common_flags import base_flags
from iperfpy.cli.exit_status import JSON_DOCUMENT, complain, json_form, text_form
from iperfpy.cli.help import GroupedCommand
from iperfpy.cli.parsed_options import ParsedOptions
from iperfpy.cli.secret_flags import secret_flags
from iperfpy.cli.transport_flags import (
    click_flags,
    option_of,
    rewritten,
    shared_flags,
    spellings_of,
    without_conflicts,
)
from iperfpy.cli.usage_errors import sentence
from iperfpy.errors import ParameterError
from iperfpy.plan import Texts
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
        self.shared = shared_flags(transports, click_flags(base))
        generated = [option_of(one, transports) for one in self.shared]
        flags: list[click.Parameter] = [*base, *generated, *secret_flags(transports)]
        self.command = GroupedCommand("iperfpy", params=flags, add_help_option=False)
        self.command.transports = tuple(transports)

    def parse(self, words: Sequence[str], *, lenient: bool = False) -> ParsedOptions:
        """The options that the words set. Raises `ParameterError`.

        `lenient`: a value that cannot be used is None, and no error."""
        spelled = completed(rewritten(words, spellings_of(self.shared)), self.command.params)
        try:
            context = self.command.make_context("iperfpy", spelled, resilient_parsing=lenient)
        except click.UsageError as error:
            raise ParameterError(sentence(error)) from None
        return ParsedOptions(context, self.transports, self.shared)

    def asked(self, words: Sequence[str]) -> Asked:
        """The reports that the words ask for, although they make no test."""
        return asked_of(self.command, rewritten(words, spellings_of(self.shared)))


@dataclass(frozen=True, slots=True)
class Asked:
    """The reports of a test that the words ask for, as far as they can be read.

    Attributes
    ----------
    json, text : forms, as in `exit_status.complain`
    texts : of -T and --extra-data
    server : True if they ask for a server
    """

    json: str
    text: str
    texts: Texts
    server: bool

    def complain(self, message: str, kind: str = "error") -> int:
        """Report that there is no test. Returns the exit status."""
        return complain(message, self.json, kind, self.texts, self.text)


def asked_of(command: click.Command, words: Sequence[str]) -> Asked:
    """The reports that the words of a test ask for, with an error among them or not."""
    # Click then leaves out the values that it cannot read, and the words that it does not know.
    values = command.make_context(
        command.name,
        completed(words, command.params),
        resilient_parsing=True,
        ignore_unknown_options=True,
        allow_extra_args=True,
    ).params
    json = json_form(words) or (JSON_DOCUMENT if values["json"] else "")
    texts = Texts(values["title"] or "", values["extra_data"] or "")
    return Asked(json, text_form(words), texts, bool(values.get("server")))


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
