"""The published schema says what the code does: every function, every word it takes, every member it gives."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from postroom.http.admin.operations import OPERATIONS
from postroom.http.door.guard import Guard
from postroom.http.gateway.calls import (
    account,
    find,
    held,
    login,
    oauth,
    queues,
    rejections,
    release,
    release_logs,
    tracking,
)
from postroom.http.gateway.front import GatewayApi
from postroom.http.schema.described import DOORS, GATEWAY, Schema
from postroom.http.schema.openapi import document
from postroom.ids import public_id
from postroom.model import Action
from postroom.store.access import identity
from tests.http.conftest import START, Answer, Served

PASSWORD = "correct horse battery"


@pytest.fixture
async def schema(served: Served) -> Schema:
    answer = await served.get("/v1/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return dict(answer.json)


def operations(schema: Schema) -> Iterator[tuple[str, str, Schema]]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def closed(schema: Schema, part: Schema) -> jsonschema_rs.Validator:
    """A validator that rejects members which the schema does not name; the published one leaves room for later ones."""

    def close(node: Any) -> Any:
        if isinstance(node, dict):
            node = {name: close(one) for name, one in node.items()}
            if "properties" in node and "additionalProperties" not in node:
                node["additionalProperties"] = False
        elif isinstance(node, list):
            node = [close(one) for one in node]
        return node

    whole = {**close(copy.deepcopy(part)), "components": close(copy.deepcopy(schema["components"]))}
    return jsonschema_rs.Draft202012Validator(whole)


def check_answer(schema: Schema, path: str, answer: Answer, method: str = "post") -> None:
    """Whatever it is: the answer is one that the schema names for this status."""
    said = schema["paths"][path][method]["responses"][str(answer.status)]["content"]
    ((media, content),) = said.items()
    assert answer.headers["content-type"] == media
    problems = list(closed(schema, content["schema"]).iter_errors(answer.json))
    assert problems == [], [f"{problem.instance_path}: {problem.message}" for problem in problems]


async def test_every_function_is_there_with_its_permission(served: Served, schema: Schema) -> None:
    api = GatewayApi(served.services, Guard(served.services))
    found = {(path, method): operation["x-permission"] for path, method, operation in operations(schema)}
    assert found == {
        **{(path, "post"): function.permission for path, function in api.functions.items()},
        **{(path, "post"): "" for path in api._doors},
        **{(one.path, one.method.lower()): one.permission for one in OPERATIONS},
    }
    assert GATEWAY.keys() == api.functions.keys()
    assert DOORS.keys() == api._doors.keys()
    for path, function in api.functions.items():
        assert schema["paths"][path]["post"]["x-changes"] == function.changes


async def test_it_is_the_same_document_for_everybody_and_is_well_formed(served: Served, schema: Schema) -> None:
    api = GatewayApi(served.services, Guard(served.services))
    assert schema == document(api.functions)
    assert schema["openapi"] == "3.1.0"
    names = [operation["operationId"] for _, _, operation in operations(schema)]
    assert len(set(names)) == len(names)
    for name, part in schema["components"]["schemas"].items():
        assert re.fullmatch(r"[A-Za-z0-9]+", name)
        jsonschema_rs.meta.validate({**part, "$schema": "https://json-schema.org/draft/2020-12/schema"})
    text = json.dumps(schema)
    assert "contract" not in text
    for reference in set(re.findall(r'"#/components/([^"]+)"', text)):
        kind, _, name = reference.partition("/")
        assert name in schema["components"][kind], reference


def item_of(schema: Schema, path: str) -> Schema:
    content = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return dict(content["schema"]["properties"]["data"]["items"])


def words_of(item: Schema, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Every closed list of words in a request, and where it stands."""
    for name, member in item.get("properties", {}).items():
        inner = member.get("items", member) if member.get("type") == "array" else member
        if "enum" in inner:
            yield (*place, name), inner["enum"]
        yield from words_of(inner, (*place, name))


def with_word(item: Schema, place: tuple[str, ...], word: str) -> Schema:
    """A request that says this word there, and what must be beside it."""
    built: Any = {"value": "x", "fieldName": word} if place[-1] == "fieldName" else {place[-1]: word}
    for name in reversed(place[:-1]):
        built = {name: built}
    return {**dict.fromkeys(item.get("required", ()), "2027-01-15T08:00:00Z"), **built}


async def test_the_words_it_names_are_those_that_are_taken(served: Served, schema: Schema) -> None:
    """Each word of each closed list is taken, and another is refused with the member's name."""
    tried = 0
    for path in GATEWAY:
        if path in (release.RELEASE, release.REJECT, tracking.INFO):
            continue  # they need a message: below
        item = item_of(schema, path)
        for place, known in words_of(item):
            for word in (*known, "nonsense"):
                body = json.dumps({"data": [with_word(item, place, word)]}).encode()
                answer = await served.post(path, served.signed(path), body)
                codes = {fault["code"] for failed in answer.json["fail"] for fault in failed["errors"]}
                wrong = {fault.get("field", "") for failed in answer.json["fail"] for fault in failed["errors"]}
                if word == "nonsense":
                    assert any(name.endswith(place[-1]) for name in wrong), (path, place, answer.body)
                else:
                    assert "err_validation_value_not_allowed" not in codes, (path, place, word, answer.body)
                tried += 1
    assert tried > 60


async def a_full_house(served: Served) -> dict[str, str]:
    """Entries of every kind; ids as the API shows them, by subject."""
    waiting = await served.put(subject="waiting", name="Alice", to_name="Bob")
    holding = await served.put(subject="held", sender="eve@example.org")
    rejected = await served.put(subject="rejected")
    released = await served.put(subject="released")
    for one in (holding, rejected, released):
        await served.store.act(Action.HOLD, one.entries, actor="test", reason="odd")
    await served.store.act(Action.REJECT, rejected.entries, actor="app:test", reason="spam")
    await served.store.act(Action.RELEASE, released.entries, actor="app:test", reason="fine")
    idents = find.EntryIds(served.services.sealer)
    named = {"waiting": waiting, "held": holding, "rejected": rejected, "released": released}
    return {name: idents.texts(one.entries)[0] for name, one in named.items()}


async def test_real_answers_are_what_it_says(served: Served, schema: Schema) -> None:
    """The answers are not empty, hold no member that is not named and lack none that is required."""
    ids = await a_full_house(served)
    day = {"start": "2027-01-14T08:00:00Z", "end": "2027-01-15T08:00:00Z"}
    calls: list[tuple[str, list[Any]]] = [
        (find.PATH, [{}]), (find.PATH, [{"sortOrder": "sideways"}]), (held.LIST, [{}]), (held.SUMMARY, []),
        (release_logs.PATH, [{}]), (rejections.PATH, [{}]), (queues.PATH, [day]), (queues.PATH, [{}]),
        (tracking.SEARCH, [{}]), (tracking.SEARCH, [{"start": "2001-01-01T00:00:00Z"}]),
        (account.PATH, []), (release.RELEASE, [{"id": ids["held"]}]), (release.RELEASE, [{"id": ids["waiting"]}]),
        (release.RELEASE, [{"id": "x", "action": "reject"}]), (release.REJECT, [{"ids": [ids["waiting"]]}]),
        *((tracking.INFO, [{"id": ident}]) for ident in ids.values()), (tracking.INFO, [{"id": "x"}]),
    ]  # fmt: skip
    shown = set()
    for path, items in calls:
        answer = await served.post(path, served.signed(path), json.dumps({"data": items}).encode())
        assert answer.status == 200, (path, answer.body)
        check_answer(schema, path, answer)
        if answer.json["data"]:
            shown.add(path)
    assert shown == GATEWAY.keys()


async def test_refusals_are_what_it_says(served: Served, schema: Schema) -> None:
    for path in GATEWAY:
        headers = served.signed(path)
        check_answer(schema, path, await served.post(path, {}))
        check_answer(schema, path, await served.post(path, headers | {"x-mc-app-id": "other"}))
        check_answer(schema, path, await served.post(path, served.signed(path, secret_key="c2VjcmV0")))
        check_answer(schema, path, await served.post(path, {"Authorization": "Bearer x"}))
        check_answer(schema, path, await served.get(path, headers))
        check_answer(schema, path, await served.post(path, headers, b"{'data': ["))
        check_answer(schema, path, await served.post(path, served.signed(path), b" " * (256 * 1024 + 1)))


async def test_the_doors_answer_as_it_says(served: Served, schema: Schema) -> None:
    await served.store.write(
        lambda tx: identity.create_user(
            tx,
            email="alice@corp.example",
            password_hash=identity.hash_password(PASSWORD),
            role=identity.ADMINISTRATOR,
        )
    )
    keys = served.keys[identity.ADMINISTRATOR]
    app = {"x-mc-app-id": keys.app_id, "Content-Type": "application/json"}
    basic = base64.b64encode(f"alice@corp.example:{PASSWORD}".encode()).decode()
    wrong = base64.b64encode(b"alice@corp.example:wrong").decode()
    for headers, body in (
        (app, b'{"data": [{"emailAddress": "alice@corp.example"}]}'), (app, b'{"data": [{}]}'), ({}, b"{}"),
    ):  # fmt: skip
        check_answer(schema, login.DISCOVER, await served.post(login.DISCOVER, headers, body))
    for given in (basic, wrong, ""):
        answer = await served.post(login.LOGIN, app | {"Authorization": f"Basic-Cloud {given}"}, b'{"data": [{}]}')
        assert answer.status == (200 if given == basic else 401)
        check_answer(schema, login.LOGIN, answer)
    check_answer(schema, login.LOGIN, await served.post(login.LOGIN, app))
    form = f"grant_type=client_credentials&client_id={keys.client_id}&client_secret={keys.client_secret}"
    for body in (form, form + "x", "grant_type=password", ""):
        answer = await served.post(oauth.PATH, {"Content-Type": "application/x-www-form-urlencoded"}, body.encode())
        check_answer(schema, oauth.PATH, answer)


async def test_our_own_api_answers_as_it_says(served: Served, schema: Schema) -> None:
    await a_full_house(served)
    reader = served.store.read_now()
    idents = [public_id(entry) for (entry,) in reader.tx.rows("SELECT id FROM entry UNION SELECT id FROM history")]
    headers = await served.bearer()
    assert len(idents) == 4
    targets = [
        ("/v1/queues", "/v1/queues"), ("/v1/entries", "/v1/entries?total=true&limit=1"),
        ("/v1/entries", "/v1/entries?limit=x"),
        ("/v1/ledger", "/v1/ledger"), *(("/v1/entries/{id}", f"/v1/entries/{ident}") for ident in (*idents, "1", "x")),
    ]  # fmt: skip
    for path, target in targets:
        check_answer(schema, path, await served.get(target, headers), "get")
        check_answer(schema, path, await served.get(target), "get")
    for ident in (*idents, "1"):
        for action in ("hold", "release", "retry", "retry"):
            answer = await served.post(f"/v1/entries/{ident}/{action}", headers, b"{}")
            check_answer(schema, f"/v1/entries/{{id}}/{action}", answer)


async def test_the_page_shows_everything_and_runs_nothing(served: Served, schema: Schema) -> None:
    answer = await served.get("/v1/docs")
    text = answer.body.decode()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    for path, method, operation in operations(schema):
        assert f"<code>{method.upper()} {path}</code>" in text
        assert operation["summary"].split("`")[0] in text
    for name in schema["components"]["schemas"]:
        assert f"id='{name}'" in text
    for anchor in set(re.findall(r"href='#([^']+)'", text)):
        assert f"id='{anchor}'" in text
    assert not re.search(r"<script|<link|<img|\bon\w+=|src=", text)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert START > 0


async def test_the_page_escapes_what_it_shows() -> None:
    from postroom.http.schema.openapi_page import page

    schema: Schema = {
        "info": {"description": "<b>"},
        "tags": [{"name": "<t>", "description": "a `<c>` b"}],
        "paths": {},
        "components": {"schemas": {"X": {"properties": {"<m>": {"enum": ["<w>"]}}}}},
    }
    text = page(schema).decode()
    for raw in ("<b>", "<t>", "<c>", "<m>", "<w>"):
        assert raw not in text
    assert "<code>&lt;c&gt;</code>" in text
