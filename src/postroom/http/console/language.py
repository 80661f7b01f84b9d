"""The search language as the console explains it, and what is wrong with a line of it. Pure.

Promises: every field of the language is explained here (a test compares), every example can be read. Fails: never.
"""

from __future__ import annotations

import msgspec

from postroom.query import QueryProblem

EXPLAINED: tuple[tuple[str, str], ...] = (
    ("report", "anywhere: addresses, names, subject, IP address, info"),
    ('"quarterly report"', "these words, side by side"),
    ("from:alice", "in the sender; also to: subject: info: ip:"),
    ("to:*@example.org", "the whole address; * stands for anything"),
    ("destination:example.org", "the recipient’s domain"),
    ("ip:192.0.2.0/24", "handed in by this network"),
    ("error:421", "the answer of the last try"),
    ("verdict:antivirus", "a check that has looked at it"),
    ("has:attachment", "with an attachment"),
    ("route:inbound|internal", "one or the other; also queue: priority: label:"),
    ("is:locked", "being worked on; also is:waiting, is:due, is:tried"),
    ("age>10m", "older than ten minutes; also since:2h until:2026-11-22"),
    ("attempts>=3", "tried three times or more; also next<5m, size>1MiB"),
    ("label:maybe-delivered", "may have been delivered; also label:suspect"),
    ("id:1a2b3c4d5e600001", "this one"),
    ("-from:bob", "a minus means not"),
)


class Trouble(msgspec.Struct, frozen=True):
    """Why a search has no answer. `front`, `bad` and `rest` are the line, when a place in it is wrong."""

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
