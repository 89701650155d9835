"""The errors that transports raise on purpose.

TransportError            one sentence, for a person
├── SettingsError         the user's or the peer's setting is out of range
├── StreamPeerError       the other end of the stream broke the protocol, or refused
└── StreamPathError       the stream's path died, or nothing answered in time

The program makes the error of a test out of them (`iperfpy.errors.from_transport`).
"""

from __future__ import annotations


class TransportError(Exception):
    """A transport could not carry out a request; the text is one sentence for a person."""


class SettingsError(TransportError):
    """A setting is unknown, of the wrong type or out of range."""


class StreamPeerError(TransportError):
    """The other end of the stream broke the protocol, or refused."""


class StreamPathError(TransportError):
    """Nothing arrived in time, or the path refuses our datagrams."""
