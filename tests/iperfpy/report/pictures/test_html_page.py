"""One file without a network: its parts, hostile text, and its size."""

from __future__ import annotations

import base64
import builtins
import hashlib
import html
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from typing import Any

import pytest

from iperfpy.errors import StartError
from iperfpy.report.pictures import html_page
from iperfpy.report.pictures.html_page import LARGEST_BYTES, html_of
from iperfpy.report.pictures.markup import cleaned, escaped, script_data, tag
from iperfpy.report.pictures.page_model import (
    Axis,
    Box,
    Boxes,
    Cloud,
    Curve,
    Distribution,
    Facts,
    Headline,
    LimitShare,
    Mark,
    Page,
    Panel,
    Ribbon,
    Scatter,
    Statement,
    Table,
    Timeline,
    Trace,
)
from iperfpy.report.pictures.run_page import page_of
from iperfpy.report.pictures.svg_shapes import BOTTOM, HEIGHT, TOP, scatter_svg
from tests.iperfpy.report.pictures.picture_scenes import EVIL, kcp_run, scene_run
from tests.iperfpy.report.scenes import SCENES

VOID = {"meta", "link", "br"}


class Elements(HTMLParser):
    """Every element with its attributes and its text; checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((name, dict(attrs)))
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((name, dict(attrs)))

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        place = self.open[-1] if self.open else ""
        {"script": self.scripts, "style": self.styles}.get(place, self.text).append(data)


def parsed(text: str) -> Elements:
    elements = Elements()
    elements.feed(text)
    elements.close()
    assert not elements.open
    return elements


def evil_page() -> Page:
    """A page with hostile text in each field."""
    axis = Axis(EVIL, EVIL)
    panel = Panel(EVIL, EVIL, (Trace(EVIL, 0, (1.0, None), (0.5, None), (2.0, None)),))
    ribbon = Ribbon(EVIL, (LimitShare(EVIL, 3, (0.5, 1.0)),))
    points = tuple((float(x), float(x * x)) for x in range(6))
    return Page(
        title=EVIL,
        subtitle=EVIL,
        unix_time=0.0,
        headlines=(Headline(EVIL, EVIL, EVIL),),
        verdict=(Statement(EVIL, EVIL, ((EVIL, EVIL),)),),
        blocks=(
            Timeline(EVIL, (0.0, 1.0), 2.0, (panel,), (ribbon,), EVIL),
            Scatter(EVIL, axis, axis, (Cloud(EVIL, 0, points), Cloud(EVIL, 1, points[:2])), EVIL),
            Distribution(
                EVIL, axis, (Curve(EVIL, 0, ((1.0, 0.2), (2.0, 0.9)), 9),), (Mark(EVIL, 1.0),), EVIL
            ),
            Boxes(EVIL, axis, (Box(EVIL, 0, (1.0, 2.0)),), EVIL),
            Table(EVIL, (EVIL, EVIL), ((EVIL, EVIL),), 1, EVIL),
            Facts(EVIL, ((EVIL, EVIL),)),
        ),
        command=EVIL,
        warnings=(EVIL,),
        error=EVIL,
        program=EVIL,
    )


def values_of(elements: Elements) -> Any:
    place = [attrs.get("id") for name, attrs in elements.found if name == "script"].index("values")
    return json.loads(elements.scripts[place])


def test_hostile_text_stays_text_in_every_field() -> None:
    text = html_of(evil_page())
    elements = parsed(text)
    # The page's own scripts are data, uPlot and page.js: nothing has added one.
    assert [name for name, _ in elements.found].count("script") == 3
    assert text.count("alert(1)") > 20
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", text)
    for _, attributes in elements.found:
        assert not [name for name in attributes if name.startswith("on")]
        assert "style" not in attributes
    assert values_of(elements)["timelines"][0]["panels"][0]["traces"][0]["name"] == cleaned(EVIL)


def test_script_data_cannot_end_its_element() -> None:
    made = script_data({"</script>": ["<!--", "]]>", "&lt;", "\u2028", "é"]})
    assert "<" not in made
    assert ">" not in made
    assert "&" not in made
    assert made.isascii()
    assert json.loads(made) == {"</script>": ["<!--", "]]>", "&lt;", " ", "é"]}


def test_text_is_cleaned_and_bounded() -> None:
    assert cleaned("a\nb\tc\u00a0d") == "a b c d"
    assert cleaned("\x1b[31m\u202e") == "\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}"
    assert len(cleaned("x" * 10_000)) == 2000
    assert html.unescape(escaped("'\"<&>")) == "'\"<&>"
    assert tag("p", "", title='"><script>') == '<p title="&quot;&gt;&lt;script&gt;"></p>'


def test_a_page_names_no_address_that_it_could_fetch() -> None:
    elements = parsed(html_of(page_of(kcp_run())))
    for name, attributes in elements.found:
        for key in ("src", "href", "action", "data", "srcset", "xlink:href"):
            assert (attributes.get(key) or "data:,") == "data:,", name
    assert not [style for style in elements.styles if re.search(r"url\(|@import|https?:", style)]
    assert "fetch(" not in "".join(elements.scripts)
    assert "XMLHttpRequest" not in "".join(elements.scripts)


def test_the_policy_allows_the_pages_own_scripts_and_style_only() -> None:
    elements = parsed(html_of(page_of(kcp_run())))
    policy = next(
        attributes["content"] or ""
        for name, attributes in elements.found
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    (style,) = elements.styles
    for part in (*elements.scripts[1:], style):
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


@pytest.mark.parametrize("name", SCENES)
def test_every_kind_of_test_makes_a_page(name: str) -> None:
    elements = parsed(html_of(page_of(scene_run(name))))
    assert "Throughput" in "".join(elements.text)


def test_a_page_has_its_words() -> None:
    run = kcp_run()
    page = replace(page_of(run), warnings=("a small buffer",), error="the path died")
    text = "".join(parsed(html_of(page)).text)
    for words in (
        "a queue of 383 KiB (likely)",
        "a shorter one",
        "Warning",
        "a small buffer",
        "Ended early: ",
    ):
        assert words in text
    for words in ("Mbit/s", "round-trip time under load", "Client", "Server", "iperfpy -c 192.0.2.7"):
        assert words in text


def test_a_page_of_the_longest_test_is_small_and_says_what_it_leaves_out() -> None:
    run = kcp_run(2600, seconds=0.1)
    text = html_of(page_of(run))
    assert len(text.encode()) <= LARGEST_BYTES
    elements = parsed(text)
    (timeline,) = values_of(elements)["timelines"]
    assert 200 < len(timeline["starts"]) <= 2000
    assert "2,600 intervals are drawn as" in "".join(elements.text)
    whole = [interval.sums[0].peer for interval in run.intervals]
    greatest = max(sample.bits_per_second or 0 for sample in whole if sample is not None)
    assert max(timeline["panels"][0]["traces"][0]["values"]) == pytest.approx(greatest / 1e6, rel=1e-3)


def test_an_ordinary_page_has_every_interval() -> None:
    (timeline,) = values_of(parsed(html_of(page_of(kcp_run(600)))))["timelines"]
    assert len(timeline["starts"]) == 600


@pytest.mark.parametrize("count", [1, 2])
def test_a_test_without_intervals_has_a_page(count: int) -> None:
    """With `-i 0` the whole test is one interval."""
    (timeline,) = values_of(parsed(html_of(page_of(kcp_run(count)))))["timelines"]
    assert len(timeline["starts"]) == count


def test_a_page_without_a_block_is_a_page() -> None:
    parsed(html_of(Page("Nothing was measured", error="connection refused")))


def test_without_youplot_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    true_import = builtins.__import__

    def refused(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("youplot"):
            raise ImportError(name)
        return true_import(name, *rest, **more)

    for name in [name for name in sys.modules if name.startswith("youplot")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refused)
    with pytest.raises(StartError, match="pip install youplot"):
        html_page.check_library()


def test_the_names_of_near_clouds_do_not_overprint_each_other() -> None:
    names = ("kcp-bbr", "tcp bbr", "kcp fast", "udp")
    clouds = tuple(
        Cloud(name, slot, ((20.0 + slot / 50, 5.0), (20.1, 5.1), (20.0, 5.05)))
        for slot, name in enumerate(names)
    )
    far = Cloud("far", 5, ((80.0, 1.0), (81.0, 1.1), (79.0, 0.9)))
    picture = scatter_svg(Scatter("t", Axis("RTT", "ms"), Axis("rate", "Mbit/s"), (*clouds, far)))
    places = re.findall(
        r'<text class="name" x="([0-9.]+)" y="([0-9.]+)" text-anchor="(\w+)">([^<]+)<', picture
    )
    assert [name for *_, name in places] == [*names, "far"]
    rows = [float(y) for _, y, _, name in places if name != "far"]
    assert min(abs(a - b) for a, b in combinations(rows, 2)) >= 15.9
    assert all(TOP < row < HEIGHT - BOTTOM for row in rows)
