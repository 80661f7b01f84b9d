"""Golden exchanges: one file for each fact of the wire, a whole request as bytes and the answer that it gets.

Server tests send the request and compare; client tests read the answer. The keys in them are of no gateway but the
tests'.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec

DIRECTORY = Path(__file__).parent / "golden" / "exchange"
NOW = 1_800_000_000_000  # when all of them take place: Fri, 15 Jan 2027 08:00:00 UTC
MASTER = bytes(range(32))  # of the secrets key
APP_ID = "6b2a1a5e-0000-4000-8000-000000000001"
APP_KEY = "6b2a1a5e-0000-4000-8000-000000000002"
ACCESS_KEY = "golden-access-key"
SECRET_KEY = "Z29sZGVuIHNlY3JldCBrZXk="
CLIENT_ID = "golden-client"
CLIENT_SECRET = "golden-client-secret"
BINDING_KEY = "golden-binding-key"
TOKEN = "golden-token-of-28-character"
OLD_TOKEN = "golden-token-that-has-run-out"

PASSWORD = "golden password, quite long"

_VERSION = re.compile(r'"Postroom \d[^"]*"')
_PAGE_TOKEN = re.compile(r'"(next|previous)":"[A-Za-z0-9_-]{100,}"')


class Exchange(msgspec.Struct, frozen=True):
    """`known`: recorded of the vendor, documented by it, or chosen by us. `scene`: what is in the queue. `client`: what
    our own client makes of the answer, where it calls this function."""

    fact: str
    known: str
    request: str
    status: int
    headers: dict[str, str]
    answer: Any
    scene: str = "empty"
    absent: tuple[str, ...] = ()  # headers that the answer does not have
    client: str = ""
    before: tuple[str, ...] = ()  # requests that are sent first
    random: tuple[str, ...] = ()  # members of the answer whose texts are never twice the same, shown as RANDOM

    @property
    def wire(self) -> bytes:
        return self.request.encode("latin-1")

    @property
    def body(self) -> bytes:
        """As the gateway writes it: compact, in this order, angle brackets escaped."""
        text = json.dumps(self.answer, separators=(",", ":"), ensure_ascii=False)
        return text.replace("<", "\\u003c").replace(">", "\\u003e").encode()


def without_tokens(body: bytes, random: tuple[str, ...] = ()) -> bytes:
    """A page token is never twice the same, nor is what `random` names; the version is another one each time."""
    text = _VERSION.sub('"Postroom VERSION"', _PAGE_TOKEN.sub(r'"\1":"PAGE-TOKEN"', body.decode()))
    for name in random:
        text = re.sub(rf'"{name}":"[A-Za-z0-9+/=_-]{{20,}}"', f'"{name}":"RANDOM"', text)
    return text.encode()


def exchanges() -> dict[str, Exchange]:
    return {
        path.stem: msgspec.json.decode(path.read_bytes(), type=Exchange) for path in sorted(DIRECTORY.glob("*.json"))
    }
