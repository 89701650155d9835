"""Warnings of plug-ins that this program cannot use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from iperfpy.cli.exit_status import json_form, warn


def warn_of_plugins(words: Sequence[str], reasons: Mapping[str, str]) -> None:
    """Print a warning for each plug-in (name -> sentence), except one that the words ask for: that one is an
    error, with the same sentence."""
    # `--proto=NAME`, and the NAME,NAME:SETTING of a comparison
    asked = {part for word in words for part in re.split("[=,:]", word)}
    for name, sentence in reasons.items():
        if name not in asked:
            warn(sentence, json_form(words))
