"""What the functions for callers without keys share (login, discovery, OAuth token), and how a body is read.

Fails: `read_json` raises Failure naming the place where a body cannot be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.types import Scope

from postroom.http.gateway.wire.envelope import Failure
from postroom.http.gateway.wire.lenient import UnreadableBody, read_body

_LARGE = 16 * 1024  # bytes; above this a body is read off the event loop (256 KiB of the worst kind take 0.15 s)


class Knock(msgspec.Struct, frozen=True):
    """A call without a signature, with its body as bytes."""

    scope: Scope
    address: str
    data: bytes

    def header(self, name: bytes) -> bytes:
        """The first header of this name; empty when there is none."""
        for found, value in self.scope["headers"]:
            if found == name:
                return bytes(value)
        return b""


Door = Callable[[Knock], Awaitable[bytes]]


async def read_json(data: bytes, *, once: bool = False) -> Any:
    """As leniently as every body of this API; `once` as `read_body` means it. Raises Failure."""
    try:
        if len(data) <= _LARGE:
            return read_body(data, once=once)
        return await asyncio.to_thread(read_body, data, once=once)
    except UnreadableBody as problem:
        raise Failure(400, "err_invalid_json", f"Request {problem}") from None
