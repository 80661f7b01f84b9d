"""A job for the pool: one message for the recipients that share a destination.

Promises: nothing; it is data. Fails: never.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from postroom.rules.lifecycle import SendResult


class Job(msgspec.Struct):
    """`done` is called exactly once, on the event loop, with one result per recipient, in order."""

    key: int  # message id
    env_from: str
    recipients: tuple[str, ...]
    prefix: bytes  # whole header lines put in front, each with its CRLF; may be empty
    body: bytes | Path
    size: int  # of the body, in bytes
    eightbit: bool | None  # whether it holds bytes over 127; None = not known
    done: Callable[[Job, tuple[SendResult, ...]], None]
    returns: int = 0  # how often it came back from a connection untouched; the pool's own

    def announces_eightbit(self) -> bool:
        """Whether to announce 8-bit content. A file of unknown content counts as 8-bit: only announcing too little is
        wrong (RFC 6152 3)."""
        if self.eightbit is None:
            return not (isinstance(self.body, bytes) and self.body.isascii())
        return self.eightbit
