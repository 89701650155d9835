"""What iperf3's error numbers mean, as sentences that say whose fault it is."""

from __future__ import annotations

SERVER_ERRORS = {
    5: "the server does not accept this duration",
    6: "the server does not accept this number of streams",
    7: "the server does not accept this block length",
    8: "the server does not accept this socket buffer size",
    9: "the server does not accept this report interval",
    10: "the server does not accept this maximum segment size",
    11: "the server's platform has no sendfile",
    12: "the server does not accept this omitted time",
    15: "the server does not accept this burst",
    20: "the server does not accept this datagram size",
    21: "the server does not accept this type of service",
    25: "the server does not run a test that is reverse and bidirectional at once",
    27: "the server's limit for the total rate was exceeded",
    34: "the server does not run a UDP test with a file",
    37: "the server limits how long a test may last",
    39: "the server's platform cannot discard what it receives",
    100: "the server could not set up a test",
    102: "the server could not listen for the data streams",
    104: "the server could not accept a connection",
    106: "the server did not get the cookie in time",
    110: "the server was sent a message that it does not know",
    114: "the server could not read the parameters",
    117: "the server could not read the results",
    119: "the client has terminated",
    120: "the server has terminated",
    121: "the server refuses this test",
    123: "the server could not set the maximum segment size",
    124: "the server could not set its socket buffers",
    125: "the server could not set the type of service",
    130: "the server could not set its socket buffers",
    131: "the server does not know this transport",
    132: "the server cannot run on the processor that was asked for",
    134: "the server does not have this congestion control",
    142: "the server requires a user name and a password, or refused them",
    144: "the server has seen no data for too long",
    160: "the server's own limit of the duration has expired",
    200: "the server could not create a data stream",
    201: "the server could not set up a data stream",
    202: "the server could not listen for the data streams",
    203: "the server could not connect a data stream",
    204: "the server could not accept a data stream",
    205: "the server could not write to a data stream",
    206: "the server could not read from a data stream",
    207: "the server could not close a data stream",
    208: "the server was told of a stream that it does not have",
}


def server_error_sentence(i_errno: int) -> str:
    """What the server meant. The errno that comes with it is not the cause, and is not shown."""
    return SERVER_ERRORS.get(i_errno, f"the server reports error {i_errno}")
