"""The errors that transports raise on purpose.

TransportError            one sentence, for a person
├── SettingsError         the user's or the peer's setting is out of range
├── PeerError             the other end broke the protocol, or refused
└── PathError             the path died, or nothing answered in time
"""

from __future__ import annotations


class TransportError(Exception):
    """A transport could not carry out a request; the text is one sentence for a person."""


class SettingsError(TransportError):
    """A setting is unknown, of the wrong type or out of range."""


class PeerError(TransportError):
    """The other end broke the protocol, or refused."""


class PathError(TransportError):
    """Nothing arrived in time, or the path refuses our datagrams."""
