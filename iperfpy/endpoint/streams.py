"""The data streams of a test: their ids, conversation numbers and directions, as each end sees them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from iperfpy.plan import Direction, Plan, Role
from iperfpy.protocols.contract import Stream


def stream_id(index: int) -> int:
    """iperf3's numbers: 1, 3, 4, 5, ... (it never uses 2)."""
    return 1 if index == 0 else index + 2


def make_convs(plan: Plan) -> tuple[int, ...]:
    """Unguessable conversation numbers, one per stream, all different, none 0."""
    convs: set[int] = set()
    while len(convs) < plan.stream_count:
        convs.add(1 + secrets.randbelow(2**32 - 1))
    return tuple(convs)


def make_streams(
    plan: Plan,
    convs: Sequence[int],
    *,
    role: Role,
    proves: bool = False,
    features: frozenset[str] = frozenset(),
) -> tuple[Stream, ...]:
    """The streams in the order in which they are opened, as the end of that role sees them.

    Those that the client sends on come first. `convs` is empty if the peer is a stock iperf3. `proves`: both
    ends know the proof of a UDP address. `features`: of the transport, as far as both ends have them.
    """
    forward = 0 if plan.direction is Direction.REVERSE else plan.parallel
    return tuple(
        Stream(
            id=stream_id(index),
            index=index,
            conv=convs[index] if convs else 0,
            sends=(index < forward) == (role is Role.CLIENT),
            block_bytes=plan.block_bytes,
            proves=proves,
            features=features,
            both_ways=plan.messages_per_s > 0,
        )
        for index in range(plan.stream_count)
    )
