"""`serve_async`, `serve` and `LocalServer`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import iperfpy
from iperfpy import local_server
from tests.iperfpy.support import until

pytestmark = pytest.mark.live

HOST = "127.0.0.1"
SHORT: dict[str, Any] = {"seconds": 0.3, "interval": 0.1, "rate": 20_000_000}


async def test_a_server_reports_its_port_and_its_runs_and_can_be_cancelled() -> None:
    # Port 0: only `on_listening` says which port the kernel chose.
    runs: list[iperfpy.Run] = []
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        iperfpy.serve_async(port=0, bind=HOST, on_listening=port.set_result, on_run=runs.append)
    )
    run = await iperfpy.measure_async(HOST, port=await port, **SHORT)
    await until(lambda: bool(runs))
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(iperfpy.ConnectError):
        await iperfpy.measure_async(HOST, port=port.result())
    (served,) = runs
    assert served.complete
    assert served.total("bytes") == run.total("bytes")


async def test_cancelling_a_server_informs_its_clients() -> None:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    runs: list[iperfpy.Run] = []
    serving = asyncio.create_task(
        iperfpy.serve_async(port=0, bind=HOST, on_listening=port.set_result, on_run=runs.append)
    )
    async with iperfpy.watch(HOST, port=await port, seconds=60, interval=0.1, rate=20_000_000) as test:
        await until(lambda: len(test.run.intervals) > 1)
        serving.cancel()
        with pytest.raises(iperfpy.PeerTerminatedError):
            await test.finished()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert [run.error for run in runs] == ["the server has stopped"]


async def test_an_exception_of_a_callback_stops_the_server_and_is_raised() -> None:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def fail(run: iperfpy.Run) -> None:
        raise ZeroDivisionError("the caller's own")

    serving = asyncio.create_task(
        iperfpy.serve_async(port=0, bind=HOST, on_listening=port.set_result, on_run=fail)
    )
    await iperfpy.measure_async(HOST, port=await port, **SHORT)
    with pytest.raises(ZeroDivisionError, match="own"):
        await serving


async def test_a_port_in_use_is_a_listen_error() -> None:
    with socket.create_server((HOST, 0)) as taken, pytest.raises(iperfpy.ListenError, match="in use"):
        await iperfpy.serve_async(port=taken.getsockname()[1], bind=HOST)


def test_serving_one_test_blocks_until_it_is_over() -> None:
    ports: list[int] = []
    clients: list[Future[iperfpy.Run]] = []
    runs: list[iperfpy.Run] = []
    with ThreadPoolExecutor(1) as pool:

        def listening(port: int) -> None:
            ports.append(port)
            clients.append(pool.submit(lambda: iperfpy.measure(HOST, port=port, **SHORT)))

        iperfpy.serve(port=0, bind=HOST, one_off=True, on_listening=listening, on_run=runs.append)
        assert [client.result(30).complete for client in clients] == [True]
    assert [run.complete for run in runs] == [True]


async def test_ctrl_c_stops_a_blocking_server_and_informs_its_clients() -> None:
    # In another process, because a signal to this one would end the tests.
    arguments = f"port=0, bind={HOST!r}, on_listening=lambda port: print(port, flush=True)"
    script = f"import iperfpy; iperfpy.serve({arguments})"
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert server.stdout is not None
    port = int(await server.stdout.readline())
    async with iperfpy.watch(HOST, port=port, seconds=60, interval=0.1, rate=20_000_000) as test:
        await until(lambda: len(test.run.intervals) > 1)
        server.send_signal(signal.SIGINT)
        with pytest.raises(iperfpy.PeerTerminatedError):
            await test.finished()
    async with asyncio.timeout(30):
        _, errors = await server.communicate()
    assert errors.strip().endswith(b"KeyboardInterrupt")


def test_a_local_server_ends_with_its_block_and_can_be_started_again() -> None:
    with iperfpy.LocalServer() as server:
        assert iperfpy.measure(server.host, port=server.port, **SHORT).complete
        with pytest.raises(RuntimeError, match="runs already"):
            server.start()
        pid, port = server.pid, server.port
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(iperfpy.ConnectError):
        iperfpy.measure(HOST, port=port)
    with pytest.raises(RuntimeError, match="inside `with`"):
        _ = server.pid
    server.stop()
    with server:
        assert iperfpy.measure(server.host, port=server.port, **SHORT).complete


async def test_a_local_server_runs_beside_an_event_loop_and_its_end_informs_a_client() -> None:
    async with iperfpy.LocalServer() as server:
        assert (await iperfpy.measure_async(server.host, port=server.port, **SHORT)).complete
        measuring = asyncio.create_task(
            iperfpy.measure_async(server.host, port=server.port, seconds=60, interval=0.1, rate=20_000_000)
        )
        await asyncio.sleep(0.5)
    with pytest.raises(iperfpy.PeerTerminatedError):
        await measuring


def test_a_forked_child_does_not_keep_the_server_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child keeps the pipe to the server open, so its end cannot be the signal to stop: a line is."""
    monkeypatch.setattr(local_server, "STOP_DEADLINE_S", 3600.0)
    with (
        iperfpy.LocalServer() as server,
        subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(writing_end(server),)
        ) as child,
    ):
        server.stop()
        assert child.poll() is None
        child.kill()


def writing_end(server: iperfpy.LocalServer) -> int:
    """Return the descriptor of the pipe to the server process."""
    process = server._process
    assert process is not None
    assert process.stdin is not None
    return process.stdin.fileno()


def test_a_local_server_that_cannot_listen_raises_listen_error() -> None:
    with socket.create_server((HOST, 0)) as taken:
        server = iperfpy.LocalServer(port=taken.getsockname()[1])
        with pytest.raises(iperfpy.ListenError, match=r"cannot listen on port \d+ of 127.0.0.1: the port is"):
            server.start()
    with pytest.raises(iperfpy.ListenError, match="cannot listen"):
        iperfpy.LocalServer(host="192.0.2.1").start()


def test_a_server_process_that_does_not_answer_raises_listen_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_server, "LISTEN_DEADLINE_S", 0.0)
    with pytest.raises(iperfpy.ListenError, match="the server process did not start"):
        iperfpy.LocalServer().start()


def test_the_server_does_not_outlive_the_process_that_started_it() -> None:
    script = (
        "import iperfpy, time\n"
        "with iperfpy.LocalServer() as server:\n"
        "    print(server.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    asyncio.run(until(lambda: not _is_running(pid)))


def _is_running(pid: int) -> bool:
    """Return False once the process has ended, even if no parent has read its exit status."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
