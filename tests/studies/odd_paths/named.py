"""Paths that are given as texts, and the presets among them."""

from __future__ import annotations

import argparse

from iperfpy.protocols.simulator.path import Path
from iperfpy.protocols.simulator.path_language import PathTextError, parse
from iperfpy.protocols.simulator.presets import PRESETS
from tests.studies.odd_paths.drawing import DATAGRAM, SETTLED_RTTS, OddPath
from tests.studies.paths.watched import MTU

GIVEN = "P"
SECONDS = 20.0
REVERSED = ", down"
"""End of the name of a path with data that flows the other way."""


def given(text: str, *, down: bool = False, name: str = "") -> OddPath:
    """Make an odd path of a text in the language of paths.

    down : True if the data flows towards the near end

    Raises argparse.ArgumentTypeError.
    """
    try:
        there, back = parse(text)[::-1] if down else parse(text)
    except PathTextError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if there.mean_bits_per_s is None:
        raise argparse.ArgumentTypeError(f"{text}: the way of the data needs a rate or a trace")
    if there.maxlen is not None and there.maxlen < MTU:
        raise argparse.ArgumentTypeError(
            f"{text}: the study's datagrams have {DATAGRAM} bytes and follow no path; add maxlen=off"
        )
    rtt_us = there.delay_us + back.delay_us
    mean_us = rtt_us + sum(_extra_us(way) for way in (there, back))
    # The time that counts is at least as long as the beginning that does not.
    seconds = max(SECONDS, 2 * SETTLED_RTTS * mean_us / 1e6)
    return OddPath(GIVEN, 1, (name or text) + REVERSED * down, there, back, rtt_us, mean_us, seconds)


def _extra_us(way: Path) -> float:
    """Mean delay beyond the constant one, microseconds."""
    extra = way.jitter_us / 2
    if way.lumps is not None:
        # A datagram waits for half of the gap that it falls into, and longer gaps catch more datagrams.
        least, most = way.lumps.least_us, way.lumps.most_us
        extra += (most**2 + most * least + least**2) / (most + least) / 3
    if way.second_way is not None:
        extra += way.second_way.extra_us * (0.5 if way.second_way.share is None else way.second_way.share)
    return extra


def presets() -> list[OddPath]:
    """List the presets, with data towards the far end, and towards the near end where that is a path of its
    own: Pantheon's way back carries acknowledgements. Without `maxlen`, because the study's engines follow no
    size of a path."""
    paths = []
    for name in PRESETS:
        text = f"preset={name} both:maxlen=off"
        paths.append(given(text, name=name))
        there, back = parse(text)
        if back.mean_bits_per_s is not None and back != there and not name.startswith("pantheon"):
            paths.append(given(text, down=True, name=name))
    return paths
