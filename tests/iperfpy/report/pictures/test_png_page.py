"""The image: every kind of block is drawn, and hostile text breaks nothing. Their look is for eyes."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from iperfpy.errors import StartError
from iperfpy.report.pictures import png_page
from iperfpy.report.pictures.page_model import Page
from iperfpy.report.pictures.png_page import png_of
from tests.iperfpy.report.pictures.picture_scenes import EVIL
from tests.iperfpy.report.pictures.test_html_page import evil_page


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few pixels: drawing them is most of the time."""
    monkeypatch.setattr(png_page, "DPI", 20)


def size_of(image: bytes) -> tuple[int, int]:
    assert image.startswith(b"\x89PNG\r\n")
    return int.from_bytes(image[16:20], "big"), int.from_bytes(image[20:24], "big")


def test_every_block_is_drawn_and_hostile_text_breaks_nothing() -> None:
    width, height = size_of(png_of(evil_page()))
    assert width == 200
    assert height > 120


def test_a_page_of_words_is_an_image() -> None:
    width, height = size_of(png_of(Page(EVIL, error=EVIL)))
    assert width == 200
    assert 5 < height < 100


def test_without_matplotlib_a_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    true_import = builtins.__import__

    def refused(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return true_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refused)
    with pytest.raises(StartError, match=r"pip install 'iperfpy\[plot\]'"):
        png_page.check_library()
