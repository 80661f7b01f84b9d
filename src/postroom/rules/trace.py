"""The trace field that we put in front of a message at delivery (RFC 5321 4.4), and dates as headers write them. Pure.

Promises: one well-formed, folded `Received:` field in ASCII that ends in CRLF, whatever the peer called itself. HELO
names, reverse names and recipients come from outside; nothing in them can end the line, open a comment or add a field.
Fails: never; what cannot be written is left out or called "unknown".
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from postroom.clock import Millis
from postroom.model import Client

_NAME = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")
_NOT_NAME = re.compile(r"[^A-Za-z0-9._:\[\]-]+")
_MAILBOX = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~@\[\]:-]{1,320}")  # dot-atoms only: anything else is left out


@lru_cache(maxsize=256)
def _date(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC))


def date(at: Millis) -> str:
    """RFC 5322 3.3, UTC: `Sun, 22 Nov 2026 13:00:00 +0000`."""
    return _date(at // 1000)


def _name(text: str) -> str:
    if _NAME.fullmatch(text):
        return text
    return _NOT_NAME.sub("", text)[:255] or "unknown"


@lru_cache(maxsize=1024)
def _origin(helo: str, name: str, ip: str) -> str:
    address = ip.partition("%")[0]  # a zone (fe80::1%eth0) means something on this machine only
    return f"from {_name(helo)} ({_name(name)} [{'IPv6:' if ':' in address else ''}{_name(address)}])"


def received_field(client: Client, *, hostname: str, ident: str, recipients: tuple[str, ...], at: Millis) -> bytes:
    """`at`: when we accepted it. Names a recipient only when there is just one: several must not see each other."""
    protocol = "SMTP"
    if client.esmtp:  # RFC 3848
        protocol = f"ESMTP{'S' if client.tls else ''}{'A' if client.user else ''}"
    only = ""
    if len(recipients) == 1 and _MAILBOX.fullmatch(recipients[0]):
        only = f"\r\n\tfor <{recipients[0]}>"
    return (
        f"Received: {_origin(client.helo, client.name, client.ip)}\r\n"
        f"\tby {hostname} with {protocol} id {ident}{only};\r\n\t{_date(at // 1000)}\r\n"
    ).encode("ascii", "replace")
