"""A stop while clients do not read what they asked for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from postroom.http.console import answers
from postroom.http.listener.server import BoundedHttp
from postroom.settings import Address, Http, HttpTls
from tests.http.conftest import FIND, Serve, Served, connected, request_bytes
from tests.http.test_tls import NAME, Pair, trusting

MANY = 800  # style sheets are more than two sockets hold


@contextlib.asynccontextmanager
async def silent(served: Served) -> AsyncIterator[socket.socket]:
    """A client that takes as little as a socket can, and reads nothing by itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # before it connects: a window is not taken back
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, (served.address.host, served.address.port))
        yield made


async def ask_for_much(client: socket.socket) -> int:
    """Asks, and says how many bytes that is at least, without the heads."""
    call = request_bytes("GET", answers._static_paths["console.css"], {})
    await asyncio.get_running_loop().sock_sendall(client, call * MANY)
    return MANY * len(answers._static["console.css"])


async def rest_of(client: socket.socket) -> int:
    """Bytes until the connection ended, one way or another."""
    size = 0
    with contextlib.suppress(ConnectionResetError):
        while got := await asyncio.get_running_loop().sock_recv(client, 1 << 20):
            size += len(got)
    return size


@pytest.mark.parametrize("waits", ["a call", "nobody"])
async def test_a_stop_cuts_a_client_that_never_reads(serve: Serve, monkeypatch: pytest.MonkeyPatch, waits: str) -> None:
    """Whether a call still waits to write its answer, or all is written and only the connection waits to be read."""
    served = await serve()
    stuck = asyncio.Event()
    made, paused, complete = BoundedHttp.connection_made, BoundedHttp.pause_writing, BoundedHttp.on_response_complete
    done = 0

    def connection_made(self: BoundedHttp, transport: asyncio.Transport) -> None:
        made(self, transport)
        if waits == "nobody":
            transport.set_write_buffer_limits(1024**3)

    def pause_writing(self: BoundedHttp) -> None:
        paused(self)
        stuck.set()

    def on_response_complete(self: BoundedHttp) -> None:
        nonlocal done
        complete(self)
        done += 1
        if done == MANY:
            stuck.set()

    monkeypatch.setattr(BoundedHttp, "connection_made", connection_made)
    monkeypatch.setattr(BoundedHttp, "pause_writing", pause_writing)
    monkeypatch.setattr(BoundedHttp, "on_response_complete", on_response_complete)
    async with silent(served) as client:
        async with asyncio.timeout(30):  # less than the time in which an answer must be read
            asked = await ask_for_much(client)
            await stuck.wait()
            state = served.server._server.server_state  # type: ignore[union-attr]
            (tx,) = state.connections
            assert tx.transport.get_write_buffer_size() > 0
            await served.server.stop(0.05)
            assert (len(state.connections), len(state.tasks)) == (0, 0)
            assert await rest_of(client) < asked


async def test_a_call_that_is_cut_off_is_still_answered(serve: Serve) -> None:
    """While another client does not read."""
    served = await serve()
    whole = request_bytes("POST", FIND, served.signed() | {"Expect": "100-continue"}, b"{'data': []}")
    async with silent(served) as client:
        await ask_for_much(client)
        async with connected(served.address) as (reader, writer), asyncio.timeout(30):
            writer.write(whole[:-4])
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await served.server.stop(0.05)
            assert (await reader.read()).startswith(b"HTTP/1.1 5")


@pytest.mark.parametrize("calls", [1, MANY])
async def test_a_stop_does_not_wait_for_a_tls_client_to_say_good_bye(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """Whether it idles or has much to read: closing in order needs a word of the client."""
    Pair(1).write(tmp_path)
    pair = HttpTls(certificate=str(tmp_path / "certificate.pem"), key=str(tmp_path / "key.pem"))
    served = await serve(http=Http(listen=(Address("127.0.0.1", 0),), tls=pair))
    answered = asyncio.Event()
    paused, complete = BoundedHttp.pause_writing, BoundedHttp.on_response_complete

    def pause_writing(self: BoundedHttp) -> None:
        paused(self)
        answered.set()

    def on_response_complete(self: BoundedHttp) -> None:
        complete(self)
        if calls == 1:
            answered.set()

    monkeypatch.setattr(BoundedHttp, "pause_writing", pause_writing)
    monkeypatch.setattr(BoundedHttp, "on_response_complete", on_response_complete)
    async with silent(served) as plain, asyncio.timeout(30):
        plain.setblocking(True)
        wrapped = await asyncio.to_thread(trusting(tmp_path).wrap_socket, plain, server_hostname=NAME)
        with wrapped:
            call = request_bytes("GET", answers._static_paths["console.css"], {})
            await asyncio.to_thread(wrapped.sendall, call * calls)
            await answered.wait()
            state = served.server._server.server_state  # type: ignore[union-attr]
            assert len(state.connections) == 1
            await served.server.stop(0.05)
            assert (len(state.connections), len(state.tasks)) == (0, 0)
