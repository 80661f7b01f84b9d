"""People, their logins, tokens and the audit log, for the tests of who may do what."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlencode

from postroom.http.gateway.calls.login import LOGIN
from postroom.http.gateway.calls.oauth import PATH as TOKEN
from postroom.store.access import identity
from postroom.store.logs import audit
from tests.http.conftest import FIND, Answer, Served

EMAIL = "alice@corp.example"
PASSWORD = "correct horse battery"  # of a store that lives for one test


async def a_person(
    served: Served, email: str = EMAIL, password: str = PASSWORD, role: str = identity.ADMINISTRATOR
) -> None:
    hashed = identity.hash_password(password)
    await served.store.write(lambda tx: identity.create_user(tx, email=email, password_hash=hashed, role=role))


async def an_app(served: Served, name: str, *permissions: str) -> None:
    """An application with a role of its own; `served.keys` has its keys under this name."""
    sealer = served.services.sealer
    await served.store.write(lambda tx: identity.create_role(tx, name, permissions))
    served.keys[name] = await served.store.write(lambda tx: identity.create_app(tx, sealer, name=name, role=name))


def basic(name: str, password: str, realm: str = "Basic-Cloud") -> str:
    return f"{realm} {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


async def log_in(
    served: Served, *, email: str = EMAIL, password: str = PASSWORD, realm: str = "Basic-Cloud",
    app: str = identity.ADMINISTRATOR, headers: dict[str, str] | None = None, **item: Any,
) -> Answer:  # fmt: skip
    sent = {"Authorization": basic(email, password, realm), "x-mc-app-id": served.keys[app].app_id}
    sent |= {"Content-Type": "application/json"} | (headers or {})
    body = json.dumps({"data": [{"userName": email, **item}]}).encode()
    return await served.post(LOGIN, {name: value for name, value in sent.items() if value}, body)


async def issued(served: Served, **given: Any) -> dict[str, str]:
    """The keys of a login, as `served.signed` takes them."""
    answer = await log_in(served, **given)
    assert answer.json["fail"] == [], answer.body
    (keys,) = answer.json["data"]
    return {"access_key": keys["accessKey"], "secret_key": keys["secretKey"]}


async def find_with(served: Served, keys: dict[str, str], **signed: Any) -> Answer:
    return await served.post(FIND, served.signed(**keys, **signed), b"{}")


async def ask_token(served: Served, role: str = identity.ADMINISTRATOR, **changed: str) -> Answer:
    keys = served.keys[role]
    fields = {"grant_type": "client_credentials", "client_id": keys.client_id, "client_secret": keys.client_secret}
    body = urlencode({name: value for name, value in (fields | changed).items() if value}).encode()
    return await served.post(TOKEN, {"Content-Type": "application/x-www-form-urlencoded"}, body)


async def a_token(served: Served, role: str = identity.ADMINISTRATOR) -> str:
    answer = await ask_token(served, role)
    assert answer.status == 200, answer.body
    return str(answer.json["access_token"])


def carrying(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}


async def audit_lines(served: Served, **wanted: Any) -> list[audit.Line]:
    """Oldest first."""
    await served.server.guard.trail.flush()
    found = await served.store.read(lambda reader: audit.read(reader.tx, limit=10_000, **wanted))
    return found[::-1]


async def audit_told(served: Served, **wanted: Any) -> list[tuple[str, str, str, str, str, int]]:
    return [
        (line.kind, line.actor, line.what, line.outcome, line.detail, line.times)
        for line in await audit_lines(served, **wanted)
    ]
