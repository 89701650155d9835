"""The help: a short one, on two screens of 24 lines, and a whole one; and the other questions that are
answered without a test (--version, --json-schema, --explain)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from typing import TYPE_CHECKING

import click

from iperfpy import __version__
from iperfpy.cli.commands import COMMANDS
from iperfpy.cli.value_types import Flag

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from iperfpy.cli.parsed_options import ParsedOptions

OTHERS = "Others, besides -h (iperfpy --help-all, or man iperfpy, describes them):"
EXAMPLES = """\
Examples:
  iperfpy -c 192.0.2.7 --proto kcp-bbr -R --csv   KCP+BBR from it, and a CSV
  iperfpy -c 192.0.2.7 -P 4 -O 2 -t 30s -J        4 streams, first 2 s left out
Sizes (-n -k -l -w) are powers of 1024, rates (-b) of 1000; times: 30s, 2m, 0.5."""

WIDTH, FLAG_WIDTH = 80, 27


def forms() -> list[tuple[str, str]]:
    """The arguments of each form of the command, subcommands included, and its summary."""
    tests = [("-s [options]", "run a server"), ("-c HOST [options]", "measure the path to HOST")]
    return [*tests, *((f"{name} {one.arguments}", one.summary) for name, one in COMMANDS.items())]


def usage() -> str:
    """The forms of the command, a line each."""
    width = max(len(form) for form, _ in forms())
    lines = [f"iperfpy {form:<{width}}  {summary}" for form, summary in forms()]
    return "\n".join(f"{'' if row else 'Usage:':<6} {line}" for row, line in enumerate(lines))


def answer(parsed: ParsedOptions) -> str | None:
    """The text that the user asked for instead of a test, or None. Raises `ParameterError`."""
    command = parsed.command
    assert isinstance(command, GroupedCommand), "the program's own command"
    # Any other option may stand beside these: the first question, in this order, gets its answer.
    if parsed["version"]:
        return f"iperfpy {__version__}"
    if parsed["json_schema"]:
        return (resources.files("iperfpy") / "report" / "schema.json").read_text().rstrip()
    if parsed["help_all"]:
        return command.whole_help()
    if parsed["help"]:
        return command.short_help_text()
    if parsed["explain"]:
        from iperfpy.report.explain import explanation

        return "\n".join(explanation(parsed.transport, parsed["letter"] or ""))
    return None


class GroupedCommand(click.Command):
    """A command that lists its options under the headings that they carry.

    `transports`: the names of the transports with settings among the options.
    """

    transports: Sequence[str] = ()

    def short_help_text(self) -> str:
        """The common options, a line each, and the names of the others."""
        groups = self.groups()
        every = [option for options in groups.values() for option in options]
        common = [option for option in every if not option.rare and not option.transports]
        column = _column(common)
        lines = [usage()]
        for head, options in groups.items():
            if listed := [option for option in options if option in common]:
                lines += [f"{head}:", *_lines(listed, column)]
        named = OTHERS.replace(",", " ").split()
        others = [option for option in every if option.rare and not set(option.opts) & set(named)]
        width = max(map(len, self.transports), default=0)
        lines += [OTHERS, *_names(others, "  ")]
        # A flag that several transports share is listed behind each of their names.
        for name in self.transports:
            own = [option for option in every if name in option.transports]
            lines += _names(own, f"  {name + ':':<{width + 1}}  ")
        return "\n".join((*lines, EXAMPLES))

    def whole_help(self) -> str:
        """Every option with its description."""
        groups = self.groups()
        column = _column(option for options in groups.values() for option in options)
        sections = ["\n".join((f"{head}:", *_lines(options, column))) for head, options in groups.items()]
        return "\n".join((usage(), "", *sections, EXAMPLES))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Subcommands in the place of the first word, then click's own proposals."""
        from click.shell_completion import CompletionItem

        words = [word for word in COMMANDS if word.startswith(incomplete)] if not ctx.args else []
        return [*map(CompletionItem, words), *super().shell_complete(ctx, incomplete)]

    def groups(self) -> dict[str, list[Flag]]:
        """The options by heading, both in the order of their declaration."""
        groups: dict[str, list[Flag]] = {}
        for option in self.params:
            if isinstance(option, Flag) and not option.hidden:
                groups.setdefault(option.heading, []).append(option)
        return groups


def command_help(command: GroupedCommand, arguments: str, summary: str) -> str:
    """The help of a subcommand: all its options under their headings."""
    groups = command.groups()
    column = _column(option for options in groups.values() for option in options)
    sections = ["\n".join((f"{head}:", *_lines(options, column))) for head, options in groups.items()]
    text = "\n".join(textwrap.wrap(summary, WIDTH))
    return "\n".join((f"Usage: {command.name} {arguments}", "", text, "", *sections))


def spelled(option: click.Option) -> str:
    """`-t, --time SEC`. Shows at most two names, the short one first."""
    names = [*option.opts[:2], *option.secondary_opts]
    kind = "" if option.is_flag else option.metavar or option.type.name
    return f"{', '.join(names)} {kind}".rstrip()


def _column(options: Iterable[click.Option]) -> int:
    """Width of the flags' column. A flag longer than FLAG_WIDTH stands on a line of its own."""
    return max(len(flag) for option in options if len(flag := spelled(option)) <= FLAG_WIDTH)


def _lines(options: Iterable[click.Option], column: int) -> Iterator[str]:
    """Flags on the left, their descriptions folded on the right."""
    for option in options:
        flag = spelled(option)
        first, *rest = textwrap.wrap(option.help or "", WIDTH - column - 4) or [""]
        if len(flag) > column:
            yield f"  {flag}"
            flag = ""
        yield f"  {flag:<{column}}  {first}".rstrip()
        yield from (f"  {'':<{column}}  {more}" for more in rest)


def _names(options: Iterable[click.Option], before: str) -> list[str]:
    """The options' letters, or their words where they have no letter."""
    names = " ".join(min(option.opts, key=len) for option in options)
    indent = " " * len(before)
    return textwrap.wrap(before + names, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
