"""A run of a plug-in that is not installed here."""

from __future__ import annotations

import asyncio
import io
import json
import pickle
from typing import Any

import pytest

from iperfpy.errors import DocumentError, FaultError
from iperfpy.report.screen import PlainScreen
from iperfpy.report.terminal import TextSink
from iperfpy.store.stored_run import Run
from iperfpy.store.stored_transport import StoredSettings
from tests.iperfpy.report.scenes import SCENES, SceneTransport
from tests.iperfpy.store.test_round_trip import run_of, through_json


def text(run: Run, wording: Any) -> str:
    out, errors = io.StringIO(), io.StringIO()
    run.replay(TextSink(PlainScreen(out), errors, wording))
    return out.getvalue()


@pytest.mark.parametrize("name", SCENES)
def test_its_document_is_enough_for_its_table(name: str) -> None:
    scene = SCENES[name]()
    run = run_of(scene)
    again = through_json(run)
    assert again.document() == run.document()
    assert again.settings == run.settings
    assert again.started is not None
    assert again.started.transport.metrics == SceneTransport.metrics
    installed = through_json(run, transport=SceneTransport())
    # The flags of its settings are not stored, only their names.
    assert text(again, scene.wording) == text(installed, scene.wording).replace("--scene-window", "window")
    assert "Retrans(%)" in text(again, scene.wording)
    assert pickle.loads(pickle.dumps(again)).document() == again.document()


def test_it_cannot_be_measured_again() -> None:
    run = Run.from_document(run_of(SCENES["forward"]()).document())
    assert run.started is not None
    assert isinstance(run.plan.settings, StoredSettings)
    with pytest.raises(FaultError, match="shown, and not measured"):
        asyncio.run(run.started.transport.connect(*[None] * 3))  # type: ignore[arg-type]
    with pytest.raises(FaultError, match="shown, and not measured"):
        run.plan.settings.to_wire()


@pytest.mark.parametrize(
    "damage",
    [
        {"metrics": 1},
        {"metrics": [{"key": 1}]},
        {"metrics": [{"key": "a", "kind": "odd"}]},
        {"metrics": [{"key": "a", "spread": "yes"}]},
        {"iperf3": []},
    ],
)
def test_a_damaged_description_is_an_error(damage: dict[str, Any]) -> None:
    document = json.loads(json.dumps(run_of(SCENES["forward"]()).document()))
    document["start"]["plugin"] |= damage
    with pytest.raises(DocumentError, match="the start of the run cannot be read"):
        Run.from_document(document)


def test_without_the_description_the_transport_is_named() -> None:
    document = run_of(SCENES["forward"]()).document()
    del document["start"]["plugin"]
    with pytest.raises(DocumentError, match="unknown transport 'scene'"):
        Run.from_document(document)
