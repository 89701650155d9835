"""Text and documents of a peer: cleaned in one place, and bounded by the figures that a test has."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from iperfpy.control.framing import Decoder, Document, Expect, Signal, State, figures_limit
from iperfpy.control.peer_text import DocumentLimit, cleaned, document_of, text_of
from iperfpy.control.results import encode_results, encode_stats, key_count
from iperfpy.errors import ProtocolError
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.metrics import Side, Unit
from iperfpy.protocols.registry import transports
from iperfpy.records import Sample

HARMFUL = {
    "escape sequence": "\x1b[2J",
    "line feed": "\n",
    "delete": "\x7f",
    "C1 control": "\x9b",
    "right-to-left override": "\u202e",
    "bidirectional isolate": "\u2066",
    "left-to-right mark": "\u200e",
    "zero width space": "\u200b",
    "byte order mark": "\ufeff",
    "line separator": "\u2028",
    "lone surrogate": "\ud800",
}


def received(body: dict[str, Any], limit: DocumentLimit | None = None) -> Any:
    """Return the document as the server gets it from a client."""
    text = json.dumps(body).encode()
    decoder = Decoder("the client")
    decoder.document_limit = limit or DocumentLimit.of_bytes(1 << 20)
    decoder.feed(struct.pack(">I", len(text)) + text)
    message = decoder.take(Expect.DOCUMENT)
    assert isinstance(message, Document)
    return message.body


@pytest.mark.parametrize("harmful", HARMFUL.values(), ids=HARMFUL.keys())
def test_harmful_characters_are_replaced_wherever_they_stand_in_a_document(harmful: str) -> None:
    text, clean = f"a{harmful}b", "a" + "\N{REPLACEMENT CHARACTER}" * len(harmful) + "b"
    if harmful == "\x1b[2J":
        clean = "a\N{REPLACEMENT CHARACTER}[2Jb"
    body = {"title": text, text: 1, "streams": [{"values": {"why": text, text: [text]}}]}
    assert received(body) == {
        "title": clean,
        clean: 1,
        "streams": [{"values": {"why": clean, clean: [clean]}}],
    }


def test_harmful_characters_that_are_not_escaped_are_replaced() -> None:
    raw = '{"title": "a\u202eb\x7fc\u0085d"}'.encode()
    assert document_of(raw, DocumentLimit.of_bytes(100)) == {"title": "a\ufffdb\ufffdc\ufffdd"}
    assert text_of("\u2067x".encode()) == "\ufffdx"


def test_a_sentence_of_the_server_is_cleaned() -> None:
    text = json.dumps({"text": "no\u2066\x1b[31m"}).encode()
    decoder = Decoder("the server", extended=True)
    decoder.feed(bytes([State.SENTENCE]) + struct.pack(">I", len(text)) + text)
    message = decoder.take(Expect.STATE)
    assert isinstance(message, Signal)
    assert message.document == {"text": "no\ufffd\ufffd[31m"}


def test_readable_text_of_any_language_stays() -> None:
    text = "Grüße 漢字 \u00a0 narrow\u202fspace"
    assert cleaned(text) == text
    assert received({"title": text}) == {"title": text}


def test_the_servers_report_keeps_its_lines() -> None:
    body = received({"server_output_text": "one\n\ttwo\x1b[0m\r\u202e", "title": "one\ntwo"})
    assert body == {"server_output_text": "one\n\ttwo\ufffd[0m\ufffd\ufffd", "title": "one\ufffdtwo"}


def largest(transport: Transport, stream: int, side: Side) -> Sample:
    values: dict[str, Any] = {}
    for metric in transport.metrics:
        for key in metric.keys:
            values[key] = "x" * 20 if metric.unit is Unit.TEXT else 2**53 + 0.123456
    return Sample(stream, side, 2**40, 2**41, 2**60, values, True)


@pytest.mark.parametrize("name", transports())
@pytest.mark.parametrize("streams", [1, 2, 256])
def test_the_figures_of_a_test_fit_their_limit(name: str, streams: int) -> None:
    transport = transports()[name]
    limit = figures_limit(streams, key_count(transport.metrics))
    samples = [
        largest(transport, number, side)
        for number, side in zip(range(1, streams + 1), [Side.SENDER, Side.RECEIVER] * streams, strict=False)
    ]
    results = encode_results(transport, samples, {}, "cubic", extended=True)
    assert len(received(results, limit)["streams"]) == streams
    assert len(received(encode_stats(7, samples, finished=False), limit)["streams"]) == streams


@pytest.mark.parametrize("part", ["{}", "[]", "1", '""'])
def test_a_document_with_more_values_than_figures_is_refused_undecoded(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these decoded to more than ten thousand values for a test with one stream."""
    limit = figures_limit(1, 47)
    body = b'{"streams":[' + b",".join([part.encode()] * 2500) + b"]}"
    assert len(body) <= limit.size_bytes
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("decoded"))
    decoder = Decoder("the client")
    decoder.document_limit = limit
    decoder.feed(struct.pack(">I", len(body)) + body)
    with pytest.raises(ProtocolError, match="the client sent a document with more values than the test has"):
        decoder.take(Expect.DOCUMENT)


@pytest.mark.parametrize("streams", [1, 256])
def test_a_document_costs_no_more_than_its_figures(streams: int) -> None:
    """Limits grow with the streams alone: four megabytes, once allowed for any test, are for none."""
    limit = figures_limit(streams, 47)
    assert limit.size_bytes <= 32 * 1024 + 11 * 1024 * streams
    assert limit.values <= 1024 + 160 * streams
    assert limit.containers <= 64 + 8 * streams
