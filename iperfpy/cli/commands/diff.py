"""`iperfpy diff A... -- B...`: is B worse than A, beyond noise?

words --two sides--> documents --samples_of--> RunSample --difference--> text or JSON, exit status

0    no regression
1    a regression: beyond noise and, with --fail-below, by that share at least
2    nothing was compared: wrong words, a file that is no run, sides without a common transport
3    cannot tell: the text says how many more runs would show it
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from iperfpy.cli.command_line import completed
from iperfpy.cli.common_flags import results_flags, shown_flags
from iperfpy.cli.exit_status import DONE, complain, json_form, warn
from iperfpy.cli.help import GroupedCommand, command_help
from iperfpy.cli.usage_errors import sentence
from iperfpy.cli.value_types import Flag, Parsed
from iperfpy.errors import DocumentError, IperfpyError, ParameterError
from iperfpy.protocols.errors import SettingsError
from iperfpy.report.difference_text import change_lines, document, lines
from iperfpy.report.screen import Screen, screen_for
from iperfpy.store.diagnosis_difference import DiagnosisChange, diagnosis_changes
from iperfpy.store.difference import SHOWN_EFFECT, Difference, differences
from iperfpy.store.direction_figures import DAMAGE, about_test, is_test
from iperfpy.store.document_part import DocumentPart
from iperfpy.store.folder import STORED, Folder, read_document
from iperfpy.store.run_index import DIAGNOSE
from iperfpy.store.run_samples import READERS, RunSample, kind_of, samples_of

NOTHING_COMPARED = 2
"""The status of diff(1) and grep(1) for trouble: neither an answer nor `cannot tell`."""
BETWEEN = "--"
ARGUMENTS = "A... -- B... [options]"
SUMMARY = (
    "Compare the runs A with the runs B, by transport and direction. A run is a name of `iperfpy runs`, a"
    " beginning of it, `last`, `last~1`, or a file that -J of iperfpy or iperf3 wrote. Runs are the"
    " samples: with 4 or more of each side, the exact Mann-Whitney test decides; one of each is compared"
    " within itself. A single RUN is compared with the latest earlier one like it. Exit status: 0 no"
    " regression, 1 a regression, 3 cannot tell, 2 nothing compared. Diagnoses are compared by their"
    " causes."
)
HEADING = "Comparison"


_SHARE = re.compile(r"([0-9]{1,3}|[0-9]{0,3}\.[0-9]{1,18})%?")


def share(text: str) -> float:
    """Parse `5%` or `5`: per cent, as a share. Raises `SettingsError`."""
    found = _SHARE.fullmatch(text.strip())
    if found is None or not 0 < float(found[1]) < 100:
        raise SettingsError(f"{text!r} is not a share between 0% and 100%, such as 5%")
    return float(found[1]) / 100


def flags() -> list[click.Option]:
    """New options of the subcommand."""
    letter, every, _ = shown_flags(HEADING)
    every.help = "also show the figures that do not differ"
    return [
        Flag(
            HEADING,
            ["bound", "--fail-below"],
            "accept a fall by less than this share, such as 5%",
            type=Parsed("SHARE", share),
        ),
        letter,
        every,
        *results_flags("print a JSON document"),
    ]


def subcommand() -> GroupedCommand:
    """The click command."""
    runs = click.Argument(["runs"], nargs=-1)
    return GroupedCommand("iperfpy diff", params=[runs, *flags()], add_help_option=False)


def main(words: Sequence[str]) -> int:
    """Run `iperfpy diff WORDS`; returns the exit status."""
    command, json_words = subcommand(), json_form(words)
    # click takes `--` for the end of the options; here it stands between the sides.
    marked = [_MARK if word == BETWEEN else word for word in words]
    try:
        values = command.make_context(command.name, completed(marked, command.params)).params
        if values["help"]:
            print(command_help(command, ARGUMENTS, SUMMARY))
            return DONE
        names = sides_of(values["runs"])
    except click.UsageError as error:
        return _refused(sentence(error), json_words)
    except (ParameterError, SettingsError) as error:
        return _refused(str(error), json_words)
    try:
        return _compared(names, values)
    except IperfpyError as error:
        return _refused(str(error), json_words, kind="error")


_MARK = "\0--"
"""A word that no command line can contain."""


def _refused(message: str, json_words: str, kind: str = "parameter error") -> int:
    """Report that nothing was compared."""
    complain(message, kind=kind)
    if json_words:
        empty = {**document(Difference(()), (), ((), ()), NOTHING_COMPARED), "error": message}
        print(json.dumps(empty, indent=2))
    return NOTHING_COMPARED


def sides_of(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names of both sides. Two runs need no `--`; of one run, the first side is empty. Raises
    `ParameterError`."""
    if words.count(_MARK) > 1:
        raise ParameterError("there are two sides: only one -- may stand between them")
    if _MARK in words:
        at = words.index(_MARK)
        first, second = list(words[:at]), list(words[at + 1 :])
    elif len(words) in (1, 2):
        return list(words[:-1]), [words[-1]]
    else:
        raise ParameterError("diff needs two sides: iperfpy diff A... -- B... (`iperfpy runs` lists runs)")
    for side, name in ((first, "before"), (second, "after")):
        if not side:
            raise ParameterError(f"there is no run {name} the --: iperfpy diff A... -- B...")
    return first, second


@dataclass(slots=True)
class _Side:
    """The documents of one side.

    Attributes
    ----------
    samples : of its tests
    diagnoses : documents of diagnoses
    facts : (version, path) of its tests
    failed : names of the runs without a result
    """

    names: list[str]
    samples: list[RunSample] = field(default_factory=list)
    diagnoses: list[Mapping[str, Any]] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def _read(names: Sequence[str], folder: Folder) -> _Side:
    """Read the runs of a side. Raises `DocumentError`."""
    side = _Side([])
    known: dict[str, Path] = {}
    for name in names:
        path = folder.find(name)
        stored = read_document(path)
        # Runs are the samples: one that is counted twice makes a difference look surer than it is.
        other = known.setdefault(_content_key(stored), path)
        if other is not path:
            twice = "is there twice" if str(other) == str(path) else f"is the same run as {other}"
            raise DocumentError(f"{path} {twice}: a run counts once on a side")
        side.names.append(str(path))
        _take(side, path, stored)
    return side


def _content_key(stored: Mapping[str, Any]) -> str:
    """A text that only the document of the same run has, wherever a copy or a link of it is stored."""
    return json.dumps({key: value for key, value in stored.items() if key != STORED}, sort_keys=True)


def _take(side: _Side, path: Path, stored: Mapping[str, Any]) -> None:
    kind = kind_of(stored)
    if not kind:
        raise DocumentError(f"{path} is not a run: it is the document of no command")
    if kind == DIAGNOSE:
        side.diagnoses.append(stored)
        return
    try:
        samples = samples_of(stored)
        if kind in READERS:
            side.facts.append(_facts(stored))
    except DocumentError as error:
        raise DocumentError(f"{path}: {error}") from error
    side.samples += samples
    if not samples:
        side.failed.append(str(path))


def _facts(stored: Mapping[str, Any]) -> tuple[str, str]:
    """The version and the path of a run; of an experiment, its server. Raises `DocumentError`."""
    if is_test(stored):
        about = about_test(stored)
        return about.version, about.path
    with contextlib.suppress(*DAMAGE):  # one that failed at its start has neither
        start = DocumentPart(stored).part("start")
        return start.text("version", ""), start.part("connecting_to").text("host")
    return "", ""


def _compared(names: tuple[list[str], list[str]], values: Mapping[str, Any]) -> int:
    """Compare, and print. Returns the exit status; raises `IperfpyError` if nothing can be compared."""
    folder = Folder(values["results"] or "")
    # A single run is compared with the one before it.
    earlier = names[0] or [str(folder.before(folder.find(names[1][0])))]
    first, second = _read(earlier, folder), _read(names[1], folder)
    before, after = ({os.path.realpath(name) for name in side.names} for side in (first, second))
    if both := before & after:
        raise DocumentError(f"{min(both)} is on both sides")
    found = differences(first.samples, second.samples, values["bound"])
    changes: Sequence[DiagnosisChange] = ()
    if first.diagnoses and second.diagnoses:
        changes = diagnosis_changes(first.diagnoses, second.diagnoses, values["bound"] or SHOWN_EFFECT)
    _check_common(first, second, found)
    for remark in remarks(first, second, found):
        warn(remark)
    status = max(found.status, 1) if any(one.worse for one in changes) and found.status != 1 else found.status
    if values["json"]:
        whole = document(found, changes, (first.names, second.names), status)
        print(json.dumps(whole, indent=2, allow_nan=False))
    else:
        _print(found, changes, values, screen_for(sys.stdout))
    return status


def _print(
    found: Difference, changes: Sequence[DiagnosisChange], values: Mapping[str, Any], screen: Screen
) -> None:
    letter, every = values["letter"] or "", bool(values["verbose"])
    for line in lines(found, width=screen.width, letter=letter, every=every):
        screen.line(*line)
    for line in change_lines(changes):
        screen.line(*line)


def _check_common(first: _Side, second: _Side, found: Difference) -> None:
    """Raise `DocumentError` if the sides have nothing in common."""
    if found.groups or (first.diagnoses and second.diagnoses):
        return
    has = [_content(side, only) for side, only in zip((first, second), found.only, strict=True)]
    raise DocumentError(f"nothing to compare: the first side has {has[0]}, the second side {has[1]}")


def _content(side: _Side, groups: Sequence[str]) -> str:
    """The content of a side in words."""
    parts = [_listed(groups)] if groups else []
    if side.diagnoses:
        parts.append("diagnoses")
    if side.failed:
        parts.append(f"runs without a result ({_listed(side.failed)})")
    return ", ".join(parts) or "nothing"


def remarks(first: _Side, second: _Side, found: Difference) -> list[str]:
    """Sentences about runs that are left out, and about sides that differ in more than time."""
    said = [
        f"{_listed(names)} {'is' if len(names) == 1 else 'are'} on the {side} side only, and left out"
        for side, names in zip(("first", "second"), found.only, strict=True)
        if names
    ]
    said += [f"{name} has no result, and is left out" for side in (first, second) for name in side.failed]
    if bool(first.diagnoses) != bool(second.diagnoses):
        said.append("one side alone has diagnoses, which are left out")
    for number, noun in enumerate(("versions", "paths")):
        before, after = ({fact[number] for fact in side.facts if fact[number]} for side in (first, second))
        if before and after and before != after:
            said.append(f"the sides are of different {noun}: {_listed(before)} and {_listed(after)}")
    return said


def _listed(names: Iterable[str]) -> str:
    """The first three names."""
    names = {*names}
    return ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
