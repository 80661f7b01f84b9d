"""Which entries a command acts on: words in the search language and options become one store filter.

This is the only place that builds `model.Filter` for the command line. Promises: entries must match everything given;
nothing is guessed. Fails: click.UsageError naming the option, or the line with a mark under the error (exit 2).
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click
import msgspec

from postroom import query as language
from postroom import units
from postroom.cli.table import safe, text_width
from postroom.clock import Millis, SystemClock
from postroom.errors import PeerError
from postroom.ids import parse_public_id
from postroom.model import Aspect, Entry, Filter, Order, Queue, Relation, Route, Term
from postroom.query import MAX_TEXT, QueryProblem
from postroom.store import Reader

R = TypeVar("R")
PAGE = 1000  # entries read at once: a few milliseconds
DEFAULT_LIMIT = 50
SHOWN = 60  # characters of a long line in front of its mark

# Ids carry the time in milliseconds from their 20th bit. Since 2004 that makes sixteen hex digits, unlike any word.
_ID = re.compile(r"[0-9a-fA-F]{16}")
_NEGATED = re.compile(rf"-({'|'.join(language.KEYS)})(:|<=|>=|<|>|=).*", re.IGNORECASE | re.DOTALL)


class Query(msgspec.Struct, frozen=True):
    """`ids`, in this order, or else `filter`. `now`: the moment for conditions on time, such as is:locked."""

    filter: Filter
    ids: tuple[int, ...] = ()
    limit: int = 0  # 0 = all
    order: Order = Order.NEWEST
    now: Millis = 0

    @property
    def narrows(self) -> bool:
        """Whether ids or any condition were given."""
        return bool(self.ids or self.filter != Filter())


class QueryCommand(click.Command):
    """Accepts `-from:bob` as a condition; click would read it as an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" not in args:
            negated = [word for word in args if _NEGATED.fullmatch(word)]
            if negated:
                args = [word for word in args if word not in negated] + ["--", *negated]
        return super().parse_args(ctx, args)


class WrongQuery(click.UsageError):
    """Shows the line, a mark under the error, and a suggestion."""

    def __init__(self, line: str, problem: QueryProblem) -> None:
        line = "".join(char if char.isprintable() else " " for char in line)  # each its own place, as `at` counts
        start = max(0, problem.at - SHOWN)
        front, rest = safe(line[start : problem.at]), safe(line[problem.at : problem.at + SHOWN])
        meant = f"did you mean {problem.meant}?" if problem.meant else ""
        mark = " " * text_width(front) + "^"
        super().__init__("\n".join([safe(problem.what), f"  {front}{rest}", f"  {mark} {safe(meant)}".rstrip()]))


def chosen_by_query(default_limit: int = 0) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a command `[ID... | QUERY]` and the filter options, and pass them to it as `query`."""
    limit_help = "At most N entries; 0 = all." + (f"  [default: {default_limit}]" if default_limit else "")
    options: tuple[Callable[[Callable[..., R]], Callable[..., R]], ...] = (
        click.argument("words", nargs=-1, metavar="[ID... | QUERY]"),
        click.option(
            "--queue", "queues", multiple=True, type=click.Choice([q.value for q in Queue]), help="In this queue."
        ),
        click.option(
            "--route", "routes", multiple=True, type=click.Choice([r.value for r in Route]), help="On this route."
        ),
        click.option("--from", "sender", metavar="TEXT", help="Envelope sender or From field contains TEXT."),
        click.option("--to", "recipient", metavar="TEXT", help="Envelope recipient or To field contains TEXT."),
        click.option("--subject", metavar="TEXT", help="Subject contains TEXT."),
        click.option("--info", metavar="TEXT", help="The reason for waiting contains TEXT."),
        click.option(
            "--ip", metavar="ADDRESS", help="Client address: exact, a network (192.0.2.0/24), or part of an address."
        ),
        click.option("--attachment/--no-attachment", "attachment", default=None, help="With or without an attachment."),
        click.option("--since", metavar="WHEN", help='Accepted at or after WHEN: "2 hours" (ago), 14:00, 2026-11-22.'),
        click.option("--until", metavar="WHEN", help="Accepted at or before WHEN."),
        click.option("--limit", type=click.IntRange(min=0), metavar="N", default=default_limit, help=limit_help),
        click.option(
            "--order", type=click.Choice([o.value for o in Order]), default="newest", help="Which entries come first."
        ),
    )

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(command)
        def queried(*args: Any, **given: Any) -> R:
            names = (
                "words", "queues", "routes", "sender", "recipient", "subject", "info", "ip", "attachment", "since",
                "until", "limit", "order",
            )  # fmt: skip
            query = build_query(now=SystemClock().now(), **{name: given.pop(name) for name in names})
            return command(*args, query=query, **given)

        decorated: Callable[..., R] = queried
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def build_query(
    *,
    now: Millis,
    words: Sequence[str] = (),
    queues: Sequence[str] = (),
    routes: Sequence[str] = (),
    sender: str | None = None,
    recipient: str | None = None,
    subject: str | None = None,
    info: str | None = None,
    ip: str | None = None,
    attachment: bool | None = None,
    since: str | None = None,
    until: str | None = None,
    limit: int = 0,
    order: str = "newest",
) -> Query:
    """One filter from words and options."""
    ids, wanted = _ids_or_words(words, now)
    terms = [
        Term(aspect, Relation.HAS, _search_text(text, option))
        for aspect, text, option in (
            (Aspect.FROM, sender, "--from"), (Aspect.TO, recipient, "--to"), (Aspect.SUBJECT, subject, "--subject"),
            (Aspect.INFO, info, "--info"),
        )
        if text is not None
    ]  # fmt: skip
    if ip is not None:
        terms.append(_address(ip))
    options = Filter(
        queues=tuple(Queue(queue) for queue in queues),
        routes=tuple(Route(route) for route in routes),
        attachment=attachment,
        since=when(since, "--since", now),
        until=when(until, "--until", now),
        terms=tuple(terms),
    )
    if ids and options != Filter():
        raise click.UsageError("give either ids or a filter, not both")
    try:
        chosen = language.both(wanted, options)
    except QueryProblem as problem:
        raise click.UsageError(f"words and options together: {problem.what}") from problem
    return Query(chosen, ids, limit, Order(order), now)


def matching(reader: Reader, query: Query) -> Iterator[Entry]:
    """The matching entries in order, read in pages; without entries that arrive after the first page was read."""
    found: Iterator[Entry]
    if query.ids:
        found = (entry for entry in map(reader.entry, query.ids) if entry is not None)
    else:
        found = _pages(reader, query)
    yield from itertools.islice(found, query.limit or None)


def _pages(reader: Reader, query: Query) -> Iterator[Entry]:
    size = min(PAGE, query.limit or PAGE)
    newest = reader.find(Filter(), limit=1)
    top = newest[0].id if newest else 0
    after: int | None = None
    while True:
        page = reader.find(query.filter, limit=size, order=query.order, after=after, top=top, now=query.now)
        yield from page
        if len(page) < size:
            return
        after = page[-1].id


def count(reader: Reader, query: Query) -> int:
    """The exact number of matches, without the limit."""
    if query.ids:
        return sum(reader.entry(ident) is not None for ident in query.ids)
    return reader.count(query.filter, now=query.now)


def read_line(line: str, now: Millis) -> Filter:
    """Parse a line of the search language. WrongQuery shows where it is wrong."""
    try:
        return language.parse(line, now)
    except QueryProblem as problem:
        raise WrongQuery(line, problem) from problem


def _ids_or_words(words: Sequence[str], now: Millis) -> tuple[tuple[int, ...], Filter]:
    ids = [word for word in words if _ID.fullmatch(word)]
    if ids and len(ids) < len(words):
        other = next(word for word in words if word not in ids)
        raise click.UsageError(f"give either ids or words to search for, not both: {other!r} is not an id")
    if ids:
        try:
            return tuple(dict.fromkeys(parse_public_id(word) for word in ids)), Filter()
        except PeerError as problem:
            raise click.UsageError(str(problem)) from problem
    return (), read_line(" ".join(words), now)


def _search_text(text: str, option: str) -> str:
    if not text.strip() or len(text) > MAX_TEXT:
        raise click.UsageError(f"{option}: expected 1 to {MAX_TEXT} characters, got {len(text.strip())}")
    return text


def _address(text: str) -> Term:
    """An exact address, a network, or part of an address."""
    try:
        return Term(Aspect.IP, Relation.WITHIN, str(ipaddress.ip_network(text, strict=False)))
    except ValueError:
        if "/" in text:
            raise click.UsageError(f'--ip: {text!r} is not a network like "192.0.2.0/24"') from None
        return Term(Aspect.IP, Relation.HAS, _search_text(text, "--ip"))


def when(text: str | None, option: str, now: Millis) -> Millis | None:
    """Read "2 hours" (ago), "14:00" (today), "2026-11-22", "2026-11-22 14:00[:00][Z]"; local time without a zone."""
    if text is None:
        return None
    try:
        return now - units.read_duration(text)
    except units.Misread as problem:
        meant = problem.meant
    clock = re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", text.strip())
    try:
        if clock:
            today = datetime.fromtimestamp(now / 1000).astimezone()
            hour, minute, second = (int(part or 0) for part in clock.groups())
            then = today.replace(hour=hour, minute=minute, second=second, microsecond=0)
        else:
            then = datetime.fromisoformat(text.strip())
        return int(then.astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        hint = f'; did you mean "{meant}"?' if meant else ""
        expected = '"2 hours" (ago), "14:00", "2026-11-22" or "2026-11-22 14:00"'
        raise click.UsageError(f"{option}: expected a time like {expected}, got {text!r}{hint}") from None
