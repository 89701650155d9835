"""The event loop's time is shared by work: no loop, no socket, a list of calls as the loop."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from iperfpy.protocols.datagrams.loop_share import QUANTUM, Share, Shares


class Loop:
    """Turns of an event loop. Each socket that is ready wakes its reader once in a turn, before the callbacks
    that were scheduled in the turn before."""

    def __init__(self) -> None:
        self._scheduled: list[Callable[[], None]] = []
        self.shares = Shares(self._scheduled.append)
        self.sockets: list[Socket] = []

    def turn(self) -> None:
        scheduled, self._scheduled[:] = list(self._scheduled), []
        for callback in scheduled:
            callback()
        for socket in self.sockets:
            if socket.queued:
                socket.share.run(socket, socket.read)

    @property
    def idle(self) -> bool:
        return not self._scheduled


class Socket:
    """A socket: each read of it costs `work`."""

    def __init__(self, loop: Loop, share: Share, queued: int, work: int) -> None:
        self.share, self.queued, self.work, self.reads = share, queued, work, 0
        loop.sockets.append(self)

    def read(self) -> None:
        if self.queued:
            self.queued -= 1
            self.reads += 1
            self.share.charge(self.work)


def test_a_test_that_does_little_reads_in_every_turn() -> None:
    loop = Loop()
    socket = Socket(loop, loop.shares.of("one"), 100, QUANTUM // 10)
    for _ in range(100):
        loop.turn()
    assert socket.reads >= 90


def test_alone_a_heavy_test_gets_all_the_time() -> None:
    loop = Loop()
    socket = Socket(loop, loop.shares.of("one"), 10, 5 * QUANTUM)
    for _ in range(70):
        loop.turn()
    assert socket.reads == 10
    assert loop.idle


@pytest.mark.parametrize("tests", [1, 4, 64])
@pytest.mark.parametrize("sockets", [1, 128])
def test_a_light_test_waits_for_one_heavy_read_at_most(tests: int, sockets: int) -> None:
    """However many tests and sockets flood the server, they pay for one quantum in each of its turns."""
    loop = Loop()
    light = Socket(loop, loop.shares.of("light"), 1000, 1)
    heavy = [
        Socket(loop, loop.shares.of(test), 10**6, 5 * QUANTUM)
        for test in range(tests)
        for _ in range(sockets)
    ]
    loop.turn()  # the first read of each test shows what it costs
    assert sum(socket.reads for socket in heavy) == tests
    for turn in range(500):
        before = sum(socket.reads for socket in heavy)
        loop.turn()
        assert sum(socket.reads for socket in heavy) <= before + 1
        assert light.reads == turn + 2
    reads = sum(socket.reads for socket in heavy) - tests
    assert reads == pytest.approx(100, abs=tests)


def test_a_turn_serves_as_many_small_reads_as_a_quantum_pays_for() -> None:
    """Many streams with little each: a read per turn of the loop would cost more than the reads."""
    loop = Loop()
    share = loop.shares.of("one")
    sockets = [Socket(loop, share, 10**6, QUANTUM // 16) for _ in range(128)]
    loop.turn()
    before = sum(socket.reads for socket in sockets)
    for _ in range(100):
        loop.turn()
    reads = sum(socket.reads for socket in sockets) - before
    assert reads == pytest.approx(100 * 16, rel=0.1)
    assert max(socket.reads for socket in sockets) - min(socket.reads for socket in sockets) <= 2


def test_tests_share_equally_whatever_their_sockets() -> None:
    loop = Loop()
    one = [Socket(loop, loop.shares.of("one"), 10**6, 5 * QUANTUM)]
    many = [Socket(loop, loop.shares.of("many"), 10**6, 5 * QUANTUM) for _ in range(50)]
    for _ in range(2000):
        loop.turn()
    ratio = sum(socket.reads for socket in many) / sum(socket.reads for socket in one)
    assert 0.9 < ratio < 1.1
    # Within the test, the sockets take turns, too.
    assert max(socket.reads for socket in many) - min(socket.reads for socket in many) <= 2


def test_work_is_charged_and_not_reads() -> None:
    """A test with reads that cost ten times as much reads a tenth as often."""
    loop = Loop()
    cheap = Socket(loop, loop.shares.of("cheap"), 10**6, 2 * QUANTUM)
    costly = Socket(loop, loop.shares.of("costly"), 10**6, 20 * QUANTUM)
    for _ in range(4000):
        loop.turn()
    assert cheap.reads / costly.reads == pytest.approx(10, rel=0.2)


def test_a_socket_that_is_closed_while_it_waits_is_not_read() -> None:
    loop = Loop()
    share = loop.shares.of("one")
    first, second = (Socket(loop, share, 5, 5 * QUANTUM) for _ in range(2))
    loop.turn()
    reads = second.reads
    share.forget(second)
    loop.sockets.remove(second)
    for _ in range(100):
        loop.turn()
    assert second.reads == reads
    assert first.reads == 5
    assert loop.idle


def test_a_share_is_forgotten_with_its_last_socket() -> None:
    loop = Loop()
    share = loop.shares.of("one")
    assert loop.shares.of("one") is share
    share.debt = 7
    del share
    assert loop.shares.of("one").debt == 0
