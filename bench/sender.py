"""Sends given mail fast: several sessions at once, the next envelope right after each body (RFC 2920).

Promises: returns when every mail has its "250". Fails: RuntimeError with the reply at the first refusal, OSError when
the connection breaks. The mail must end in CRLF and have no line that begins with a dot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from bench.mail import Mail


async def send_all(address: tuple[str, int], mails: Iterator[Mail], sessions: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(sessions):
            group.create_task(_session(address, mails))


async def _session(address: tuple[str, int], mails: Iterator[Mail]) -> None:
    """Sessions share the one iterator: each takes the next mail when it has room for it."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        await _expect(reader, b"220")
        writer.write(b"EHLO sender.example\r\n")
        await _expect(reader, b"250")
        mail = next(mails, None)
        if mail is not None:
            writer.write(_envelope(mail))
        while mail is not None:
            for code in (b"250", b"250", b"354"):
                await _expect(reader, code)
            following = next(mails, None)
            writer.write(mail.content + b".\r\n" + (_envelope(following) if following else b""))
            await _expect(reader, b"250")
            mail = following
        writer.write(b"QUIT\r\n")
        await _expect(reader, b"221")
    finally:
        writer.close()


def _envelope(mail: Mail) -> bytes:
    return f"MAIL FROM:<{mail.sender}>\r\nRCPT TO:<{mail.recipient}>\r\nDATA\r\n".encode()


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    while True:
        line = await reader.readuntil(b"\r\n")
        if line[3:4] != b"-":
            break
    if not line.startswith(code):
        raise RuntimeError(f"expected {code.decode()}, got {line!r}")
