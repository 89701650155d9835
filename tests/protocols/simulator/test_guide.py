"""docs/simulator.md: its program runs, and it names every field of a path and every cause of a drop."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path as File

import pytest

from iperfpy.protocols.simulator import Path, Truth

PAGE = (File(__file__).parents[3] / "docs" / "simulator.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_engine_of_the_page_measures_the_round_trip(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(PROGRAMS[0], "docs/simulator.md", "exec"), {"__name__": "page"})
    shown = re.fullmatch(r"(\d+) sent, (\d+) answered, RTT (\d+) us\n", capsys.readouterr().out)
    assert shown is not None
    sent, answered, rtt_us = map(int, shown.groups())
    assert sent == 501
    assert answered == pytest.approx(0.81 * sent, abs=5 * (0.81 * 0.19 * sent) ** 0.5)
    # 36 bytes on the path take 288 us at 1 Mb/s, and the host rounds each arrival up to a microsecond.
    assert rtt_us == pytest.approx(2 * (20_000 + 288), abs=2)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Path)])
def test_the_page_explains_every_field_of_a_path(name: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| ") and f"`{name}`" in line)
    assert len(row.split("|")[2].split()) >= 3


@pytest.mark.parametrize("name", ["policed", "overflowed", "codel", "lost", "outage", "too_long"])
def test_the_page_names_every_cause_of_a_drop(name: str) -> None:
    assert f"`{name}`" in PAGE
    assert Truth(sent=1, **{name: 1}).dropped == 1
