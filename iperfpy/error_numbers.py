"""iperf3's error numbers, as in its `iperf_api.h`, each with a sentence that says whose fault it is.

A server sends one of them with SERVER_ERROR. With iperfpy at both ends, the sentence itself precedes it.
"""

from __future__ import annotations

import enum


class ErrorNumber(enum.IntEnum):
    """`i_errno` of iperf3. `sentence` tells a client's user what the server meant by it."""

    sentence: str

    def __new__(cls, number: int, sentence: str) -> ErrorNumber:
        """A number with its sentence."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.sentence = sentence
        return member

    DURATION = 5, "the server does not accept this duration"
    STREAMS = 6, "the server does not accept this number of streams"
    BLOCK_LENGTH = 7, "the server does not accept this block length"
    SOCKET_BUFFER = 8, "the server does not accept this socket buffer size"
    INTERVAL = 9, "the server does not accept this report interval"
    SEGMENT_SIZE = 10, "the server does not accept this maximum segment size"
    SENDFILE = 11, "the server's platform has no sendfile"
    OMIT = 12, "the server does not accept this omitted time"
    FILE = 14, "the server cannot use its file"
    BURST = 15, "the server does not accept this burst"
    DATAGRAM_SIZE = 20, "the server does not accept this datagram size"
    TYPE_OF_SERVICE = 21, "the server does not accept this type of service"
    REVERSE_AND_BIDIRECTIONAL = 25, "the server does not run a test that is reverse and bidirectional at once"
    TOTAL_RATE = 27, "the server's limit for the total rate was exceeded"
    DATAGRAMS_AND_FILE = 34, "the server does not run a UDP test with a file"
    MAXIMUM_DURATION = 37, "the server limits how long a test may last"
    DISCARD = 39, "the server's platform cannot discard what it receives"
    NEW_TEST = 100, "the server could not set up a test"
    LISTEN = 102, "the server could not listen for the data streams"
    ACCEPT = 104, "the server could not accept a connection"
    COOKIE = 106, "the server did not get the cookie in time"
    MESSAGE = 110, "the server was sent a message that it does not know"
    PARAMETERS = 114, "the server could not read the parameters"
    RESULTS = 117, "the server could not read the results"
    CLIENT_TERMINATED = 119, "the client has terminated"
    SERVER_TERMINATED = 120, "the server has terminated"
    ACCESS_DENIED = 121, "the server refuses this test"
    SET_SEGMENT_SIZE = 123, "the server could not set the maximum segment size"
    SET_SOCKET_BUFFER = 124, "the server could not set its socket buffers"
    SET_TYPE_OF_SERVICE = 125, "the server could not set the type of service"
    SET_BUFFERS = 130, "the server could not set its socket buffers"
    TRANSPORT = 131, "the server does not know this transport"
    AFFINITY = 132, "the server cannot run on the processor that was asked for"
    CONGESTION_CONTROL = 134, "the server does not have this congestion control"
    AUTHENTICATION = 142, "the server requires a user name and a password, or refused them"
    NO_DATA = 144, "the server has seen no data for too long"
    SERVER_DURATION = 160, "the server's own limit of the duration has expired"
    CREATE_STREAM = 200, "the server could not create a data stream"
    SET_UP_STREAM = 201, "the server could not set up a data stream"
    LISTEN_FOR_STREAM = 202, "the server could not listen for the data streams"
    CONNECT_STREAM = 203, "the server could not connect a data stream"
    ACCEPT_STREAM = 204, "the server could not accept a data stream"
    WRITE_STREAM = 205, "the server could not write to a data stream"
    READ_STREAM = 206, "the server could not read from a data stream"
    CLOSE_STREAM = 207, "the server could not close a data stream"
    STREAM_ID = 208, "the server was told of a stream that it does not have"


def server_error_sentence(i_errno: int) -> str:
    """The sentence for a number that a server sent. The `errno` beside it is not the cause, and is not
    shown."""
    known = {int(number): number.sentence for number in ErrorNumber}
    return known.get(i_errno, f"the server reports error {i_errno}")
