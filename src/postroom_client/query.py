"""The arguments of `find_processing_messages`, checked once and written as the request body. Pure.

Promises: both the vendor and Postroom understand what it writes (only documented members and values).
Fails: ValueError or TypeError naming the argument, before anything is sent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypedDict, get_args

SearchField = Literal["all", "fromAddress", "toAddress", "subject", "info", "remoteIp"]
RouteName = Literal["all", "internal", "outbound", "inbound", "external"]
QueueType = Literal["processing", "bulk_processing"]
Search = tuple[SearchField, str] | str


class Asked(TypedDict, total=False):
    """The arguments of `find_processing_messages`, all optional."""

    start: datetime | None  # created at or after; the gateway's default is seven days ago
    end: datetime | None  # created at or before; the default is now
    search: Search | None  # ("subject", "invoice"), or just "invoice" to look everywhere
    route: RouteName | None
    attachments: bool | None  # only messages with, or only without
    type: QueueType
    newest_first: bool
    page_size: int  # of one call; the gateway gives at most 100


SEARCH_FIELDS: tuple[str, ...] = get_args(SearchField)


@dataclass(frozen=True, slots=True)
class Query:
    """A checked question; make one with `query`."""

    item: dict[str, object]
    page_size: int

    def body(self, token: str | None) -> bytes:
        """The request body; later pages repeat the question and add the token (contract 6.5)."""
        pagination: dict[str, object] = {"pageSize": self.page_size}
        if token is not None:
            pagination["pageToken"] = token
        return json.dumps({"meta": {"pagination": pagination}, "data": [self.item]}, ensure_ascii=False).encode()


def query(
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    search: Search | None = None,
    route: RouteName | None = None,
    attachments: bool | None = None,
    type: QueueType = "processing",
    newest_first: bool = True,
    page_size: int = 100,
) -> Query:
    """Checks the arguments."""
    # The vendor requires at least one option: the order is always there.
    item: dict[str, object] = {"sortOrder": "descending" if newest_first else "ascending"}
    item["type"] = _one_of("type", type, get_args(QueueType))
    if start is not None:
        item["start"] = _date("start", start)
    if end is not None:
        item["end"] = _date("end", end)
    if start is not None and end is not None and start > end:
        raise ValueError("start: expected an instant before end")
    if search is not None:
        item["searchBy"] = _search(search)
    filters: dict[str, object] = {}
    if route is not None:
        filters["route"] = _one_of("route", route, get_args(RouteName))
    if attachments is not None:
        if not isinstance(attachments, bool):
            raise TypeError("attachments: expected True, False or None")
        filters["attachments"] = attachments
    if filters:
        item["filterBy"] = [filters]
    if isinstance(page_size, bool) or not isinstance(page_size, int) or page_size < 1:
        raise ValueError("page_size: expected a number of messages, at least 1 (the gateway gives at most 100)")
    return Query(item, page_size)


def _search(search: Search) -> dict[str, object]:
    field, value = ("all", search) if isinstance(search, str) else search
    _one_of("search", field, SEARCH_FIELDS)
    if not isinstance(value, str) or not value:
        raise ValueError("search: expected some text to look for")
    return {"fieldName": "ALL" if field == "all" else field, "value": value}


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
    return value


def _date(name: str, value: datetime) -> str:
    """`2015-11-16T14:49:18+0000`: whole seconds, the form of every sample."""
    if value.tzinfo is None:
        raise ValueError(f"{name}: expected a datetime with a time zone (for example datetime.now(UTC))")
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")
