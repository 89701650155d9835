"""The subcommands. Each is one module of this package with a function `main(words) -> exit status`, where
`words` are the ones after the subcommand's name. A module is imported only when its subcommand runs.

To add one: its file, and its line in `COMMANDS`.
"""

from __future__ import annotations

from typing import NamedTuple


class Subcommand(NamedTuple):
    """A line of the help: `module` is imported to run it, `arguments` and `summary` are shown.

    `uses_transports`: a plug-in that cannot be loaded is named in a warning.
    """

    module: str
    arguments: str
    summary: str
    uses_transports: bool = True


COMMANDS = {
    # The comparison that it starts warns.
    "demo": Subcommand(
        "iperfpy.cli.commands.demo", "[-t SEC]", "compare every transport on this machine", False
    ),
    "diagnose": Subcommand("iperfpy.cli.commands.diagnose", "HOST", "say what limits the path to HOST"),
    "compare": Subcommand("iperfpy.cli.commands.compare", "HOST", "say which transport to take to HOST"),
    "latency": Subcommand(
        "iperfpy.cli.commands.latency", "HOST", "say how long messages to HOST and back take"
    ),
    "kcp-peer": Subcommand(
        "iperfpy.cli.commands.kcp_peer", "HOST:PORT", "measure a KCP program, such as kcp-go"
    ),
    "lab": Subcommand(
        "iperfpy.cli.commands.lab", "PATH -- COMMAND", "run a program over an emulated path", False
    ),
    "runs": Subcommand("iperfpy.cli.commands.runs", "[options]", "list the runs that were kept", False),
    "show": Subcommand("iperfpy.cli.commands.show", "RUN", "print a run that was kept"),
    "diff": Subcommand("iperfpy.cli.commands.diff", "A... -- B...", "compare runs: is there a regression?"),
    "completion": Subcommand(
        "iperfpy.cli.commands.completion", "SHELL", "print a completion script: bash, zsh or fish", False
    ),
}
"""Name -> subcommand, in the order of the help."""

DEFAULT = Subcommand("iperfpy.cli.commands.run", "-s | -c HOST", "serve tests, or run one")
"""The one without a name."""

COMPLETION_VARIABLE = "_IPERFPY_COMPLETE"
"""Set by a shell that asks for completions: then the program runs `completion`, whatever its words are."""
