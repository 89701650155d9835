"""PNG charts of the studies: one style, one way to open and to save a figure.

matplotlib is imported on use: a study without it still measures, and says that there is no picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MISSING = "no picture: matplotlib is missing (pip install '.[bench]')"
GREEN, BLUE, RED = "#1a7f37", "#4393c3", "#c0392b"


@contextmanager
def figure(path: Path, title: str, **options: Any) -> Iterator[tuple[Any, Any]]:
    """Open a figure and its axes, and save it to `path` at the end of the block.

    Parameters
    ----------
    options : arguments of `matplotlib.pyplot.subplots` (`nrows`, `ncols`, `figsize`, ...)

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    import matplotlib

    matplotlib.use("Agg")  # no display is needed
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(**options)
    try:
        yield drawn, axes
        drawn.suptitle(title, fontsize=10)
        for one in drawn.axes:
            one.spines[["top", "right"]].set_visible(False)
        drawn.savefig(path, dpi=130)
    finally:
        pyplot.close(drawn)
