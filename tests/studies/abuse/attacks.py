"""The attacks, each a program of its own: python -m tests.studies.abuse.attacks NAME HOST PORT SOURCE SECONDS

Each has a bounded rate and runs with less priority than the honest tests: what those lose is what the server
does, and not what the attacker takes of the machine. It prints how often it did its harm.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator

from tests.studies.abuse.client import (
    ACK,
    EXCHANGE_RESULTS,
    PUSH,
    SEGMENT,
    TEST_END,
    TEST_RUNNING,
    WASK,
    Client,
    RefusedError,
    document,
)

Server = tuple[str, int]
VICTIM = "127.0.0.3"
"""Address of a host that takes part in no test."""
REFLECTED = 3
"""Exit status of an attack by which another host was sent more bytes than came in its name."""
PIECE_S = 0.005
"""Time between two bursts of a paced attack."""


def paced(per_second: float, seconds: float) -> Iterator[None]:
    """Yield at that rate, without making up for more than a tenth of a second."""
    began_s = due_s = time.monotonic()
    while due_s - began_s < seconds:
        now_s = time.monotonic()
        due_s = max(due_s, now_s - 0.1)
        if due_s > now_s:
            time.sleep(due_s - now_s)
        yield
        due_s += 1 / per_second


def half_open(server: Server, source: str, seconds: float) -> int:
    """800 connections that present no cookie; a closed one is replaced."""
    return _crowd(server, source, seconds, 800, 400, lambda sock: None)


def greeted(server: Server, source: str, seconds: float) -> int:
    """300 clients that greet and then say nothing."""

    def greet(sock: socket.socket) -> None:
        sock.send("".join(random.choices("abcdefghijkl", k=36)).encode() + b"\0")

    return _crowd(server, source, seconds, 300, 200, greet)


def _crowd(
    server: Server,
    source: str,
    seconds: float,
    most: int,
    per_s: float,
    greet: Callable[[socket.socket], None],
) -> int:
    held: deque[socket.socket] = deque()
    opened = 0
    for _ in paced(per_s, seconds):
        if len(held) >= most:
            # Look whether the oldest was closed by the server, and let the others wait.
            held.rotate(-1)
            try:
                if held[-1].recv(100):
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            held.pop().close()
        try:
            sock = socket.create_connection(server, 1.0, (source, 0))
            greet(sock)
        except OSError:
            continue
        sock.setblocking(False)
        held.append(sock)
        opened += 1
    for sock in held:
        sock.close()
    return opened


def no_streams(server: Server, source: str, seconds: float) -> int:
    """64 admitted tests that open no stream."""
    held: deque[Client] = deque()
    admitted = 0
    for _ in paced(50, seconds):
        if len(held) >= 64:
            held.popleft().close()
        try:
            client = Client(server, source, ours=True, patience_s=1.0)
            held.append(client)
            client.agree()
            admitted += 1
        except (OSError, RefusedError):
            time.sleep(0.05)
    for client in held:
        client.close()
    return admitted


def documents(server: Server, source: str, seconds: float) -> int:
    """Results of four megabytes of `{}`, twice a second."""
    body = document(b'{"streams":[' + b",".join([b"{}"] * 1_390_000) + b"]}")
    sent = 0
    for _ in paced(2, seconds):
        try:
            with Client(server, source, ours=False, patience_s=5.0) as client:
                client.agree(time=1)
                client.open_tcp()
                client.expect(1)
                client.expect(TEST_RUNNING)
                client.send(TEST_END)
                client.expect(EXCHANGE_RESULTS)
                sent += 1
                client.send(body)
                client.sock.recv(100)
        except (OSError, RefusedError):
            continue
    return sent


def early(server: Server, source: str, seconds: float) -> int:
    """A cookie and the end of the connection; messages of a later phase, in one piece or too soon."""
    done = 0
    for _ in paced(50, seconds):
        try:
            with Client(server, source, ours=bool(done % 2), patience_s=1.0) as client:
                if done % 4 == 3:
                    client.agree()
                    client.open_tcp()
                    client.send(TEST_END, document({"streams": []}))
                elif done % 4 == 2:
                    parameters = document({"tcp": True, "parallel": 1, "len": 1000})
                    client.send(client.cookie, parameters)
                    client.send(TEST_END, document({}))
                else:
                    client.send(client.cookie)
            done += 1
        except (OSError, RefusedError):
            done += 1
    return done


def kcp_memory(server: Server, source: str, seconds: float) -> int:
    """The widest window and the largest datagrams, then segments of one byte with gaps."""
    sent, until_s = 0, time.monotonic() + seconds
    while time.monotonic() < until_s - 1:
        try:
            with Client(server, source, ours=True) as client:
                conv = random.randrange(1, 2**32)
                client.agree_kcp(conv, seconds, mtu=65_507, rcvwnd=65_535)
                sock = client.open_kcp(conv)
                number = 1
                for _ in paced(1 / PIECE_S, max(0.1, min(6, until_s - time.monotonic()))):
                    if number < 65_000:
                        _send(sock, conv, [*range(number, number + 110, 2)])
                        number += 110
                        sent += 55
        except (OSError, RefusedError):
            time.sleep(0.1)
    return sent


def kcp_tiny(server: Server, source: str, seconds: float) -> int:
    """20 Mb/s of datagrams packed with segments of one byte, in order for a second and with gaps for one."""
    sent, until_s = 0, time.monotonic() + seconds
    while time.monotonic() < until_s - 1:
        try:
            with Client(server, source, ours=True) as client:
                conv = random.randrange(1, 2**32)
                client.agree_kcp(conv, seconds, rcvwnd=65_535)
                sock = client.open_kcp(conv)
                number = 0
                for _ in paced(1 / PIECE_S, max(0.1, min(2, until_s - time.monotonic()))):
                    step = 1 if number < 50_000 else 2
                    for _ in range(round(20e6 / 8 / 1400 * PIECE_S)):
                        _send(sock, conv, [*range(number, number + 56 * step, step)])
                        number += 56 * step
                        sent += 56
        except (OSError, RefusedError):
            time.sleep(0.1)
    return sent


def _send(sock: socket.socket, conv: int, numbers: list[int]) -> None:
    """Send one datagram with a segment of one byte for each number."""
    try:
        sock.send(b"".join(SEGMENT.pack(conv, PUSH, 0, 65_535, 1, sn, 0, 1) + b"x" for sn in numbers))
    except (BlockingIOError, TimeoutError, ConnectionRefusedError):
        return


def strangers(server: Server, source: str, seconds: float) -> int:
    """10 Mb/s of datagrams of no stream, while a stream is always awaited."""
    sent, until_s = 0, time.monotonic() + seconds
    while time.monotonic() < until_s - 1:
        try:
            with Client(server, source, ours=True) as client:
                client.agree_kcp(random.randrange(1, 2**32), seconds)
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                client.others.append(sock)
                sock.bind((source, 0))
                sock.connect(server)
                for _ in paced(1 / PIECE_S, max(0.1, min(5, until_s - time.monotonic()))):
                    for _ in range(round(10e6 / 8 / 60 * PIECE_S)):
                        sock.send(random.randbytes(60))
                        sent += 1
        except (OSError, RefusedError):
            time.sleep(0.1)
    return sent


def forged_address(server: Server, source: str, seconds: float) -> int:
    """Reverse tests over KCP and UDP, as fast as the server sends. Their opening datagrams bear the address
    of another host. Ends with an error if it is sent more bytes than came in its name."""
    sent = into = back = 0
    until_s = time.monotonic() + seconds
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
        victim.bind((VICTIM, 0))
        victim.setblocking(False)
        while time.monotonic() < until_s - 1:
            try:
                with Client(server, source, ours=True) as client:
                    conv = random.randrange(1, 2**32)
                    if random.random() < 0.5:
                        client.agree_kcp(conv, seconds, reverse=True)
                    else:
                        client.agree(tcp=False, udp=True, reverse=True, bandwidth=0)
                    question = SEGMENT.pack(conv, WASK, 0, 65_535, 0, 0, 0, 0)
                    # Acknowledgements in its name would keep a window open.
                    answer = SEGMENT.pack(conv, ACK, 0, 65_535, 1, 0, 1, 0)
                    for _ in paced(1 / PIECE_S, max(0.1, min(1, until_s - time.monotonic()))):
                        for datagram in (question, answer, question[:4]):
                            victim.sendto(datagram, server)
                            sent, into = sent + 1, into + len(datagram)
                        back += _waiting_bytes(victim)
            except (OSError, RefusedError):
                time.sleep(0.1)
        time.sleep(0.5)
        back += _waiting_bytes(victim)
    print(f"{into:,} bytes in the name of another host, {back:,} to it", file=sys.stderr, flush=True)
    if back > into:
        print(sent, flush=True)
        raise SystemExit(REFLECTED)
    return sent


def _waiting_bytes(sock: socket.socket) -> int:
    """Bytes of the datagrams that have arrived."""
    total = 0
    while True:
        try:
            total += len(sock.recv(65_536))
        except BlockingIOError:
            return total


ATTACKS: dict[str, Callable[[Server, str, float], int]] = {
    "half open": half_open,
    "greeted": greeted,
    "no streams": no_streams,
    "documents": documents,
    "early bytes": early,
    "kcp memory": kcp_memory,
    "kcp tiny segments": kcp_tiny,
    "strangers": strangers,
    "forged address": forged_address,
}


if __name__ == "__main__":
    name, host, port, source, seconds = sys.argv[1:]
    os.nice(5)
    print(ATTACKS[name]((host, int(port)), source, float(seconds)), flush=True)
