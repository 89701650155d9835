"""iperf3's options that this program has not, each with its reason: a script that uses one shall hear why."""

from __future__ import annotations

REFUSED = {
    "--sctp": "SCTP is no transport of this program",
    "--nstreams": "SCTP is no transport of this program",
    "-X": "SCTP is no transport of this program",
    "--xbind": "SCTP is no transport of this program",
}
"""Flag -> reason. iperf3's table of options, with what is the same and what is better, is in OPTIONS.md."""
