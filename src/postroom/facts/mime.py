"""One linear walk over the MIME structure: number of parts, depth, and whether a person would see an attachment.

A leaf counts as an attachment
  a. when its Content-Disposition is `attachment`, whatever its type and place (RFC 2183 2.9), except the signature of
     multipart/signed;
  b. when it is a message (message/rfc822, global, partial, external-body), except inside multipart/report, where it is
     the returned mail;
  c. when it is neither text, message nor multipart and has a file name, or is in multipart/mixed, in a multipart of an
     unknown kind, or the whole message: readers list it there even without a name.
Not under c: parts of multipart/related with a Content-ID or Content-Location (pictures inside the text), signatures and
key control parts (application/pgp-signature, pkcs7-signature, pgp-encrypted), parts of multipart/encrypted and
multipart/report, text/calendar and other text without a disposition of `attachment`. The content of an attached message
counts for parts and depth, not for attachments. Text in uuencode is text.

Promises: total; looks at each byte a constant number of times; reads at most MAX_PARTS parts, MAX_DEPTH levels and
MAX_DASHED lines that could be boundaries, and names the limit that stopped it in `problems`. Fails: never.
"""

from __future__ import annotations

import re

MAX_PARTS = 1_000
MAX_DEPTH = 50
MAX_DASHED = 100_000  # lines that begin like a boundary
MAX_BOUNDARY = 256  # RFC 2046 5.1.1 says 70; real senders exceed it
MAX_PART_HEADER = 64 * 1024  # bytes of one part's header that are read

TOO_MANY_PARTS = f"more than {MAX_PARTS} parts"
TOO_DEEP = f"parts nested deeper than {MAX_DEPTH}"
TOO_MANY_DASHED = f"more than {MAX_DASHED} lines that begin like a boundary"
UNTERMINATED = "unterminated multipart"
NO_BOUNDARY = "multipart without a boundary"
NEVER_STARTED = "multipart whose boundary never appears"
BOUNDARY_TWICE = "a boundary used at two levels"

_TYPE = re.compile(rb"\s*+([^\s;/()\"]++)\s*+/\s*+([^\s;()\"]++)")
_BOUNDARY = re.compile(rb'[;\s]boundary\s*+=\s*+(?:"((?:[^"\\]++|\\.)*+)"|([^\s;"]++))', re.IGNORECASE | re.DOTALL)
_NAME = re.compile(rb'[;\s](?:file)?name(?:\*\d{0,3})?\*?\s*+=\s*+(?:"\s*+[^"\s]|[^\s;"])', re.IGNORECASE)
_FIELD = re.compile(
    rb"^content-(type|disposition|id|location)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)", re.IGNORECASE | re.MULTILINE
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)

_NOT_SEEN = frozenset(
    b"application/pgp-signature application/pkcs7-signature application/x-pkcs7-signature"
    b" application/pgp-encrypted".split()
)
_MESSAGES = frozenset((b"rfc822", b"global", b"partial", b"external-body"))
_READERS_LIST_ALL = frozenset((b"mixed", b""))  # b"" = not inside a multipart
_KNOWN_MULTIPARTS = frozenset(
    b"alternative related report signed encrypted digest parallel form-data appledouble header-set mixed".split()
)


class Seen:
    """The result of the walk."""

    __slots__ = ("attachment", "depth", "entered", "parts", "problems")

    def __init__(self) -> None:
        self.attachment = False
        self.entered = 0  # parts of every kind, the message itself included
        self.parts = 0  # leaves
        self.depth = 0
        self.problems: dict[str, None] = {}


class _Part:
    """Header of one part, or of the message itself."""

    __slots__ = ("cid", "disposition", "kind", "subtype", "type")

    def __init__(self, ctype: bytes, disposition: bytes, cid: bool, default: bytes) -> None:
        self.type = ctype
        self.disposition = disposition
        self.cid = cid
        found = _TYPE.match(ctype)
        # RFC 2045 5.2: an unreadable type means plain text
        self.kind, self.subtype = (found[1].lower(), found[2].lower()) if found else (b"text", b"plain")
        if not ctype and default:
            self.kind, self.subtype = b"message", b"rfc822"


class _Level:
    """An open multipart that still waits for its boundary."""

    __slots__ = ("boundary", "depth", "inside_message", "started", "subtype")

    def __init__(self, boundary: bytes, subtype: bytes, depth: int, inside_message: bool) -> None:
        self.boundary = boundary
        self.depth = depth
        self.subtype = subtype if subtype in _KNOWN_MULTIPARTS else b"mixed"  # RFC 2046 5.1.7
        self.inside_message = inside_message
        self.started = False


def single(ctype: bytes, disposition: bytes) -> bool:
    """Whether a message that is not a multipart is itself an attachment."""
    return _counts(_Part(ctype, disposition, False, b""), b"")


def walk(data: bytes, body_at: int, ctype: bytes, disposition: bytes) -> Seen:
    """Walks a message whose Content-Type is a multipart or a message; `ctype` is that field's unfolded value."""
    seen = Seen()
    stack: list[_Level] = []
    active: dict[bytes, int] = {}  # boundary -> its level
    _enter(seen, stack, active, data, body_at, len(data), _Part(ctype, disposition, False, b""), False)
    at = data.find(b"\n--", max(body_at - 1, 0)) if stack else -1
    dashed = 0
    while at >= 0:
        dashed += 1
        if dashed > MAX_DASHED:
            seen.problems[TOO_MANY_DASHED] = None
            return seen
        start = at + 3
        end = data.find(b"\n", start)
        if end < 0:
            end = len(data)
        following = data.find(b"\n--", end)
        line = data[start : min(end, start + MAX_BOUNDARY + 80)].rstrip(b" \t\r")
        level = active.get(line)
        closing = False
        if level is None and line.endswith(b"--"):
            level = active.get(line[:-2])
            closing = True
        if level is not None:
            while len(stack) > level + 1:  # an outer boundary ends every level inside it (RFC 2046 5.1.2)
                _leave(seen, stack, active)
                seen.problems[UNTERMINATED] = None
            top = stack[level]
            top.started = True
            if closing:
                _leave(seen, stack, active)
                if not stack:
                    break
            else:
                if seen.entered > MAX_PARTS:
                    seen.problems[TOO_MANY_PARTS] = None
                    return seen
                limit = len(data) if following < 0 else following + 1
                part, body = _part_header(data, end, limit, top.subtype == b"digest")
                _enter(seen, stack, active, data, body, limit, part, top.inside_message)
        at = following
    for level_left in stack:
        seen.problems[UNTERMINATED if level_left.started else NEVER_STARTED] = None
    return seen


def _leave(seen: Seen, stack: list[_Level], active: dict[bytes, int]) -> None:
    level = stack.pop()
    if active.get(level.boundary) == len(stack):
        del active[level.boundary]
    if not level.started:
        seen.problems[NEVER_STARTED] = None


def _enter(
    seen: Seen,
    stack: list[_Level],
    active: dict[bytes, int],
    data: bytes,
    body: int,
    limit: int,
    part: _Part,
    inside_message: bool,
) -> None:
    """A part begins: a multipart opens a level, a message is entered in turn, all else is a leaf."""
    depth = stack[-1].depth if stack else 0
    seen.entered += 1
    while True:
        if part.kind == b"multipart":
            if stack and not inside_message and _is_attachment(part.disposition):
                seen.attachment = True
            boundary = _boundary(part.type)
            if not boundary:
                seen.problems[NO_BOUNDARY] = None
            elif depth >= MAX_DEPTH:
                seen.problems[TOO_DEEP] = None
            else:
                seen.depth = max(seen.depth, depth + 1)
                if boundary in active:
                    seen.problems[BOUNDARY_TWICE] = None
                else:
                    active[boundary] = len(stack)
                stack.append(_Level(boundary, part.subtype, depth + 1, inside_message))
                return
            seen.parts += 1
            return
        if not inside_message and not seen.attachment:
            seen.attachment = _counts(part, stack[-1].subtype if stack else b"")
        if part.kind != b"message" or part.subtype not in (b"rfc822", b"global"):
            seen.parts += 1
            return
        if depth >= MAX_DEPTH:
            seen.problems[TOO_DEEP] = None
            seen.parts += 1
            return
        depth += 1
        seen.depth = max(seen.depth, depth)
        inside_message = True
        part, body = _part_header(data, body - 1, limit, False)


def _part_header(data: bytes, before: int, limit: int, digest: bool) -> tuple[_Part, int]:
    """The header that starts after the line end at `before` and ends at the first empty line or at `limit`."""
    limit = min(limit, before + MAX_PART_HEADER)
    crlf = data.find(b"\n\r\n", before, limit)
    lf = data.find(b"\n\n", before, crlf + 1 if crlf >= 0 else limit)
    stop = lf if lf >= 0 else crlf if crlf >= 0 else limit
    body = lf + 2 if lf >= 0 else crlf + 3 if crlf >= 0 else limit
    ctype = disposition = b""
    cid = False
    for field in _FIELD.finditer(data, before + 1, stop):
        name = field[1].lower()
        if name == b"type":
            ctype = ctype or field[2]
        elif name == b"disposition":
            disposition = disposition or field[2]
        else:
            cid = True
    return _Part(ctype, disposition, cid, b"message/rfc822" if digest else b""), body


def _boundary(ctype: bytes) -> bytes:
    found = _BOUNDARY.search(ctype)
    if found is None:
        return b""
    boundary: bytes = found[2] if found[1] is None else _ESCAPED.sub(rb"\1", found[1])
    return boundary.rstrip() if len(boundary) <= MAX_BOUNDARY else b""


def _is_attachment(disposition: bytes) -> bool:
    word = disposition.lstrip()[:11].lower()
    return word.startswith(b"attachment") and word[10:] in (b"", b";", b" ", b"\t", b"\r", b"\n", b"(")


def _counts(part: _Part, parent: bytes) -> bool:
    """The rule of the module docstring; `parent` is the subtype of the multipart around it, b"" for none."""
    unseen = part.kind + b"/" + part.subtype in _NOT_SEEN
    if _is_attachment(part.disposition):
        return not (unseen and parent == b"signed")
    if part.kind == b"message":
        return part.subtype in _MESSAGES and parent != b"report"
    if unseen or part.kind in (b"text", b"multipart") or parent in (b"encrypted", b"report"):
        return False
    if parent == b"related" and part.cid:
        return False
    if parent in _READERS_LIST_ALL:
        return True
    return _NAME.search(part.type) is not None or _NAME.search(part.disposition) is not None
