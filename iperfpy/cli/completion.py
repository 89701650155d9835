"""Completion for shells, by click's own mechanism.

`iperfpy completion SHELL` prints a script; with it, the shell asks the program itself, with `VARIABLE` set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import ShellComplete, get_completion_class

from iperfpy.cli.main import VARIABLE, complain

HOW = {
    "bash": """# in ~/.bashrc:  eval "$(iperfpy completion bash)\"""",
    "zsh": """# in ~/.zshrc, after compinit:  eval "$(iperfpy completion zsh)\"""",
    "fish": "# once:  iperfpy completion fish > ~/.config/fish/completions/iperfpy.fish",
}


def completion(command: click.Command, words: Sequence[str]) -> int:
    """Answer a shell that asks, or print the script by which it will. Gives the exit status."""
    shell, _, task = os.environ.get(VARIABLE, "").partition("_")
    if task == "complete" and shell in HOW:
        sys.stdout.write(_completer(command, shell).complete() + "\n")
        return 0
    wanted = words[1] if len(words) == 2 else ""
    if wanted not in HOW:
        return complain(f"completion needs a shell: one of {', '.join(HOW)}", kind="parameter error")
    completer = _completer(command, wanted)
    # `source` of bash would also ask bash for its version; the script is the same.
    print(f"{HOW[wanted]}\n{completer.source_template % completer.source_vars()}")
    return 0


def _completer(command: click.Command, shell: str) -> ShellComplete:
    kind = get_completion_class(shell)
    assert kind is not None, shell
    return kind(command, {}, "iperfpy", VARIABLE)
