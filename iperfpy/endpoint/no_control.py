"""The part of a control connection that a running test needs, and its stand-in where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from iperfpy.control.session import Send
from iperfpy.endpoint.control_connection import Listener


class ControlFacts(Protocol):
    """Facts of a control session.

    Attributes
    ----------
    peer : name of the other end in errors, such as "the server"
    extended : True if the peer speaks the extended protocol
    cookie : iperf3's identifier of the test
    """

    @property
    def peer(self) -> str: ...

    @property
    def extended(self) -> bool: ...

    @property
    def cookie(self) -> str: ...


class Control(Protocol):
    """A control connection, as a running test sees it; see `ControlConnection`.

    Attributes
    ----------
    has_peer : True if there is a peer that knows of the test, and sends its results
    """

    @property
    def has_peer(self) -> bool: ...

    @property
    def session(self) -> ControlFacts: ...

    @property
    def heard_us(self) -> int | None: ...

    def round_trip_us(self) -> int | None: ...

    def attach(self, listener: Listener) -> None: ...

    def can(self, send: Send) -> bool: ...

    def send(self, send: Send, body: Mapping[str, Any] | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class _Facts:
    peer: str
    extended: bool = False
    cookie: str = ""


class NoControl:
    """The control connection of a test with a peer that has none: nothing is sent, and nothing comes.

    Parameters
    ----------
    peer : name of the other end in sentences
    """

    has_peer = False
    heard_us: int | None = None

    def __init__(self, peer: str) -> None:
        self.session = _Facts(peer)

    def round_trip_us(self) -> int | None:
        """There is no connection to measure."""
        return None

    def attach(self, listener: Listener) -> None:
        """Nothing will come."""

    def can(self, send: Send) -> bool:
        """True if it can be sent, which is never so."""
        return False

    def send(self, send: Send, body: Mapping[str, Any] | None = None) -> None:
        """Raises RuntimeError: `can` was False."""
        raise RuntimeError("there is no control connection")
