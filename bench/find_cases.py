"""The requests of `bench.find`: those of clients of the compatible call, and lines of the search language.

Each case has a condition on a row that says what it must find (find_truth.py). Groups are the rows of the published
table. Pure.
"""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass, field
from typing import Any

from bench.find_truth import Match, Row, Span, fold
from bench.people import ABSENT, COMMON, RARE
from postroom.clock import DAY, HOUR, MINUTE, Millis

PAGE = 100
WEEK = Span(oldest=7 * DAY, newest=0)  # the default window of the compatible call
ALWAYS = Span()
PROCESSING, BULK, DELIVERY, HELD, SYSTEM = range(5)
INBOUND, OUTBOUND, INTERNAL, EXTERNAL = range(4)
ROUTES = {"inbound": INBOUND, "outbound": OUTBOUND, "internal": INTERNAL, "external": EXTERNAL}
FIELDS = ("ALL", "fromAddress", "toAddress", "subject", "info", "remoteIp")
NEWEST_PAGE, RARE_WORD, BROAD, SHORT, LANGUAGE = "newest page", "rare or absent", "broad", "short", "search language"
MOST_ROWS = "in most rows"


@dataclass(frozen=True)
class Case:
    """`item`: for the compatible call; or `query`: in the search language."""

    name: str
    group: str
    match: Match
    item: dict[str, Any] = field(default_factory=dict)
    query: str = ""
    known_as: str = ""  # the query under which its truth is kept, when it is another one
    span: Span = WEEK
    size: int = PAGE
    oldest: bool = False
    by_due: bool = False


def stamp(at: Millis) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(at // 1000))


def searched(field_name: str, text: str) -> Match:
    """A literal substring, any case, in one field of an entry or in all."""
    needle = fold(text)
    looks: dict[str, Match] = {
        "ALL": lambda row: row.has(needle),
        "fromAddress": lambda row: needle in row.sender,
        "toAddress": lambda row: needle in row.to,
        "subject": lambda row: needle in row.subject,
        "info": lambda row: needle in row.info,
        "remoteIp": lambda row: needle in row.ip,
    }
    return looks[field_name]


def compatible(texts: dict[str, str], newest: Millis) -> list[Case]:
    """`texts`: samples of the queue; `newest`: when its newest entry was accepted."""
    return [*_pages(newest), *_searches(texts)]


def _pages(newest: Millis) -> list[Case]:
    cases: list[Case] = []
    at = newest // 1000 * 1000

    def add(name: str, match: Match, item: dict[str, Any], queue: int = PROCESSING, **more: Any) -> None:
        if queue == BULK:
            item = {**item, "type": "bulk_processing"}
        cases.append(Case(name, NEWEST_PAGE, lambda row: row.queue == queue and match(row), item, **more))

    add("nothing given", lambda row: True, {"sortOrder": None})
    add("oldest first", lambda row: True, {"sortOrder": "ascending"}, oldest=True)
    add("page of 25", lambda row: True, {}, size=25)
    add("bulk", lambda row: True, {}, BULK)
    add("bulk, oldest first", lambda row: True, {"sortOrder": "asc"}, BULK, oldest=True)
    for name, route in ROUTES.items():
        add(
            f"route {name}",
            lambda row, route=route: row.route == route,  # type: ignore[misc]
            {"filterBy": [{"fieldName": "route", "value": name}]},
        )
    add("route all", lambda row: True, {"filterBy": [{"route": "all"}]})
    add(
        "two routes",
        lambda row: row.route in (INBOUND, INTERNAL),
        {"filterBy": [{"route": "inbound"}, {"route": "internal"}]},
    )
    add("with attachment", lambda row: bool(row.attachment), {"filterBy": [{"attachments": True}]})
    add("without attachment", lambda row: not row.attachment, {"filterBy": [{"attachments": "false"}]})
    for name in ("inbound", "outbound"):
        for attachment in (True, False):
            add(
                f"{name}, {'with' if attachment else 'without'} attachment",
                lambda row, route=ROUTES[name], attachment=attachment: (  # type: ignore[misc]
                    row.route == route and bool(row.attachment) is attachment
                ),
                {"filterBy": [{"route": name, "attachments": attachment}]},
            )
    add(
        "inbound, oldest first",
        lambda row: row.route == INBOUND,
        {"filterBy": [{"route": "inbound"}], "sortOrder": "asc"},
        oldest=True,
    )
    add("bulk, outbound", lambda row: row.route == OUTBOUND, {"filterBy": [{"route": "outbound"}]}, BULK)
    windows = {
        "its last hour": (HOUR, 0),
        "its last day": (DAY, 0),
        "one day": (3 * DAY, 2 * DAY),
        "one minute": (DAY + MINUTE, DAY),
    }
    for name, (begin, end) in windows.items():
        item = {"start": stamp(at - begin), "end": stamp(at - end)}
        span = Span(since=at - begin, until=at - end + 999)
        add(f"window: {name}", lambda row: True, item, span=span)
        add(
            f"window: {name}, inbound, with attachment",
            lambda row: row.route == INBOUND and bool(row.attachment),
            {**item, "filterBy": [{"route": "inbound", "attachments": True}]},
            span=span,
        )
    return cases


def _searches(texts: dict[str, str]) -> list[Case]:
    cases: list[Case] = []

    def add(
        group: str, field_name: str, text: str, *, queue: int = PROCESSING, oldest: bool = False, route: str = ""
    ) -> None:
        item: dict[str, Any] = {"searchBy": {"fieldName": field_name, "value": text}}
        if queue == BULK:
            item["type"] = "bulk_processing"
        if oldest:
            item["sortOrder"] = "asc"
        if route:
            item["filterBy"] = [{"route": route}]
        look, wanted = searched(field_name, text), ROUTES.get(route)
        name = f"{field_name} {text}" + (", bulk" if queue == BULK else "") + (", oldest first" if oldest else "")
        name += f", {route}" if route else ""
        cases.append(
            Case(
                name, group,
                lambda row: row.queue == queue and (wanted is None or row.route == wanted) and look(row), item,
                oldest=oldest,
            )
        )  # fmt: skip

    for field_name in FIELDS:
        add(RARE_WORD, field_name, ABSENT)
    for field_name in ("ALL", "subject"):
        add(RARE_WORD, field_name, RARE)
        add(RARE_WORD, field_name, RARE.upper(), queue=BULK)
    add(RARE_WORD, "ALL", RARE, oldest=True)
    add(RARE_WORD, "subject", RARE, route="inbound")
    add(RARE_WORD, "fromAddress", texts["sender"])
    add(RARE_WORD, "toAddress", texts["recipient"])
    add(RARE_WORD, "info", texts["domain"])
    add(RARE_WORD, "ALL", texts["domain"])
    for text in ("%_done", "100%_", "_%", "a_b%c", "\\%'\" OR 1=1 --", "*", "AND NOT", "x" * 256):
        add(RARE_WORD if len(text) > 2 else SHORT, "subject", text)
    for text in ("Łukasz Wójcik", "Отчёт за 12", "お知らせ 77", "山田 太郎", "ZAHLUNGSBESTÄTIGUNG 4"):
        add(RARE_WORD, "ALL", text)
    for field_name in ("ALL", "subject"):
        add(BROAD, field_name, COMMON)
        add(BROAD, field_name, COMMON, oldest=True)
    add(BROAD, "subject", COMMON, queue=BULK)
    add(BROAD, "subject", COMMON, route="inbound")
    add(BROAD, "remoteIp", texts["ip"])
    add(BROAD, "remoteIp", "198.18.2")
    add(BROAD, "remoteIp", ".77.")
    add(BROAD, "remoteIp", "8.1")
    add(BROAD, "ALL", "198.18.")
    add(BROAD, "ALL", "müller")
    add(MOST_ROWS, "fromAddress", "corp.example")
    add(MOST_ROWS, "toAddress", "corp.example")
    add(BROAD, "info", "antivirus")
    add(BROAD, "ALL", "scanner")
    add(MOST_ROWS, "ALL", "example")
    for field_name, text in (
        ("ALL", "re"),
        ("subject", "zq"),
        ("ALL", "%"),
        ("subject", "_"),
        ("ALL", "ü"),
        ("ALL", "田"),
    ):
        add(SHORT, field_name, text)
    for field_name, text in (
        ("fromAddress", "xq"),
        ("toAddress", "zo"),
        ("info", "zz"),
        ("info", "do"),
        ("remoteIp", "77"),
    ):
        add(SHORT, field_name, text)
    return cases


def language(texts: dict[str, str]) -> list[Case]:
    """`/v1/entries?q=`."""
    cases: list[Case] = []

    def add(query: str, match: Match, span: Span = ALWAYS, **more: Any) -> None:
        cases.append(Case(query, LANGUAGE, match, query=query, span=span, **more))

    def ago(**limits: Millis) -> Span:
        return Span(**limits)

    domain = texts["recipient"].rpartition("@")[2]
    add(RARE, lambda row: row.has(RARE))
    add(f"{RARE} invoice", lambda row: row.has(RARE) and row.has("invoice"))
    add(f"queue:processing subject:{COMMON}", lambda row: row.queue == PROCESSING and COMMON in row.subject)
    add(
        f"queue:processing|delivery -subject:{COMMON}",
        lambda row: row.queue in (PROCESSING, DELIVERY) and COMMON not in row.subject,
    )
    add(f"from:{texts['sender']}", lambda row: fold(texts["sender"]) in row.sender)
    add("from:*@corp.example", lambda row: any(address.endswith("@corp.example") for address in row.addresses))
    add(f"to:*@{domain}", lambda row: row.recipient.endswith(f"@{domain}".lower()))
    add(f"destination:{domain}", lambda row: row.recipient.endswith(f"@{domain}".lower()))
    add('subject:"report 77"', lambda row: "report 77" in row.subject)
    add("route:inbound has:attachment", lambda row: row.route == INBOUND and bool(row.attachment))
    add(
        "queue:delivery -has:attachment route:outbound",
        lambda row: row.queue == DELIVERY and not row.attachment and row.route == OUTBOUND,
    )
    add("age>2d", lambda row: True, ago(newest=2 * DAY + 1))
    add("age<1d queue:held", lambda row: row.queue == HELD, ago(oldest=DAY - 1))
    add("age>1d age<2d route:internal", lambda row: row.route == INTERNAL, ago(oldest=2 * DAY - 1, newest=DAY + 1))
    add("attempts>=3", lambda row: row.attempts >= 3)
    add("attempts>=30 queue:delivery", lambda row: row.attempts >= 30 and row.queue == DELIVERY)
    add("size>1MiB", lambda row: row.size > 1 << 20)
    add("size>45MiB", lambda row: row.size > 45 << 20)
    add("ip:198.18.77.0/24", lambda row: row.ip.startswith("198.18.77."))
    add("ip:198.18.64.0/20", _in_network("198.18.64.0/20"))
    add("ip:2001:db8:8000::/33", _in_network("2001:db8:8000::/33"))
    add('info:"timed out"', lambda row: "timed out" in row.info)
    add("error:greylisted", lambda row: row.attempts > 0 and "greylisted" in row.info)
    add(f"info:{texts['domain']}", lambda row: texts["domain"] in row.info)
    add("is:locked", lambda row: row.locked_until > 0)
    add("is:tried -queue:processing", lambda row: row.attempts > 0 and row.queue != PROCESSING)
    add("is:due", lambda row: row.queue != HELD, ago(newest=1), by_due=True)
    add("next<1h queue:delivery", lambda row: row.queue == DELIVERY, ago(newest=HOUR), by_due=True)
    add("priority:low", lambda row: row.priority == 1)
    add("label:maybe-delivered", lambda row: bool(row.label & 1))
    add("verdict:spam", lambda row: False)
    add(
        f"from:{texts['sender']} age>1h attempts>=1 -has:attachment",
        lambda row: fold(texts["sender"]) in row.sender and row.attempts >= 1 and not row.attachment,
        ago(newest=HOUR + 1),
    )
    return cases


def _in_network(text: str) -> Match:
    network = ipaddress.ip_network(text)
    known: dict[str, bool] = {}

    def within(row: Row) -> bool:
        found = known.get(row.ip)
        if found is None:
            found = known[row.ip] = ipaddress.ip_address(row.ip) in network
        return found

    return within


def truth_key(case: Case) -> tuple[object, ...]:
    """Cases with the same key share one truth."""
    kept = {key: value for key, value in case.item.items() if key not in ("sortOrder", "start", "end")}
    return (case.known_as or case.query, repr(sorted(kept.items(), key=str)), case.by_due)
