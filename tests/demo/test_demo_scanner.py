"""The scripted scanner, spoken to in clamd's protocol over raw sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from postroom_demo.corpus import load
from postroom_demo.scanner import MARKER, Scanner


@pytest.fixture
async def scanner() -> AsyncIterator[Scanner]:
    made = Scanner(seconds=0.001)
    await made.start("127.0.0.1", 0)
    yield made
    await made.close()


async def talk(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


def instream(content: bytes, command: bytes = b"zINSTREAM\0", piece: int = 100) -> bytes:
    pieces = [content[at : at + piece] for at in range(0, len(content), piece)]
    return command + b"".join(len(part).to_bytes(4, "big") + part for part in pieces) + bytes(4)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"zPING\0", b"PONG\0"),
        (b"nPING\n", b"PONG\n"),
        (b"PING\n", b"PONG\n"),
        (b"zNONSENSE\0", b"UNKNOWN COMMAND\0"),
        (instream(b"clean"), b"stream: OK\0"),
        (instream(b""), b"stream: OK\0"),
        (instream(b"clean" * 1000, b"nINSTREAM\n"), b"stream: OK\n"),
        (instream(b"x" * 70 + MARKER, piece=7), b"stream: Demo.Harmless.StandIn FOUND\0"),
        (b"zIDSESSION\0zPING\0" + instream(b"clean") + b"zEND\0", b"1: PONG\x002: stream: OK\0"),
        (b"zINSTREAM\0\xff\xff\xff\xff", b"INSTREAM size limit exceeded. ERROR\0"),
    ],
)
async def test_commands(scanner: Scanner, sent: bytes, said: bytes) -> None:
    assert await talk(scanner.port, sent) == said


async def test_version_names_the_demo(scanner: Scanner) -> None:
    assert b"demo" in await talk(scanner.port, b"zVERSION\0")


async def test_an_archive_is_scanned_at_the_third_try(scanner: Scanner) -> None:
    (message,) = [item.content for item in load() if "archive" in item.name]
    said = [await talk(scanner.port, instream(message)) for _ in range(3)]
    assert said == [b"stream: Can't allocate memory ERROR\0"] * 2 + [b"stream: OK\0"]


async def test_away_is_refused_and_back_is_the_same_port(scanner: Scanner) -> None:
    port = scanner.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"zIDSESSION\0zPING\0")
    assert await reader.readuntil(b"\0") == b"1: PONG\0"
    await scanner.close()
    assert not scanner.up
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await talk(port, b"zPING\0")
    assert await scanner.start("127.0.0.1", port) == port
    assert await talk(port, b"zPING\0") == b"PONG\0"


async def test_it_follows_its_script(scanner: Scanner) -> None:
    following = asyncio.create_task(scanner.follow(up=0.01, down=0.01))
    async with asyncio.timeout(10):
        for wanted in (False, True, False, True):
            while scanner.up is not wanted:
                await asyncio.sleep(0)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


def test_a_scan_takes_about_the_time_said() -> None:
    made = Scanner(seconds=10.0)
    times = [made.duration(bytes([number])) for number in range(200)]
    assert 6.0 <= min(times) < 7.0
    assert 13.0 < max(times) <= 14.0
    assert made.duration(b"same") == made.duration(b"same")
