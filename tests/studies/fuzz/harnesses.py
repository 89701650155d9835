"""One function per decoder: it takes any bytes, and raises only if the decoder has a fault.

A refusal is an error of the error tree. Anything else that is raised, or a result out of bounds, is a fault.
`seeds` gives valid inputs, from which a fuzzer starts. Engines are made once, and set back before each input
(saved_state.py).
"""

from __future__ import annotations

import contextlib
import json
import struct
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from iperfpy.control import framing
from iperfpy.control.framing import State, decode_cookie, encode_cookie, encode_document, encode_state
from iperfpy.control.parameters import decode_hello, decode_parameters, encode_hello, encode_parameters
from iperfpy.control.peer_text import DocumentLimit, document_of
from iperfpy.control.results import decode_results, decode_stats, encode_results, encode_stats
from iperfpy.control.session import OVER, SessionPhase, client_session, server_session
from iperfpy.errors import DocumentError, IperfpyError
from iperfpy.plan import Plan
from iperfpy.protocols.datagrams.address_proof import PROOF_BYTES, Prover, Verifier, split_last
from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.datagrams.conversations import by_conversation
from iperfpy.protocols.kcp import inbound
from iperfpy.protocols.kcp.ack_ranges import REPEATED, RangeAck, Row, write_ranges
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.envelope.enveloped_engine import EnvelopedEngine
from iperfpy.protocols.kcp.envelope.fec import Fec
from iperfpy.protocols.kcp.envelope.layer import Layer
from iperfpy.protocols.kcp.envelope.layer_factory import crypt_layer
from iperfpy.protocols.kcp.envelope.shard_codec import Geometry
from iperfpy.protocols.metrics import Side
from iperfpy.protocols.registry import transports
from iperfpy.protocols.udp import association
from iperfpy.protocols.udp.packets import Columns, headers
from iperfpy.protocols.udp.reception import Reception
from iperfpy.records import Sample
from iperfpy.store.run_recorder import RunRecorder
from iperfpy.store.stored_run import Run
from tests.iperfpy.report.scenes import SCENES, SceneTransport
from tests.protocols.kcp.ends import (
    ACK,
    CONV,
    PUSH,
    WASK,
    WINS,
    Fixed,
    Recount,
    engine,
    push,
    seg,
    stock_recovery,
)
from tests.studies.fuzz import files, peers
from tests.studies.fuzz.saved_state import SavedState

SIDES = {1: Side.SENDER, 3: Side.RECEIVER}
LIMIT = DocumentLimit(framing.PARAMETERS_LIMIT_BYTES, 2000, 10_000)
COOKIES = ("s" * 36, "iperfpy-" + "o" * 28)
PHASES = list(SessionPhase)
SCENE = SceneTransport()
ENVELOPE = Geometry(2, 2)
CIPHERS = ("", "none", "xor", "aes", "aes-128-gcm")
MOST_PIECES = 16
"""Most pieces in which an input reaches a session: thousands of one byte find no more than a few."""


@dataclass(frozen=True, slots=True)
class Harness:
    """A decoder under test.

    `longest_bytes` : of an input. By default several datagrams, or a whole document; less where longer inputs
        only repeat what short ones do.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    takes_datagrams: bool = False
    longest_bytes: int = 4096


class Taken:
    """Datagrams that the harnesses of this process have given to decoders."""

    datagrams = 0


def _is_harmless(text: str) -> bool:
    """True if a terminal shows the text as it is: no controls, formats, surrogates, separators of lines."""
    return not any(unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for each in text)


# ------------------------------------------------------------------ control connection


def _session(data: bytes, *, client: bool) -> None:
    """The first two bytes choose the phase, the kind of peer and the least length of the pieces."""
    if len(data) < 2:
        return
    session = (client_session if client else server_session)(COOKIES[data[0] >> 7])
    phase = PHASES[data[0] % len(PHASES)]
    if phase not in session._table:
        return
    session.allow_figures(2, 30)
    session.phase, body = phase, data[2:]
    step = max(1 + data[1], -(-len(body) // MOST_PIECES))
    with contextlib.suppress(IperfpyError):
        for start in range(0, len(body), step):
            session.receive(body[start : start + step])
        session.receive(b"")
    assert session.phase in OVER or session.phase in session._table


def _session_seeds() -> list[bytes]:
    messages = [encode_state(state) for state in State]
    messages += [encode_document({"tcp": True, "time": 1}), encode_cookie(COOKIES[0])]
    messages += [framing.encode_extension(State.HELLO, encode_hello(["tcp"])), struct.pack(">I", 1 << 31)]
    return [bytes([index, 255]) + message for index in range(len(PHASES)) for message in messages]


def _document(raw: bytes) -> Mapping[str, Any] | None:
    try:
        return document_of(raw, LIMIT)
    except ValueError:
        return None


def _parameters(data: bytes) -> None:
    body = _document(data)
    if body is None:
        return
    with contextlib.suppress(IperfpyError):
        plan = decode_parameters(body, transports()).plan
        assert 1 <= plan.parallel <= 128
        assert 1 <= plan.block_bytes <= 1 << 20
        assert _is_harmless(plan.title + plan.extra_data)


def _parameters_seeds() -> list[bytes]:
    return [
        json.dumps(encode_parameters(Plan(name, one.settings(), block_bytes=1000), one, convs)).encode()
        for name, one in transports().items()
        for convs in ([7], None)
    ]


def _figures(data: bytes) -> None:
    """The first byte chooses the transport."""
    body = _document(data[1:])
    if body is None:
        return
    transport = list(transports().values())[data[0] % len(transports())]
    with contextlib.suppress(IperfpyError):
        results = decode_results(body, transport, SIDES, "the server")
        assert set(results.samples) <= set(SIDES)
    with contextlib.suppress(IperfpyError):
        assert decode_stats(body, transport, SIDES, "the server").sequence >= 0


def _figures_seeds() -> list[bytes]:
    made: list[bytes] = []
    for index, one in enumerate(transports().values()):
        samples = [
            Sample(stream, side, 0, 1_000_000, 1000, {each.key: 7 for each in one.metrics})
            for stream, side in SIDES.items()
        ]
        cpu = {"host_total": 1.0, "host_user": 0.5, "host_system": 0.5}
        for extended in (True, False):
            body = encode_results(one, samples, cpu, "bbr", extended=extended, server_output="text")
            made.append(bytes([index]) + json.dumps(body).encode())
        made.append(bytes([index]) + json.dumps(encode_stats(0, samples, finished=False)).encode())
    return made


def _greeting(data: bytes) -> None:
    body = _document(data)
    if body is not None:
        with contextlib.suppress(IperfpyError):
            assert all(map(_is_harmless, decode_hello(body).transports))
    with contextlib.suppress(IperfpyError):
        assert _is_harmless(decode_cookie(data).text)


def _greeting_seeds() -> list[bytes]:
    hello = encode_hello(list(transports()), {"tcp": 1})
    return [json.dumps(hello).encode(), *(encode_cookie(cookie) for cookie in COOKIES)]


# ------------------------------------------------------------------ datagrams


def _batches(data: bytes) -> list[DatagramBatch]:
    """Batches as a socket gives them. The first byte is the stride in units of 4 bytes, less one."""
    if len(data) < 2:
        return []
    stride = 4 * (1 + data[0])
    array = np.frombuffer(data, np.uint8)[1:]
    count, rest = divmod(len(array), stride)
    Taken.datagrams += count + bool(rest)
    return [DatagramBatch(array, stride, count + bool(rest), rest or stride)]


@cache
def _window_in_flight(*, stock: bool, ranges: bool) -> tuple[Engine, SavedState]:
    """An engine that has sent a window."""
    one = engine(
        stock_recovery() if stock else None,
        Fixed(64),
        mtu=100,
        send_window=32,
        receive_window=32,
        ack_repeats=0 if stock else 3,
        ack_ranges=ranges,
        ack_share=0.02 if ranges else 0.0,
    )
    one.write(memoryview(bytes(76 * 20)), 0)
    one.transmit(0)
    return one, SavedState(one)


def _kcp_engine(data: bytes, *, stock: bool, ranges: bool = False) -> None:
    """An engine with a window in flight receives the datagrams; its counts still add up."""
    one, saved = _window_in_flight(stock=stock, ranges=ranges)
    saved.restore()
    for now_us, batch in enumerate(_batches(data), 1):
        one.receive(batch, now_us)
        one.transmit(now_us + 1000)
    recount = Recount.of(one)
    assert one.recovery.in_flight == recount.in_flight
    assert one.sending.sacked == recount.sacked
    assert one.sending.una <= one.sending.nxt <= one.sending.end
    assert one.receiving.stored <= one.receiving.limit


def _kcp_seeds() -> list[bytes]:
    acks = b"".join(seg(ACK, sn=number, una=0) for number in range(4))
    single = [seg(WASK), seg(WINS, wnd=1), seg(ACK, sn=3, una=3), acks, push(0, b"a" * 76)]
    runs = [b"".join(push(number, b"b" * 76) for number in range(6)), acks * 3, seg(PUSH, b"", length=9)]
    return [bytes([24]) + each for each in (*single, *runs, acks + push(2, b"c" * 76))]


@cache
def _window_in_envelope(cipher: str) -> tuple[Engine, Fec, EnvelopedEngine, SavedState]:
    """An engine that has sent a window, in an envelope."""
    one = engine(stock_recovery(), Fixed(64), mtu=100, send_window=32, receive_window=32)
    one.write(memoryview(bytes(76 * 20)), 0)
    decoder = Fec(ENVELOPE)
    layers: list[Layer] = [decoder]
    if cipher:
        layers.append(crypt_layer(cipher, b"a secret", bytes))
    wrapped = EnvelopedEngine(one, layers)
    wrapped.transmit(0)  # this also computes what a cipher keeps
    return one, decoder, wrapped, SavedState(wrapped)


def _kcp_envelope(data: bytes) -> None:
    """Datagrams in an envelope reach an engine: sets are restored, and whatever is restored is garbage, too.
    The second byte chooses the cipher."""
    if len(data) < 3:
        return
    one, decoder, wrapped, saved = _window_in_envelope(CIPHERS[data[1] % len(CIPHERS)])
    saved.restore()
    for now_us, batch in enumerate(_batches(data[:1] + data[2:]), 1):
        wrapped.receive(batch, now_us)
        for sent in wrapped.transmit(now_us + 1000):
            assert sent.count
        assert one.counts.datagrams_received == batch.count
    assert decoder.counts.parity_wasted <= decoder.counts.parity_received
    assert decoder.counts.recovered <= ENVELOPE.data * decoder.counts.parity_received
    recount = Recount.of(one)
    assert one.recovery.in_flight == recount.in_flight
    assert one.sending.sacked == recount.sacked
    assert one.receiving.stored <= one.receiving.limit


def _kcp_envelope_seeds() -> list[bytes]:
    """Whole sets, sets without their first or second datagram, and all that encrypted."""
    segments = [push(number, b"b" * 76) for number in range(8)]
    segments[5:7] = [seg(ACK, sn=number, una=3).ljust(100, b"\0") for number in (1, 2)]
    plain = DatagramBatch.of(np.frombuffer(b"".join(segments), np.uint8), 100)
    datagrams = [datagram.tobytes() for batch in Fec(ENVELOPE).seal([plain], 0) for datagram in batch]
    made = []
    for missing in ((), (0,), (1, 4), (4, 5)):
        kept = [each for at, each in enumerate(datagrams) if at not in missing]
        made.append(bytes([26, 0]) + b"".join(kept))
        for at, name in enumerate(CIPHERS[1:], 1):
            layer = crypt_layer(name, b"a secret", bytes)
            batch = DatagramBatch.of(np.frombuffer(b"".join(kept), np.uint8), 108)
            wire = b"".join(each.tobytes() for one in layer.seal([batch], 0) for each in one)
            made.append(bytes([(108 + layer.header_bytes) // 4 - 1, at]) + wire)
    return made


def _kcp_range_seeds() -> list[bytes]:
    """Acknowledgements in ranges: in order, behind holes, of repeats, none; and data that asks for them."""

    def made(una: int, rows: list[Row], pairs: list[tuple[int, int]], serial: int = 0) -> bytes:
        return write_ranges(CONV, 128, una, RangeAck(19, una, 7, 0, serial, rows, pairs)).tobytes()

    plain = made(4, [(0, 4, 2, 1)], [])
    holes = made(2, [(3, 2, 2, 1), (6, 1, 1, 1)], [(1, 3), (4, 5)], serial=3)
    again = made(5, [(1, 2 | REPEATED, 0, 1)], [], serial=4)
    asking = push(0, b"a" * 76, frg=90) + plain
    return [bytes([24]) + each for each in (plain, holes, again, made(0, [], []), plain + holes, asking)]


def _kcp_decoder(data: bytes) -> None:
    """The quick shapes and the plain walk over a batch give the same segments."""
    for batch in _batches(data):
        quick, _ = inbound.read_batch(batch, CONV, 5, 5)
        plain = inbound.decode_each(batch, CONV, 5, 5)
        assert _pushed(quick) == _pushed(plain)
        assert max((one.una for one in quick), default=0) == max((one.una for one in plain), default=0)
        assert [one.ranges for one in quick if one.ranges] == [one.ranges for one in plain if one.ranges]


def _pushed(records: list[inbound.Arrived]) -> list[tuple[int, bytes]]:
    return [
        (int(number), row.tobytes())
        for one in records
        if one.pushes is not None
        for number, row in zip(one.pushes.numbers(), one.pushes.rows, strict=True)
    ]


def _udp_data(data: bytes) -> None:
    """Headers, counted by the receiver: no count is negative. The second byte chooses their width."""
    wide = data[1:2] > b"\x7f"
    for batch in _batches(data[:1] + data[2:]):
        if batch.stride < (16 if wide else 12):  # the reader counts these apart
            continue
        raw = bytearray(batch.data[: batch.size].tobytes() + bytes(16))  # a socket's buffer is longer
        columns = Columns(raw, batch.size, batch.stride, wide=wide)
        if not columns.count:
            continue
        sent_us, numbers = headers(raw, batch.stride, columns.count, wide=wide)
        # Its 128 KiB of zeros cost less than setting them back.
        reception = Reception(wide=wide)
        for _ in range(2):
            wire = columns.numbers()
            if not reception.add_run(wire, columns.count, 5.0, columns.size):
                reception.add(numbers, -sent_us.astype(np.float64), columns.size)
        tally = reception.tally
        assert tally.datagrams == 2 * columns.count
        assert min(tally.lost, tally.duplicates) >= 0


def _udp_seeds() -> list[bytes]:
    def run(*numbers: int) -> bytes:
        return b"".join(struct.pack(">III", 1, 2, number) + bytes(8) for number in numbers)

    orders = ((1, 2, 3), (1, 3, 2), (5, 5, 1), (2**32 - 1, 0))
    return [bytes([4, wide]) + run(*numbers) for numbers in orders for wide in (0, 255)]


def _opening(data: bytes) -> None:
    """First datagrams, challenges and proofs. No answer is longer than what asked for it."""
    conv = 0x1122_3344
    prover, verifier = Prover(conv), Verifier(conv, bytes([7]).__mul__)
    addresses = (("192.0.2.1", 1), ("192.0.2.2", 2))
    challenge = verifier.challenge(addresses)
    assert len(prover.answer(data)) <= len(data)
    assert verifier.accepts(data, addresses) == (data == challenge)
    if association.is_stock_call(data):
        assert len(association.stock_answer(data)) <= association.CALL_BYTES
    for batch in _batches(data):
        assert sum(part.count for _, part in by_conversation(batch)) == batch.count
        if batch.last_size == PROOF_BYTES:
            rest, taken = split_last(batch, challenge[:4])
            assert (rest.count if rest else 0) + len(taken) == batch.count


def _opening_seeds() -> list[bytes]:
    challenge = Verifier(0x1122_3344, bytes([7]).__mul__).challenge((("192.0.2.1", 1), ("192.0.2.2", 2)))
    return [challenge, challenge[:4] + bytes(6), association.CALL, bytes([2]) + challenge, bytes(40)]


def _udp_probes(data: bytes) -> None:
    Taken.datagrams += peers.udp_probes(data)


# ------------------------------------------------------------------ files


def _stored_run(data: bytes) -> None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        run = Run.from_document(document, SCENE)
    except DocumentError:
        return
    json.dumps(run.document())


def _stored_run_seeds() -> list[bytes]:
    made: list[bytes] = []
    for scene in SCENES.values():
        recorder = RunRecorder()
        scene().play(recorder)
        made.append(json.dumps(recorder.run().document()).encode())
    return made


MADE_ONCE = (_window_in_flight, _window_in_envelope)
"""The functions with results that all inputs of a process share."""

HARNESSES: Mapping[str, Harness] = {
    "control-client": Harness(lambda data: _session(data, client=True), _session_seeds),
    "control-server": Harness(lambda data: _session(data, client=False), _session_seeds),
    "parameters": Harness(_parameters, _parameters_seeds),
    "figures": Harness(_figures, _figures_seeds),
    "greeting": Harness(_greeting, _greeting_seeds),
    "kcp-rack": Harness(lambda data: _kcp_engine(data, stock=False), _kcp_seeds, takes_datagrams=True),
    "kcp-ranges": Harness(
        lambda data: _kcp_engine(data, stock=False, ranges=True),
        lambda: [*_kcp_seeds(), *_kcp_range_seeds()],
        takes_datagrams=True,
    ),
    "kcp-stock": Harness(lambda data: _kcp_engine(data, stock=True), _kcp_seeds, takes_datagrams=True),
    "kcp-envelope": Harness(_kcp_envelope, _kcp_envelope_seeds, takes_datagrams=True),
    "kcp-decoder": Harness(_kcp_decoder, lambda: [*_kcp_seeds(), *_kcp_range_seeds()], takes_datagrams=True),
    "udp-data": Harness(_udp_data, _udp_seeds, takes_datagrams=True),
    "opening": Harness(_opening, _opening_seeds, takes_datagrams=True),
    "stored-run": Harness(_stored_run, _stored_run_seeds),
    "messages": Harness(peers.messages, peers.message_seeds, longest_bytes=256),
    "udp-probes": Harness(_udp_probes, peers.udp_probe_seeds, takes_datagrams=True),
    "token": Harness(peers.token, peers.token_seeds),
    "evidence": Harness(peers.evidence, peers.evidence_seeds),
    "printed-run": Harness(files.printed_run, files.printed_run_seeds),
    "experiment": Harness(files.experiment, files.experiment_seeds),
    "index": Harness(files.index, files.index_seeds),
    "path": Harness(files.path_text, files.path_text_seeds, longest_bytes=256),
    "trace": Harness(files.trace, files.trace_seeds),
}
"""Name -> the decoder under test."""
