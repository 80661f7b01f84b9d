"""What a filter means, entry by entry, in plain Python: the searches of the store are compared with this."""

from __future__ import annotations

import ipaddress
import re
import string
import unicodedata

from postroom.clock import Millis
from postroom.model import Aspect, Entry, Filter, Label, Queue, Relation, Term

LABELS = {"maybe-delivered": Label.MAYBE_DELIVERED, "suspect": Label.SUSPECT}


def holds(entry: Entry, filter: Filter, now: Millis, passed: tuple[str, ...] = ()) -> bool:
    """`passed`: the checks that its message has passed."""
    return (
        (not filter.queues or entry.queue in filter.queues)
        and (not filter.routes or entry.route in filter.routes)
        and (filter.attachment is None or entry.attachment is filter.attachment)
        and (filter.since is None or entry.created >= filter.since)
        and (filter.until is None or entry.created <= filter.until)
        and (not filter.ids or entry.id in filter.ids)
        and all(_term(entry, term, now, passed) is not term.negated for term in terms_of(filter))
    )


def terms_of(filter: Filter) -> tuple[Term, ...]:
    """All terms of a filter, its text as one of them."""
    if not filter.text:
        return filter.terms
    return (Term(Aspect(filter.field.value), Relation.HAS, filter.text), *filter.terms)


def needle(text: str) -> str:
    """A text without regard to case and form; a control character counts as a space."""
    cleaned = "".join(" " if unicodedata.category(one) == "Cc" else one for one in text)
    return unicodedata.normalize("NFKC", cleaned).casefold()


def _term(entry: Entry, term: Term, now: Millis, passed: tuple[str, ...]) -> bool:
    value = term.value
    if isinstance(value, int):
        found = {
            Aspect.ATTEMPTS: entry.attempts,
            Aspect.SIZE: entry.size,
            Aspect.NEXT: entry.next_attempt - now,
        }[term.aspect]
        return {
            Relation.LESS: found < value,
            Relation.MOST: found <= value,
            Relation.LEAST: found >= value,
            Relation.MORE: found > value,
        }[term.relation]
    words = value.split("|")
    if term.aspect is Aspect.IS:
        return any(_state(entry, word, now) for word in words)
    if term.aspect is Aspect.PRIORITY:
        return entry.priority in words
    if term.aspect is Aspect.LABEL:
        return any(entry.label & LABELS[word] for word in words)
    if term.aspect is Aspect.VERDICT:
        return any(value in check for check in passed)
    if term.relation is Relation.WITHIN:
        return ipaddress.ip_address(entry.remote_ip) in ipaddress.ip_network(value)
    if term.aspect is Aspect.DESTINATION:
        return _like(f"*@{value}" if term.relation is Relation.MATCHES else f"*@{_literal(value)}", entry.recipient)
    if term.relation is Relation.MATCHES:
        fields = [entry.recipient] if term.aspect is Aspect.TO else [entry.env_from, entry.from_address]
        return any(_like(value, field) for field in fields)
    if term.aspect is Aspect.ERROR:
        return entry.attempts > 0 and needle(value) in needle(entry.info)
    return any(needle(value) in needle(field) for field in _fields(entry, term.aspect))


def _fields(entry: Entry, aspect: Aspect) -> list[str]:
    fields = {
        Aspect.FROM: [entry.env_from, entry.from_address, entry.from_name],
        Aspect.TO: [entry.recipient, entry.recipient_name, entry.to_header],
        Aspect.SUBJECT: [entry.subject],
        Aspect.IP: [entry.remote_ip],
        Aspect.INFO: [entry.info],
    }
    return [field for fields in fields.values() for field in fields] if aspect is Aspect.ALL else fields[aspect]


def _state(entry: Entry, word: str, now: Millis) -> bool:
    locked = entry.locked_until is not None and entry.locked_until > now
    due = entry.locked_until if entry.locked_until is not None else entry.next_attempt
    return {
        "locked": locked,
        "waiting": not locked,
        "due": entry.queue is not Queue.HELD and due <= now,
        "tried": entry.attempts > 0,
    }[word]


_ANY = "\x00"  # stands for a star that is meant literally


def _literal(text: str) -> str:
    return text.replace("*", _ANY)


def _like(pattern: str, text: str) -> bool:
    """`*` stands for anything, ASCII letters in any case."""
    lower = {ord(big): small for big, small in zip(string.ascii_uppercase, string.ascii_lowercase, strict=True)}
    expression = ".*".join(re.escape(piece.replace(_ANY, "*")) for piece in pattern.translate(lower).split("*"))
    return re.fullmatch(expression, text.translate(lower), re.DOTALL) is not None
