"""A filter -> a line of the search language that means the same."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from postroom.clock import Millis
from postroom.ids import public_id
from postroom.model import Aspect, Filter, Relation, Term

_PLAIN = re.compile(r"[^\s\"\\*:<>=|-][^\s\"\\*|]*")  # needs no quotes behind a field
_BARE = re.compile(r"[^\s\"\\:<>=|-][^\s\"\\:<>=]*")  # needs no quotes as a bare word
_UNITS = {Aspect.SIZE: "B", Aspect.NEXT: "ms"}


def write(filter: Filter) -> str:
    """A line that means this filter."""
    parts: list[str] = []
    if filter.queues:
        parts.append("queue:" + "|".join(queue.value for queue in filter.queues))
    if filter.routes:
        parts.append("route:" + "|".join(route.value for route in filter.routes))
    if filter.attachment is not None:
        parts.append(("" if filter.attachment else "-") + "has:attachment")
    parts += [
        f"{key}:{_instant(at)}" for key, at in (("since", filter.since), ("until", filter.until)) if at is not None
    ]
    if filter.ids:
        parts.append("id:" + "|".join(map(public_id, filter.ids)))
    if filter.text:
        parts.append(_written(Term(Aspect(filter.field.value), Relation.HAS, filter.text)))
    return " ".join([*parts, *map(_written, filter.terms)])


def _written(term: Term) -> str:
    minus, value = "-" if term.negated else "", term.value
    if isinstance(value, int):
        return f"{minus}{term.aspect}{term.relation}{value}{_UNITS.get(term.aspect, '')}"
    if term.aspect is Aspect.ALL:
        return minus + (value if _BARE.fullmatch(value) else _quoted(value))
    pattern = term.relation in (Relation.MATCHES, Relation.WITHIN)
    if pattern or term.aspect in (Aspect.IS, Aspect.PRIORITY, Aspect.LABEL):
        return f"{minus}{term.aspect}:{value}"
    plain = _PLAIN.fullmatch(value) and not (term.aspect is Aspect.IP and "/" in value)
    return f"{minus}{term.aspect}:{value if plain else _quoted(value)}"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _instant(at: Millis) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
