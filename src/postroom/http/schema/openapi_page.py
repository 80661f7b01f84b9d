"""`/v1/docs`: the published schema as a page for people. Plain HTML made on the server, without scripts or other sites.

Promises: every text is escaped. Pure. Fails: never.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Any

Schema = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid; }
h3 { margin: 2rem 0 0; font-size: 1rem; }
h3 code { font-size: 1rem; }
code { font: 13px/1.5 ui-monospace, monospace; }
table { border-collapse: collapse; margin: .5rem 0; }
td, th { text-align: left; vertical-align: top; padding: .15rem 1rem .15rem 0; }
.quiet { opacity: .75; }
"""
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
PAGE_POLICY = (
    b"content-security-policy",
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; frame-ancestors 'none'".encode(),
)


def page(document: Schema) -> bytes:
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Postroom API</title><style>{_STYLE}</style></head><body><h1>Postroom API</h1>",
        f"<p>{_text(document['info']['description'])} "
        "The same for programs: <a href='/v1/openapi.json'>openapi.json</a>.</p>",
    ]
    for tag in document["tags"]:
        parts.append(f"<h2>{escape(tag['name'])}</h2><p>{_text(tag['description'])}</p>")
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    parts.append(_operation(path, method, operation))
    parts.append("<h2>Types</h2>")
    for name, schema in document["components"]["schemas"].items():
        parts.append(f"<h3 id='{escape(name)}'><code>{escape(name)}</code></h3>")
        parts.append(f"<p>{_text(schema.get('description', ''))}</p>{_members(schema)}")
    parts.append("</body></html>\n")
    return "".join(parts).encode()


def _operation(path: str, method: str, operation: Schema) -> str:
    permission = operation.get("x-permission")
    parts = [
        f"<h3 id='{escape(operation['operationId'])}'><code>{method.upper()} {escape(path)}</code></h3>",
        f"<p>{_text(operation['summary'])}",
        f"<br><span class=quiet>Permission: {escape(permission)}</span>" if permission else "",
        "</p>",
    ]
    named = [parameter for parameter in operation.get("parameters", ()) if "name" in parameter]
    if named:
        rows = [(one["name"], one["schema"], one["description"], one["required"]) for one in named]
        parts.append(_table(rows))
    for content in operation.get("requestBody", {}).get("content", {}).values():
        item = content["schema"]
        data = item.get("properties", {}).get("data")
        parts.append("<p class=quiet>Request" + (", each element of <code>data</code></p>" if data else "</p>"))
        parts.append(_members(data["items"] if data else item))
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    data = answer.get("properties", {}).get("data") if "fail" in answer.get("properties", {}) else None
    shown = _kind(data["items"]) + " in <code>data</code>" if data else _kind(answer)
    codes = ", ".join(code for code in operation["responses"] if code != "200")
    parts.append(f"<p class=quiet>Answer: {shown}. Else: HTTP {codes}.</p>")
    return "".join(parts)


def _members(schema: Schema) -> str:
    if "enum" in schema:
        return f"<p>{_kind(schema)}</p>"
    required = schema.get("required", ())
    rows = [
        (name, member, member.get("description", ""), name in required)
        for name, member in schema.get("properties", {}).items()
    ]
    return _table(rows) if rows else f"<p>{_kind(schema)}</p>"


def _table(rows: list[tuple[str, Schema, str, bool]]) -> str:
    lines = [
        f"<tr><td><code>{escape(name)}</code></td><td>{_kind(schema)}</td>"
        f"<td>{'required' if required else ''}</td><td>{_text(text)}</td></tr>"
        for name, schema, text, required in rows
    ]
    return f"<table>{''.join(lines)}</table>"


def _kind(schema: Schema) -> str:
    """The type of a value in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'><code>{name}</code></a>"
    if "anyOf" in schema and "properties" not in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        words = ", ".join(f"<code>{escape(str(word))}</code>" for word in schema["enum"])
        default = f" (default <code>{escape(schema['default'])}</code>)" if "default" in schema else ""
        return words + default
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if schema.get("type") == "array":
        most = f", at most {schema['maxItems']}" if schema.get("maxItems") else ""
        return f"list of {_kind(schema['items'])}{most}" if schema.get("items") else "list"
    if schema.get("type") == "object" and schema.get("properties"):
        inner = "; ".join(f"<code>{escape(name)}</code> {_kind(one)}" for name, one in schema["properties"].items())
        return f"{{ {inner} }}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    word = schema.get("format") or schema.get("type") or "anything"
    return escape(str(word))


def _text(text: str) -> str:
    """Escaped text, with backquoted words as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
