"""Colours, dashes and marks by slot: eight contenders that can be told apart without seeing colour.

The colours are those of Okabe and Ito (Color Universal Design, 2008). Each slot has one for a light and one
for a dark ground, because their yellow vanishes on white, and their blue and black on a dark ground.
"""

from __future__ import annotations

from dataclasses import dataclass

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    *("#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"),
)
WHITE = "#ffffff"


@dataclass(frozen=True, slots=True)
class Look:
    """The look of one slot.

    Parameters
    ----------
    light, dark : colour on a light and on a dark ground
    dash : lengths of strokes and gaps, in pixels; empty: a whole line
    marker : "o", "s", "^", "D", "v", "x", "+" or "*", as matplotlib names them
    """

    light: str
    dark: str
    dash: tuple[int, ...]
    marker: str


LOOKS = (
    Look(BLUE, SKY, (), "o"),
    Look(VERMILLION, ORANGE, (9, 4), "s"),
    Look(GREEN, GREEN, (2, 3), "^"),
    Look(PURPLE, PURPLE, (9, 3, 2, 3), "D"),
    Look(ORANGE, YELLOW, (5, 3), "v"),
    Look(SKY, VERMILLION, (14, 4), "x"),
    Look(BLACK, WHITE, (3, 6), "+"),
    Look(YELLOW, BLUE, (1, 3), "*"),
)


def look(slot: int) -> Look:
    """The look of a slot; from the ninth on they repeat."""
    return LOOKS[slot % len(LOOKS)]
