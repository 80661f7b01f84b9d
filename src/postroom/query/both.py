"""Two filters that must both hold, as one."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from postroom.model import Aspect, Field, Filter, Relation, Term
from postroom.query.problem import QueryProblem

T = TypeVar("T")


def both(one: Filter, other: Filter) -> Filter:
    """What matches both filters. QueryProblem, placed at the start, when nothing can."""
    if None not in (one.attachment, other.attachment) and one.attachment is not other.attachment:
        raise QueryProblem(0, "with and without an attachment: nothing can match")
    one, other = flattened(one), flattened(other)
    since = [at for at in (one.since, other.since) if at is not None]
    until = [at for at in (one.until, other.until) if at is not None]
    return Filter(
        queues=_shared(one.queues, other.queues, "queue"),
        routes=_shared(one.routes, other.routes, "route"),
        attachment=other.attachment if one.attachment is None else one.attachment,
        since=max(since, default=None),
        until=min(until, default=None),
        ids=_shared(one.ids, other.ids, "id"),
        terms=tuple(dict.fromkeys((*one.terms, *other.terms))),
    )


def flattened(filter: Filter) -> Filter:
    """The same filter with its `text` as a term, the way `parse` writes it."""
    if not filter.text:
        return filter
    term = Term(Aspect(filter.field.value), Relation.HAS, filter.text)
    return msgspec.structs.replace(filter, text="", field=Field.ALL, terms=(term, *filter.terms))


def _shared(one: tuple[T, ...], other: tuple[T, ...], key: str) -> tuple[T, ...]:
    """What is in both; an empty tuple means "any"."""
    if not one or not other:
        return one or other
    found = tuple(each for each in one if each in other)
    if not found:
        raise QueryProblem(0, f"no {key} is left that this could match")
    return found
