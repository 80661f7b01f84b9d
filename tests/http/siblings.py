"""What the tests of the vendor's other functions have in common."""

from __future__ import annotations

import json
from typing import Any

from postroom.http.gateway.wire.idents import EntryIds
from postroom.model import Action
from postroom.store.access import identity
from tests.http.conftest import Answer, Served


async def ask(
    served: Served, path: str, *items: Any, role: str = identity.ADMINISTRATOR, body: dict[str, Any] | None = None,
    **pagination: Any,
) -> Answer:  # fmt: skip
    """A well-formed call; without items there is no `data`."""
    sent: dict[str, Any] = dict(body or {})
    if items:
        sent["data"] = list(items)
    if pagination:
        sent["meta"] = {"pagination": pagination}
    return await served.post(path, served.signed(path, role=role), json.dumps(sent).encode())


def data(answer: Answer) -> list[Any]:
    assert answer.status == 200, answer.body
    assert answer.json["fail"] == [], answer.body
    found: list[Any] = answer.json["data"]
    return found


def faults(answer: Answer) -> list[tuple[str | None, str]]:
    """(field, code) of everything in `fail`."""
    assert answer.status == 200, answer.body
    return [(error.get("field"), error["code"]) for fail in answer.json["fail"] for error in fail["errors"]]


def ident(served: Served, entry: int) -> str:
    return EntryIds(served.services.sealer).texts([entry])[0]


async def hold(served: Served, *recipients: str, why: str = "", **given: Any) -> list[int]:
    """A message whose entries are held by a person."""
    entries = [*(await served.put(*recipients, **given)).entries]
    await served.store.act(Action.HOLD, entries, actor="test", reason=why)
    return entries
