"""State machines of client and server: every phase with every input, and complete sessions."""

from __future__ import annotations

import struct

import pytest

from iperfpy.control import framing
from iperfpy.control.framing import Closed, Document, Message, ServerError, Signal, State
from iperfpy.control.session import (
    CLIENT,
    OVER,
    SERVER,
    Event,
    Input,
    Send,
    Session,
    SessionPhase,
    Table,
    client_session,
    server_session,
)
from iperfpy.errors import ProtocolError

STOCK = "a" * 36
OURS = "iperfpy-" + "a" * 28

RECEIVED: dict[Input, bytes] = {
    **{state: framing.encode_state(state) for state in State if 0 < state < 64},
    State.ACCESS_DENIED: b"\xff",
    State.SERVER_ERROR: framing.encode_server_error(7),
    **{state: framing.encode_extension(state, {}) for state in (State.HELLO, State.STATS, State.SENTENCE)},
    Event.DOCUMENT: framing.encode_document({"a": 1}),
    Event.CLOSED: b"",
}

TABLES = {"client": CLIENT, "server": SERVER}


def session_in(table: Table, phase: SessionPhase) -> Session:
    session = Session(table, "the peer", OURS, extended=True)
    session.phase = phase
    return session


def reachable(table: Table) -> set[SessionPhase]:
    seen, todo = set(), [SessionPhase.START]
    while todo:
        phase = todo.pop()
        if phase not in seen:
            seen.add(phase)
            todo += table[phase].values()
    return seen


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_all_phases_are_reachable_and_only_final_ones_have_no_exit(table: Table) -> None:
    assert reachable(table) == set(table) - {SessionPhase.BROKEN}
    assert all(not table[phase] for phase in OVER - {SessionPhase.BROKEN})
    assert all(table[phase] for phase in set(table) - OVER)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_waiting_phase_handles_a_closed_connection(table: Table) -> None:
    waiting = set(table) - OVER - ({SessionPhase.START} if table is CLIENT else set())
    assert all(Event.CLOSED in table[phase] for phase in waiting)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_states_expected_with_a_document_cannot_be_its_length(table: Table) -> None:
    # The first byte of a length below 16 MiB is 0; every state that may come instead has another value.
    for phase in table:
        states = {each for each in table[phase] if isinstance(each, State)}
        assert 0 not in states
        if Event.DOCUMENT in table[phase]:
            assert states <= {
                State.CLIENT_TERMINATE,
                State.SERVER_TERMINATE,
                State.SENTENCE,
                State.STATS,
                State.SERVER_ERROR,
                State.ACCESS_DENIED,
            }


PHASES = [(name, phase) for name, table in TABLES.items() for phase in table]


@pytest.mark.parametrize(("name", "phase"), PHASES)
def test_a_message_is_sent_only_in_the_phases_of_the_table(name: str, phase: SessionPhase) -> None:
    table = TABLES[name]
    for send in Send:
        session = session_in(table, phase)
        following = table[phase].get(send)
        assert session.can(send) is (following is not None), send
        if following is None:
            with pytest.raises(RuntimeError, match="cannot be sent while"):
                session.send(send, {})
            assert session.phase is phase, send
        else:
            assert session.send(send, {}), send
            assert session.phase is following, send


@pytest.mark.parametrize(("name", "phase"), PHASES)
def test_input_outside_the_table_breaks_the_session(name: str, phase: SessionPhase) -> None:
    table = TABLES[name]
    for given, data in RECEIVED.items():
        session = session_in(table, phase)
        following = table[phase].get(given)
        if phase in OVER:
            assert session.receive(data) == [], given
            assert session.phase is phase, given
        elif following is not None:
            assert len(session.receive(data)) == 1, given
            assert session.phase is following, given
        else:
            with pytest.raises(ProtocolError, match=r"^the peer "):
                session.receive(data)
            assert session.phase is SessionPhase.BROKEN, given


def states(messages: list[Message]) -> list[State]:
    return [message.state for message in messages if isinstance(message, Signal)]


@pytest.mark.parametrize("chunk", [0, 1])
def test_a_complete_stock_session_has_iperf3s_bytes(chunk: int) -> None:
    """The bytes of both ends are the ones that iperf3 sends, in the same order."""
    client, server = client_session(STOCK), server_session(STOCK)

    def transfer(sender: Session, receiver: Session, *sends: Send) -> list[Message]:
        data = b"".join(sender.send(send, {"n": 1}) for send in sends)
        wire.append(data)
        size = chunk or len(data)
        return [m for at in range(0, len(data), size) for m in receiver.receive(data[at : at + size])]

    # In the order of the protocol: parameters, streams, test, results.
    wire: list[bytes] = []
    assert client.send(Send.COOKIE) == STOCK.encode() + b"\0"
    assert states(transfer(server, client, Send.PARAM_EXCHANGE)) == [State.PARAM_EXCHANGE]
    assert transfer(client, server, Send.PARAMETERS) == [Document({"n": 1})]
    transfer(server, client, Send.CREATE_STREAMS)
    assert states(transfer(server, client, Send.TEST_START, Send.TEST_RUNNING)) == [
        State.TEST_START,
        State.TEST_RUNNING,
    ]
    transfer(client, server, Send.TEST_END)
    transfer(server, client, Send.EXCHANGE_RESULTS)
    assert transfer(client, server, Send.RESULTS) == [Document({"n": 1})]
    assert len(transfer(server, client, Send.RESULTS, Send.DISPLAY_RESULTS)) == 2
    transfer(client, server, Send.IPERF_DONE)
    assert (client.phase, server.phase) == (SessionPhase.DONE, SessionPhase.DONE)
    document = b'\0\0\0\x07{"n":1}'
    assert b"".join(wire) == b"\x09" + document + b"\x0a\x01\x02\x04\x0d" + document * 2 + b"\x0e\x10"
    assert client.receive(framing.encode_server_error(205)) == []


def test_a_stock_peer_never_receives_an_extension() -> None:
    server = server_session(STOCK)
    assert not server.extended
    with pytest.raises(RuntimeError, match="stock"):
        server.send(Send.HELLO, {})
    assert server.phase is SessionPhase.START
    server.send(Send.PARAM_EXCHANGE)
    assert server.send(Send.FAILURE, {"text": "no", "i_errno": 7}) == bytes.fromhex("fe 00000007 00000000")


def test_a_client_uses_extensions_after_the_greeting() -> None:
    client, server = client_session(OURS), server_session(OURS)
    client.send(Send.COOKIE)
    data = server.send(Send.HELLO, {"transports": []}) + server.send(Send.PARAM_EXCHANGE)
    assert not client.extended
    assert states(client.receive(data)) == [State.HELLO, State.PARAM_EXCHANGE]
    assert client.extended


def test_a_client_cannot_send_stats_to_a_stock_server() -> None:
    client = client_session(OURS)
    client.phase = SessionPhase.RUNNING
    with pytest.raises(RuntimeError, match="stock"):
        client.send(Send.STATS, {})


def test_a_failure_is_sent_as_a_sentence_then_a_number() -> None:
    client, server = client_session(OURS), server_session(OURS)
    client.send(Send.COOKIE)
    client.receive(server.send(Send.HELLO, {}))
    messages = client.receive(server.send(Send.FAILURE, {"text": "the disk is full", "i_errno": 201}))
    assert messages == [Signal(State.SENTENCE, {"text": "the disk is full"})]
    assert client.phase is SessionPhase.FAILED


def test_a_server_error_without_errno_is_read_when_the_connection_ends() -> None:
    client = client_session(STOCK)
    client.send(Send.COOKIE)
    assert client.receive(b"\xfe\0\0\0\x8e") == []
    assert client.receive(b"") == [ServerError(142, None)]


def test_a_server_error_is_accepted_instead_of_results() -> None:
    client = session_in(CLIENT, SessionPhase.AWAITS_RESULTS)
    assert client.receive(framing.encode_server_error(144)) == [ServerError(144, 0)]


def test_a_connection_closed_inside_a_message_is_reported_as_such() -> None:
    server = session_in(SERVER, SessionPhase.AWAITS_PARAMETERS)
    server.receive(b"\0\0\0\x20{")
    assert server.receive(b"") == [Closed(inside=True)]


def test_an_announced_4_gib_is_refused_at_once_and_the_peer_gets_a_failure() -> None:
    server = session_in(SERVER, SessionPhase.AWAITS_PARAMETERS)
    with pytest.raises(ProtocolError, match="announced a message of 16 MiB or more"):
        server.receive(b"\xff\xff\xff\xff")
    assert server.receive(b"x" * 1000) == []
    assert server.send(Send.FAILURE, {"text": "no", "i_errno": 110}).endswith(
        framing.encode_server_error(110)
    )


def test_only_a_client_accepts_results_with_a_long_report() -> None:
    """A server may send its report with the results; a client has none."""
    # Only the announced length is sent: it is checked before the body arrives.
    longest = framing.figures_limit(1, 40).size_bytes
    for session, phase, allowed in (
        (client_session(STOCK), SessionPhase.AWAITS_RESULTS, True),
        (server_session(STOCK), SessionPhase.AWAITS_RESULTS, False),
    ):
        session.allow_figures(1, 40)
        session.phase = phase
        announced = struct.pack(">I", longest + 1)
        if allowed:
            assert session.receive(announced) == []
        else:
            with pytest.raises(ProtocolError, match=f"allowed: 1 to {longest}"):
                session.receive(announced)
