"""Two engines under random operations: writes, time, and a path that delivers, loses, repeats and reorders.

The invariants of `ends.check` hold after each, and in the end everything has arrived, once, in order.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.protocols.kcp.ends import Fixed, batch, check, datagrams_of, engine, examples, stock_recovery

MTU = 124
DATA = random.Random(1).randbytes(1 << 16)
WRAP = 1 << 32
DEADLINE_US = 600_000_000


class Conversation(RuleBasedStateMachine):
    """`left` writes; `flying` holds the datagrams under way to either end."""

    stock = False

    @initialize(sn=st.sampled_from((0, WRAP - 3)), us=st.sampled_from((5, WRAP - 40_000)))
    def begin(self, sn: int, us: int) -> None:
        self.first_sn, self.now_us, self.written = sn, us, 0
        self.got = bytearray()
        recovery = stock_recovery() if self.stock else None
        options: dict[str, Any] = {"mtu": MTU, "first_sn": sn, "send_window": 40, "receive_window": 40}
        self.ends = (
            engine(recovery, None if self.stock else Fixed(20), **options),
            engine(recovery, None, self._deliver, **options),
        )
        self.flying: list[tuple[int, bytes]] = []

    def _deliver(self, payload: Any) -> None:
        self.got += payload.tobytes()
        assert DATA.startswith(self.got)

    def _transmit(self) -> None:
        for at, one in enumerate(self.ends):
            self.flying += [(1 - at, datagram) for datagram in datagrams_of(one.transmit(self.now_us))]
            check(one, self.now_us, self.first_sn)

    def _arrive(self, index: int) -> None:
        to, datagram = self.flying.pop(index % len(self.flying))
        self.ends[to].receive(batch(datagram), self.now_us)

    @rule(size=st.integers(1, 900))
    def write(self, size: int) -> None:
        data = memoryview(DATA)[self.written : self.written + size]
        self.written += self.ends[0].write(data, self.now_us)
        self._transmit()

    @rule(us=st.integers(1, 400_000))
    def wait(self, us: int) -> None:
        self.now_us += us
        self._transmit()

    @precondition(lambda self: self.flying)
    @rule(index=st.integers(0, 1_000), us=st.integers(0, 3_000), copies=st.integers(0, 2))
    def arrive(self, index: int, us: int, copies: int) -> None:
        """It arrives, and so many copies of it stay under way; 0: it is lost."""
        self.now_us += us
        index %= len(self.flying)
        self.flying += [self.flying[index]] * copies
        if copies:
            self._arrive(index)
        else:
            self.flying.pop(index)
        self._transmit()

    def teardown(self) -> None:
        """A path that does nothing bad any more brings everything to its end."""
        if not hasattr(self, "ends"):
            return
        # From here on nothing is lost: whatever the steps left behind must be repaired.
        until_us = self.now_us + DEADLINE_US
        left = self.ends[0]
        while self.flying or left.sending.una < left.sending.end:
            while self.flying:
                self._arrive(0)
            self._transmit()
            if not self.flying and left.sending.una < left.sending.end:
                due = [at for at in (one.deadline_us() for one in self.ends) if at is not None]
                self.now_us = max(self.now_us + 1, min(due))
                assert self.now_us < until_us, "it does not end"
                self._transmit()
        assert bytes(self.got) == DATA[: self.written]
        assert left.recovery.in_flight == 0


class StockConversation(Conversation):
    stock = True


@pytest.mark.parametrize("machine", [Conversation, StockConversation])
def test_random_operations_keep_the_invariants(machine: type[Conversation]) -> None:
    run_state_machine_as_test(machine, settings=examples(60, steps=60))
