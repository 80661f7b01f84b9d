"""The packed events of an entry that never waited: everything between its acceptance and its end. Pure.

Events of a passing message are written once, in its history row. Entries that waited have rows in `event`.
"""

from __future__ import annotations

import msgspec

from postroom.clock import Millis
from postroom.model import Event

PackedEvent = tuple[Millis, str, str, str]  # at, kind, queue, info

_decode = msgspec.msgpack.Decoder(list[PackedEvent]).decode
_encode = msgspec.msgpack.Encoder().encode


def pack(events: list[PackedEvent]) -> bytes:
    return _encode(events) if events else b""


def unpack(data: bytes) -> list[Event]:
    return [Event(at, kind, queue, info) for at, kind, queue, info in _decode(data)] if data else []
