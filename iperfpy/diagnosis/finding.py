"""The words of a diagnosis: causes, and findings with their evidence."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from iperfpy.plan import Direction


class Cause(enum.StrEnum):
    """A limit of a direction, or a property of its path. The values are the keys in JSON."""

    APPLICATION = "application"
    RECEIVE_WINDOW = "receive-window"
    SEND_WINDOW = "send-window"
    SEND_BUFFER = "send-buffer"
    PROCESSOR = "processor"
    QUEUE = "queue"
    POLICER = "policer"
    NOISE = "noise"
    BURSTS = "bursts"
    REORDERING = "reordering"
    JITTER = "jitter"
    ACK_LUMPS = "ack-lumps"
    RATE_VARIES = "rate-varies"
    MTU = "mtu"
    SPURIOUS = "spurious"
    ASYMMETRY = "asymmetry"
    DATAGRAMS_DIFFER = "udp-differs"
    LINE = "line"
    UNKNOWN = "unknown"
    """The measurements do not decide; `evidence` says which number is missing."""


class Confidence(enum.StrEnum):
    """Confidence in a cause, by its evidence."""

    SURE = "sure"
    LIKELY = "likely"
    POSSIBLE = "possible"


SURENESS = {Confidence.SURE: "sure", Confidence.LIKELY: "likely", Confidence.POSSIBLE: "possibly"}
"""The words behind a sentence."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause in one direction.

    Parameters
    ----------
    direction : FORWARD or REVERSE
    evidence : figures by name, the unit at the end of the name (`rate_bits_per_s`, `burst_bytes`, `share`)
    sentence : the cause with its numbers, such as "a policer: 20.0 Mb/s, burst 192 KB"
    because : the evidence in words, one line
    advice : one line; empty: nothing to do
    promise : factor by which the advice raises the rate, if it promises one
    """

    direction: Direction
    cause: Cause
    confidence: Confidence
    sentence: str
    because: str = ""
    advice: str = ""
    evidence: Mapping[str, float | int | str] = field(default_factory=dict)
    promise: float | None = None
