"""The presets: each is a path that has a description, and what is behind a preset overrides it."""

from __future__ import annotations

import re
from pathlib import Path as File

import pytest

from iperfpy.protocols.simulator.path_language import PathTextError, describe, parse
from iperfpy.protocols.simulator.presets import PRESETS
from tests.studies.paths.seed import PATHS, RTT_US

PAGE = (File(__file__).parents[3] / "docs" / "simulator.md").read_text()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_path_with_a_description_and_a_source(name: str) -> None:
    paths = parse(f"preset={name}")
    assert parse(describe(*paths)) == paths
    assert all(path.delay_us for path in paths)
    preset = PRESETS[name]
    assert preset.title
    assert preset.source
    assert preset.synthetic == (not re.match(r"seed|pantheon-\d", name))


def test_the_presets_of_the_first_report_are_the_paths_of_its_study() -> None:
    up, down = PATHS["up, 24 Mb/s with a queue"], PATHS["down, policed to 20 Mb/s"]
    assert parse("preset=seed") == (up, down)
    assert parse("preset=seed-up")[0] == up
    assert parse("preset=seed-down")[0] == down
    assert parse("preset=seed-up")[1].delay_us == RTT_US / 2


def test_pantheons_scenarios_have_its_figures() -> None:
    there, back = parse("preset=pantheon-5")
    assert there.trace is not None
    assert there.trace.mean_bits_per_s == pytest.approx(77.72e6)
    assert (there.buffer_datagrams, there.delay_us, there.loss) == (94, 51_000, 0.0006)
    assert (back.trace, back.buffer_datagrams, back.loss) == (there.trace, None, 0.0)
    acks = parse("preset=pantheon-14")[1].trace
    assert acks is not None
    assert acks.stamps_ms.tolist() == [200] * 10
    assert len([name for name in PRESETS if name.startswith("pantheon-")]) == 18


def test_items_behind_a_preset_override_it() -> None:
    plain, changed = parse("preset=pantheon-1"), parse("preset=pantheon-1,loss=1,delay=5ms down:queue=9p")
    assert changed[0] == plain[0].with_(loss=0.01, delay_us=5_000)
    assert changed[1] == plain[1].with_(buffer_datagrams=9, delay_us=5_000)
    faster = parse("preset=pantheon-1,rate=9M")[0]
    assert (faster.trace, faster.rate_bits_per_s) == (None, 9e6)
    assert parse("preset=seed,trace=constant:5M")[0].rate_bits_per_s is None


def test_a_preset_in_an_event_replaces_the_whole_path() -> None:
    there, back = parse("20M,delay=85ms,loss=1,police=20M/9k down:loss=2 @5s:preset=vpn,loss=3")
    vpn_there, vpn_back = parse("preset=vpn,loss=3")
    assert there.with_(changes=(), **there.changes[0].fields) == vpn_there
    assert back.with_(changes=(), **back.changes[0].fields) == vpn_back


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "preset=pantheon-19",
            r"^preset=pantheon-19: there is no such preset; did you mean pantheon-",
        ),
        ("preset=", r"^preset=: there is no such preset; the presets are seed, .*, vpn$"),
        ("preset=xyzzy", r"the presets are seed, "),
        ("loss=1,preset=seed", r"^preset=seed: a preset sets all keys of both ways, so it comes first$"),
        ("preset=seed,preset=vpn", r"^preset=vpn: a preset sets all keys"),
        ("up:preset=seed", r"^up:preset=seed: a preset sets all keys"),
        ("preset=seed,20M", r"^20M: expected key=value"),
        ("presets=seed", r"^presets=seed: there is no such key; did you mean preset\?$"),
        ("preset=vpn,delay=0", r"^jitter=1ms up: it is more than the delay, 0ms$"),
    ],
)
def test_a_bad_preset_is_named(text: str, message: str) -> None:
    with pytest.raises(PathTextError, match=message):
        parse(text)


@pytest.mark.parametrize("name", PRESETS)
def test_the_page_names_every_preset(name: str) -> None:
    section = PAGE[PAGE.index("## Presets") :]
    assert f"`{name}`" in section or name.startswith("pantheon-")
