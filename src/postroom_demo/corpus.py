"""The demo's mail: templates in `corpus/*.eml`, filled with people, numbers and dates before they are sent.

A template is a message as it travels, with LF line ends, two lines in front that only say who sends it to whom
(`X-Envelope-From`, `X-Envelope-To`) and `{{words}}` to fill in. Its name begins with its route. Promises: the same
random source fills in the same words. Fails: ValueError naming the file when a template is not one.
"""

from __future__ import annotations

import base64
import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")
INTERNAL_DOMAIN = "corp.example"
NOISE = 180_000  # bytes of the one large attachment: large enough for a gateway to keep it outside its database

COLLEAGUES = (
    "Marta Kowalska", "Jonas Weber", "Aoife Brennan", "Rahul Mehta", "Lucia Romano", "Peter Sanders",
    "Amina Yusuf", "Sofie Lindqvist", "Tom Hargreaves", "Elena Petrova", "Kenji Mori", "Chloe Martin",
)  # fmt: skip
OUTSIDERS = (
    "Grace Hall <grace.hall@example.org>", "Milan Novak <milan@example.net>", "Ines Duarte <ines.duarte@example.com>",
    "Bruno Keller <b.keller@factory.example>", "Wanda Price <wanda@logistics.example>", "Otto Berg <otto@berg.example>",
    "Yara Costa <yara.costa@port.example>", "Sam Okoro <sam@workshop.example>", "Lena Vogel <lena@vogel.example>",
    "Hugo Petit <hugo.petit@atelier.example>", "Nora Quinn <nora@slow.example.net>", "Ali Demir <ali@depot.example>",
)  # fmt: skip
_WORD = re.compile(rb"\{\{([a-z]+(?:\.[a-z]+)?)\}\}")
_ADDRESS = re.compile(rb"<?([^<>,\s]*)>?")


@dataclass(frozen=True, slots=True)
class Mail:
    """Ready to be sent; `content` has CRLF line ends and is not dot-stuffed."""

    name: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes


@dataclass(frozen=True, slots=True)
class Template:
    name: str
    envelope: bytes  # the two lines in front
    content: bytes

    @property
    def route(self) -> str:
        return self.name.partition("-")[0]

    def fill(self, source: random.Random, now: datetime, **words: str) -> Mail:
        """`words` replace random ones."""
        filling = {**_people(source), **_things(source, now), **words}

        def word(match: re.Match[bytes]) -> bytes:
            name = match[1].decode()
            if name == "noise":
                return base64.encodebytes(source.randbytes(NOISE)).rstrip()
            return filling[name].encode()

        sender, recipients = [_addresses(line) for line in _WORD.sub(word, self.envelope).splitlines()]
        content = _WORD.sub(word, self.content)
        return Mail(self.name, sender[0], tuple(dict.fromkeys(recipients)), content.replace(b"\n", b"\r\n"))


def load(folder: Path = CORPUS) -> tuple[Template, ...]:
    """Every template, by name."""
    return tuple([_read(path) for path in sorted(folder.glob("*.eml"))])


def _read(path: Path) -> Template:
    first, second, content = path.read_bytes().split(b"\n", 2)
    if not first.startswith(b"X-Envelope-From:") or not second.startswith(b"X-Envelope-To:"):
        raise ValueError(f"{path.name}: expected X-Envelope-From and X-Envelope-To as its first two lines")
    if b"\r" in content:
        raise ValueError(f"{path.name}: expected LF line ends")
    return Template(path.stem, first + b"\n" + second, content)


def _addresses(line: bytes) -> list[str]:
    return [_ADDRESS.fullmatch(part.strip())[1].decode() for part in line.partition(b":")[2].split(b",")]  # type: ignore[index]


def _people(source: random.Random) -> dict[str, str]:
    words: dict[str, str] = {}
    for role, name in zip(("colleague", "second", "third"), source.sample(COLLEAGUES, 3), strict=True):
        first = name.split()[0]
        words |= {
            f"{role}.name": name,
            f"{role}.first": first,
            f"{role}.address": f"{name.lower().replace(' ', '.')}@{INTERNAL_DOMAIN}",
        }
    name, _, address = source.choice(OUTSIDERS).rstrip(">").partition(" <")
    return words | {"outsider.name": name, "outsider.first": name.split()[0], "outsider.address": address}


def _things(source: random.Random, now: datetime) -> dict[str, str]:
    number, cents = source.randint(1000, 99999), source.randint(1900, 940_000)
    written = now.astimezone(UTC) - timedelta(seconds=source.randint(1, 40))  # mail has been under way already
    return {
        "number": str(number),
        "amount": f"{cents / 100:,.2f}",
        "day": f"{now + timedelta(days=source.randint(2, 20)):%Y-%m-%d}",
        "date": format_datetime(written),
        "id": f"{written:%Y%m%d%H%M%S}.{source.getrandbits(40):010x}",
        "campaign": str(number),
    }
