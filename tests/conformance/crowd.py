"""Some hundred entries of every kind, made from a seed, and filters that ask for them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from postroom.clock import HOUR, MINUTE, HandClock, Millis
from postroom.model import (
    Aspect,
    Client,
    Entry,
    Facts,
    Field,
    Filter,
    Label,
    Priority,
    Queue,
    Recipient,
    Relation,
    Route,
    Term,
    Verdict,
    VerdictKind,
)
from postroom.store import Accepted, Moved, NewMessage, Store, Waited
from tests.conformance.driven import hand

NAMES = ("alice", "Bob", "čeněk", "d_e", "50%off", "x'y", 'qu"ote', "Straße", "ＷＩＤＥ", "élan", "a*b", "ab")
DOMAINS = ("corp.example", "example.org", "Mail.Example.NET", "bücher.example", "a.b")
WORDS = (
    "report",
    "Quarterly",
    "REPORT",
    "100%",
    "under_score",
    "naïve",
    "Ἀθῆναι",
    "re:",
    "",
    "tab\there",
    "ﬁne",
    "日本語",
    "ok",
)
INFOS = ("Queued for Processing", "timeout of mail.example.org", "451 4.3.0 Try again", "Report pending: alice", "Held")
ADDRESSES = ("192.0.2.7", "192.0.2.70", "198.51.100.9", "203.0.113.200", "2001:db8::7", "::1")
LONG = 10_000 * HOUR
CHECKS = ("size", "structure", "antivirus")


def fill(store: Store, clock: HandClock, chance: random.Random, number: int) -> dict[int, tuple[str, ...]]:
    """So many messages over some hours; the checks that each entry's message has passed."""
    got: list[Accepted] = []
    while len(got) < number:
        clock.move(chance.choice((1, 1, MINUTE, 50 * MINUTE)))
        news = [message(chance, clock.now()) for _ in range(4)]
        answers = hand(store, *news, lease_until=clock.now() + LONG).arrivals
        got += [answer for answer in answers if isinstance(answer, Accepted)]
    return _live(store, got, chance, clock.now())


def _live(store: Store, got: list[Accepted], chance: random.Random, now: Millis) -> dict[int, tuple[str, ...]]:
    """What may have become of the entries since."""
    passed: dict[int, tuple[str, ...]] = {}
    records: list[Moved | Waited] = []
    for one in got:
        checks = tuple(sorted(chance.sample(CHECKS, chance.randrange(3))))
        lives = [_life(entry, checks, chance, now) for entry in one.entries]
        kept = checks if any(isinstance(life, Waited) for life in lives) else ()  # a move keeps no verdicts
        passed |= dict.fromkeys(one.entries, kept)
        records += lives
    hand(store, *records)
    return passed


def _life(entry: int, checks: tuple[str, ...], chance: random.Random, now: Millis) -> Moved | Waited:
    queue, info, attempts = chance.choice(list(Queue)), chance.choice(INFOS), chance.randrange(4)
    due = now + (attempts - 2) * HOUR
    if chance.random() < 0.2 and queue is not Queue.HELD:
        return Moved(entry, entry, queue, info, attempts, due, now)
    label = int(chance.choice((Label.SUSPECT, Label.SUSPECT, Label(0))))
    verdicts = tuple(Verdict(VerdictKind.PASS, check) for check in checks)
    held = queue is Queue.HELD
    return Waited(
        entry, entry, queue, Queue.PROCESSING if held else None, info, attempts, due, label, now,
        "held" if held else "deferred", verdicts,
    )  # fmt: skip


def message(chance: random.Random, now: Millis) -> NewMessage:
    def address() -> str:
        return f"{chance.choice(NAMES)}@{chance.choice(DOMAINS)}"

    recipients = tuple(
        Recipient(address(), chance.choice(list(Route)), chance.choice(NAMES)) for _ in range(chance.randrange(1, 3))
    )
    subject = " ".join(chance.choice(WORDS) for _ in range(chance.randrange(4)))
    sender = address()
    facts = Facts(
        from_address=chance.choice((sender, address())), from_name=chance.choice(NAMES), to_header=chance.choice(WORDS),
        subject=subject, attachment=chance.random() < 0.5, body_at=2,
    )  # fmt: skip
    size = chance.choice((10, 1000, 5_000_000))
    return NewMessage(
        Client(ip=chance.choice(ADDRESSES)), sender, recipients, facts, size, now, b"\r\n\r\n", "", b"\x01" * 16,
        queue=chance.choice((Queue.PROCESSING, Queue.BULK)),
    )  # fmt: skip


def a_filter(chance: random.Random, entries: Sequence[Entry]) -> Filter:
    """Often of what is there, sometimes of what is not."""
    one = chance.choice(entries)
    terms = [
        a_term(chance, chance.choice((one, chance.choice(entries)))) for _ in range(chance.choice((0, 1, 1, 1, 2, 3)))
    ]
    text, field = "", Field.ALL
    if chance.random() < 0.3:
        field = chance.choice(list(Field))
        text = _piece(chance, _text_of(one, Aspect(field.value), chance))
    return Filter(
        queues=tuple(chance.sample(list(Queue), chance.choice((0, 0, 1, 1, 2)))),
        routes=tuple(chance.sample(list(Route), chance.choice((0, 0, 0, 1, 2)))),
        attachment=chance.choice((None, None, None, True, False)),
        since=chance.choice((None, None, one.created, one.created - HOUR)),
        until=chance.choice((None, None, one.created, one.created + 2 * HOUR)),
        text=text,
        field=field,
        ids=() if chance.random() < 0.95 else tuple(entry.id for entry in chance.sample(entries, 5)),
        terms=tuple(terms),
    )


def a_term(chance: random.Random, one: Entry) -> Term:
    aspect = chance.choice([*Aspect, Aspect.ALL, Aspect.FROM, Aspect.TO, Aspect.SUBJECT, Aspect.INFO])
    negated = chance.random() < 0.25
    numbers = {Aspect.ATTEMPTS: one.attempts, Aspect.SIZE: one.size, Aspect.NEXT: chance.randrange(-HOUR, HOUR)}
    if aspect in numbers:
        comparisons = [Relation.LESS, Relation.MOST, Relation.LEAST, Relation.MORE]
        return Term(aspect, chance.choice(comparisons), numbers[aspect], negated)
    words = {
        Aspect.IS: ["locked", "waiting", "due", "tried"],
        Aspect.PRIORITY: list(Priority),
        Aspect.LABEL: ["maybe-delivered", "suspect"],
    }
    if aspect in words:
        return Term(aspect, Relation.HAS, "|".join(chance.sample(words[aspect], chance.randrange(1, 3))), negated)
    if aspect is Aspect.VERDICT:
        return Term(aspect, Relation.HAS, chance.choice(CHECKS), negated)
    if aspect is Aspect.IP and chance.random() < 0.5:
        networks = ("192.0.2.0/24", "192.0.2.0/28", "0.0.0.0/0", "203.0.113.200/32", "2001:db8::/32", "::/0")
        return Term(aspect, Relation.WITHIN, chance.choice(networks), negated)
    if aspect is Aspect.DESTINATION:
        domain = one.recipient.partition("@")[2]
        if chance.random() < 0.5:
            return Term(aspect, Relation.MATCHES, _starred(chance, domain), negated)
        return Term(aspect, Relation.HAS, domain.upper(), negated)
    text = _text_of(one, aspect, chance)
    if aspect in (Aspect.FROM, Aspect.TO) and chance.random() < 0.3:
        return Term(
            aspect, Relation.MATCHES, _starred(chance, one.recipient if aspect is Aspect.TO else one.env_from), negated
        )
    return Term(aspect, Relation.HAS, _piece(chance, text), negated)


def _text_of(one: Entry, aspect: Aspect, chance: random.Random) -> str:
    fields = {
        Aspect.FROM: (one.env_from, one.from_address, one.from_name),
        Aspect.TO: (one.recipient, one.recipient_name, one.to_header),
        Aspect.SUBJECT: (one.subject,),
        Aspect.IP: (one.remote_ip,),
        Aspect.INFO: (one.info,),
        Aspect.ERROR: (one.info,),
    }
    if aspect is Aspect.ALL:
        aspect = chance.choice(list(fields))
    return chance.choice(fields[aspect])


def _piece(chance: random.Random, text: str) -> str:
    """A piece of it, seldom something that is nowhere."""
    if not text.strip() or chance.random() < 0.15:
        return chance.choice(("nowhere", "%", "_", "e", "'", '"', "AND", "zz", "*", "\\", "日", "report OR alice"))
    start = chance.randrange(len(text))
    found = text[start : start + chance.choice((1, 2, 3, 4, 6, 12))]
    return (found if found.strip() else "re") if chance.random() < 0.7 else (found.upper() if found.strip() else "RE")


def _starred(chance: random.Random, text: str) -> str:
    at = chance.randrange(len(text))
    return chance.choice((f"*{text[at:]}", f"{text[: at + 1]}*", f"*{text[at : at + 4]}*", f"{text[0]}*{text[-1]}"))
