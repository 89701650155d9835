"""`iperfpy runs`: the saved runs, a line each, the latest one last."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from iperfpy.cli.command_line import completed
from iperfpy.cli.common_flags import results_flags
from iperfpy.cli.exit_status import DONE, complain, on_stderr, warn
from iperfpy.cli.help import GroupedCommand, command_help
from iperfpy.cli.usage_errors import sentence
from iperfpy.cli.value_types import Flag, Parsed, integer, named, one_of
from iperfpy.errors import DocumentError
from iperfpy.plan import WAYS, Direction
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.units import counted
from iperfpy.report.screen import Span, screen_for
from iperfpy.store.folder import Folder
from iperfpy.store.run_index import KINDS, IndexEntry, record_of

ARGUMENTS = "[options]"
SUMMARY = (
    "List the runs that were kept: tests with --save, and every result of the other commands. `iperfpy show"
    " RUN` prints one of them, `iperfpy diff` compares them."
)
HEADING = "Runs"
NAMES = {**{way.value: name for way, name in WAYS.items()}, Direction.BIDIRECTIONAL.value: "both"}
"""Value of a direction -> its name."""
COUNT = Parsed("N", integer("a number of runs", 1, 10**9))
TITLES = ("Run", "Time", "Kind", "Host", "Transport", "Way", "Result")


def flags() -> list[click.Option]:
    """New options of the subcommand."""

    def flag(names: Sequence[str], help: str, kind: Any = None, **more: Any) -> click.Option:
        return Flag(HEADING, names, help, **({"is_flag": True} if kind is None else {"type": kind}), **more)

    ways = tuple(NAMES.values())
    return [
        flag(["host", "--host"], "runs with TEXT in the name of a host", Parsed("TEXT", str)),
        flag(
            ["proto", "--proto"],
            "runs with this transport: tcp, or 'tcp bbr'",
            Parsed("NAME", named("--proto")),
        ),
        flag(["way", "--direction"], "up, down or both", Parsed("WAY", one_of("a direction", ways), ways)),
        flag(["kind", "--kind"], ", ".join(KINDS), Parsed("KIND", one_of("a kind of run", KINDS), KINDS)),
        flag(["title", "-T", "--title"], "runs with TEXT in their title", Parsed("TEXT", str)),
        flag(["count", "-n", "--count"], "the latest N runs", COUNT),
        flag(["names", "--names"], "names alone, for `iperfpy diff $(iperfpy runs --names ...)`"),
        *results_flags("print a JSON list of the lines of the index"),
    ]


def subcommand() -> GroupedCommand:
    """The click command."""
    return GroupedCommand("iperfpy runs", params=[*flags()], add_help_option=False)


def main(words: Sequence[str]) -> int:
    """Run `iperfpy runs WORDS`; returns the exit status."""
    command = subcommand()
    try:
        values = command.make_context(command.name, completed(words, command.params)).params
    except click.UsageError as error:
        return complain(sentence(error), kind="parameter error")
    except SettingsError as error:
        return complain(str(error), kind="parameter error")
    if values["help"]:
        print(command_help(command, ARGUMENTS, SUMMARY))
        return DONE
    folder = Folder(values["results"] or "")
    try:
        listing = folder.entries()
    except DocumentError as error:
        return complain(str(error))
    for fault in listing.warnings:
        warn(fault)
    chosen = [entry for entry in listing.entries if _wanted(entry, values)]
    _print(chosen[-values["count"] :] if values["count"] else chosen, values)
    if not chosen:
        total = len(listing.entries)
        listed = counted(total, "run")
        reason = f"none fits, of {listed}" if total else "there is no run yet: save one with --save"
        on_stderr("remark", f"{folder.path}: {reason}")
    return DONE


def _wanted(entry: IndexEntry, values: dict[str, Any]) -> bool:
    """True if a run passes every filter."""
    about = entry.about
    name = (values["proto"] or "").strip()
    return (
        _contained(values["host"], " ".join(about.hosts))
        and _contained(values["title"], about.title)
        and values["kind"] in (None, about.kind)
        # Without the congestion control, a name means the transport with any.
        and (not name or any(one == name or one.startswith(f"{name} ") for one in about.transports))
        and (values["way"] is None or values["way"] in [NAMES.get(one) for one in about.directions])
    )


def _contained(wanted: str | None, text: str) -> bool:
    return wanted is None or wanted.casefold() in text.casefold()


def _print(entries: Sequence[IndexEntry], values: dict[str, Any]) -> None:
    """Print the runs in the form that the user asked for."""
    if values["json"]:
        print(json.dumps([record_of(entry) for entry in entries], indent=2, allow_nan=False))
    elif values["names"]:
        for entry in entries:
            print(entry.id)
    elif entries:
        screen = screen_for(sys.stdout)
        for line in table(entries, screen.width):
            screen.line(*line)


def table(entries: Sequence[IndexEntry], width: int | None) -> Iterator[list[Span]]:
    """The header, and a line per run; the last column is cut where the terminal ends."""
    rows = [_cells(entry) for entry in entries]
    widths = [max(map(len, column)) for column in zip(TITLES, *rows, strict=True)]
    for number, row in enumerate((TITLES, *rows)):
        *placed, last = row
        line = "".join(f"{cell:<{size}}  " for cell, size in zip(placed, widths, strict=False))
        room = None if width is None else max(10, width - len(line))
        cut = last if room is None or len(last) <= room else last[: room - 1] + "…"
        # A failed run must not look like a result.
        failed = number and entries[number - 1].about.error
        yield [
            (line, "" if number else "header"),
            (cut, "warn" if failed else "rate" if number else "header"),
        ]


def _cells(entry: IndexEntry) -> tuple[str, ...]:
    about = entry.about
    when = time.strftime("%d %b %H:%M", time.localtime(about.unix_time))
    transports = (
        ", ".join(about.transports) if len(about.transports) < 3 else f"{len(about.transports)} transports"
    )
    ways = "/".join(NAMES.get(one, one) for one in about.directions)
    result = about.summary or "no result"
    remarks = [f"{about.title}" if about.title else "", "ended early" if about.error else ""]
    text = "; ".join((result, *(one for one in remarks if one)))
    host = about.hosts[-1] if about.hosts else ""
    return entry.id, when, about.kind, host, transports, ways, text
