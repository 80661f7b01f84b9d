"""The searched text of an entry: its fields, folded, each region behind a control character of its own. Pure.

    \\x01 envelope from, header from, name  \\x02 recipient, name, To field  \\x03 subject  \\x04 remote ip  \\x05

Inside a region, \\x1f separates the fields. Control characters are removed from a search text, so that it cannot match
across a border; the rest of it is literal.
"""

from __future__ import annotations

import unicodedata

from postroom.errors import PeerError
from postroom.model import Field

MAX_TEXT = 256  # characters of a search; http and cli refuse longer ones

_CLEAN = dict.fromkeys((*range(32), *range(127, 160)), " ")
_REGION = {
    Field.FROM: ("\x01", "\x02"),
    Field.TO: ("\x02", "\x03"),
    Field.SUBJECT: ("\x03", "\x04"),
    Field.IP: ("\x04", "\x05"),
}


class SearchTooBroad(PeerError):
    """The search cannot be answered within its time limit; the text says what to give instead."""


def fold(text: str) -> str:
    """The one fold for stored and searched texts: compatibility form, lower case."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def clean(text: str) -> str:
    """Replace control characters with spaces."""
    return text if text.isprintable() else text.translate(_CLEAN)


def search_text(
    env_from: str, from_address: str, from_name: str, recipient: str, recipient_name: str, to_header: str,
    subject: str, remote_ip: str,
) -> str:  # fmt: skip
    """The searched text of one entry."""
    if not f"{env_from}{from_address}{from_name}{recipient}{recipient_name}{to_header}{subject}".isprintable():
        env_from, from_address, from_name = clean(env_from), clean(from_address), clean(from_name)
        recipient, recipient_name = clean(recipient), clean(recipient_name)
        to_header, subject = clean(to_header), clean(subject)
    return fold(
        f"\x01{env_from}\x1f{from_address}\x1f{from_name}\x02{recipient}\x1f{recipient_name}\x1f{to_header}"
        f"\x03{subject}\x04{remote_ip}\x05"
    )


def needle(text: str) -> str:
    """A search text as it can occur inside one field."""
    return fold(clean(text))


def region_pattern(field: Field, text: str) -> str | None:
    """A LIKE pattern (escape `\\`) that finds the needle in the region of a field; None for all fields."""
    borders = _REGION.get(field)
    if borders is None:
        return None
    literal = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{borders[0]}%{literal}%{borders[1]}%"
