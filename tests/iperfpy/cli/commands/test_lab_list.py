"""`iperfpy lab list`, in this process."""

from __future__ import annotations

import json

import pytest

from iperfpy.cli.main import main
from iperfpy.protocols.simulator.path_language import parse
from iperfpy.protocols.simulator.presets import PRESETS


def test_the_list_has_every_preset_with_its_path_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "list"]) == 0
    text = capsys.readouterr().out
    for name, preset in PRESETS.items():
        assert f"{name} " in text
        assert preset.path in text
        assert preset.source in text


def test_the_list_as_json_is_read_as_paths(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "list", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert found.keys() == PRESETS.keys()
    for name, one in found.items():
        assert parse(one["path"]) == parse(f"preset={name}")
    assert found["geo"]["synthetic"]
    assert not found["seed"]["synthetic"]


def test_the_list_takes_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "list", "vpn", "geo"]) == 0
    assert capsys.readouterr().out.split()[0] == "vpn"
    assert main(["lab", "list", "gea"]) == 1
    assert "there is no such preset" in capsys.readouterr().err
