"""Reads request bodies as leniently as the vendor does (contract 6.4).

Accepts JSON and what clients send instead: single quotes (Python's `str(dict)`), `True`, `None` and the like in any
case, `u'..'` of Python 2, unquoted names, trailing commas, a byte order mark, any kind of white space, a form with a
`data` field (multipart or not), or no body. Promises: linear time, bounded depth, nothing is evaluated; the result
holds only dict, list, str, int, float, bool and None, and can be written as JSON. Fails: UnreadableBody names the place
and what was expected.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from postroom.errors import PeerError

MAX_BODY = 256 * 1024  # bytes
MAX_DEPTH = 32
_MAX_NUMBER = 64  # characters; more digits mean nothing, and int() of very many is not linear

_BLANK = re.compile(r"[\s\ufeff]*+")  # of Unicode: bodies are pasted from web pages, with no-break spaces in them
_DOUBLE = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_SINGLE = re.compile(r"'([^'\\]*+(?:\\.[^'\\]*+)*+)'", re.DOTALL)
_NUMBER = re.compile(r"-?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?(?![\w.])")
_NAME = re.compile(r"[A-Za-z_$][\w$.-]*+")
_ESCAPE = re.compile(
    r"\\(?:(?P<plain>[bfnrt/\"'\\])|u(?P<u>[0-9A-Fa-f]{4})|x(?P<x>[0-9A-Fa-f]{2})|U(?P<U>[0-9A-Fa-f]{8})|(?P<bad>.))",
    re.DOTALL,
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_FORM = re.compile(rb"\s*+(?:data|meta)=")
_MAX_FIELDS = 20
_WORDS = {"true": True, "false": False, "null": None, "none": None}

_strict = msgspec.json.Decoder().decode


class UnreadableBody(PeerError):
    """Not JSON, nor anything close to it."""


def read_body(data: bytes, *, once: bool = False) -> Any:
    """The value of a body; None when there is none. `once`, for calls that change something: a name or a form's field
    that comes twice, and a field that nobody reads, are refused, since what they say would be passed over."""
    assert len(data) <= MAX_BODY
    if not once and data.count(b"{") + data.count(b"[") <= MAX_DEPTH:  # cannot be too deep: the fast reader will do
        try:
            return _strict(data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):  # not strictly JSON: below
            pass
    if data.lstrip()[:2] == b"--":
        return _multipart(data, once)
    if _FORM.match(data):
        return _form(data, once)
    return _read_text(data, once)


def _read_text(data: bytes, once: bool) -> Any:
    text = _decode(data)
    start = _skip(text, 0)
    if start == len(text):
        return None
    value, at = _value(text, start, 0, once)
    at = _skip(text, at)
    if at != len(text):
        raise _problem(text, at, "the end of the body")
    return value


def _decode(data: bytes) -> str:
    """UTF-8; else Latin-1, which PowerShell 5 sends without saying so."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _skip(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None
    return match.end()


def _problem(text: str, at: int, expected: str) -> UnreadableBody:
    found = repr(text[at : at + 12]) if at < len(text) else "the end"
    return UnreadableBody(f"body is not JSON at character {at}: expected {expected}, found {found}")


def _value(text: str, at: int, depth: int, once: bool) -> tuple[Any, int]:
    at = _past_prefix(text, at)
    first = text[at : at + 1]
    if first == "{":
        return _object(text, at, depth + 1, once)
    if first == "[":
        return _array(text, at, depth + 1, once)
    if first in ('"', "'"):
        return _string(text, at)
    number = _NUMBER.match(text, at)
    if number is not None:
        return _as_number(text, at, number[0]), number.end()
    name = _NAME.match(text, at)
    if name is not None and name[0].lower() in _WORDS:
        return _WORDS[name[0].lower()], name.end()
    raise _problem(text, at, "a value")


def _object(text: str, at: int, depth: int, once: bool) -> tuple[dict[str, Any], int]:
    _check_depth(text, at, depth)
    found: dict[str, Any] = {}
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        before = at
        name, at = _member_name(text, at)
        if once and name in found:
            raise _problem(text, before, "each name once")
        at = _skip(text, at)
        if text[at : at + 1] != ":":
            raise _problem(text, at, "':'")
        found[name], at = _value(text, _skip(text, at + 1), depth, once)
        at = _after_item(text, at, "}")
    return found, at + 1


def _array(text: str, at: int, depth: int, once: bool) -> tuple[list[Any], int]:
    _check_depth(text, at, depth)
    found: list[Any] = []
    at = _skip(text, at + 1)
    while text[at : at + 1] != "]":
        value, at = _value(text, at, depth, once)
        found.append(value)
        at = _after_item(text, at, "]")
    return found, at + 1


def _after_item(text: str, at: int, end: str) -> int:
    """Moves past a comma, if there is one (also a trailing one), else to the closing bracket."""
    at = _skip(text, at)
    if text[at : at + 1] == ",":
        return _skip(text, at + 1)
    if text[at : at + 1] == end:
        return at
    raise _problem(text, at, f"',' or '{end}'")


def _check_depth(text: str, at: int, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _problem(text, at, f"at most {MAX_DEPTH} levels")


def _past_prefix(text: str, at: int) -> int:
    """`u'..'` is how Python 2 writes its texts; without a quote behind it, `u` is a name like others."""
    return at + 1 if text[at : at + 2] in ("u'", 'u"') else at


def _member_name(text: str, at: int) -> tuple[str, int]:
    at = _past_prefix(text, at)
    if text[at : at + 1] in ('"', "'"):
        return _string(text, at)
    name = _NAME.match(text, at)
    if name is None:
        raise _problem(text, at, "a name")
    return name[0], name.end()


def _string(text: str, at: int) -> tuple[str, int]:
    match = (_DOUBLE if text[at] == '"' else _SINGLE).match(text, at)
    if match is None:
        raise _problem(text, at, "a closed string")
    value = match[1]
    if "\\" in value:
        value = _ESCAPE.sub(lambda escape: _escaped(text, at, escape), value)
        if _SURROGATE.search(value):  # pairs become one character, lone halves cannot be written as UTF-8
            value = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value, match.end()


def _escaped(text: str, at: int, escape: re.Match[str]) -> str:
    kind = escape.lastgroup
    if kind == "plain":
        return _PLAIN.get(escape["plain"], escape["plain"])
    if kind == "bad" or kind is None:
        raise _problem(text, at, f"no unknown escape {escape[0]!r} in this string")
    code = int(escape[kind], 16)
    if code > 0x10FFFF:
        raise _problem(text, at, f"no unknown character {escape[0]!r} in this string")
    return chr(code)


def _as_number(text: str, at: int, number: str) -> int | float:
    if len(number) > _MAX_NUMBER:
        raise _problem(text, at, "a number of sensible length")
    if number.lstrip("-").isdigit():
        return int(number)
    value = float(number)
    if value in (float("inf"), float("-inf")):
        raise _problem(text, at, "a finite number")
    return value


def _form(data: bytes, once: bool) -> dict[str, Any]:
    """`data=%7B..%7D`: the item, the list of items or the whole body as a form's field, JSON header or not."""
    try:
        # Latin-1 there and back: every byte as it was sent; what they spell is found out as for any other body.
        text = data.strip().decode("latin-1")
        found = parse_qsl(text, keep_blank_values=True, encoding="latin-1", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise UnreadableBody(f"body is a form of more than {_MAX_FIELDS} fields: expected JSON") from None
    names = [name for name, _ in found]
    if once and (len(set(names)) < len(names) or not set(names) <= {"data", "meta"}):
        raise UnreadableBody("body is a form with more in it: expected the fields 'data' and 'meta', each once")
    return _body_of(
        {name: _read_text(value.encode("latin-1"), once) for name, value in found if name in ("data", "meta")}, once
    )


def _body_of(fields: dict[str, Any], once: bool) -> dict[str, Any]:
    """Tells a body from an item: an item has no member `data` or `meta`."""
    found = fields.get("data")
    if not isinstance(found, dict) or not found.keys() & {"data", "meta"}:
        return fields
    if once and len(fields) > 1:
        raise UnreadableBody("body is a form with a whole body in 'data': expected no field 'meta' beside it")
    return found


def _multipart(data: bytes, once: bool) -> dict[str, Any]:
    """A multipart form whose field `data` holds the item, or the whole body (a published collection sends this,
    contract 6.3; RFC 7578)."""
    boundary, _, rest = data.lstrip().partition(b"\n")
    boundary = boundary.rstrip()
    parts = rest.split(b"\n" + boundary)
    if once and len([part for part in parts if not part.startswith(b"--") and part.strip()]) > 1:
        raise UnreadableBody("body is a multipart form with more in it: expected the field 'data' alone")
    for part in parts:
        head, blank, value = part.lstrip(b"\r\n").replace(b"\r\n", b"\n").partition(b"\n\n")
        if blank and re.search(rb'name="?data"?[ \t]*+(?:;|$)', head, re.MULTILINE | re.IGNORECASE):
            return _body_of({"data": _read_text(value, once)}, once)
    raise UnreadableBody("body is a multipart form without a field named 'data': expected JSON")
