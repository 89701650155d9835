"""The help, in the order in which a person looks for things: short, on two screens of 24 lines, or whole."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

from iperfpy.cli.value_types import Flag

SUBCOMMANDS = ("demo", "completion")
USAGE = """\
Usage: iperfpy -s [options]            run a server
       iperfpy -c HOST [options]       measure the path to it
       iperfpy demo [-t SEC]           measure every transport over loopback
"""
OTHERS = "Others (iperfpy --help-all, or man iperfpy, says what they do):"
EXAMPLES = """\
Examples:
  iperfpy -c 192.0.2.7                            TCP to it, 10 seconds
  iperfpy -c 192.0.2.7 --proto kcp-bbr -R --csv   KCP+BBR from it, and a CSV
  iperfpy -c 192.0.2.7 -P 4 -O 2 -t 30s -J        4 streams, start-up left out
Sizes (-n -k -l -w) are powers of 1024, rates (-b) of 1000; times: 30s, 2m, 0.5."""

WIDTH, FLAG_WIDTH = 80, 27


class GroupedCommand(click.Command):
    """A command whose options are listed under the headings that they carry. `transports`: their names."""

    transports: Sequence[str] = ()

    def get_help(self, ctx: click.Context) -> str:
        """The common options, a line each, and the names of the others."""
        groups = self.groups()
        every = [option for options in groups.values() for option in options]
        common = [option for option in every if not option.rare and not option.transports]
        column = _column(common)
        lines = [USAGE]
        for head, options in groups.items():
            if listed := [option for option in options if option in common]:
                lines += [f"{head}:", *_lines(listed, column)]
        others = [option for option in every if option.rare]
        width = max(map(len, self.transports), default=0)
        lines += [OTHERS, *_names(others, "  ")]
        for name in self.transports:
            own = [option for option in every if name in option.transports]
            lines += _names(own, f"  {name + ':':<{width + 1}}  ")
        return "\n".join((*lines, EXAMPLES))

    def get_whole_help(self) -> str:
        """Every option, with what it does."""
        groups = self.groups()
        column = _column(option for options in groups.values() for option in options)
        sections = ["\n".join((f"{head}:", *_lines(options, column))) for head, options in groups.items()]
        return "\n".join((USAGE, *sections, EXAMPLES))

    def get_short_usage(self) -> str:
        return f"{USAGE}\n\nTry 'iperfpy --help' for the options."

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        words = [word for word in SUBCOMMANDS if word.startswith(incomplete)] if not ctx.args else []
        return [*map(CompletionItem, words), *super().shell_complete(ctx, incomplete)]

    def groups(self) -> dict[str, list[Flag]]:
        """The options by heading, in the order in which both came."""
        groups: dict[str, list[Flag]] = {}
        for option in self.params:
            if isinstance(option, Flag):
                groups.setdefault(option.heading, []).append(option)
        return groups


def spelled(option: click.Option) -> str:
    """`-t, --time SEC`; two names and one of them short is enough."""
    names = [*option.opts[:2], *option.secondary_opts]
    kind = "" if option.is_flag else option.metavar or option.type.name
    return f"{', '.join(names)} {kind}".rstrip()


def _column(options: Iterable[click.Option]) -> int:
    """How wide the flags on the left are, those aside that stand on a line of their own."""
    return max(len(flag) for option in options if len(flag := spelled(option)) <= FLAG_WIDTH)


def _lines(options: Iterable[click.Option], column: int) -> Iterator[str]:
    """Flags on the left, what they do on the right, folded there."""
    for option in options:
        flag = spelled(option)
        first, *rest = textwrap.wrap(option.help or "", WIDTH - column - 4) or [""]
        if len(flag) > column:
            yield f"  {flag}"
            flag = ""
        yield f"  {flag:<{column}}  {first}".rstrip()
        yield from (f"  {'':<{column}}  {more}" for more in rest)


def _names(options: Iterable[click.Option], before: str) -> list[str]:
    """Each by its letter, or the word where it has none."""
    names = " ".join(min(option.opts, key=len) for option in options)
    indent = " " * len(before)
    return textwrap.wrap(before + names, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
