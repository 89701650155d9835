"""A share of the event loop's time for each test: deficit round robin, with work in place of bytes.

    wake-up of a socket --> share.run(read)      read now; in debt: wait for a turn
    receiver            --> share.charge(work)   the work that its datagrams were
    each turn of the loop: the test that waits longest pays a quantum; if that clears its debt, its sockets
    read one after the other until it is in debt again, and it goes behind the others

Shreedhar and Varghese, "Efficient Fair Queueing Using Deficit Round Robin" (1995), with a debt in place of a
deficit, because the work of a read is known only after it. Only one test in debt is served in a turn of the
loop, so one that is not waits for a quantum and one read at most, however many tests and sockets a client
floods. A test in debt has all the time that no other test needs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from weakref import WeakValueDictionary

QUANTUM = 512
"""Work that a test pays in a turn: about 3 ms of segments that are handled one by one, or 1 MiB in runs."""


class Shares:
    """The shares of a server's tests.

    Parameters
    ----------
    call_soon : calls a function in the next turn of the event loop
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._shares: WeakValueDictionary[Hashable, Share] = WeakValueDictionary()
        self._in_debt: deque[Share] = deque()

    def of(self, test: Hashable) -> Share:
        """The share of a test. It lasts as long as somebody keeps it."""
        share = self._shares.get(test)
        if share is None:
            share = self._shares[test] = Share(self)
        return share

    def indebted(self, share: Share) -> None:
        """Serve `share` in turns from now on, until it has paid."""
        self._in_debt.append(share)
        if len(self._in_debt) == 1:
            self._call_soon(self._turn)

    def _turn(self) -> None:
        share = self._in_debt.popleft()
        share.debt -= QUANTUM
        share.serve()
        if share.debt > 0 or share.waiting:
            self._in_debt.append(share)
        else:
            share.debt, share.in_turns = 0, False
        if self._in_debt:
            self._call_soon(self._turn)


class Share:
    """One test's share.

    Attributes
    ----------
    debt : work that was done and is not paid
    in_turns : True while the test reads only in its turns
    waiting : sockets that wait for a turn, each with its reader
    is_spent : True if the test has done all the work of a turn
    """

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self.debt = 0
        self.in_turns = False
        self.waiting: dict[object, Callable[[], None]] = {}

    @property
    def is_spent(self) -> bool:
        return self.debt > QUANTUM

    def run(self, socket: object, read: Callable[[], None]) -> None:
        """Read the socket now, or in one of the test's turns."""
        if self.in_turns:
            self.waiting[socket] = read
        else:
            read()

    def serve(self) -> None:
        """Let sockets read, that which waits longest first, until the test is in debt."""
        while self.waiting and self.debt <= 0:
            socket = next(iter(self.waiting))
            self.waiting.pop(socket)()

    def forget(self, socket: object) -> None:
        """The socket is closed."""
        self.waiting.pop(socket, None)

    def charge(self, work: int) -> None:
        """Datagrams of the test were that much work (`protocols.kcp.engine_counts.Counts.work`)."""
        self.debt += work
        if self.debt > QUANTUM and not self.in_turns:
            self.in_turns = True
            self._shares.indebted(self)
