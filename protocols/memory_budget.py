"""Bytes that the windows of a test may hold, and those of all tests of a server. No clock, no socket.

    budgets = MemoryBudgets()                 one per server
    memory = budgets.of(test)                 one per test: MemoryBudget
    memory.take(count)                        True: granted; give(count) returns it

The client chooses window and segment size of a test that the server sends, and need not acknowledge anything:
what its test may hold must not depend on that. A part of each test's budget is its own; beyond it, the tests
share that of the server, so that one test's memory never takes another's last.
"""

from __future__ import annotations

from collections.abc import Hashable
from weakref import WeakValueDictionary

OWN_BYTES = 8 << 20
"""Bytes of every test, whatever the others hold: 50 Mb/s over a second and more."""
TEST_BYTES = 256 << 20
"""Most bytes of a test: two streams with KCP's widest window of usual datagrams."""
SERVER_BYTES = 1 << 30
"""Most bytes of all tests beyond their own parts."""


class MemoryBudgets:
    """The budgets of a server's tests."""

    def __init__(self, server_bytes: int = SERVER_BYTES) -> None:
        self.shared_bytes = server_bytes  # left
        self._tests: WeakValueDictionary[Hashable, MemoryBudget] = WeakValueDictionary()

    @classmethod
    def open(cls, local: object) -> MemoryBudgets:
        """For `ServerPort.shared`: the budgets of the server at that address."""
        return cls()

    def close(self) -> None:
        """Nothing is left to do when the server stops."""

    def of(self, test: Hashable) -> MemoryBudget:
        """The budget of a test. It lasts as long as somebody keeps it."""
        budget = self._tests.get(test)
        if budget is None:
            budget = self._tests[test] = MemoryBudget(self)
        return budget


class MemoryBudget:
    """One test's bytes.

    Parameters
    ----------
    server : the budgets that the test's part beyond `own_bytes` comes from

    Attributes
    ----------
    held_bytes : bytes granted and not yet given back
    """

    def __init__(
        self, server: MemoryBudgets, own_bytes: int = OWN_BYTES, most_bytes: int = TEST_BYTES
    ) -> None:
        self._server, self._own_bytes, self._most_bytes = server, own_bytes, most_bytes
        self.held_bytes = 0

    def take(self, count: int) -> bool:
        """Take bytes. True if they were left; else nothing is taken."""
        held = self.held_bytes + count
        shared = self._beyond(held) - self._beyond(self.held_bytes)
        if held > self._most_bytes or shared > self._server.shared_bytes:
            return False
        self._server.shared_bytes -= shared
        self.held_bytes = held
        return True

    def give(self, count: int) -> None:
        """Give bytes back."""
        held = self.held_bytes - count
        self._server.shared_bytes += self._beyond(self.held_bytes) - self._beyond(held)
        self.held_bytes = held

    def _beyond(self, held: int) -> int:
        return max(0, held - self._own_bytes)
