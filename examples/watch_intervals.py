"""Print every interval as it happens, and end the test once ten million bytes have been carried."""

import asyncio

import iperfpy


async def main() -> None:
    async with (
        iperfpy.LocalServer() as server,
        iperfpy.watch(server.host, port=server.port, transport="kcp", seconds=10, interval=0.5) as test,
    ):
        carried_bytes = 0.0
        async for interval in test:
            print(f"{interval.end:5.2f} s  {interval.bits_per_second / 1e6:7.1f} Mbit/s")
            carried_bytes += interval.figure("bytes")
            if carried_bytes > 10e6:
                test.stop("ten million bytes have been carried")
        run = await test.finished()
    print(f"{len(run.intervals)} intervals; {run.error}")


asyncio.run(main())
