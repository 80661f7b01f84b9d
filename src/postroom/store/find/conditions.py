"""The terms of a `model.Filter` as SQL conditions. Values are always bound, so searched text is literal.

This defines what a search means: every index that sources.py may choose finds the same entries. Fails: AssertionError
for a term that needs `now` and did not get it. What a person wrote has been checked before (`postroom.query`).
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from postroom.clock import Millis
from postroom.model import Aspect, Field, Filter, Label, Priority, Queue, Relation, Term
from postroom.store import codes
from postroom.store.engine import ReadTx
from postroom.store.fold import needle, region_pattern

_LABELS = {"maybe-delivered": Label.MAYBE_DELIVERED, "suspect": Label.SUSPECT}
_COMPARED = {
    Aspect.ATTEMPTS: "e.attempts",
    Aspect.SIZE: "e.size",
    Aspect.NEXT: "e.next_attempt - ?",
}
Condition = tuple[str, tuple[Any, ...]]  # on an entry `e`, and its bound values
Infos = Callable[[str], Sequence[int]]  # the ids of the texts of the dictionary that contain a needle
MANY_IDS = 500  # more are bound as one list
_HELD = codes.QUEUE[Queue.HELD]


def terms_of(filter: Filter) -> tuple[Term, ...]:
    """All terms of a filter, including its text."""
    if not filter.text:
        return filter.terms
    return (Term(Aspect(filter.field.value), Relation.HAS, filter.text), *filter.terms)


def said(terms: Iterable[Term], infos: Infos, now: Millis | None) -> Conditions:
    """The conditions that check every term on the row of an entry `e`."""
    found = Conditions([], [])
    for term in terms:
        found.add(condition(term, infos, now), term.negated)
    return found


class Conditions(NamedTuple):
    """All of them must hold."""

    where: list[str]
    values: list[Any]

    def add(self, one: Condition, negated: bool = False) -> None:
        text, bound = one
        self.where.append(f"NOT ({text})" if negated else f"({text})")
        self.values.extend(bound)


def condition(term: Term, infos: Infos, now: Millis | None) -> Condition:
    """The condition of one term, without its negation."""
    aspect, value = term.aspect, term.value
    if aspect in _COMPARED:
        bound: tuple[Any, ...] = (value,)
        if aspect is Aspect.NEXT:
            assert now is not None, "a time of the moment needs the moment"
            bound = (now, value)
        return f"{_COMPARED[aspect]} {term.relation.value} ?", bound
    text = str(value)
    if aspect is Aspect.IS:
        assert now is not None, "a state of the moment needs the moment"
        return _any([_state(word, now) for word in text.split("|")])
    if aspect is Aspect.PRIORITY:
        return _any([("e.priority = ?", (codes.PRIORITY[Priority(word)],)) for word in text.split("|")])
    if aspect is Aspect.LABEL:
        return "e.label & ? <> 0", (sum(_LABELS[word] for word in set(text.split("|"))),)
    if aspect is Aspect.VERDICT:
        return (
            "EXISTS (SELECT 1 FROM message AS m WHERE m.id = e.message_id AND instr(m.verdicts, CAST(? AS BLOB)) > 0)",
            (text,),
        )
    if term.relation is Relation.WITHIN:
        return _within(text)
    if aspect is Aspect.DESTINATION:  # the whole domain, or a pattern of it
        return "e.recipient LIKE ? ESCAPE '\\'", ("%@" + _like(text, term.relation is Relation.MATCHES),)
    if term.relation is Relation.MATCHES:
        pattern = _like(text, True)
        if aspect is Aspect.TO:
            return "e.recipient LIKE ? ESCAPE '\\'", (pattern,)
        return "e.env_from LIKE ? ESCAPE '\\' OR e.from_address LIKE ? ESCAPE '\\'", (pattern, pattern)
    if aspect is Aspect.ERROR:
        condition, values = among("e.info_id", infos(needle(text)))
        return f"e.attempts > 0 AND {condition}", values
    return _contains(aspect, text, infos)


def _contains(aspect: Aspect, text: str, infos: Infos) -> Condition:
    """A literal substring in any case. `instr` just compares bytes; LIKE runs only on rows that pass it."""
    text = needle(text)
    if aspect is Aspect.INFO:
        return among("e.info_id", infos(text))
    pattern = region_pattern(Field(aspect.value), text)
    if pattern is None:
        condition, values = among("e.info_id", infos(text))
        return f"instr(e.search, ?) > 0 OR {condition}", (text, *values)
    return "instr(e.search, ?) > 0 AND e.search LIKE ? ESCAPE '\\'", (text, pattern)


def among(column: str, found: Sequence[int]) -> Condition:
    """The id in this column is one of these."""
    if len(found) <= MANY_IDS:
        return f"{column} IN ({','.join(str(int(ident)) for ident in found)})", ()
    return among_many(column, found)


def among_many(column: str, found: Sequence[int]) -> Condition:
    """The same, with one text for any number of ids."""
    return f"{column} IN (SELECT value FROM json_each(?))", (f"[{','.join(map(str, found))}]",)


def _state(word: str, now: Millis) -> Condition:
    """One of query.STATES, at this moment."""
    locked = "coalesce(e.locked_until, 0) > ?"
    if word == "locked":
        return locked, (now,)
    if word == "waiting":
        return f"NOT ({locked})", (now,)
    if word == "due":
        return "e.queue <> ? AND coalesce(e.locked_until, e.next_attempt) <= ?", (_HELD, now)
    return "e.attempts > 0", ()


def _any(alternatives: list[Condition]) -> Condition:
    return (
        " OR ".join(f"({text})" for text, _ in alternatives),
        tuple(value for _, values in alternatives for value in values),
    )


def _like(text: str, pattern: bool) -> str:
    """A LIKE pattern (escape `\\`). In a `pattern`, `*` matches anything."""
    literal = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return literal.replace("*", "%") if pattern else literal


def _within(network: str) -> Condition:
    """Whole octets of IPv4 are a prefix of the text; `ip_within` decides the rest, behind the longest prefix."""
    parsed = ipaddress.ip_network(network)
    if parsed.version == 4:
        octets = str(parsed.network_address).split(".")[: parsed.prefixlen // 8]
        if not octets:
            return "ip_within(e.remote_ip, ?)", (network,)
        prefix = ".".join(octets) + ("." if len(octets) < 4 else "")
        if parsed.prefixlen % 8 == 0:
            return ("e.remote_ip GLOB ?", (prefix + "*",)) if len(octets) < 4 else ("e.remote_ip = ?", (prefix,))
        return "e.remote_ip GLOB ? AND ip_within(e.remote_ip, ?)", (prefix + "*", network)
    return "e.remote_ip GLOB '*:*' AND ip_within(e.remote_ip, ?)", (network,)


def register(tx: ReadTx) -> None:
    """Give a reading connection the functions that conditions use."""
    tx.lend("ip_within", _ip_within, 2)


@functools.lru_cache(maxsize=65_536)
def _ip_within(ip: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(ip) in ipaddress.ip_network(network)
    except ValueError:
        return False
