"""A complete message from an SMTP session: envelope and bytes. The gateway has not yet taken responsibility for it.

Promises: `body` is the message without dot stuffing and end of data. Fails: never.
"""

from __future__ import annotations

from postroom.model import Client, Recipient


class Transaction:
    """A complete message that waits for its reply."""

    __slots__ = ("_body", "_parts", "client", "env_from", "recipients", "size")

    def __init__(
        self, client: Client, env_from: str, recipients: tuple[Recipient, ...], parts: list[bytes], size: int
    ) -> None:
        self.client = client  # with HELO name and whether it was EHLO
        self.env_from = env_from
        self.recipients = recipients
        self.size = size
        self._parts = parts
        self._body: bytes | None = None

    def __repr__(self) -> str:
        return f"Transaction({self.env_from!r}, {len(self.recipients)} recipients, {self.size} bytes)"

    @property
    def body(self) -> bytes:
        """The content, without dot stuffing and end of data. Joined at the first call; for large ones, in a thread."""
        if self._body is None:
            self._body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts = []
        return self._body
