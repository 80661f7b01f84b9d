"""A line of the search language -> a filter, or a QueryProblem that shows where the line is wrong."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple, TypeVar

from postroom import units
from postroom.clock import Millis
from postroom.errors import PeerError
from postroom.ids import parse_public_id
from postroom.model import Aspect, Filter, Priority, Queue, Relation, Route, Term
from postroom.query.problem import QueryProblem
from postroom.query.words import KEYS, LABELS, MAX_QUERY, MAX_TERMS, MAX_TEXT, NUMBERS, STATES

_OPPOSITE = {
    Relation.LESS: Relation.LEAST,
    Relation.MOST: Relation.MORE,
    Relation.LEAST: Relation.LESS,
    Relation.MORE: Relation.MOST,
}
_PIECE = re.compile(r'(?P<minus>-?)(?:(?P<key>[A-Za-z_]+)(?P<op>:|<=|>=|<|>|=))?(?P<value>"(?:[^"\\]|\\.)*"?|[^\s"]*)')
E = TypeVar("E", bound=StrEnum)


class _Piece(NamedTuple):
    at: int
    negated: bool
    key: str
    op: str
    value: str
    quoted: bool


class _Said:
    """The conditions read so far."""

    def __init__(self) -> None:
        self.queues: set[Queue] | None = None
        self.routes: set[Route] | None = None
        self.attachment: bool | None = None
        self.since: Millis | None = None
        self.until: Millis | None = None
        self.ids: list[int] = []
        self.terms: list[Term] = []


def parse(text: str, now: Millis) -> Filter:
    """The filter that a line means; QueryProblem when it means none. Times are relative to `now`."""
    if len(text) > MAX_QUERY:
        raise QueryProblem(MAX_QUERY, f"a query of {len(text)} characters: at most {MAX_QUERY} are read")
    said = _Said()
    for piece in _pieces(text):
        _read(said, piece, now)
        if len(said.terms) > MAX_TERMS:
            raise QueryProblem(piece.at, f"more than {MAX_TERMS} conditions")
    return Filter(
        queues=tuple(queue for queue in Queue if said.queues is not None and queue in said.queues),
        routes=tuple(route for route in Route if said.routes is not None and route in said.routes),
        attachment=said.attachment,
        since=said.since,
        until=said.until,
        ids=tuple(dict.fromkeys(said.ids)),
        terms=tuple(dict.fromkeys(said.terms)),
    )


def spelled(text: str) -> list[tuple[str, str]]:
    """The conditions of a line as written, each with its field ("" for bare words). QueryProblem for a wrong quote."""
    found = list(_pieces(text))
    starts = [piece.at for piece in found]
    ends = [*starts[1:], len(text)]
    return [(piece.key, text[piece.at : end].rstrip()) for piece, end in zip(found, ends, strict=False)]


def _pieces(text: str) -> Iterable[_Piece]:
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at >= len(text):
            return
        match = _PIECE.match(text, at)
        assert match is not None, "every text has a piece at a character that is no blank"
        value, quoted = match["value"], match["value"].startswith('"')
        if quoted:
            if len(value) < 2 or not re.fullmatch(r'"(?:[^"\\]|\\.)*"', value, re.DOTALL):
                raise QueryProblem(match.start("value"), 'a quote is opened and not closed: add "')
            value = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
        end = match.end()
        if end < len(text) and not text[end].isspace():
            raise QueryProblem(end, 'a quote in the middle of a word: quote all of it, or write \\" inside quotes')
        yield _Piece(at, bool(match["minus"]), (match["key"] or "").lower(), match["op"] or "", value, quoted)
        at = end


def _read(said: _Said, piece: _Piece, now: Millis) -> None:
    key = piece.key
    if not key:
        said.terms.append(_text(piece, Aspect.ALL))
        return
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.6)
        meant = f"{near[0]}{piece.op}" if near else f'"{key}{piece.op}{piece.value}" in quotes'
        raise QueryProblem(piece.at, f"no field is called {key!r}", meant)
    if not piece.value:
        raise QueryProblem(piece.at, f"nothing follows {key}{piece.op}")
    if key == "age" or key in NUMBERS:
        if piece.op == ":":
            raise QueryProblem(piece.at, f"{key} is a number: compare it", f"{key}>{piece.value}")
    elif piece.op != ":":
        raise QueryProblem(piece.at, f"{key} cannot be compared", f"{key}:{piece.value}")
    if key in _READERS:
        _READERS[key](said, piece, now)
    elif key in NUMBERS:
        said.terms += _number(piece, Aspect(key))
    else:
        said.terms.append(_text(piece, Aspect(key)))


def _text(piece: _Piece, aspect: Aspect) -> Term:
    value = piece.value
    if not value.strip() or len(value) > MAX_TEXT:
        raise QueryProblem(piece.at, f"expected a text of 1 to {MAX_TEXT} characters, found {len(value.strip())}")
    if aspect is Aspect.IP and not piece.quoted and "/" in value:
        try:
            return Term(aspect, Relation.WITHIN, str(ipaddress.ip_network(value, strict=False)), piece.negated)
        except ValueError:
            raise QueryProblem(piece.at, f"{value!r} is no network", "ip:192.0.2.0/24") from None
    pattern = aspect in (Aspect.FROM, Aspect.TO, Aspect.DESTINATION) and not piece.quoted and "*" in value
    if pattern and not value.strip("*"):
        raise QueryProblem(piece.at, f"{value!r} matches everything: leave it out")
    return Term(aspect, Relation.MATCHES if pattern else Relation.HAS, value, piece.negated)


def _number(piece: _Piece, aspect: Aspect) -> list[Term]:
    try:
        if aspect is Aspect.ATTEMPTS:
            if not re.fullmatch(r"[0-9]{1,9}", piece.value):
                raise units.Misread("expected a whole number")
            value = int(piece.value)
        else:
            value = units.read_size(piece.value) if aspect is Aspect.SIZE else units.read_duration(piece.value)
    except units.Misread as problem:
        meant = f"{piece.key}{piece.op}{problem.meant.replace(' ', '')}" if problem.meant else ""
        raise QueryProblem(piece.at, f"{piece.key}: {problem.expected}", meant) from None
    if piece.op == "=":
        if piece.negated:
            raise QueryProblem(piece.at, f"-{piece.key}= is not understood", f"{piece.key}<{piece.value}")
        return [Term(aspect, Relation.LEAST, value), Term(aspect, Relation.MOST, value)]
    relation = Relation(piece.op)
    return [Term(aspect, _OPPOSITE[relation] if piece.negated else relation, value)]


def _age(said: _Said, piece: _Piece, now: Millis) -> None:
    """`age>10m`: accepted more than ten minutes ago. A minus reverses the comparison."""
    op = piece.op
    if op == "=":
        raise QueryProblem(piece.at, "an age is compared with < or >", f"age>{piece.value}")
    if piece.negated:
        op = _OPPOSITE[Relation(op)].value
    try:
        instant = now - units.read_duration(piece.value)
    except units.Misread as problem:
        meant = f"age{piece.op}{problem.meant.replace(' ', '')}" if problem.meant else ""
        raise QueryProblem(piece.at, f"age: {problem.expected}", meant) from None
    if op in (">", ">="):
        _bound(said, None, instant - (op == ">"))
    else:
        _bound(said, instant + (op == "<"), None)


def _bound(said: _Said, since: Millis | None, until: Millis | None) -> None:
    if since is not None:
        said.since = since if said.since is None else max(said.since, since)
    if until is not None:
        said.until = until if said.until is None else min(said.until, until)


def _since(said: _Said, piece: _Piece, now: Millis) -> None:
    at = _when(piece, now)
    _bound(said, *((None, at - 1) if piece.negated else (at, None)))


def _until(said: _Said, piece: _Piece, now: Millis) -> None:
    at = _when(piece, now)
    _bound(said, *((at + 1, None) if piece.negated else (None, at)))


def _when(piece: _Piece, now: Millis) -> Millis:
    """`2026-11-22`, `2026-11-22T10:00[:00[.123]][Z|+02:00]` (UTC unless it names a zone), or a duration ago: `2h`."""
    try:
        return now - units.read_duration(piece.value)
    except units.Misread:
        pass
    try:
        then = datetime.fromisoformat(piece.value)
        return round((then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        expected = "expected a time like 2026-11-22T10:00 (UTC), or 2h for two hours ago"
        raise QueryProblem(piece.at, f"{piece.key}: {expected}, found {piece.value!r}") from None


def _words(piece: _Piece, known: Sequence[str]) -> list[str]:
    """The alternatives of a closed list, each checked."""
    words = piece.value.lower().split("|")
    for word in words:
        if word not in known:
            near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
            meant = f"{piece.key}:{near[0]}" if near else ""
            raise QueryProblem(piece.at, f"{piece.key}: {word!r} is not one of {', '.join(known)}", meant)
    return words


def _chosen(piece: _Piece, members: type[E], before: set[E] | None) -> set[E]:
    named = {members(word) for word in _words(piece, [member.value for member in members])}
    chosen = set(members) - named if piece.negated else named
    chosen = chosen if before is None else chosen & before
    if not chosen:
        raise QueryProblem(piece.at, f"no {piece.key} is left that this could match")
    return chosen


def _queue(said: _Said, piece: _Piece, now: Millis) -> None:
    said.queues = _chosen(piece, Queue, said.queues)


def _route(said: _Said, piece: _Piece, now: Millis) -> None:
    said.routes = _chosen(piece, Route, said.routes)


def _has(said: _Said, piece: _Piece, now: Millis) -> None:
    _words(piece, ["attachment"])
    wanted = not piece.negated
    if said.attachment is not None and said.attachment is not wanted:
        raise QueryProblem(piece.at, "with and without an attachment: nothing can match")
    said.attachment = wanted


def _id(said: _Said, piece: _Piece, now: Millis) -> None:
    if piece.negated or said.ids:
        raise QueryProblem(piece.at, "ids are given once, and not negated", "id:A|B")
    try:
        said.ids = [parse_public_id(word) for word in piece.value.split("|")]
    except PeerError as problem:
        raise QueryProblem(piece.at, str(problem)) from None


def _is(said: _Said, piece: _Piece, now: Millis) -> None:
    words = _words(piece, list(STATES))
    said.terms.append(Term(Aspect.IS, Relation.HAS, "|".join(dict.fromkeys(words)), piece.negated))


def _priority(said: _Said, piece: _Piece, now: Millis) -> None:
    words = _words(piece, [priority.value for priority in Priority])
    said.terms.append(Term(Aspect.PRIORITY, Relation.HAS, "|".join(dict.fromkeys(words)), piece.negated))


def _label(said: _Said, piece: _Piece, now: Millis) -> None:
    words = _words(piece, list(LABELS))
    said.terms.append(Term(Aspect.LABEL, Relation.HAS, "|".join(dict.fromkeys(words)), piece.negated))


_READERS: dict[str, Callable[[_Said, _Piece, Millis], None]] = {
    "queue": _queue,
    "route": _route,
    "has": _has,
    "age": _age,
    "since": _since,
    "until": _until,
    "id": _id,
    "is": _is,
    "priority": _priority,
    "label": _label,
}
