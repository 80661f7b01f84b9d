"""The DSN that tells a sender of a failed entry: multipart/report with a delivery status (RFC 6522, RFC 3464). Pure.

Promises: 7-bit lines of legal length whatever the original held (addresses beyond ASCII excepted, which only a peer with
SMTPUTF8 gets), and nothing in an address, a subject or a reply can add a header or a part. Of the original only its header
is sent back, cut at 64 KiB. The envelope sender is empty (RFC 5321 4.5.5).
Fails: asserts that the original had a sender: a notice about a notice would never end.
"""

from __future__ import annotations

import binascii
import re
from email.header import Header
from textwrap import fill

from postroom.clock import DAY, HOUR, MINUTE, Millis
from postroom.model import Outcome
from postroom.rules.trace import date

ENVELOPE_FROM = ""
MAX_HEADERS = 64 * 1024
MAX_TEXT = 512

_REPLY = re.compile(r"([45]\d\d)(?:[ -]([45]\.\d{1,3}\.\d{1,3})\b)?")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_WHY = {
    Outcome.BOUNCED: "The mail server of the recipient refused it for good. It said:",
    Outcome.EXPIRED: "We tried for too long without success and have given up. The last answer was:",
    Outcome.REJECTED: "This gateway refused it:",
}
_REMEDY = {
    Outcome.BOUNCED: "Check the address for typing errors. If it is right, ask the recipient in another way (by "
    "telephone, for example), or show this notice to your mail administrator.",
    Outcome.EXPIRED: "The other side may be out of order for a while. Send the message again later; if that fails too, "
    "show this notice to your mail administrator.",
    Outcome.REJECTED: "Change what is objected to and send the message again, or show this notice to your mail "
    "administrator.",
}
_STATUS = {Outcome.BOUNCED: "5.0.0", Outcome.EXPIRED: "4.4.7", Outcome.REJECTED: "5.7.1"}  # RFC 3463


def notice(
    *,
    original_from: str,
    recipient: str,
    subject: str,
    reply: str,
    outcome: Outcome,
    attempts: int,
    arrived: Millis,
    now: Millis,
    hostname: str,
    ident: str,
    headers: bytes,
) -> bytes:
    """The whole notice. `ident` names it (Message-ID); `headers` is the original's header, or all of the original."""
    assert original_from, "a null sender gets no notice"
    assert outcome in _WHY, f"no notice tells of {outcome}"
    recipient, subject, reply = _plain(recipient), _plain(subject), _plain(reply)
    head = _head_of(headers)
    boundary = f"=_postroom-{ident}"
    while boundary.encode() in head:  # somebody who guesses it must not end our parts
        boundary += "x"
    human = _human(recipient, subject, reply, outcome, attempts, arrived, now, hostname)
    parts = (
        _part("text/plain; charset=utf-8", human.encode()),
        _part("message/delivery-status", _status(recipient, reply, outcome, arrived, now, hostname).encode("ascii")),
        _part("text/rfc822-headers", head),
    )
    top = (
        f"From: Mail Delivery System <postmaster@{hostname}>\r\n"
        f"To: <{_plain(original_from)}>\r\n"
        f"Subject: {_encoded('Subject', f'Not delivered: {subject}' if subject else 'Your message was not delivered')}\r\n"
        f"Date: {date(now)}\r\n"
        f"Message-ID: <{ident}.notice@{hostname}>\r\n"
        "Auto-Submitted: auto-replied\r\n"  # RFC 3834 5
        "MIME-Version: 1.0\r\n"
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"\r\n'
        "\r\n"
        "This is a delivery status notice in MIME form.\r\n"
    ).encode()
    between = f"\r\n--{boundary}\r\n".encode()
    return top + between + between.join(parts) + f"\r\n--{boundary}--\r\n".encode()


def _human(
    recipient: str,
    subject: str,
    reply: str,
    outcome: Outcome,
    attempts: int,
    arrived: Millis,
    now: Millis,
    hostname: str,
) -> str:
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    quoted = " " * 4
    about = f"    Subject:    {subject[:200]}\n" if subject else ""
    return (
        f"This is the mail gateway {hostname}.\n\n"
        "Your message was not delivered to this recipient:\n\n"
        f"    Recipient:  {recipient}\n{about}"
        f"    Received:   {date(arrived)}\n"
        f"    Given up:   {date(now)},\n                after {tries} in {_duration(now - arrived)}\n\n"
        f"Why: {_WHY[outcome]}\n\n{fill(reply or 'nothing', initial_indent=quoted, subsequent_indent=quoted)}\n\n"
        f"{fill(f'What to do: {_REMEDY[outcome]}', 76)}\n\n"
        "Other recipients of the same message are not affected. The header of your\n"
        "message follows below.\n"
    ).replace("\n", "\r\n")


def _status(recipient: str, reply: str, outcome: Outcome, arrived: Millis, now: Millis, hostname: str) -> str:
    said = _REPLY.match(reply)
    status = _STATUS[outcome]
    if said is not None and said[2] and outcome is not Outcome.EXPIRED:
        status = said[2]
    kind = "smtp" if said is not None else "x-postroom"
    diagnostic = f"Diagnostic-Code: {kind}; {_folded(_ascii(reply)[:MAX_TEXT])}\r\n" if reply else ""
    return (
        f"Reporting-MTA: dns; {hostname}\r\n"
        f"Arrival-Date: {date(arrived)}\r\n"
        "\r\n"
        f"Final-Recipient: {_address_type(recipient)}\r\n"
        "Action: failed\r\n"
        f"Status: {status}\r\n"
        f"{diagnostic}"
        f"Last-Attempt-Date: {date(now)}\r\n"
    )


def _part(kind: str, content: bytes) -> bytes:
    """A body part, as it is when every mail server can carry it so, else quoted-printable (RFC 6522 4 allows it)."""
    lines = content.split(b"\r\n")
    legal = content.isascii() and b"\0" not in content and max(map(len, lines)) <= 998  # RFC 5322 2.1.1
    if legal and not any(b"\r" in line or b"\n" in line for line in lines):
        return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: 7bit\r\n\r\n".encode() + content
    quoted = b"\r\n".join([binascii.b2a_qp(line, istext=False).replace(b"\n", b"\r\n") for line in lines])
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n".encode() + quoted


def _head_of(message: bytes) -> bytes:
    """The header alone, cut at a line's end when it is too long."""
    end = _BLANK_LINE.search(message[: MAX_HEADERS + 4])
    head = message[: end.start() + 2] if end is not None else message
    head = head if len(head) <= MAX_HEADERS else head[: head.rfind(b"\n", 0, MAX_HEADERS) + 1] or head[:MAX_HEADERS]
    return head.rstrip(b"\r\n") + b"\r\n"


def _plain(text: str) -> str:
    """One line of printable characters."""
    if not text.isprintable():
        text = " ".join("".join([char if char.isprintable() else " " for char in text]).split())
    return text[:MAX_TEXT].strip()


def _encoded(name: str, text: str) -> str:
    """A header value in ASCII, folded (RFC 2047)."""
    charset = "us-ascii" if text.isascii() else "utf-8"
    return Header(text, charset, header_name=name, maxlinelen=76).encode(linesep="\r\n")


def _ascii(text: str) -> str:
    """Characters beyond ASCII as RFC 6533 3 writes them: `\\x{F6}`."""
    return text if text.isascii() else "".join([char if char.isascii() else f"\\x{{{ord(char):X}}}" for char in text])


def _folded(text: str) -> str:
    """A status field over several lines; folded at spaces only, as RFC 822 has it."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) > 70:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return "\r\n\t".join([*lines, line])


def _address_type(recipient: str) -> str:
    return f"rfc822; {recipient}" if recipient.isascii() else f"utf-8; {_ascii(recipient)}"


def _duration(millis: Millis) -> str:
    for unit, name in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
        if millis >= unit:
            count = millis // unit
            return f"{count} {name}{'s' if count != 1 else ''}"
    return "less than a minute"
