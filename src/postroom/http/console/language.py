"""The console's help for the search language, and its error messages. Pure.

Promises: every field of the language is explained here, and every example parses (tests check both). Fails: never.
"""

from __future__ import annotations

import msgspec

from postroom.query import QueryProblem

EXPLAINED: tuple[tuple[str, str], ...] = (
    ("report", "anywhere: addresses, names, subject, IP address, info"),
    ('"quarterly report"', "this exact phrase"),
    ("from:alice", "in the sender; also to: subject: info: ip:"),
    ("to:*@example.org", "the whole address; * matches anything"),
    ("destination:example.org", "the recipient’s domain"),
    ("ip:192.0.2.0/24", "sent by a client in this network"),
    ("error:421", "in the reply to the last try"),
    ("verdict:antivirus", "has a verdict of this check"),
    ("has:attachment", "with an attachment"),
    ("route:inbound|internal", "one of these; also queue: priority: label:"),
    ("is:locked", "being worked on; also is:waiting, is:due, is:tried"),
    ("age>10m", "older than ten minutes; also since:2h until:2026-11-22"),
    ("attempts>=3", "tried three times or more; also next<5m, size>1MiB"),
    ("label:maybe-delivered", "may have been delivered; also label:suspect"),
    ("id:1a2b3c4d5e600001", "the message with this id"),
    ("-from:bob", "a leading minus means not"),
)


class Trouble(msgspec.Struct, frozen=True):
    """Why a search failed. `front`, `bad` and `rest` are the line, when a part of it is wrong."""

    title: str
    text: str
    meant: str = ""
    front: str = ""
    bad: str = ""
    rest: str = ""


def unreadable(line: str, problem: QueryProblem) -> Trouble:
    at = min(problem.at, len(line))
    end = next((place for place in range(at, len(line)) if line[place].isspace()), len(line))
    text = problem.what[:1].upper() + problem.what[1:] + "."
    return Trouble("This search cannot be read", text, problem.meant, line[:at], line[at:end], line[end:])


def too_broad(why: str) -> Trouble:
    return Trouble("This search takes too long", why[:1].upper() + why[1:] + ".")
