"""The two state machines of a control connection: which end may send what, and when. No socket, no clock.

    client                                        server
    START             --cookie-->                 START (the cookie has been read)
    CONNECTED
    GREETED           <--HELLO--                  GREETED     only for a cookie that starts "iperfpy-"
    PARAMETERS_DUE    <--PARAM_EXCHANGE--         AWAITS_PARAMETERS
    AWAITS_STREAMS    --parameters-->             PARAMETERS_KNOWN
    CREATING          <--CREATE_STREAMS--         CREATING
    STARTING          <--TEST_START--             STARTING
    RUNNING           <--TEST_RUNNING--           RUNNING     STATS both ways
    ENDING            --TEST_END-->               ENDED       STATS from the server
    RESULTS_DUE       <--EXCHANGE_RESULTS--       AWAITS_RESULTS   STATS from the client
    AWAITS_RESULTS    --results-->                RESULTS_KNOWN
    RESULTS_KNOWN     <--results--                REPLIED
    DISPLAYED         <--DISPLAY_RESULTS--        DISPLAYED
    DONE              --IPERF_DONE-->             DONE

A stock server goes from START to AWAITS_PARAMETERS at once, and its client from CONNECTED to PARAMETERS_DUE.

The tables `CLIENT` and `SERVER` hold every rule: phase -> input -> next phase. An input is a `State` that
arrived, an `Event` (something else that arrived) or a `Send` (a message of this end). An input that the
table does not have is refused before anything changes: with `ProtocolError` if the peer sent it, with
`RuntimeError` if this end did. In a phase of `OVER` all arrivals are ignored: servers are known to send a
stray error after the end of a good test.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from iperfpy.control import framing
from iperfpy.control.framing import Decoder, Document, Expect, Message, ServerError, Signal, State
from iperfpy.control.parameters import COOKIE_PREFIX
from iperfpy.errors import ProtocolError


class SessionPhase(enum.Enum):
    """The phase of a control connection; the text completes "while ..."."""

    START = "the connection was being opened"
    CONNECTED = "a greeting was expected"
    GREETED = "PARAM_EXCHANGE was expected"
    PARAMETERS_DUE = "the parameters were being written"
    AWAITS_PARAMETERS = "the parameters were expected"
    PARAMETERS_KNOWN = "the parameters were being checked"
    AWAITS_STREAMS = "CREATE_STREAMS was expected"
    CREATING = "the data streams were being opened"
    STARTING = "the test was about to run"
    RUNNING = "the test was running"
    ENDING = "EXCHANGE_RESULTS was expected"
    ENDED = "the last figures were being taken"
    RESULTS_DUE = "the results were being written"
    AWAITS_RESULTS = "the results were expected"
    RESULTS_KNOWN = "the results were being read"
    REPLIED = "the results had been sent"
    DISPLAYED = "the end of the test was expected"
    DONE = "the test was over"
    TERMINATED = "the test had been ended"
    FAILED = "the test had failed"
    BROKEN = "nothing more was expected"


OVER = frozenset({SessionPhase.DONE, SessionPhase.TERMINATED, SessionPhase.FAILED, SessionPhase.BROKEN})
"""Phases in which arrivals are ignored. BROKEN: the peer broke the protocol, and may still be told so."""


class Event(enum.Enum):
    """Arrivals other than a state byte."""

    DOCUMENT = "a document"
    CLOSED = "the end of the connection"


class Send(enum.Enum):
    """Messages of this end. Those that share their name with a `State` are that state byte."""

    COOKIE = "the cookie"
    PARAMETERS = "the parameters"
    RESULTS = "the results"
    FAILURE = "a sentence (to an iperfpy client) and SERVER_ERROR"
    HELLO = "HELLO"
    PARAM_EXCHANGE = "PARAM_EXCHANGE"
    CREATE_STREAMS = "CREATE_STREAMS"
    TEST_START = "TEST_START"
    TEST_RUNNING = "TEST_RUNNING"
    TEST_END = "TEST_END"
    EXCHANGE_RESULTS = "EXCHANGE_RESULTS"
    DISPLAY_RESULTS = "DISPLAY_RESULTS"
    IPERF_DONE = "IPERF_DONE"
    STATS = "STATS"
    CLIENT_TERMINATE = "CLIENT_TERMINATE"
    SERVER_TERMINATE = "SERVER_TERMINATE"
    ACCESS_DENIED = "ACCESS_DENIED"


Input = State | Event | Send
Table = Mapping[SessionPhase, Mapping[Input, SessionPhase]]

_ENDED_BY_SERVER: Mapping[Input, SessionPhase] = {
    State.SERVER_TERMINATE: SessionPhase.TERMINATED,
    State.SENTENCE: SessionPhase.FAILED,
    State.SERVER_ERROR: SessionPhase.FAILED,
    State.ACCESS_DENIED: SessionPhase.FAILED,
    Event.CLOSED: SessionPhase.FAILED,
}
_ENDED_BY_EITHER: Mapping[Input, SessionPhase] = {
    **_ENDED_BY_SERVER,
    Send.CLIENT_TERMINATE: SessionPhase.TERMINATED,  # but not where a stock server waits for a document
}

CLIENT: Table = {
    SessionPhase.START: {Send.COOKIE: SessionPhase.CONNECTED},
    SessionPhase.CONNECTED: {
        **_ENDED_BY_EITHER,
        State.HELLO: SessionPhase.GREETED,
        State.PARAM_EXCHANGE: SessionPhase.PARAMETERS_DUE,
    },
    SessionPhase.GREETED: {**_ENDED_BY_EITHER, State.PARAM_EXCHANGE: SessionPhase.PARAMETERS_DUE},
    SessionPhase.PARAMETERS_DUE: {**_ENDED_BY_SERVER, Send.PARAMETERS: SessionPhase.AWAITS_STREAMS},
    SessionPhase.AWAITS_STREAMS: {**_ENDED_BY_EITHER, State.CREATE_STREAMS: SessionPhase.CREATING},
    SessionPhase.CREATING: {**_ENDED_BY_EITHER, State.TEST_START: SessionPhase.STARTING},
    SessionPhase.STARTING: {**_ENDED_BY_EITHER, State.TEST_RUNNING: SessionPhase.RUNNING},
    SessionPhase.RUNNING: {
        **_ENDED_BY_EITHER,
        State.STATS: SessionPhase.RUNNING,
        Send.STATS: SessionPhase.RUNNING,
        Send.TEST_END: SessionPhase.ENDING,
    },
    SessionPhase.ENDING: {
        **_ENDED_BY_EITHER,
        State.STATS: SessionPhase.ENDING,
        State.EXCHANGE_RESULTS: SessionPhase.RESULTS_DUE,
    },
    SessionPhase.RESULTS_DUE: {
        **_ENDED_BY_SERVER,
        Send.STATS: SessionPhase.RESULTS_DUE,
        Send.RESULTS: SessionPhase.AWAITS_RESULTS,
    },
    SessionPhase.AWAITS_RESULTS: {**_ENDED_BY_EITHER, Event.DOCUMENT: SessionPhase.RESULTS_KNOWN},
    SessionPhase.RESULTS_KNOWN: {**_ENDED_BY_EITHER, State.DISPLAY_RESULTS: SessionPhase.DISPLAYED},
    SessionPhase.DISPLAYED: {
        **_ENDED_BY_EITHER,
        Event.CLOSED: SessionPhase.DONE,
        Send.IPERF_DONE: SessionPhase.DONE,
    },
    SessionPhase.DONE: {},
    SessionPhase.TERMINATED: {},
    SessionPhase.FAILED: {},
    SessionPhase.BROKEN: {Send.CLIENT_TERMINATE: SessionPhase.TERMINATED},
}

_ENDED_BY_CLIENT: Mapping[Input, SessionPhase] = {
    State.CLIENT_TERMINATE: SessionPhase.TERMINATED,
    Event.CLOSED: SessionPhase.FAILED,
    Send.FAILURE: SessionPhase.FAILED,
    Send.SERVER_TERMINATE: SessionPhase.TERMINATED,
}

SERVER: Table = {
    SessionPhase.START: {
        **_ENDED_BY_CLIENT,
        Send.ACCESS_DENIED: SessionPhase.FAILED,
        Send.HELLO: SessionPhase.GREETED,
        Send.PARAM_EXCHANGE: SessionPhase.AWAITS_PARAMETERS,
    },
    SessionPhase.GREETED: {**_ENDED_BY_CLIENT, Send.PARAM_EXCHANGE: SessionPhase.AWAITS_PARAMETERS},
    SessionPhase.AWAITS_PARAMETERS: {**_ENDED_BY_CLIENT, Event.DOCUMENT: SessionPhase.PARAMETERS_KNOWN},
    SessionPhase.PARAMETERS_KNOWN: {**_ENDED_BY_CLIENT, Send.CREATE_STREAMS: SessionPhase.CREATING},
    SessionPhase.CREATING: {**_ENDED_BY_CLIENT, Send.TEST_START: SessionPhase.STARTING},
    SessionPhase.STARTING: {**_ENDED_BY_CLIENT, Send.TEST_RUNNING: SessionPhase.RUNNING},
    SessionPhase.RUNNING: {
        **_ENDED_BY_CLIENT,
        State.STATS: SessionPhase.RUNNING,
        Send.STATS: SessionPhase.RUNNING,
        State.TEST_END: SessionPhase.ENDED,
    },
    SessionPhase.ENDED: {
        **_ENDED_BY_CLIENT,
        Send.STATS: SessionPhase.ENDED,
        Send.EXCHANGE_RESULTS: SessionPhase.AWAITS_RESULTS,
    },
    SessionPhase.AWAITS_RESULTS: {
        **_ENDED_BY_CLIENT,
        State.STATS: SessionPhase.AWAITS_RESULTS,
        Event.DOCUMENT: SessionPhase.RESULTS_KNOWN,
    },
    SessionPhase.RESULTS_KNOWN: {**_ENDED_BY_CLIENT, Send.RESULTS: SessionPhase.REPLIED},
    SessionPhase.REPLIED: {**_ENDED_BY_CLIENT, Send.DISPLAY_RESULTS: SessionPhase.DISPLAYED},
    SessionPhase.DISPLAYED: {
        **_ENDED_BY_CLIENT,
        Event.CLOSED: SessionPhase.DONE,
        State.IPERF_DONE: SessionPhase.DONE,
    },
    SessionPhase.DONE: {},
    SessionPhase.TERMINATED: {},
    SessionPhase.FAILED: {},
    SessionPhase.BROKEN: {Send.FAILURE: SessionPhase.FAILED, Send.SERVER_TERMINATE: SessionPhase.TERMINATED},
}


class Session:
    """One end of a control connection: received bytes to messages, messages of this end to bytes.

    Made by `client_session` and `server_session`.

    Attributes
    ----------
    phase : the present phase
    cookie : identifier of the test
    peer : name of the other end in errors: "the client" or "the server"
    extended : True once the peer is known to be iperfpy, so that it understands extension messages
    """

    def __init__(self, table: Table, peer: str, cookie: str, *, extended: bool) -> None:
        self.phase = SessionPhase.START
        self.cookie = cookie
        self.peer = peer
        self.extended = extended
        self._table = table
        self._decoder = Decoder(peer, extended=cookie.startswith(COOKIE_PREFIX))

    def allow_figures(self, streams: int, keys: int) -> None:
        """Set the limits of the peer's documents for a test of that many data streams, each with `keys`
        figures."""
        limit = framing.figures_limit(streams, keys)
        output_bytes = framing.SERVER_OUTPUT_LIMIT_BYTES if self._table is CLIENT else 0
        evidence_bytes = framing.EVIDENCE_LIMIT_BYTES if self.extended else 0
        results = replace(limit, size_bytes=limit.size_bytes + evidence_bytes)
        self._decoder.document_limit = results.plus_text(output_bytes)
        self._decoder.extension_limits[State.STATS] = limit

    def can(self, send: Send) -> bool:
        """True if `send` is allowed now."""
        return send in self._table[self.phase]

    def receive(self, data: bytes) -> list[Message]:
        """The messages that `data` completes; empty `data` is the end of the connection.

        Raises
        ------
        ProtocolError
            The peer may not send this now. The session then is BROKEN.
        """
        # One message at a time: each decides which kind of message the next bytes are.
        if data:
            self._decoder.feed(data)
        else:
            self._decoder.feed_eof()
        messages: list[Message] = []
        while self.phase not in OVER:
            message = self._take()
            if message is None:
                break
            messages.append(message)
        return messages

    def send(self, send: Send, body: Mapping[str, Any] | None = None) -> bytes:
        """The bytes of a message. Raises `RuntimeError` if it is not allowed now."""
        following = self._table[self.phase].get(send)
        if following is None:
            raise RuntimeError(f"{send.value} cannot be sent while {self.phase.value}")
        data = self._encode(send, body)
        self.phase = following
        return data

    def _take(self) -> Message | None:
        try:
            message = self._decoder.take(self._expected(), self._instead())
            if message is not None:
                self._advance(message)
        except ProtocolError:
            self.phase = SessionPhase.BROKEN
            raise
        return message

    def _expected(self) -> Expect:
        return Expect.DOCUMENT if Event.DOCUMENT in self._table[self.phase] else Expect.STATE

    def _instead(self) -> frozenset[State]:
        return frozenset(each for each in self._table[self.phase] if isinstance(each, State))

    def _advance(self, message: Message) -> None:
        given = _input(message)
        following = self._table[self.phase].get(given)
        if following is None:
            name = given.name if isinstance(given, State) else given.value
            raise ProtocolError(f"{self.peer} sent {name} while {self.phase.value}")
        if given is State.HELLO:
            self.extended = True
        self.phase = following

    def _encode(self, send: Send, body: Mapping[str, Any] | None) -> bytes:
        if send is Send.COOKIE:
            return framing.encode_cookie(self.cookie)
        if send in (Send.PARAMETERS, Send.RESULTS):
            return framing.encode_document(body or {})
        if send is Send.FAILURE:
            return self._encode_failure(body or {})
        state = State[send.name]
        if state < framing.FIRST_EXTENSION:
            return framing.encode_state(state)
        if not self.extended:
            raise RuntimeError(f"{send.value} cannot be sent to a stock iperf3")
        return framing.encode_extension(state, body or {})

    def _encode_failure(self, body: Mapping[str, Any]) -> bytes:
        sentence = {"text": str(body.get("text", ""))[:1000]}
        explanation = framing.encode_extension(State.SENTENCE, sentence) if self.extended else b""
        return explanation + framing.encode_server_error(int(body.get("i_errno", 0)))


def client_session(cookie: str) -> Session:
    """The client's end. The server's greeting, if there is one, shows that it is iperfpy."""
    return Session(CLIENT, "the server", cookie, extended=False)


def server_session(cookie: str) -> Session:
    """The server's end, once the cookie has been read, which shows if the client is iperfpy."""
    return Session(SERVER, "the client", cookie, extended=cookie.startswith(COOKIE_PREFIX))


def _input(message: Message) -> Input:
    if isinstance(message, Signal):
        return message.state
    if isinstance(message, ServerError):
        return State.SERVER_ERROR
    if isinstance(message, Document):
        return Event.DOCUMENT
    return Event.CLOSED
