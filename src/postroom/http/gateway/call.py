"""A call as its function gets it: authenticated, permitted, with its body parsed."""

from __future__ import annotations

from typing import Any

import msgspec

from postroom.http.door.auth import Caller
from postroom.http.gateway.wire.envelope import Failure

MAX_ITEMS = 25  # of `data`, each one a call of its own (contract section 3)


class Call(msgspec.Struct, frozen=True):
    app: Caller
    request_id: str
    body: dict[str, Any]
    items: list[Any]  # of `data`; empty when none was sent
    query: str = ""  # behind the `?` of the address, as it was sent

    @property
    def actor(self) -> str:
        """The actor for timelines and the audit log."""
        return self.app.actor


def read_call(app: Caller, request_id: str, body: Any, query: str = "") -> Call:
    """Accepts no body, `{}`, and `data` missing, null, an object or a list (contract 6.4). Raises Failure."""
    if body is None:
        body = {}
    if not isinstance(body, dict):
        raise Failure(400, "err_invalid_json", f"Request body must be a JSON object, found {_kind(body)}")
    items = body.get("data")
    if items is None or items == "":
        items = []
    return Call(app, request_id, body, items if isinstance(items, list) else [items], query)


def _kind(body: Any) -> str:
    return {list: "an array", str: "a string", bool: "a truth value"}.get(type(body), "a number")
