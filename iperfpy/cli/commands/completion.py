"""`iperfpy completion SHELL`: completion for shells, by click's own mechanism.

The subcommand prints a script. With it, the shell asks the program itself: it sets `COMPLETION_VARIABLE` and
runs `iperfpy`, which then comes here, whatever its words are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import ShellComplete, get_completion_class

from iperfpy.cli.command_line import CommandLine
from iperfpy.cli.commands import COMPLETION_VARIABLE
from iperfpy.cli.exit_status import DONE, complain
from iperfpy.protocols.registry import transports

INSTALL_LINES = {
    "bash": """# in ~/.bashrc:  eval "$(iperfpy completion bash)\"""",
    "zsh": """# in ~/.zshrc, after compinit:  eval "$(iperfpy completion zsh)\"""",
    "fish": "# once:  iperfpy completion fish > ~/.config/fish/completions/iperfpy.fish",
}
"""Shell -> the comment, at the head of its script, that says how to install it."""

HELP = f"""\
Usage: iperfpy completion SHELL

Print a completion script. SHELL is {", ".join(INSTALL_LINES)}; the first line of each
script says how to install it.

  -h, --help  print this help and exit"""


def main(words: Sequence[str]) -> int:
    """Answer a shell that asks, or print the script by which it will. Returns the exit status."""
    command = CommandLine(transports()).command
    shell, _, task = os.environ.get(COMPLETION_VARIABLE, "").partition("_")
    if task == "complete" and shell in INSTALL_LINES:
        sys.stdout.write(_completer(command, shell).complete() + "\n")
        return DONE
    if words and words[0] in ("-h", "--help"):
        print(HELP)
        return DONE
    wanted = words[0] if len(words) == 1 else ""
    if wanted not in INSTALL_LINES:
        return complain(
            f"completion needs a shell: one of {', '.join(INSTALL_LINES)}", kind="parameter error"
        )
    completer = _completer(command, wanted)
    # `source` of bash would also ask bash for its version; the script is the same.
    print(f"{INSTALL_LINES[wanted]}\n{completer.source_template % completer.source_vars()}")
    return DONE


def _completer(command: click.Command, shell: str) -> ShellComplete:
    kind = get_completion_class(shell)
    assert kind is not None, shell
    return kind(command, {}, "iperfpy", COMPLETION_VARIABLE)
