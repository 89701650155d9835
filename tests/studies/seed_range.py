"""The range of seeds that a study runs, as an argument of the command line."""

from __future__ import annotations

import argparse


def seeds(text: str) -> range:
    """Parse `FIRST:END`, END excluded, or a single seed."""
    first, _, end = text.partition(":")
    try:
        return range(int(first), int(end) if end else int(first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIRST:END") from None
