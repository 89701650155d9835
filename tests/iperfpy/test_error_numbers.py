"""iperf3's error numbers: a client's user reads a sentence, whichever number a server sends."""

from __future__ import annotations

from iperfpy.error_numbers import server_error_sentence

SENT_BY_SERVERS = (
    *(0, *range(5, 13), *range(14, 19), *range(20, 40), *range(100, 149), *range(150, 161)),
    *(*range(200, 209), 300, 301),
)
"""The numbers of `iperf_api.h` that a server of 3.21 or older can have. 1 to 4 concern its own command line;
13, 19, 40 to 99 and 149 are not used."""


def test_every_error_number_has_a_sentence_about_the_server() -> None:
    for number in SENT_BY_SERVERS:
        sentence = server_error_sentence(number)
        assert "server" in sentence or "client" in sentence, number
        assert not any(word.isdigit() for word in sentence.split()), number


def test_an_unknown_number_is_shown() -> None:
    assert server_error_sentence(999) == "the server reports error 999"
