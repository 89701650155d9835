"""`iperfpy lab PATH -- COMMAND...`: a program over an emulated path, without root."""

from __future__ import annotations

from collections.abc import Sequence

from iperfpy.cli.exit_status import complain
from iperfpy.protocols.simulator.path_language import PathError, parse

USAGE = "iperfpy lab PATH -- COMMAND..."


def main(words: Sequence[str]) -> int:
    """Run the words after `iperfpy lab`; returns the exit status."""
    try:
        parse(" ".join(words[: words.index("--")] if "--" in words else words))
    except PathError as error:
        return complain(str(error), kind="parameter error")
    return complain(f"expected {USAGE}", kind="parameter error")
