"""The facts about the server's end in its results: program, system, and its first data socket.

    "server": {"version": text, "system_info": text, "mss_bytes": n, "send_buffer_bytes": n, ...}

as `records.EndFacts` has them, without those that are not known. An older iperfpy neither sends nor reads
the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iperfpy.control.parameters import json_integer
from iperfpy.control.plan_limits import INT64_MAX
from iperfpy.records import EndFacts

SERVER = "server"
"""Key of the extension in results."""
LONGEST_FACT = 200
"""Characters of a text."""


def encode_end_facts(facts: EndFacts | None) -> dict[str, Any]:
    """The facts under their key; empty without any."""
    known = facts.record() if facts is not None else {}
    return {SERVER: known} if known else {}


def decode_end_facts(extension: object) -> EndFacts:
    """The facts in a server's extension. What it did not send, or sent in another form, is not known."""
    body = extension.get(SERVER) if isinstance(extension, Mapping) else None
    if not isinstance(body, Mapping):
        return EndFacts()
    version, system = (body.get(key) for key in ("version", "system_info"))
    sizes = [json_integer(body.get(f"{name}_bytes")) for name in ("mss", "send_buffer", "receive_buffer")]
    return EndFacts(
        version[:LONGEST_FACT] if isinstance(version, str) else "",
        system[:LONGEST_FACT] if isinstance(system, str) else "",
        *(size if size is not None and 0 <= size <= INT64_MAX else None for size in sizes),
    )
