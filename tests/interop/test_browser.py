"""A page in headless Chromium: nothing on the console, no request, values under the cursor, every width."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iperfpy.report.diagnosis_document import document as diagnosis_document
from iperfpy.report.latency_document import document as latency_document
from iperfpy.report.pictures.comparison_page import page_of_comparison
from iperfpy.report.pictures.diagnosis_page import page_of_diagnosis
from iperfpy.report.pictures.html_page import html_of
from iperfpy.report.pictures.latency_page import page_of_latency
from iperfpy.report.pictures.palette import LOOKS
from iperfpy.report.pictures.run_page import page_of
from tests.interop.browser import Browser, browser, chromium
from tests.iperfpy.report import diagnosis_scenes
from tests.iperfpy.report.latency_scenes import latency_report
from tests.iperfpy.report.pictures.picture_scenes import kcp_run
from tests.iperfpy.report.pictures.test_experiment_pages import comparison
from tests.iperfpy.report.pictures.test_html_page import evil_page

pytestmark = pytest.mark.interop
WIDTHS = (360, 800, 1600)
BOXES = """[...document.querySelectorAll('.panel .u-over')].map(one => {
    const box = one.getBoundingClientRect(); return [box.x, box.y, box.width, box.height]; })"""
VALUES = """[...document.querySelectorAll('.u-series:not(.bound):not(:first-child) .u-value')]
    .map(one => one.textContent)"""
"""Values in the legends, without those of the time axis, which are hidden."""


CUT = """[...document.querySelectorAll('svg.shape')].flatMap(picture => {
    const outer = picture.getBoundingClientRect();
    return [...picture.querySelectorAll('text:not(.name)')].filter(one => {
        const box = one.getBoundingClientRect();
        return box.left < outer.left - 1 || box.right > outer.right + 1;
    }).map(one => one.textContent); })"""
"""Texts of axes that leave their picture, and are cut off."""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    # Not one of the programs that IPERFPY_REQUIRE_PEERS asks for: it is a large package.
    if chromium() is None:
        pytest.skip("chromium is not installed")
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {
        "test": page_of(kcp_run()),
        "comparison": page_of_comparison(comparison()),
        "latency": page_of_latency(latency_document(latency_report())),
        "diagnosis": page_of_diagnosis(diagnosis_document(diagnosis_scenes.whole())),
        "evil": evil_page(),
    }
    for name, page in made.items():
        (folder / f"{name}.html").write_text(html_of(page))
    return {name: folder / f"{name}.html" for name in made}


def shown(tab: Browser) -> list[str]:
    """The known values under the cursor."""
    values: list[Any] = tab.value(VALUES)
    return [value for value in values if value and value[0].isdigit()]


@pytest.mark.parametrize(
    ("name", "dark"),
    [
        ("test", False),
        ("test", True),
        ("comparison", True),
        ("evil", False),
        ("latency", False),
        ("latency", True),
        ("diagnosis", False),
    ],
)
def test_a_page_fits_every_width_without_an_error(
    tab: Browser, pages: dict[str, Path], name: str, dark: bool
) -> None:
    for width in WIDTHS:
        tab.open(pages[name], width=width, dark=dark)
        assert tab.value("document.documentElement.scrollWidth") == width
        panels = tab.value("document.querySelectorAll('.panel').length")
        assert tab.value("document.querySelectorAll('.panel canvas').length") == panels
        assert panels > 0 or name == "diagnosis"
        for _, _, plot_width, height in tab.value(BOXES):
            assert plot_width > 0.6 * min(width, 700)
            assert height > 80
        # Two lines of text on each other could not be read: the panels stand below each other.
        tops = tab.value(
            "[...document.querySelectorAll('figure')].map(one => one.getBoundingClientRect().top)"
        )
        assert tops == sorted(tops)
        # No text is cut off at the edge of its picture.
        assert name == "evil" or not tab.value(CUT)
    assert not tab.console
    assert {url.partition(":")[0] for url in tab.requests} <= {"file", "data", "about"}


def test_the_ground_follows_the_users_scheme(tab: Browser, pages: dict[str, Path]) -> None:
    grounds = []
    for dark in (False, True):
        tab.open(pages["test"], dark=dark)
        grounds.append(tab.value("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(255, 255, 255)", "rgb(20, 23, 26)"]


def test_the_mouse_shows_the_values_of_every_panel(tab: Browser, pages: dict[str, Path]) -> None:
    tab.open(pages["test"])
    assert not shown(tab)
    x, y, width, height = tab.value(BOXES)[0]
    tab.hover(x + width * 0.505, y + height / 2)
    values = shown(tab)
    # Throughput, round-trip time with its range, loss, resent, two windows.
    assert len(values) == 6
    assert "Mbit/s" in values[0]
    assert "ms (" in values[1]
    interval = kcp_run().intervals[30].sums[0].peer
    assert interval is not None
    assert float(values[0].split()[0]) == pytest.approx((interval.bits_per_second or 0) / 1e6, rel=0.01)
    assert tab.value("document.querySelector('.time').textContent") == "15 to 15.5 s"


def test_keys_move_the_cursor_and_zoom(tab: Browser, pages: dict[str, Path]) -> None:
    tab.open(pages["test"])
    tab.value("document.querySelectorAll('.panel')[1].focus()")
    time = "document.querySelector('.time').textContent"
    view = "document.querySelector('.lane').getAttribute('viewBox')"
    for key, expected in (
        ("ArrowRight", "0 to 0.5 s"),
        ("ArrowRight", "0.5 to 1 s"),
        ("End", "29.5 to 30 s"),
        ("ArrowLeft", "29 to 29.5 s"),
        ("Home", "0 to 0.5 s"),
        ("PageDown", "3 to 3.5 s"),
    ):
        tab.key(key)
        assert tab.value(time) == expected
        assert len(shown(tab)) == 6
    assert tab.value(view) == "0 0 30 1"
    tab.key("+")
    # The lanes of the ribbon show the stretch of time that the panels show.
    start, _, length, _ = map(float, tab.value(view).split())
    assert 0 <= start < 3 < start + length < 30
    # A zoomed view moves along with the cursor.
    tab.key("End")
    assert tab.value(time) == "29.5 to 30 s"
    end, _, length, _ = map(float, tab.value(view).split())
    assert end + length == pytest.approx(30)
    tab.key("0")
    assert tab.value(view) == "0 0 30 1"
    tab.key("Escape")
    assert not shown(tab)
    assert not tab.console


def test_a_legend_can_be_used_without_a_mouse(tab: Browser, pages: dict[str, Path]) -> None:
    tab.open(pages["comparison"])
    tab.value("document.querySelector('.u-series:nth-child(2) th').focus()")
    tab.key("Enter")
    assert tab.value("document.querySelector('.u-series:nth-child(2)').classList.contains('u-off')")


def test_a_legend_has_the_dashes_of_its_lines(tab: Browser, pages: dict[str, Path]) -> None:
    """The lengths of strokes and gaps, in pixels, of the marks of the first panel."""
    tab.open(pages["comparison"])
    marks = tab.value(
        "[...document.querySelectorAll('.panel')[0].querySelectorAll("
        "'.u-series:not(.bound):not(:first-child) .u-marker')]"
        ".map(one => getComputedStyle(one).backgroundImage)"
    )
    # A part of a gradient has the beginning and the end of a stroke or a gap.
    ends = [[int(at) for at in re.findall(r" (\d+)px(?=[,)])", mark)] for mark in marks]
    lengths = [[end - begin for begin, end in zip(one[::2], one[1::2], strict=True)] for one in ends]
    assert lengths == [list(look.dash) for look in LOOKS[: len(marks)]]
    assert len(marks) == 4


def test_paper_is_light_and_has_the_panels(tab: Browser, pages: dict[str, Path]) -> None:
    tab.open(pages["test"], dark=True)
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert len(tab.call("Page.printToPDF")["data"]) > 20_000
    tab.call("Emulation.setEmulatedMedia", media="")
    assert not tab.console


def test_markup_in_a_name_runs_nothing(tab: Browser, pages: dict[str, Path]) -> None:
    tab.open(pages["evil"])
    assert tab.value("document.querySelectorAll('script').length") == 3
    assert tab.value("document.querySelector('h1').textContent").startswith("<script>alert(1)</script>")
    assert tab.value("document.querySelector('.u-label') !== null")
    assert not tab.console
