"""The published schema (OpenAPI 3.1) of both APIs, made from the types of the answers and the tables of functions.

Promises: the same tables give the same document; it has every served function with its permission (tested). Pure.
Fails: never; a function that `described` lacks is left out, which that test finds.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from postroom import __doc__ as about
from postroom.http.admin.asked import Operation
from postroom.http.admin.operations import OPERATIONS
from postroom.http.admin.shapes import Problem
from postroom.http.gateway.front import Function
from postroom.http.gateway.wire.envelope import Fault, Pagination
from postroom.http.schema.described import DOORS, GATEWAY, Described, Door, Schema

VERSION = "1"  # of the document; the gateway's version is not shown to strangers
REFERENCE = "#/components/schemas/{name}"
PERMISSION = "x-permission"
CHANGES = "x-changes"

_UNSET = msgspec.UnsetType
_INTERNAL = re.compile(r"\s*\(contract[^)]*\)|[:,]?\s*(?:of|see) contract section \d+")
_LIMIT_HEADERS = {
    "X-RateLimit-Limit": "Calls in one window.",
    "X-RateLimit-Remaining": "Calls left in this one.",
    "X-RateLimit-Reset": "Milliseconds until the window ends.",
}
_REFUSED = {
    400: "No credentials, or a body that cannot be read.",
    401: "A signature or token that is not accepted.",
    403: "The role lacks the permission; `app_forbidden`: no such function.",
    405: "Only POST.",
    413: "A body over 256 KiB.",
    418: "The access key has expired: log in again.",
    429: "Too many calls, or too many refused ones.",
    500: "A failure of the gateway.",
}
_PROBLEMS = {
    400: "A parameter or body that is wrong.",
    401: "No token, or one that is not accepted.",
    403: "The role lacks the permission.",
    404: "There is no such entry.",
    409: "The entry's state forbids it.",
    413: "A body over 16 KiB.",
    422: "The search is too broad to be answered within its bound.",
    429: "Too many calls, or too many refused ones.",
    500: "A failure of the gateway.",
    503: "The store does not answer.",
}


def document(functions: Mapping[str, Function]) -> Schema:
    """`functions`: the gateway's table."""
    types = list(dict.fromkeys(_types()))
    schemas, components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    named = dict(zip(types, schemas, strict=True))
    paths: Schema = {}
    for path, described in GATEWAY.items():
        answers = described.answers
        schema = answers if isinstance(answers, dict) else named[answers]
        if path in functions:
            paths[path] = {"post": _gateway(path, described, functions[path], schema)}
    for path, door in DOORS.items():
        paths[path] = {"post": _door(path, door, named[door.answers])}
    for operation in OPERATIONS:
        taken = None if operation.takes is None else named[operation.takes]
        shown = _own(operation, named[operation.answers], taken)
        paths.setdefault(operation.path, {})[operation.method.lower()] = shown
    found: Schema = {
        "openapi": "3.1.0",
        "info": {"title": "Postroom", "version": VERSION, "description": _introduction()},
        "servers": [{"url": "/"}],
        "tags": [
            {
                "name": "compatible",
                "description": "The vendor-compatible API. Function errors are HTTP 200 with `fail`.",
            },
            {"name": "keys", "description": "Keys and tokens for it."},
            {"name": "v1", "description": "Our own API."},
        ],
        "paths": paths,
        "components": {
            "schemas": {
                **_tidy(components, types),
                "Refusal": _refusal(),
                "Request": _request_meta(),
            },
            "parameters": {name: _signed_header(name) for name in ("x-mc-app-id", "x-mc-date", "x-mc-req-id")},
            "headers": {
                name: {"description": text, "schema": {"type": "integer", "minimum": 0}}
                for name, text in _LIMIT_HEADERS.items()
            },
            "securitySchemes": _security(),
        },
    }
    return _renamed(found)


def _types() -> Iterable[Any]:
    yield from (described.answers for described in GATEWAY.values() if not isinstance(described.answers, dict))
    yield from (door.answers for door in DOORS.values())
    for operation in OPERATIONS:
        yield operation.answers
        if operation.takes is not None:
            yield operation.takes
    yield from (Fault, Pagination, Problem)


def _introduction() -> str:
    return f"{(about or '').strip().splitlines()[0]} Requests are read much more leniently than this document says."


# -- one operation


def _gateway(path: str, described: Described, function: Function, answer: Schema) -> Schema:
    data: Schema = {"type": "array", "items": described.item, "maxItems": described.most}
    if described.least:
        data["minItems"] = described.least
    members: Schema = {"data": data}
    if described.paged:
        members = {"meta": {"$ref": REFERENCE.format(name="Request")}, **members}
    request: Schema = {"type": "object", "properties": members}
    if described.least:
        request["required"] = ["data"]
    return {
        "operationId": _operation_id(path),
        "tags": ["compatible"],
        "summary": described.summary,
        PERMISSION: function.permission,
        CHANGES: function.changes,
        "security": [{"signature": []}, {"token": []}],
        "parameters": [
            {"$ref": f"#/components/parameters/{name}"} for name in ("x-mc-app-id", "x-mc-date", "x-mc-req-id")
        ],
        "requestBody": {"required": bool(described.least), "content": {"application/json": {"schema": request}}},
        "responses": {
            "200": _success("The function ran; `fail` lists what it could not do.", _envelope(answer, described.paged)),
            **_refusals(_REFUSED, "application/json", "Refusal"),
        },
    }


def _door(path: str, door: Door, answer: Schema) -> Schema:
    shown: Schema = {
        "operationId": _operation_id(path),
        "tags": ["keys"],
        "summary": door.summary,
        PERMISSION: "",
        CHANGES: False,
        "security": door.security,
        "requestBody": {"required": True, "content": {door.media: {"schema": door.takes}}},
        "responses": {
            "200": _success("As asked.", _envelope(answer, False) if door.enveloped else answer),
            **_refusals({code: text for code, text in _REFUSED.items() if code != 418}, "application/json", "Refusal"),
        },
    }
    if door.enveloped:
        shown["parameters"] = [{"$ref": "#/components/parameters/x-mc-app-id"}]
    return shown


def _own(operation: Operation, answer: Schema, taken: Schema | None) -> Schema:
    shown: Schema = {
        "operationId": operation.name,
        "tags": ["v1"],
        "summary": operation.summary,
        PERMISSION: operation.permission,
        CHANGES: operation.method != "GET",
        "security": [{"token": []}],
        "parameters": [
            {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.place == "path",
                "description": parameter.text,
                "schema": parameter.schema,
                **({"style": "form", "explode": False} if parameter.schema.get("type") == "array" else {}),
            }
            for parameter in operation.parameters
        ],
        "responses": {
            "200": _success("As asked.", answer),
            **_refusals(
                {code: _PROBLEMS[code] for code in sorted({400, 401, 403, 429, 500, 503, *operation.refusals})},
                "application/problem+json",
                "Problem",
            ),
        },
    }
    if taken is not None:
        shown["requestBody"] = {"required": False, "content": {"application/json": {"schema": taken}}}
    return shown


def _operation_id(path: str) -> str:
    words = [word for part in path.strip("/").split("/") for word in part.split("-")]
    while words[0] in ("api", "gateway", "email", "account"):
        words = words[1:]
    return words[0] + "".join(word.capitalize() for word in words[1:])


# -- the envelope


def _envelope(item: Schema, paged: bool) -> Schema:
    meta: Schema = {"status": {"type": "integer", "const": 200}}
    if paged:
        meta["pagination"] = {"$ref": REFERENCE.format(name="Pagination")}
    failed = {
        "type": "object",
        "properties": {
            "key": {},
            "errors": {"type": "array", "minItems": 1, "items": {"$ref": REFERENCE.format(name="Fault")}},
        },
        "required": ["errors"],
    }  # fmt: skip
    return {
        "type": "object",
        "properties": {
            "meta": {"type": "object", "properties": meta, "required": ["status"]},
            "data": {"type": "array", "items": item},
            "fail": {"type": "array", "items": failed},
        },
        "required": ["meta", "data", "fail"],
    }


def _refusal() -> Schema:
    """The error envelope: nested errors, or the flat ones of the vendor's API gateway, or both."""
    return {
        "type": "object",
        "properties": {
            "meta": {"type": "object", "properties": {"status": {"type": "integer"}}, "required": ["status"]},
            "data": {"type": "array", "maxItems": 0},
            "fail": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "properties": {
                        "key": {},
                        "errors": {"type": "array", "minItems": 1, "items": {"$ref": REFERENCE.format(name="Fault")}},
                        "code": {"type": "string"},
                        "message": {"type": "string"},
                    },
                    "anyOf": [{"required": ["errors"]}, {"required": ["code", "message"]}],
                },
            },
            "error": {"type": "string"},
            "error_description": {"type": "string"},
        },
        "required": ["meta", "data", "fail"],
    }


def _request_meta() -> Schema:
    return {
        "title": "Request",
        "type": "object",
        "properties": {
            "pagination": {
                "type": "object",
                "properties": {
                    "pageSize": {
                        "type": "integer", "minimum": 1, "description": "Larger values mean the maximum.",
                    },
                    "pageToken": {
                        "type": "string",
                        "description": "`next` or `previous` of an earlier answer; it holds the query.",
                    },
                },
            }
        },
    }  # fmt: skip


def _success(text: str, schema: Schema) -> Schema:
    return {"description": text, "headers": _headers(), "content": {"application/json": {"schema": schema}}}


def _refusals(texts: Mapping[int, str], media: str, name: str) -> Schema:
    content = {media: {"schema": {"$ref": REFERENCE.format(name=name)}}}
    return {str(code): {"description": text, "content": content} for code, text in texts.items()}


def _headers() -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in _LIMIT_HEADERS}


def _signed_header(name: str) -> Schema:
    texts = {
        "x-mc-app-id": "The application's id.",
        "x-mc-date": "Now, as `Tue, 24 Nov 2015 12:50:11 UTC`; signed as sent.",
        "x-mc-req-id": "Any id of the request, usually a UUID; signed as sent.",
    }
    text = f"{texts[name]} Not with a token."
    return {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}


def _security() -> Schema:
    return {
        "signature": {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`MC accessKey:signature`; signature = base64(HMAC-SHA1(base64-decoded secret key, "
            "`date:request id:path:application key`)).",
        },
        "token": {
            "type": "oauth2",
            "flows": {"clientCredentials": {"tokenUrl": "/oauth/token", "scopes": {}}},
            "description": "`Authorization: Bearer` and a token of `POST /oauth/token`.",
        },
        "password": {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Basic-Cloud` or `Basic-AD` and base64 of `name:password`.",
        },
    }


# -- what msgspec does not know


def _tidy(components: dict[str, Any], types: Iterable[Any]) -> dict[str, Any]:
    """Makes optional members optional in the schema, and removes references to internal papers."""
    absent: dict[str, set[str]] = {}
    for kind in _structs(types):
        hints = typing.get_type_hints(kind)
        names = {
            field.encode_name for field in msgspec.structs.fields(kind) if _UNSET in typing.get_args(hints[field.name])
        }
        absent[kind.__name__] = absent[f"{kind.__module__}.{kind.__qualname__}"] = names
    tidied: dict[str, Any] = {}
    for name, schema in components.items():
        found = dict(schema)
        if "required" in found:
            found["required"] = [member for member in found["required"] if member not in absent.get(name, ())]
        if "description" in found:
            found["description"] = _INTERNAL.sub("", found["description"])
        tidied[name] = found
    return tidied


def _structs(types: Iterable[Any]) -> set[type[msgspec.Struct]]:
    found: set[type[msgspec.Struct]] = set()
    waiting = list(types)
    while waiting:
        kind = waiting.pop()
        waiting += typing.get_args(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in found:
            found.add(kind)
            waiting += typing.get_type_hints(kind).values()
    return found


def _renamed(found: Schema) -> Schema:
    """A public name for types of the same name in two modules: `...calls.release_logs.Shown` -> `ReleaseLogsShown`."""
    text = msgspec.json.encode(found).decode()
    for name in sorted(found["components"]["schemas"], key=len, reverse=True):
        if "." in name:
            module, kind = name.split(".")[-2:]
            text = text.replace(name, module.title().replace("_", "") + kind)
    return typing.cast(Schema, msgspec.json.decode(text))
