"""Mail as varied as real mail: people, domains, subjects in several languages, sizes, attachments.

Promises: the same seed writes the same mail. Fails: never.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from dataclasses import dataclass
from email.header import Header

_FIRST = [
    "Alice", "Bob", "Carol", "David", "Elif", "Farid", "Grace", "Henrik", "Ingrid", "Jonas", "Keiko", "Lena", "Mateo",
    "Nadia", "Omar", "Priya", "Quentin", "Rosa", "Sven", "Tomasz", "Ursula", "Vikram", "Wanda", "Xin", "Yusuf", "Zoe",
]  # fmt: skip
_LAST = [
    "Adams", "Berg", "Castillo", "Demir", "Eriksson", "Fischer", "Garcia", "Haddad", "Ivanova", "Jensen", "Kowalski",
    "Lindqvist", "Moreau", "Nakamura", "Okafor", "Petrov", "Quinn", "Rossi", "Schmidt", "Tanaka", "Usman", "Varga",
    "Weber", "Xu", "Yilmaz", "Zhang",
]  # fmt: skip
_OUTSIDE = ("example.org", "example.net", "mail.example.com", "shop.example", "partner.example", "news.example")
_TOPICS = (
    "Invoice", "Quarterly report", "Meeting notes", "Delivery", "Contract", "Re: offer", "Fwd: schedule",
    "Rechnung für", "Réunion du", "Отчёт за", "お知らせ", "Password reset", "Shipment", "Minutes", "Survey",
)  # fmt: skip
_LINE = "Please find below what we talked about; let me know whether anything of it should change.\r\n"


@dataclass(frozen=True)
class Mail:
    sender: str
    recipient: str
    content: bytes


class Writer:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def mails(self, number: int) -> Iterator[Mail]:
        for serial in range(number):
            yield self.mail(serial)

    def mail(self, serial: int) -> Mail:
        chance = self._chance
        inside, outside = self._person("corp.example"), self._person(chance.choice(_OUTSIDE))
        other = self._person("corp.example")
        (sender, from_name), (recipient, to_name) = chance.choices(
            ((outside, inside), (inside, outside), (inside, other)), weights=(6, 3, 1)
        )[0]
        subject = f"{chance.choice(_TOPICS)} {chance.randrange(1000, 100_000)}"
        head = [
            f"From: {from_name} <{sender}>",
            f"To: {to_name} <{recipient}>",
            f"Subject: {subject if subject.isascii() else Header(subject, 'utf-8').encode()}",
            f"Message-ID: <{serial}.{chance.getrandbits(48):x}@{sender.partition('@')[2]}>",
            "Date: Sun, 22 Nov 2026 10:00:00 +0000",
            "MIME-Version: 1.0",
        ]
        text = _LINE * min(400, 5 + int(chance.expovariate(1 / 40)))
        if chance.random() < 0.15:
            boundary = f"part-{chance.getrandbits(64):x}"
            head.append(f'Content-Type: multipart/mixed; boundary="{boundary}"')
            data = base64.encodebytes(chance.randbytes(chance.randrange(500, 12_000))).decode().replace("\n", "\r\n")
            text = (
                f"--{boundary}\r\nContent-Type: text/plain\r\n\r\n{text}\r\n--{boundary}\r\n"
                f'Content-Type: application/pdf; name="{serial}.pdf"\r\nContent-Transfer-Encoding: base64\r\n'
                f'Content-Disposition: attachment; filename="{serial}.pdf"\r\n\r\n{data}\r\n--{boundary}--\r\n'
            )
        else:
            head.append("Content-Type: text/plain; charset=us-ascii")
        return Mail(sender, recipient, ("\r\n".join(head) + "\r\n\r\n" + text).encode("ascii"))

    def _person(self, domain: str) -> tuple[str, str]:
        first, last = self._chance.choice(_FIRST), self._chance.choice(_LAST)
        return f"{first}.{last}{self._chance.randrange(100)}@{domain}".lower(), f"{first} {last}"
