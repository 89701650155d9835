"""The harnesses hold for their seeds, for the corpus in the tree, and for damaged copies of both."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from iperfpy.protocols.simulator import csv_trace, trace_file
from iperfpy.traffic import messages
from tests.studies.fuzz import files, peers
from tests.studies.fuzz.__main__ import CORPUS
from tests.studies.fuzz.harnesses import HARNESSES, MADE_ONCE
from tests.studies.fuzz.saved_state import VALUES, SavedState

DAMAGED = 40


@pytest.mark.parametrize("name", HARNESSES)
def test_a_harness_takes_its_corpus(name: str) -> None:
    harness, chance = HARNESSES[name], random.Random(name)
    kept = sorted((CORPUS / name).iterdir()) if (CORPUS / name).exists() else []
    inputs = [*harness.seeds(), *(path.read_bytes() for path in kept)]
    for data in inputs:
        harness.run(data)
    for _ in range(DAMAGED):
        damaged = bytearray(chance.choice(inputs))
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.choice(
                [0, 1, 127, 128, 255, chance.randrange(256)]
            )
        harness.run(bytes(damaged))


@pytest.mark.parametrize("name", ["kcp-rack", "kcp-ranges", "kcp-stock", "kcp-envelope"])
def test_an_input_has_the_same_effect_after_others_as_alone(name: str) -> None:
    """Engines are made once, and set back before each input."""
    run, inputs = HARNESSES[name].run, HARNESSES[name].seeds()
    for data in inputs:
        run(data)
    after_others = [effect(run, data) for data in inputs]
    alone = []
    for data in inputs:
        for made in MADE_ONCE:
            made.cache_clear()
        alone.append(effect(run, data))
    assert all(alone)
    assert after_others == alone


def effect(run: Callable[[bytes], None], data: bytes) -> list[object]:
    """The values in the state of everything that an input was given to."""
    states: list[SavedState] = []
    restore = SavedState.restore

    def noted(saved: SavedState) -> None:
        states.append(saved)
        restore(saved)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SavedState, "restore", noted)
        run(data)
    return [
        [value if isinstance(value, VALUES) else type(value).__name__ for value in values]
        for saved in states
        for values in SavedState(*saved.roots).values()
    ]


@pytest.mark.parametrize(
    ("name", "module", "function"),
    [
        ("token", peers, "check_token"),
        ("evidence", peers, "decode_evidence"),
        ("udp-probes", peers, "answer"),
        ("printed-run", files, "samples_of"),
        ("experiment", files, "_again"),
        ("index", files, "entry_of"),
        ("path", files, "parse"),
        ("trace", trace_file, "read_trace"),
        ("trace", csv_trace, "stamps_from_csv"),
    ],
)
def test_the_seeds_are_accepted(
    name: str, module: ModuleType, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder gives a result for some: a harness with refused inputs alone would hold as well."""
    decode, results = getattr(module, function), []

    def noted(*arguments: Any, **keywords: Any) -> Any:
        results.append(decode(*arguments, **keywords))
        return results[-1]

    monkeypatch.setattr(module, function, noted)
    for data in HARNESSES[name].seeds():
        HARNESSES[name].run(data)
    assert any(len(one) if hasattr(one, "__len__") else one is not None for one in results)


@pytest.mark.parametrize("received", [messages.MessageSource, messages.MessageEcho])
def test_the_seeds_of_messages_are_taken(received: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[Any] = []
    make = received.__init__

    def noted(self: Any, *arguments: Any, **keywords: Any) -> None:
        make(self, *arguments, **keywords)
        ends.append(self)

    monkeypatch.setattr(received, "__init__", noted)
    for data in HARNESSES["messages"].seeds():
        HARNESSES["messages"].run(data)
    assert any(vars(end).get("_answered") or vars(end).get("_arrived") for end in ends)


@pytest.mark.parametrize("name", ["kcp-rack", "kcp-ranges", "kcp-envelope"])
def test_the_kcp_seeds_reach_the_engine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A harness that feeds nothing would hold as well."""
    from iperfpy.protocols.kcp.engine import Engine

    received: list[int] = []
    receive = Engine.receive

    def counted(self: Engine, batch: object, now_us: int, *, recovered: bool = False) -> None:
        receive(self, batch, now_us, recovered=recovered)  # type: ignore[arg-type]
        received.append(self.sending.una)

    monkeypatch.setattr(Engine, "receive", counted)
    for data in HARNESSES[name].seeds():
        HARNESSES[name].run(data)
    assert max(received) > 0
