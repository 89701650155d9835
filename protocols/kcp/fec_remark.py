"""The sentence at the end of a test with `--kcp-fec auto`: the bytes that it added, and what they brought."""

from __future__ import annotations

from collections.abc import Mapping

from iperfpy.protocols.metrics import Value, number


def fec_remark(sender: Mapping[str, Value]) -> tuple[str, ...]:
    """The sentence about a sender if its forward error correction followed the path; none for any other."""
    reason = sender.get("fec_reason")
    if reason is None:
        return ()
    if not number(sender.get("fec_parity_sent")):
        return (f"--kcp-fec auto sent no parity: {reason}",)
    last = f"{sender.get('fec_geometry')} in the end, because {reason}"
    overhead = number(sender.get("fec_overhead_percent"))
    restored, gain = number(sender.get("recover_percent")), number(sender.get("fec_gain"))
    left = number(sender.get("fec_residual_percent"))
    if overhead is None:
        return (f"--kcp-fec auto: {last}",)
    text = f"--kcp-fec auto added {overhead:.0f} % to the bytes"
    if restored is None or gain is None or left is None:
        return (f"{text}: {last}",)
    bought = f"which restored {restored:.2f} % of the datagrams ({gain:.2f} % for each per cent added)"
    return (f"{text}, {bought}; {left:.2f} % stayed lost. It was {last}",)
