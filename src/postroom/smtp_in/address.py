"""Mailbox syntax of MAIL FROM and RCPT TO (RFC 5321 4.1.2): bytes -> local part, domain, parameters. Pure.

Promises: the result is printable ASCII without line ends, in the original case; local part at most 64 bytes, domain at
most 255, with valid labels. Dots are allowed anywhere in an unquoted local part, because some large mobile operators
issued such addresses. Fails: BadPath with the kind of fault.
"""

from __future__ import annotations

import re
from enum import Enum
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from postroom.errors import PeerError
from postroom.smtp_in import replies

MAX_LOCAL = 64  # RFC 5321 4.5.3.1.1
MAX_DOMAIN = 255  # RFC 5321 4.5.3.1.2

_LABEL = (
    rb"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"  # the underscore is no host name, yet such hosts send mail
)
_DOMAIN = rb"%s(?:\.%s)*" % (_LABEL, _LABEL)
_ATOMS = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+"
_QUOTED = rb'"(?:[ !#-\[\]-~]|\\[ -~])*"'
_MAILBOX = re.compile(rb"<(%s|%s)@(?:(%s)|\[([^\]>]*)\])>" % (_ATOMS, _QUOTED, _DOMAIN)).match
_NO_DOMAIN = re.compile(rb"<(%s|%s)>" % (_ATOMS, _QUOTED)).match
_QUOTED_PAIR = re.compile(r"\\(.)")
# The form nearly every address has: no quotes, no % and !, no literal. One match does the command and the address.
_PLAIN = rb" ?<([A-Za-z0-9#$&'*+/=?^_`{|}~.-]{1,64}@(%s)(?<![0-9]))>" % _DOMAIN
helo_name = re.compile(rb"[!#-'*-;=?-\[\]-~]{1,255}").fullmatch  # printable, nothing that ends a comment or a quote
plain_sender = re.compile(rb"[Mm][Aa][Ii][Ll] [Ff][Rr][Oo][Mm]:" + _PLAIN).match
plain_recipient = re.compile(rb"[Rr][Cc][Pp][Tt] [Tt][Oo]:" + _PLAIN).fullmatch


class Fault(Enum):
    SYNTAX = "syntax"
    SOURCE_ROUTE = "source route"
    NOT_ASCII = "not ASCII"


# The reply to each fault (enhanced codes RFC 3463 3.2, RFC 6531 3.5 for what is not ASCII).
SENDER_FAULTS = {
    Fault.SYNTAX: replies.BAD_SENDER,
    Fault.SOURCE_ROUTE: replies.SOURCE_ROUTE_SENDER,
    Fault.NOT_ASCII: replies.NOT_ASCII,
}
RECIPIENT_FAULTS = {
    Fault.SYNTAX: replies.BAD_RECIPIENT,
    Fault.SOURCE_ROUTE: replies.SOURCE_ROUTE,
    Fault.NOT_ASCII: replies.NOT_ASCII,
}


class BadPath(PeerError):
    """Not a path that can be accepted."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"bad path: {fault.value}; expected <local-part@domain>")
        self.fault = fault


class Path:
    """A parsed path. No local part and no domain: the null path `<>`. No domain alone: `<postmaster>` and the like."""

    __slots__ = ("domain", "local", "rest")

    def __init__(self, local: str, domain: str, rest: bytes) -> None:
        self.local = local
        self.domain = domain
        self.rest = rest  # parameters, with their leading space

    def __repr__(self) -> str:
        return f"Path({self.local}@{self.domain})"

    @property
    def address(self) -> str:
        return f"{self.local}@{self.domain}" if self.domain else self.local


def read_path(text: bytes) -> Path:
    """Parse the text after the colon. One space before the path is tolerated, as other servers do."""
    text = text.removeprefix(b" ")
    if text.startswith(b"<>"):
        return Path("", "", text[2:])
    if text.startswith(b"<@"):
        raise BadPath(Fault.SOURCE_ROUTE)
    found = _MAILBOX(text)
    if found is None:
        return _without_domain(text)
    local, domain, literal = found.groups()
    if literal is not None:
        domain = b"[" + _checked_literal(literal) + b"]"
    elif domain.rpartition(b".")[2].isdigit():  # an address without its brackets; no top-level domain is a number
        raise BadPath(Fault.SYNTAX)
    if len(local) > MAX_LOCAL or len(domain) > MAX_DOMAIN:
        raise BadPath(Fault.SYNTAX)
    return Path(local.decode("ascii"), domain.decode("ascii"), text[found.end() :])


def _without_domain(text: bytes) -> Path:
    if not text[: text.rfind(b">") + 1].isascii():
        raise BadPath(Fault.NOT_ASCII)
    found = _NO_DOMAIN(text)
    if found is None or len(found.group(1)) > MAX_LOCAL:
        raise BadPath(Fault.SYNTAX)
    return Path(found.group(1).decode("ascii"), "", text[found.end() :])


def _checked_literal(literal: bytes) -> bytes:
    """RFC 5321 4.1.3: IPv4, or `IPv6:` and IPv6; general literals are refused, because we could not reach them."""
    try:
        text = literal.decode("ascii")
        if text[:5].lower() == "ipv6:":
            if "%" in text:
                raise BadPath(Fault.SYNTAX)
            IPv6Address(text[5:])
        else:
            IPv4Address(text)
    except (AddressValueError, UnicodeDecodeError) as problem:
        raise BadPath(Fault.SYNTAX) from problem
    return literal


def routes_inside(local: str) -> bool:
    """Whether a local part asks its server to relay the mail: a%b, a!b, "a@b"."""
    return "%" in local or "!" in local or "@" in local


def postmaster_in(local: str) -> str:
    """The local part without its quotes when it is the postmaster's, in any case (RFC 5321 4.5.1); else nothing."""
    if local.startswith('"'):  # quotes change nothing in what they hold (RFC 5321 4.1.2)
        local = _QUOTED_PAIR.sub(r"\1", local[1:-1])
    return local if local.lower() == "postmaster" else ""


def mail_parameters(rest: bytes) -> int | bytes:
    """What follows MAIL FROM:<...>: the declared size (0 = none), or the refusal."""
    if rest[:1] != b" ":
        return replies.MAIL_SYNTAX
    size = 0
    seen = set()
    for word in rest.split():
        name, _, value = word.upper().partition(b"=")
        if name in seen:
            return replies.BAD_PARAMETER
        seen.add(name)
        if name == b"SIZE":
            if not value.isdigit() or len(value) > 20:  # RFC 1870 3: 1 to 20 digits
                return replies.BAD_PARAMETER
            size = int(value)
        elif name == b"BODY":
            if value not in (b"7BIT", b"8BITMIME"):
                return replies.BAD_PARAMETER
        else:
            return replies.UNKNOWN_PARAMETER
    return size
