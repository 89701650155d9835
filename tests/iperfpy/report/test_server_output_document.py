"""The report that a server sends to its client: equal to the printed one, and limited in length."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from iperfpy.control.framing import encode_document
from iperfpy.endpoint.control_connection import UNSENT_LIMIT_BYTES
from iperfpy.options import IPERF3_TEXT, OWN_TEXT
from iperfpy.records import RunEnded
from iperfpy.report.json_report import JsonSink, JsonStreamSink
from iperfpy.report.screen import PlainScreen
from iperfpy.report.server_output import (
    INTERVALS_LIMIT_BYTES,
    TEXT_LIMIT,
    ServerOutputDocument,
    server_output_sink,
)
from iperfpy.report.terminal import TextSink, Wording
from iperfpy.report.text_forms import TEXT_FORMS
from tests.iperfpy.report.scenes import Scene, forward, server


def text_of(scene: Scene) -> str:
    out = io.StringIO()
    scene.play(TextSink(PlainScreen(out), out, scene.wording))
    return out.getvalue()


def test_the_server_output_is_the_printed_report() -> None:
    sink = server_output_sink(TEXT_FORMS[OWN_TEXT], Wording())
    server().play(sink)
    assert sink.output() == server().text()
    sink = server_output_sink(TEXT_FORMS[IPERF3_TEXT], Wording())
    server().play(sink)
    assert sink.output() == server().iperf3_text()
    document, out = server_output_sink(None, Wording()), io.StringIO()
    server().play(document)
    server().play(JsonSink(out))
    assert document.output() == json.loads(out.getvalue())


@pytest.mark.parametrize("as_json", [False, True])
def test_the_server_output_of_a_long_test_omits_intervals_and_keeps_the_end(as_json: bool) -> None:
    scene = server()
    count = 7_000 if as_json else 12_000  # the limits hold some 6,100 and 9,400 intervals
    sink = server_output_sink(None if as_json else TEXT_FORMS[OWN_TEXT], Wording())
    Scene(scene.start, scene.intervals * count, scene.end).play(sink)
    kept = sink.output()
    if isinstance(kept, str):
        assert len(kept) < TEXT_LIMIT + 5000
        assert kept.splitlines()[-4] == "(intervals left out)"
        assert kept.endswith(server().text().splitlines()[-1] + "\n")
    else:
        intervals = kept["intervals"]
        assert len(intervals) + kept["intervals_left_out"] == count
        assert kept["intervals_left_out"]
        size = len(encode_document(kept))
        assert INTERVALS_LIMIT_BYTES * 0.8 < size < UNSENT_LIMIT_BYTES
        assert kept["end"]["sum_received"]["bytes"] > 0


def test_the_client_shows_the_server_report_in_every_format() -> None:
    scene = forward()
    # Text first, then JSON. Neither may carry control characters of the server to the terminal.
    text = replace(scene, end=replace(scene.end, server_output="one\ntwo \x1b[31m\udc80\n"))
    assert text_of(text).splitlines()[-6:] == ["", "Server output:", "one", "two ?[31m?", "", "iperfpy Done."]
    out = io.StringIO()
    text.play(JsonSink(out))
    assert json.loads(out.getvalue())["server_output_text"] == text.end.server_output

    kept = ServerOutputDocument()
    server().play(kept)
    nested = replace(scene, end=replace(scene.end, server_output=kept.output()))
    assert '  "intervals": [' in text_of(nested).splitlines()
    lines = io.StringIO()
    nested.play(JsonStreamSink(lines))
    events = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [event["event"] for event in events][-2:] == ["server_output_json", "end"]
    assert events[-2]["data"] == kept.output()


def test_no_report_mentions_a_server_report_that_is_absent() -> None:
    scene = forward()
    assert "Server output" not in text_of(scene)
    out = io.StringIO()
    JsonSink(out).end(RunEnded((), {}))
    scene.play(JsonSink(out))
    assert "server_output" not in out.getvalue()
