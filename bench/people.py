"""Who writes what to whom in a queue of millions: the mail for `bench.fill`.

Few domains, people and addresses write most of it (Zipf), sizes are log-normal, one name in thirty is not ASCII. Every
message has real bytes; its facts are what `postroom.facts` would find in them, without a scan.

Promises: the same seed makes the same mail; only names and addresses reserved for documentation. Fails: never.
"""

from __future__ import annotations

import base64
import itertools
import math
import random
from collections.abc import Sequence
from hashlib import sha256
from typing import Generic, TypeVar

from postroom.clock import Millis
from postroom.model import Client, Facts, Origin, Queue, Recipient, Route
from postroom.store import NewMessage

T = TypeVar("T")
COMMON = "report"  # in a fifth of all subjects
RARE = "zanzibar"  # in one of RARE_EVERY
RARE_EVERY = 10_000
ABSENT = "xylograph"


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_FIRST = words(
    "Alice Bob Carol David Elif Farid Grace Henrik Ingrid Jonas Keiko Lena Mateo Nadia Omar Priya Quentin Rosa Sven "
    "Tomasz Ursula Vikram Wanda Xin Yusuf Zoe Amara Bjorn Chidi Dagny Emeka Fatou Giulia Hamid Ines Jarek Kofi Leila "
    "Milan Noor"
)
_LAST = words(
    "Adams Berg Castillo Demir Eriksson Fischer Garcia Haddad Ivanova Jensen Kowalski Lindqvist Moreau Nakamura "
    "Okafor Petrov Quinn Rossi Schmidt Tanaka Usman Varga Weber Xu Yilmaz Zhang Abara Brandt Costa Dubois Ekholm "
    "Ferrari Greco Hoffmann Idris Jansen Keller Larsen Meyer Novak"
)
_UMLAUTS = (
    "Zoë Müller",
    "José Muñoz",
    "Łukasz Wójcik",
    "Åsa Öberg",
    "Иван Петров",
    "山田 太郎",
    "Σοφία Παππά",
    "Chloé Lefèvre",
)
_SYLLABLES = words("ar bel cor dan el fin gar hol in jor kel lum mar nor os pal quin ros sil tor ul ver wes yor zen")
_ENDINGS = ("example", "example.com", "example.net", "example.org")
_ABOUT = words(
    "invoice offer contract delivery meeting schedule budget order shipment ticket survey newsletter password "
    "account project review training travel payment statement agenda minutes proposal request update question "
    "confirmation reminder renewal notice release incident backup maintenance"
)
_OF = words(
    "spring summer autumn winter Monday Friday March October north south Berlin Lisbon Oslo Nairobi Kyoto quarter "
    "month week customer supplier partner team office site server network warehouse Atlas Borealis Calypso Delphi"
)
_LEAD = ("", "", "", "Re: ", "Re: ", "Fwd: ", "AW: ", "[External] ")
_WORLD = (
    "Rechnung für {}",
    "Réunion du {}",
    "Отчёт за {}",
    "お知らせ {}",
    "Zahlungsbestätigung {}",
    "Información sobre {}",
)
_TEXT = b"Please find attached what we talked about, and let me know whether anything of it should change.\r\n"
_PARTS = (
    b"--part\r\nContent-Type: text/plain\r\n\r\nSee below.\r\n--part\r\nContent-Type: application/pdf\r\n"
    b"Content-Disposition: attachment; filename=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERi0xLjQK\r\n"
    b"--part--\r\n"
)
_BODIES = tuple((text, sha256(text).digest()) for text in (_TEXT, _PARTS))


class Draw(Generic[T]):
    """One of these at a time, the first ones far more often (Zipf); drawn in advance, because single draws are slow."""

    __slots__ = ("_chance", "_drawn", "_of", "_shares")

    def __init__(self, chance: random.Random, of: Sequence[T], *, skew: float) -> None:
        self._chance, self._of = chance, of
        self._shares = list(itertools.accumulate(1 / (rank + 1) ** skew for rank in range(len(of))))
        self._drawn: list[T] = []

    def __call__(self) -> T:
        if not self._drawn:
            self._drawn = self._chance.choices(self._of, cum_weights=self._shares, k=4096)
        return self._drawn.pop()


class World:
    """`message` makes the next one."""

    def __init__(self, chance: random.Random, *, real_sizes: bool) -> None:
        self._chance = chance
        self._real_sizes = real_sizes
        names = sorted({"".join(triple) for triple in itertools.product(_SYLLABLES, repeat=3)})
        domains = [f"{name}.{_ENDINGS[place % 4]}" for place, name in enumerate(chance.sample(names, 5_000))]
        self.domain = Draw(chance, domains, skew=1.0)
        self._staff = Draw(chance, [self._person("corp.example") for _ in range(3_000)], skew=0.8)
        self._strangers = Draw(chance, [self._person(self.domain()) for _ in range(100_000)], skew=0.6)
        v4 = [f"198.18.{chance.randrange(256)}.{chance.randrange(1, 255)}" for _ in range(8_000)]
        v6 = [f"2001:db8:{chance.randrange(1 << 16):x}::{chance.randrange(1, 1 << 16):x}" for _ in range(800)]
        self._ip = Draw(chance, [*v4, *v6], skew=0.9)
        self._serial = 0

    def message(self, received: Millis, queue: Queue, most: int) -> NewMessage:
        """A message for at most so many recipients."""
        chance = self._chance
        self._serial += 1
        dice = chance.random()
        if queue is Queue.SYSTEM:
            (sender, name), inside = ("", "Mail Delivery"), dice < 0.8
            route = Route.INTERNAL if inside else Route.OUTBOUND
        else:
            route = Route.INBOUND if dice < 0.62 else Route.OUTBOUND if dice < 0.92 else Route.INTERNAL
            sender, name = self._strangers() if route is Route.INBOUND else self._staff()
            inside = route is not Route.OUTBOUND
        people = self._staff if inside else self._strangers
        to = dict(people() for _ in range(min(most, self._recipients(queue))))
        from_address = sender or "postmaster@gw.corp.example"
        subject = "Undelivered Mail Returned to Sender" if queue is Queue.SYSTEM else self._subject()
        attachment = chance.random() < 0.16
        shown = list(to.items())[:4]
        message_id = f"<{self._serial:x}.{chance.getrandbits(40):x}@{from_address.partition('@')[2]}>"
        head = (
            f"From: {_word(name)} <{from_address}>\r\n"
            f"To: {', '.join([f'{_word(person)} <{address}>' for address, person in shown])}\r\n"
            f"Subject: {_word(subject)}\r\nMessage-ID: {message_id}\r\nMIME-Version: 1.0\r\n"
            f"Content-Type: {'multipart/mixed; boundary=part' if attachment else 'text/plain'}\r\n\r\n"
        ).encode()
        text, digest = _BODIES[attachment]
        facts = Facts(
            from_address, name, ", ".join([f"{person} <{address}>" for address, person in shown]), subject, message_id,
            attachment, 0, len(head), 2 if attachment else 1, 1 if attachment else 0,
            () if head.isascii() else ("8-bit header",),
        )  # fmt: skip
        named = {address for address, _ in shown}
        recipients = tuple([Recipient(at, route, person if at in named else "") for at, person in to.items()])
        body = head + text
        size = self._size(attachment)  # always drawn, so that the same seed makes the same mail
        if self._real_sizes:
            size = len(body)
        return NewMessage(
            Client(self._ip(), helo=f"mx.{self.domain()}", tls="TLSv1.3 TLS_AES_256_GCM_SHA384"), sender, recipients,
            facts, size, received, body, "", digest, Origin.NOTICE if queue is Queue.SYSTEM else Origin.ACCEPTED, queue,
        )  # fmt: skip

    def _recipients(self, queue: Queue) -> int:
        dice = self._chance.random()
        if queue is Queue.BULK:
            return 1 + int(dice * 40)
        return 1 if dice < 0.9 else 2 + int((dice - 0.9) * 60)

    def _subject(self) -> str:
        chance = self._chance
        dice = chance.random()
        if dice < 1 / RARE_EVERY:
            return f"{RARE.capitalize()} {chance.choice(_ABOUT)}"
        if dice < 0.2:
            return f"{chance.choice(_LEAD)}{chance.choice(_OF)} {COMMON} {chance.randrange(1000)}"
        if dice < 0.25:
            return chance.choice(_WORLD).format(chance.randrange(10_000))
        if dice < 0.252:
            return f"{chance.choice(_ABOUT)} {chance.randrange(100)}%_done"
        if dice < 0.26:
            return ""
        return f"{chance.choice(_LEAD)}{chance.choice(_ABOUT)} {chance.choice(_OF)} {chance.randrange(100_000)}"

    def _size(self, attachment: bool) -> int:
        """Log-normal: a median of 9 KiB, of 90 KiB with an attachment; one in some thousands has many MiB."""
        size = math.exp(self._chance.gauss(9.1 if not attachment else 11.4, 1.2))
        return min(50 << 20, 500 + int(size))

    def _person(self, domain: str) -> tuple[str, str]:
        chance = self._chance
        first, last, number = chance.choice(_FIRST), chance.choice(_LAST), chance.randrange(1000)
        name = chance.choice(_UMLAUTS) if chance.random() < 1 / 30 else f"{first} {last}"
        local = f"{first}.{last}{number}".lower()
        if chance.random() < 0.005:  # SMTPUTF8
            local, domain = f"{name.replace(' ', '.').lower()}{number}", f"bücher-{domain}"
        return f"{local}@{domain}", name


def _word(text: str) -> str:
    """A text in a header field (RFC 2047)."""
    return text if text.isascii() else f"=?utf-8?B?{base64.b64encode(text.encode()).decode()}?="
