"""Memory for rows and their slices, which are made once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.kcp.envelope.layer import SlicedRows

TAKES = st.lists(
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from([20, 33, 64]), st.integers(0, 12)), max_size=5),
    max_size=6,
)


@given(TAKES)
def test_rows_of_one_call_share_no_memory_and_slices_are_theirs(
    calls: list[list[tuple[int, ...]]],
) -> None:
    memory = SlicedRows()
    for call in calls:
        memory.reset()
        taken = [
            (*memory.take(count, width, slice(at), slice(at, None)), at, mark)
            for mark, (count, width, at) in enumerate(call)
        ]
        for rows, _, _, mark in taken:
            rows[:] = mark
        for (rows, (heads, rests), at, mark), (count, width, _) in zip(taken, call, strict=True):
            assert rows.shape == (count, width)
            assert rows.flags.c_contiguous
            assert (rows == mark).all()
            assert len(heads) == count
            for row, head, rest in zip(rows, heads, rests, strict=True):
                assert np.shares_memory(row, np.frombuffer(rest, np.uint8))
                assert head.tobytes() + rest.tobytes() == row.tobytes()
                assert len(head) == at


def test_slices_are_made_once() -> None:
    memory = SlicedRows()
    _, (first,) = memory.take(30, 100, slice(10))
    memory.reset()
    _, (again,) = memory.take(30, 100, slice(10))
    assert all(one is other for one, other in zip(first, again, strict=True))
    # The last datagram of a batch is shorter, and does not cost the others their slices.
    memory.take(1, 17, slice(10))
    memory.reset()
    assert memory.take(1, 100, slice(10))[1][0][0] is first[0]
