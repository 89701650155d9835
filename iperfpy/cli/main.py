"""The start of the program: standard output, the subcommand, the exit status.

    main.py              the first word names a subcommand (COMMANDS); without one, a test runs
       |
    commands/run.py      the five steps of a test, each in its own file, in this order:
       |
       |- 1  parse       command_line.py        words -> ParsedOptions (a question such as --help ends here)
       |- 2  request     request.py             ParsedOptions -> Request: a Plan and options
       |- 3  check       endpoint/preflight.py  can this machine run the plan, would a server accept it?
       |- 4  open        outputs.py             CSV file, sinks
       '- 5  run         endpoint/client.py, or endpoint/server.py (its clients describe the tests)

A step hands its result to the next one and is not entered again. early_error.py reports an error before the
reports are open, in the forms that step 1 found among the words; of wrong words, among those it could read.

exit_status.py has the statuses, and the sentences that explain a failure. A subcommand is a file in
commands/; `iperfpy --version` is answered here, before any flag is loaded, because scripts ask it often.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from iperfpy import __version__
from iperfpy.runtime.early_signals import EarlySignals, signal_name
from iperfpy.runtime.visible_arguments import hide_secrets

if TYPE_CHECKING:
    from iperfpy.cli.commands import Subcommand

# Few imports: signals are handled and secrets are hidden from the first line of `main` on.

VISIBLE_SECRET = (
    "other users of this machine can see the key among the arguments of this program: give it in a file, or"
    " in the environment"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    with EarlySignals() as signals:
        try:
            return _run(words, signals, is_visible=not hide_secrets(words))
        except KeyboardInterrupt:
            return _interrupted(words, signals.number)


def _run(words: list[str], signals: EarlySignals, *, is_visible: bool) -> int:
    """Run the words with usable standard streams. `is_visible`: other users can see a secret among them."""
    from iperfpy.cli import standard_streams

    standard_streams.prepare()
    if is_visible:
        from iperfpy.cli.exit_status import json_form, warn

        warn(VISIBLE_SECRET, json_form(words))
    status = _explained(words, signals)
    standard_streams.settle_stderr()
    return status


def _explained(words: list[str], signals: EarlySignals) -> int:
    """Run the words; explain on standard error if standard output cannot be written."""
    from iperfpy.cli import standard_streams
    from iperfpy.cli.exit_status import FAILED, complain, json_form, on_stderr

    try:
        status = _dispatch(words, signals)
        sys.stdout.flush()
    except OSError as error:
        if not standard_streams.is_failed_stdout(error):
            from iperfpy.errors import system_reason  # not needed for a version

            return complain(f"the system refused: {system_reason(error)}", json_form(words))
        standard_streams.silence_stdout()
        if not isinstance(error, BrokenPipeError):
            on_stderr("error", f"cannot write to standard output: {error.strerror}", json_form(words))
        return FAILED
    return status


def _dispatch(words: list[str], signals: EarlySignals) -> int:
    """Run the subcommand that the first word names, or else a test."""
    if words in (["-v"], ["--version"]):
        print(f"iperfpy {__version__}")
        return 0
    # OpenBLAS starts threads that spin when numpy is imported; this program multiplies no matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return run_command(words, signals.check)


def run_command(words: list[str], check: Callable[[], None] = lambda: None) -> int:
    """Run the subcommand that the first word names, or else a test, after a warning of each plug-in that
    cannot be loaded. `check` is called once its module is imported. Returns the exit status."""
    command, module, own = _command(words)
    check()
    if command.uses_transports:
        from iperfpy.cli.plugin_warnings import warn_of_plugins
        from iperfpy.protocols.registry import unusable

        warn_of_plugins(own, unusable())
    status: int = module.main(own)
    return status


def _command(words: list[str]) -> tuple[Subcommand, ModuleType, list[str]]:
    """The subcommand that the first word names, or else a test, its module, and the words for it."""
    from iperfpy.cli.commands import COMMANDS, COMPLETION_VARIABLE, DEFAULT

    name = "completion" if COMPLETION_VARIABLE in os.environ else words[0] if words else ""
    command = COMMANDS.get(name)
    own = words[1:] if command else words
    command = command or DEFAULT
    return command, importlib.import_module(command.module), own


def _interrupted(words: list[str], number: int) -> int:
    """Report a stop by a signal before the handlers of a test stood, or by a Ctrl-C that no handler took
    (`number` 0). Returns the exit status."""
    from iperfpy.cli.exit_status import interrupted, json_form, on_stderr

    if not number:
        return interrupted("Ctrl-C", json_form(words))
    # A command that measures reports it as a later one; the others have nothing to report.
    _, module, own = _command(words)
    if hasattr(module, "stopped"):
        status: int = module.stopped(own, signal_name(number))
        return status
    on_stderr("interrupt", f"stopped by signal {signal_name(number)}")
    return 128 + number
