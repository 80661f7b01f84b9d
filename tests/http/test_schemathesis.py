"""Right and wrong requests that schemathesis makes from the published schema, to the real application: never a 500.

Every answer must also be one that the schema names for its status. Its generator alone is used; the requests are signed
and sent here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import schemathesis
from hypothesis import HealthCheck, given
from schemathesis.generation import GenerationMode

from postroom.http.gateway.front import Function
from postroom.http.schema.described import GATEWAY
from postroom.http.schema.openapi import document
from tests.http.conftest import Answer, Served, request_bytes, talk
from tests.http.generated import generated
from tests.http.test_openapi import check_answer

CASES = 24  # of each kind for each operation


async def _nothing(call: Any) -> bytes:
    raise AssertionError("only described")


SCHEMA = document({path: Function("", _nothing) for path in GATEWAY})
OPERATIONS = [found.ok() for found in schemathesis.openapi.from_dict(SCHEMA).get_all_operations()]


def target_of(case: Any) -> str:
    path = case.path
    for name, value in (case.path_parameters or {}).items():
        path = path.replace(f"{{{name}}}", quote(str(value), safe="") or "-")
    query = urlencode(case.query or {}, doseq=True, errors="replace")
    return f"{path}?{query}" if query else path


def body_of(case: Any) -> bytes:
    body = case.body
    if isinstance(body, bytes):
        return body
    if body is None or isinstance(body, str | int | float | bool | dict | list):
        if case.media_type == "application/x-www-form-urlencoded" and isinstance(body, dict):
            return urlencode(body, errors="replace").encode()
        return json.dumps(body).encode()
    return b""  # not given


async def send(served: Served, case: Any, token: dict[str, str]) -> Answer:
    target, body = target_of(case), body_of(case)
    keys = next(iter(served.keys.values()))
    headers = {
        "compatible": lambda: served.signed(target),
        "v1": lambda: token,
        "keys": lambda: {"x-mc-app-id": keys.app_id, "Content-Type": case.media_type or "application/json"},
    }[SCHEMA["paths"][case.path][case.method.lower()]["tags"][0]]()
    return await talk(served.address, request_bytes(case.method.upper(), target, headers, body))


def _kinds() -> Iterator[Any]:
    """Each operation with right and with wrong requests; one that takes nothing has no wrong ones."""
    for operation in OPERATIONS:
        name = operation.definition.raw["operationId"]
        yield pytest.param(operation, GenerationMode.POSITIVE, id=f"{name}-right")
        if operation.definition.raw.get("parameters") or "requestBody" in operation.definition.raw:
            yield pytest.param(operation, GenerationMode.NEGATIVE, id=f"{name}-wrong")


@pytest.mark.parametrize(("operation", "mode"), list(_kinds()))
async def test_no_request_breaks_it(served: Served, operation: Any, mode: GenerationMode) -> None:
    token = await served.bearer()
    await served.put(subject="here")

    @generated(CASES, "requests by schemathesis", suppress_health_check=list(HealthCheck), database=None)
    @given(operation.as_strategy(generation_mode=mode))
    def cases(case: Any) -> None:
        drawn.append(case)

    drawn: list[Any] = []
    cases()
    for case in drawn:
        answer = await send(served, case, token)
        assert answer.status < 500, (case, answer.body)
        check_answer(SCHEMA, operation.path, answer, operation.method.lower())
    assert drawn
    assert not [line for line in served.told.lines if "http_failed" in line]
