"""Arbitrary input on the control connection: the outcome is a bounded record or an error of one sentence.

Valid documents are damaged, so that most of the generated input passes the first checks of the parsers.
Records that pass every check are shown in every report format.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import struct
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iperfpy.control import framing
from iperfpy.control.framing import Decoder, Document, Expect, State
from iperfpy.control.parameters import (
    decode_hello,
    decode_parameters,
    encode_hello,
    encode_parameters,
)
from iperfpy.control.peer_text import DEPTH_LIMIT, DocumentLimit
from iperfpy.control.results import (
    LONGEST_WARNING,
    MOST_WARNINGS,
    TEXT_LIMIT,
    decode_results,
    decode_stats,
    encode_results,
    encode_stats,
)
from iperfpy.control.session import OVER, SessionPhase, client_session, server_session
from iperfpy.errors import IperfpyError, PlanError
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.metrics import Side
from iperfpy.protocols.registry import transports
from iperfpy.records import Row, RunEnded, Sample
from iperfpy.report.csv_columns import header
from iperfpy.report.csv_file import CsvFile
from iperfpy.report.csv_report import CsvSink
from iperfpy.report.json_report import JsonSink
from iperfpy.report.screen import PlainScreen
from iperfpy.report.terminal import TextSink, Wording
from tests.iperfpy.report.scenes import Scene, start_of

NAMES = sorted(transports())
SIDES = {1: Side.SENDER, 3: Side.RECEIVER}

Result = TypeVar("Result")


def attempt(call: Callable[[], Result]) -> tuple[Result | None, IperfpyError | None]:
    """Return the result of `call`, or the error that the user would see; other exceptions fail the test."""
    try:
        return call(), None
    except IperfpyError as error:
        return None, error


numbers = st.one_of(
    st.integers(),
    st.sampled_from([-1, 0, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400, -(2**63) - 1]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e308, -1e308, 5e-324, -0.0, 1e18, 1.5e19]),
)
texts = st.text(max_size=30) | st.sampled_from(["\ud800", "\x1b[2J", "\0", "a" * 5000, "tcp", "\u202e"])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of keys and indexes to each value of a document."""
    if isinstance(value, dict):
        return [path, *(found for key in value for found in paths(value[key], (*path, key)))]
    if isinstance(value, list):
        return [path, *(found for index, one in enumerate(value) for found in paths(one, (*path, index)))]
    return [path]


@st.composite
def damaged(draw: st.DrawFn, document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with up to three of its parts replaced, removed or repeated."""
    body: dict[str, Any] = copy.deepcopy(dict(document))
    # Paths are listed again for each change: the one before may have removed a whole branch.
    for _ in range(draw(st.integers(1, 3))):
        where = draw(st.sampled_from([path for path in paths(body) if path]))
        inner: Any = body
        for key in where[:-1]:
            inner = inner[key]
        change = draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "remove":
            del inner[where[-1]]
        elif change == "add" and isinstance(inner, list):
            inner.append(copy.deepcopy(inner[where[-1]]))
        else:
            inner[where[-1]] = draw(values)
        if not paths(body)[1:]:
            break
    return body


def nested(levels: int) -> dict[str, Any]:
    """Return as many objects, each inside the one before."""
    body: dict[str, Any] = {}
    for _ in range(levels):
        body = {"more": body}
    return body


def depth(value: Any) -> int:
    """Return the length of the longest path in the value."""
    return max(map(len, paths(value)))


def transferred(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the document as the peer decodes it, or None if its JSON is refused."""
    text = json.dumps(body).encode()
    decoder = Decoder("the peer")
    decoder.document_limit = DocumentLimit.of_bytes(1 << 20)
    decoder.feed(struct.pack(">I", len(text)) + text)
    message, _ = attempt(lambda: decoder.take(Expect.DOCUMENT))
    return dict(message.body) if isinstance(message, Document) else None


def sample(name: str, stream: int, side: Side) -> Sample:
    metrics = transports()[name].metrics
    figures = {metric.key: 7 for metric in metrics if metric.side is side}
    return Sample(stream, side, 0, 1_000_000, 1000, figures)


def samples(name: str) -> list[Sample]:
    return [sample(name, stream, side) for stream, side in SIDES.items()]


# ---------------------------------------------------------------------- bytes

literals = st.one_of(
    st.integers(1, 7000).map(lambda count: "9" * count),
    st.integers(1, 7000).map(lambda count: "0." + "1" * count),
    st.sampled_from(
        ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "01", "+1", ".5", "1.", "--1"]
    ),
    st.sampled_from(
        ['"\\ud800"', '"\\x"', '"\x01"', "'a'", "nul", "tru", "{", "}", "[", "]", '{"a"}', "", ","]
    ),
    st.integers(1, 3900).map(lambda depth: "[" * depth + "]" * depth),
    st.integers(1, 1900).map(lambda depth: '{"a":' * depth + "1" + "}" * depth),
)


@given(literals, st.sampled_from(['{"a":%s}', "%s", '{"a":1}%s', '{"a":[%s,%s]}']))
def test_any_json_text_is_a_document_or_one_sentence(literal: str, shape: str) -> None:
    text = shape.replace("%s", literal).encode()[: framing.PARAMETERS_LIMIT_BYTES]
    decoder = Decoder("the client")
    decoder.feed(struct.pack(">I", len(text)) + text)
    message, error = attempt(lambda: decoder.take(Expect.DOCUMENT))
    if error is not None:
        assert len(str(error)) < 200
    else:
        assert isinstance(message, Document)
        assert depth(message.body) <= DEPTH_LIMIT
        assert json.dumps(message.body, allow_nan=False)


@given(st.integers(0, 2**32 - 1), st.binary(max_size=64))
def test_a_length_outside_the_limits_is_refused(length: int, start: bytes) -> None:
    decoder = Decoder("the client")
    decoder.feed(struct.pack(">I", length) + start)
    message, error = attempt(lambda: decoder.take(Expect.DOCUMENT))
    if 0 < length <= framing.PARAMETERS_LIMIT_BYTES:
        assert message is not None or error is None or "JSON" in str(error)
    else:
        assert "announced a message of" in str(error)


@given(st.lists(st.binary(max_size=40) | st.sampled_from([bytes([one % 256]) for one in State]), max_size=12))
@pytest.mark.parametrize("make", [client_session, server_session])
@pytest.mark.parametrize("cookie", ["s" * 36, "iperfpy-" + "o" * 28])
def test_a_session_survives_any_bytes_in_any_phase(
    make: Callable[[str], Any], cookie: str, chunks: list[bytes]
) -> None:
    """The session continues, is over, or is broken with an error that names the peer."""
    # Phases are set directly: no generated input would reach the late ones.
    for phase in SessionPhase:
        session = make(cookie)
        if phase not in session._table:
            continue
        session.phase = phase
        for chunk in [*chunks, b""]:
            _, error = attempt(partial(session.receive, chunk))
            if error is not None:
                assert str(error).startswith(session.peer)
                assert session.phase is SessionPhase.BROKEN
        assert session.phase in OVER or session.phase in session._table


# ---------------------------------------------------------------------- parameters

PLANS = [
    encode_parameters(Plan(name, one.settings(), block_bytes=1000, title="t"), one, convs)
    for name, one in transports().items()
    for convs in ([7], None)
]


def is_harmless(text: str) -> bool:
    """True if a terminal shows it as it is. Blanks of other widths are harmless, and not `isprintable`."""
    return all(each.isprintable() or unicodedata.category(each) == "Zs" for each in text)


@given(st.sampled_from(PLANS).flatmap(damaged))
@settings(max_examples=150)
def test_any_parameters_make_a_plan_within_bounds_or_a_refusal(body: dict[str, Any]) -> None:
    received = transferred(body)
    if received is None:
        return
    request, error = attempt(lambda: decode_parameters(received, transports()))
    if request is None:
        assert isinstance(error, PlanError)
        assert is_harmless(str(error))
        assert 0 < error.i_errno < 2**31
        return
    plan = request.plan
    # The limits themselves, so that a limit that is lifted by mistake is noticed.
    assert 1 <= plan.parallel <= 128
    assert 0 <= plan.duration_us <= 86_400_000_000
    assert 0 <= plan.omit_us <= 600_000_000
    assert 1 <= plan.block_bytes <= 1 << 20
    assert 0 <= plan.rate_bps < 2**63
    assert is_harmless(plan.title + plan.extra_data)
    assert request.transport is transports()[plan.transport]


@given(st.one_of(damaged(encode_hello(NAMES)), st.dictionaries(texts, values)))
def test_any_greeting_is_printable_or_refused(body: dict[str, Any]) -> None:
    received = transferred(body)
    if received is None:
        return
    hello, _ = attempt(lambda: decode_hello(received))
    assert hello is None or all(map(is_harmless, (hello.version, *hello.transports)))


# ---------------------------------------------------------------------- results, and their reports


def show_in_every_format(
    name: str, known: Mapping[int, Sample], extra: Mapping[str, Any], folder: Path
) -> None:
    """Write a client's reports, in every format, of a test with these samples of the peer."""
    transport = transports()[name]
    own = {1: sample(name, 1, Side.RECEIVER), 3: sample(name, 3, Side.SENDER)}
    rows = tuple(Row(stream, own[stream], known.get(stream), Direction.FORWARD) for stream in own)
    start = start_of(streams=2)
    plan = replace(start.plan, transport=name, settings=transport.settings(), get_server_output=True)
    end = RunEnded(rows, {"host_total": 1.0, **extra["cpu"]}, server_output=extra["output"])
    scene = Scene(replace(start, plan=plan, transport=transport), (rows[:1],), end)
    out = io.StringIO()
    scene.play(JsonSink(out))
    # The document is valid JSON only without NaN and infinity.
    document = json.loads(out.getvalue(), parse_constant=lambda text: pytest.fail(text))
    assert len(document["end"]["streams"]) == 2
    table = io.StringIO()
    scene.play(TextSink(PlainScreen(table), table, Wording(verbose=True)))
    table.getvalue().encode()
    path = folder / "rows.csv"
    file = CsvFile(path, header(), replace=True)
    scene.play(CsvSink(file))
    file.close()
    with path.open(newline="") as lines:
        assert {len(line) for line in csv.reader(lines)} == {len(header())}


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_results_can_be_shown_or_are_refused(
    name: str, extended: bool, tmp_path: Path, data: st.DataObject
) -> None:
    cpu = {"host_total": 1.0, "host_user": 0.5, "host_system": 0.5}
    good = encode_results(
        transports()[name],
        samples(name),
        cpu,
        "bbr",
        extended=extended,
        server_output="text",
        warnings=["slow"],
    )
    # Damage alone rarely nests a document as deep as the limit.
    deep = st.sampled_from([{}, {"server_output_json": nested(90)}, {"server_output_json": nested(400)}])
    received = transferred(data.draw(damaged(good)) | data.draw(deep))
    if received is None:
        return
    results, error = attempt(lambda: decode_results(received, transports()[name], SIDES, "the server"))
    if results is None:
        assert str(error).startswith("the server sent")
        return
    assert set(results.samples) <= set(SIDES)
    assert len(results.congestion) <= TEXT_LIMIT
    assert len(results.warnings) <= MOST_WARNINGS
    assert all(len(text) <= LONGEST_WARNING for text in results.warnings)
    assert all(0 <= one.bytes < 2**63 for one in results.samples.values())
    extra = {"cpu": {f"remote_{part}": value for part, value in results.cpu_percent.items()}}
    show_in_every_format(name, results.samples, extra | {"output": results.server_output}, tmp_path)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_interval_figures_can_be_shown_or_are_refused(
    name: str, tmp_path: Path, data: st.DataObject
) -> None:
    received = transferred(data.draw(damaged(encode_stats(0, samples(name), finished=False))))
    if received is None:
        return
    stats, error = attempt(lambda: decode_stats(received, transports()[name], SIDES, "the server"))
    if stats is None:
        assert str(error).startswith("the server sent")
        return
    assert 0 <= stats.sequence < 2**63
    show_in_every_format(name, stats.samples, {"cpu": {}, "output": ""}, tmp_path)


def test_the_deepest_accepted_document_can_be_shown(tmp_path: Path) -> None:
    assert transferred({"server_output_json": nested(DEPTH_LIMIT)}) is None
    body = transferred({"server_output_json": nested(DEPTH_LIMIT - 2)})
    assert body is not None
    show_in_every_format("tcp", {}, {"cpu": {}, "output": body["server_output_json"]}, tmp_path)
