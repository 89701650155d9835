"""Many datagrams in one buffer with a stride: a GSO batch on the way out, a GRO batch on the way in.

`DatagramSocket` (datagram_socket.py) sends and receives these batches. udp/sender.py sends GSO batches of its
own: plain buffers of equal datagrams. Their size is a socket option.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_DATAGRAMS = 64
"""Most datagrams that the kernel takes in one GSO batch (UDP_MAX_SEGMENTS was 64 before Linux 6.9)."""
MAX_BYTES = 65_507
"""Most payload bytes in one GSO batch: the IPv4 datagram limit."""


@dataclass(slots=True)
class DatagramBatch:
    """`count` datagrams back to back in `data`, each `stride` bytes but the last, which has `last_size`.

    Treat it as immutable. It is not frozen, because a frozen dataclass takes twice as long to create.

    Attributes
    ----------
    data : uint8 array, contiguous, at least (count - 1) * stride + last_size bytes
        Valid until the object that made the batch is called again: senders and receivers reuse buffers.
    """

    data: NDArray[np.uint8]
    stride: int
    count: int
    last_size: int

    @classmethod
    def of(cls, data: NDArray[np.uint8], stride: int) -> DatagramBatch:
        """Make the batch that fills `data`; a rest shorter than `stride` is the last datagram."""
        count = max(1, -(-len(data) // stride)) if stride else 1
        return cls(data, stride, count, len(data) - (count - 1) * stride)

    @property
    def size(self) -> int:
        """Payload bytes of all datagrams."""
        return (self.count - 1) * self.stride + self.last_size

    def head(self, count: int) -> DatagramBatch:
        """The first `count` datagrams as a view, 1 <= count <= self.count."""
        if count == self.count:
            return self
        stride = self.stride
        return DatagramBatch(self.data[: count * stride], stride, count, stride)

    def rest(self, count: int) -> DatagramBatch:
        """The datagrams after the first `count` as a view, 0 <= count < self.count."""
        stride, left = self.stride, self.count - count
        # One datagram alone has the stride that it fills, as if it had come by itself.
        return DatagramBatch(
            self.data[count * stride : self.size],
            stride if left > 1 else self.last_size,
            left,
            self.last_size,
        )

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """The datagrams one at a time, as views."""
        for start in range(0, self.count * self.stride, self.stride or 1):
            yield self.data[start : min(start + self.stride, self.size)]
