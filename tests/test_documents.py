"""The documents of the source tree: each link leads somewhere, and maps name what exists."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.architecture import ROOT

FOLDERS = ("docs", "iperfpy", "protocols", "tests", "results")
CODE = re.compile(r"^```.*?^```$|^    .*?$", re.DOTALL | re.MULTILINE)
LONGEST_LINE = 125
LINK = re.compile(r"\]\(([^)\s]+)\)")


def documents() -> list[Path]:
    """Every page of the tree; `iperfpy/protocols` is a link to a folder that is visited anyway."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md")]
    found += ROOT.glob("*.md")
    return [path for path in found if not any(parent.is_symlink() for parent in path.parents)]


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as hosts of code make them."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M), re.M
    )
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def broken(page: Path, text: str) -> list[str]:
    """The links of a page to a file that does not exist, or to a heading that its page does not have."""
    found = []
    for link in LINK.findall(CODE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    pages = documents()
    assert len(pages) > 30
    assert {str(page): links for page in pages if (links := broken(page, page.read_text()))} == {}


@pytest.mark.parametrize("link", ["docs/none.md", "docs/lab.md#no-heading", "#no-heading"])
def test_a_broken_link_is_found(link: str) -> None:
    page = ROOT / "README.md"
    assert broken(page, f"[a page]({link}), [itself](#install), [another](docs/lab.md)") == [link]


def long_lines(text: str) -> list[str]:
    """The lines of a page that do not fit an editor, those of tables and of code left out."""
    return [line for line in CODE.sub("", text).splitlines() if len(line) > LONGEST_LINE and line[0] != "|"]


def test_no_line_is_too_long() -> None:
    """Records in `results` are printed by programs."""
    pages = [page for page in documents() if ROOT / "results" not in page.parents]
    assert {str(page): lines for page in pages if (lines := long_lines(page.read_text()))} == {}
    code, line = "c" * 126, "w" * 126
    assert long_lines(f"| {line} |\n```\n{code}\n```\n{line}\n{line[1:]}") == [line]


def uneven_rows(text: str) -> list[str]:
    """The rows of a page's tables with more or fewer cells than the first row of their table."""
    found, cells = [], 0
    for line in CODE.sub("", text).splitlines():
        row = re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line)) if line.startswith("|") else []
        if row and cells and len(row) != cells:
            found.append(line)
        cells = cells or len(row) if row else 0
    return found


def test_every_row_of_a_table_has_its_cells() -> None:
    assert {str(page): rows for page in documents() if (rows := uneven_rows(page.read_text()))} == {}
    assert uneven_rows("| a | b |\n|---|---|\n| `c|d` | e |\n| f |\n\n| g |\n") == ["| f |"]


def test_the_first_page_is_short_and_cites_its_figures() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    opening = text.split("\n\n")[1]
    assert len(re.findall(r"\.(?:\s|$)", opening)) == 1
    assert "make demo" in text[:900]
    assert "make test" in text[:900]
    _, rule, *figures = [line for line in text.partition("## Measured")[2].split("##")[0].split("\n") if line]
    assert set(rule) == {"|", "-"}
    assert len(figures) == 5
    assert all("(results/records/README.md#" in line for line in figures)


def test_maps_name_existing_modules() -> None:
    """Of the READMEs in the product's folders, every name of a Python file but a test's."""
    pages = [page for page in documents() if page.relative_to(ROOT).parts[0] in {"iperfpy", "protocols"}]
    known = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    named = {page: re.findall(r"(?<![\w*])\w+\.py\b", page.read_text()) for page in pages}
    wrong = {str(page): set(names) - known for page, names in named.items()}
    assert len(pages) > 12
    assert {page: names for page, names in wrong.items() if names} == {}
