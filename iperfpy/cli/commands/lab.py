"""`iperfpy lab`: the emulated paths, by the first word.

    lab PATH -- COMMAND...    lab_run.py     runs a program over a path
    lab NAME ...              SUBCOMMANDS    other tasks with paths

No path begins with the name of a subcommand: a path begins with a rate, a key or a direction.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

RUN = "iperfpy.cli.commands.lab_run"
"""The module that runs a program over a path."""

SUBCOMMANDS: dict[str, str] = {
    "list": "iperfpy.cli.commands.lab_list",
    "from-csv": "iperfpy.cli.commands.lab_from_csv",
}
"""First word -> module with `main(words) -> exit status`, where `words` are the ones after it."""


def main(words: Sequence[str]) -> int:
    """Run `iperfpy lab WORDS`; returns the exit status."""
    module = SUBCOMMANDS.get(words[0]) if words else None
    rest = list(words[1:]) if module else list(words)
    status: int = importlib.import_module(module or RUN).main(rest)
    return status
