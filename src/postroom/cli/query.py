"""Which entries a command means: its options and bare words -> a store filter, and what the store does not filter by.

This is the one place that builds `model.Filter` for the command line. Promises: everything given must hold; a word that looks
like the coming search language is refused, not searched for. Fails: click.UsageError naming the option (exit 2).
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

from postroom import units
from postroom.clock import Millis, SystemClock
from postroom.errors import PeerError
from postroom.ids import parse_public_id
from postroom.model import Entry, Field, Filter, Order, Queue, Route
from postroom.store.reader import Reader
from postroom.store.search import MAX_TEXT, needle

R = TypeVar("R")
PAGE = 1000  # entries read at once: a few milliseconds
DEFAULT_LIMIT = 50

# Ids carry the time in milliseconds from their 20th bit: since 2004 that is sixteen digits, and an English word is not one.
_ID = re.compile(r"[0-9a-fA-F]{16}")
_LANGUAGE = re.compile(r"-?(from|to|subject|route|queue|has|age|attempts|size|ip|info|is|priority)([:<>]|>=|<=|=)")


class Query(msgspec.Struct, frozen=True):
    """`filter` is the store's part; `rest` is checked here, entry by entry."""

    filter: Filter
    rest: tuple[Callable[[Entry], bool], ...] = ()
    ids: tuple[int, ...] = ()
    limit: int = 0  # 0 = all
    order: Order = Order.NEWEST

    @property
    def narrows(self) -> bool:
        """Whether anything was asked for at all."""
        return bool(self.ids or self.rest or self.filter != Filter())


def chosen_by_query(default_limit: int = 0) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a command `[ID... | WORDS...]` and the filter options, and hand them to it as `query`."""
    limit_help = "At most this many; 0 = all." + (f"  [default: {default_limit}]" if default_limit else "")
    options: tuple[Callable[[Callable[..., R]], Callable[..., R]], ...] = (
        click.argument("words", nargs=-1, metavar="[ID... | WORDS...]"),
        click.option(
            "--queue", "queues", multiple=True, type=click.Choice([q.value for q in Queue]), help="In this queue."
        ),
        click.option(
            "--route", "routes", multiple=True, type=click.Choice([r.value for r in Route]), help="On this route."
        ),
        click.option("--from", "sender", metavar="TEXT", help="Sender: envelope or From field contains TEXT."),
        click.option("--to", "recipient", metavar="TEXT", help="Recipient: envelope or To field contains TEXT."),
        click.option("--subject", metavar="TEXT", help="Subject contains TEXT."),
        click.option("--info", metavar="TEXT", help="The reason it waits contains TEXT."),
        click.option(
            "--ip", metavar="ADDRESS", help="Handed in by this address, network (192.0.2.0/24) or part of one."
        ),
        click.option("--attachment/--no-attachment", "attachment", default=None, help="With, or without, attachment."),
        click.option("--since", metavar="WHEN", help='Accepted at or after WHEN: "2 hours" ago, 14:00, 2026-11-22.'),
        click.option("--until", metavar="WHEN", help="Accepted at or before WHEN."),
        click.option("--limit", type=click.IntRange(min=0), metavar="N", default=default_limit, help=limit_help),
        click.option(
            "--order", type=click.Choice([o.value for o in Order]), default="newest", help="Which come first."
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
    """The seam: a search language fills the same Query."""
    ids, terms = _ids_or_words(words)
    named = ((Field.FROM, sender, "--from"), (Field.TO, recipient, "--to"), (Field.SUBJECT, subject, "--subject"))
    for field, text, option in (*named, (Field.INFO, info, "--info")):
        if text is not None:
            terms.append((field, _search_text(text, option)))
    rest: list[Callable[[Entry], bool]] = []
    if ip is not None:
        network = _network(ip)
        if network is None:
            terms.append((Field.IP, _search_text(ip, "--ip")))
        else:
            rest.append(lambda entry: _inside(entry.remote_ip, network))
            if network.num_addresses == 1:  # the store narrows it down; the rest is exact
                terms.append((Field.IP, str(network.network_address)))
    # The store searches one text: the longest is likely the rarest. The others are checked on what it finds.
    terms.sort(key=lambda term: (term[0] is not Field.INFO, len(term[1])), reverse=True)
    rest += [functools.partial(_contains, field=field, text=needle(text)) for field, text in terms[1:]]
    field, text = terms[0] if terms else (Field.ALL, "")
    chosen = Filter(
        queues=tuple(Queue(queue) for queue in queues),
        routes=tuple(Route(route) for route in routes),
        attachment=attachment,
        since=when(since, "--since", now),
        until=when(until, "--until", now),
        text=text,
        field=field,
    )
    if ids and (chosen != Filter() or rest):
        raise click.UsageError("give either ids or a filter, not both")
    return Query(chosen, tuple(rest), ids, limit, Order(order))


def matching(reader: Reader, query: Query) -> Iterator[Entry]:
    """The entries that match, page by page, in order; none that arrived after the first page was read."""
    if query.ids:
        found = (entry for entry in map(reader.entry, query.ids) if entry is not None)
    else:
        found = (entry for entry in _pages(reader, query) if all(holds(entry) for holds in query.rest))
    yield from itertools.islice(found, query.limit or None)


def _pages(reader: Reader, query: Query) -> Iterator[Entry]:
    size = min(PAGE, query.limit or PAGE) if not query.rest else PAGE
    newest = reader.find(Filter(), limit=1)
    top = newest[0].id if newest else 0
    after: int | None = None
    while True:
        page = reader.find(query.filter, limit=size, order=query.order, after=after, top=top)
        yield from page
        if len(page) < size:
            return
        after = page[-1].id


def count(reader: Reader, query: Query) -> int:
    """Exactly how many match, whatever the limit."""
    unlimited = msgspec.structs.replace(query, limit=0)
    if query.ids or query.rest:
        return sum(1 for _ in matching(reader, unlimited))
    return reader.count(query.filter)


def _ids_or_words(words: Sequence[str]) -> tuple[tuple[int, ...], list[tuple[Field, str]]]:
    ids = [word for word in words if _ID.fullmatch(word)]
    if ids and len(ids) < len(words):
        other = next(word for word in words if word not in ids)
        raise click.UsageError(f"give either ids or words to search for, not both: {other!r} is not an id")
    if ids:
        try:
            return tuple(dict.fromkeys(parse_public_id(word) for word in ids)), []
        except PeerError as problem:
            raise click.UsageError(str(problem)) from problem
    for word in words:
        match = _LANGUAGE.match(word)
        if match is not None:
            option = {"has": "--attachment", "age": "--since/--until"}.get(match[1], f"--{match[1]}")
            known = match[1] in ("from", "to", "subject", "route", "queue", "has", "age", "ip", "info")
            hint = f"use {option}" if known else "this release cannot filter by it"
            raise click.UsageError(f"{word!r}: the search language is not in this release; {hint}")
    return (), [(Field.ALL, _search_text(word, "search text")) for word in words]


def _search_text(text: str, option: str) -> str:
    if not text.strip() or len(text) > MAX_TEXT:
        raise click.UsageError(f"{option}: expected 1 to {MAX_TEXT} characters, got {len(text.strip())}")
    return text


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        if "/" in text:
            raise click.UsageError(f'--ip: {text!r} is not a network like "192.0.2.0/24"') from None
        return None


def _inside(ip: str, network: Network) -> bool:
    try:
        return ipaddress.ip_address(ip) in network
    except ValueError:
        return False


def _contains(entry: Entry, *, field: Field, text: str) -> bool:
    """As the store's search text, region by region (postroom.store.search)."""
    sender = (entry.env_from, entry.from_address, entry.from_name)
    recipient = (entry.recipient, entry.recipient_name, entry.to_header)
    parts = {
        Field.FROM: sender,
        Field.TO: recipient,
        Field.SUBJECT: (entry.subject,),
        Field.IP: (entry.remote_ip,),
        Field.INFO: (entry.info,),
        Field.ALL: (*sender, *recipient, entry.subject, entry.remote_ip, entry.info),
    }[field]
    return any(text in needle(part) for part in parts)


def when(text: str | None, option: str, now: Millis) -> Millis | None:
    """ "2 hours" (ago), "14:00" (today), "2026-11-22", "2026-11-22 14:00[:00][Z]"; local time unless it says its zone."""
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
