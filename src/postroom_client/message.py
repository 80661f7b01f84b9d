"""The gateway's answers as frozen data: addresses, messages of the processing queue, pages of them.

Promises: every instant is an aware datetime in UTC; fields that this version does not know are readable in `raw`.
Fails: ValueError when an item is not one of this API (no id, a malformed date); `exchange` turns it into
UnexpectedAnswer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

Light = Literal["locked", "delayed", "normal"]


@dataclass(frozen=True, slots=True)
class Address:
    """A mail address and, if the header has one, its display name."""

    address: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name} <{self.address}>" if self.name else self.address


@dataclass(frozen=True, slots=True)
class ProcessingMessage:
    """One entry of the queue: one message for one recipient."""

    id: str
    from_env: Address
    from_header: Address
    to: Address
    subject: str
    attachment: bool
    routing: str
    size: int
    remote_ip: str
    attempts: int
    info: str
    priority: str
    created: datetime | None
    next_attempt: datetime | None
    locked_until: datetime | None
    raw: Mapping[str, object] = field(repr=False, compare=False)

    def light(self, now: datetime | None = None) -> Light:
        """As the console shows it: in work (locked), due but not started (delayed), or waiting for its next attempt."""
        now = now or datetime.now(UTC)
        if self.locked_until is not None and self.locked_until > now:
            return "locked"
        if self.next_attempt is None or self.next_attempt <= now:
            return "delayed"
        return "normal"


@dataclass(frozen=True, slots=True)
class Page:
    """One answer. `total_count` is None when the gateway does not say; `next_token` is None on the last page."""

    messages: tuple[ProcessingMessage, ...]
    total_count: int | None
    next_token: str | None = field(repr=False)
    previous_token: str | None = field(repr=False)
    request_id: str


def read_message(item: object) -> ProcessingMessage:
    """One item of `data[0].messages`."""
    if not isinstance(item, dict):
        raise ValueError("a message is not an object")
    identity = _text(item, "id")
    if not identity:
        raise ValueError("a message has no id")
    return ProcessingMessage(
        id=identity,
        from_env=_address(item.get("fromEnv")),
        from_header=_address(item.get("fromHeader")),
        to=_address(item.get("to")),
        subject=_text(item, "subject"),
        attachment=item.get("attachment") is True,
        routing=_text(item, "routing"),
        size=_number(item, "size"),
        remote_ip=_text(item, "remoteIp", "remoteIP"),  # the vendor's table and its answers disagree
        attempts=_number(item, "attempts"),
        info=_text(item, "info"),
        priority=_text(item, "priority") or "normal",
        created=_instant(item, "created"),
        next_attempt=_instant(item, "nextAttempt"),
        locked_until=_instant(item, "lockedUntil"),
        raw=item,
    )


def read_page(meta: Mapping[str, object], data: Sequence[object], request_id: str) -> Page:
    """`meta` and `data` of a successful answer."""
    first = data[0] if data else {}
    items = first.get("messages", []) if isinstance(first, dict) else None
    if not isinstance(items, list):
        raise ValueError("data[0].messages is not a list")
    messages = tuple([read_message(item) for item in items])
    pagination = meta.get("pagination")
    if not isinstance(pagination, dict):
        pagination = {}
    following = _text(pagination, "next") or None
    total = pagination.get("totalCount")
    if not isinstance(total, int):
        # An empty result has no total (contract section 4), nor has an answer without pagination.
        total = len(messages) if following is None and not pagination.get("previous") else None
    return Page(messages, total, following, _text(pagination, "previous") or None, request_id)


def _text(item: Mapping[str, object], *names: str) -> str:
    for name in names:
        value = item.get(name)
        if isinstance(value, str):
            return value
    return ""


def _number(item: Mapping[str, object], name: str) -> int:
    value = item.get(name)
    return value if isinstance(value, int) else 0


def _address(value: object) -> Address:
    if not isinstance(value, dict):
        return Address()
    # `displayName` in the vendor's table, `displayableName` in its sample and in all recorded answers
    return Address(_text(value, "emailAddress"), _text(value, "displayableName", "displayName"))


def _instant(item: Mapping[str, object], name: str) -> datetime | None:
    text = _text(item, name)
    if not text:
        return None
    try:
        value = datetime.fromisoformat(text)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: in year 1 or 9999 the offset can leave the calendar
        raise ValueError(f"{name} is not a date: {text[:40]!r}") from None
