"""The scan against a second parser, the standard library's, over whole mailboxes of real mail.

Where the two disagree the difference is listed with its reason; the test fails when a listed one vanishes or a new one
appears.
"""

from __future__ import annotations

import email
import email.policy
import re
from email.header import decode_header, make_header
from email.message import EmailMessage, Message
from email.utils import parseaddr
from pathlib import Path

import pytest

from postroom import facts

ROOT = Path(__file__).parent.parent
FOLDERS = (ROOT.parent / "shared" / "corpus", ROOT / "src" / "postroom_demo" / "corpus")
FILES = sorted(path for folder in FOLDERS if folder.is_dir() for path in folder.glob("*.eml"))

GUESSED = "8-bit without a charset: the library gives replacement characters, we guess the charset"
LANGUAGE = "charset*language (RFC 2231 5), which the library does not know"
EXPECTED_DIFFERENCES: dict[tuple[str, str], str] = {
    ("inbound-french-undeclared-8bit.eml", "subject"): GUESSED,
    ("inbound-invoice-polish.eml", "from_name"): "the library puts a blank between encoded words (RFC 2047 6.2: none)",
    ("nice-cjk-big5-base64.1.eml", "subject"): GUESSED,
    ("nice-cjk-gb2312.1.eml", "from_name"): GUESSED,
    ("nice-cjk-gb2312.1.eml", "subject"): GUESSED,
    ("nice-unicode1.eml", "from_address"): "UTF-8 address (RFC 6532), which the library keeps as surrogates",
    ("nice-unicode1.eml", "from_name"): "UTF-8 behind an encoded word, which the library replaces",
    ("nice-unicode1.eml", "subject"): LANGUAGE,
    ("nice-unicode1.eml", "to_header"): LANGUAGE,
    ("nice-unicode2.eml", "from_address"): "two words without an address: the library takes them for a local part",
    ("nice-unicode2.eml", "from_name"): "two words without an address: they are the name",
    (
        "spam-008.eml",
        "from_address",
    ): "the first of two From fields is written `From  :` (RFC 5322 4.5.2), unknown to it",
}


def as_sent(data: bytes) -> bytes:
    """What a sender makes of a file: every line ends in CRLF (RFC 5321 2.3.8)."""
    return re.sub(rb"\r*\n", b"\r\n", data)


def one_line(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text).strip()[:998]


def same(text: str) -> str:
    """Blanks do not count: the two parsers fold them differently."""
    return " ".join(text.split())


def decoded(parsed: Message, name: str) -> str:
    values = []
    for value in parsed.get_all(name, []):
        try:
            values.append(str(make_header(decode_header(value))))
        except LookupError:  # a charset with a language behind it
            values.append(str(value))
    return one_line((", ".join(values) if name == "to" else values[0]) if values else "")


def first_mailbox(old: Message, new: EmailMessage) -> tuple[str, str]:
    """The strict parser's answer; where it sees no name, the older one's, which knows names in comments."""
    field = new["from"]
    if field is None or not field.addresses:
        return "", ""
    first = field.addresses[0]
    name = first.display_name or parseaddr(str(old["from"]))[0]
    return (first.addr_spec if first.domain else first.username), name


def is_attachment(part: Message, parent: str) -> bool:
    if part.get_content_disposition() == "attachment":
        return True
    kind, subtype = part.get_content_maintype(), part.get_content_subtype()
    if kind == "message":
        return subtype in ("rfc822", "partial", "external-body") and parent != "report"
    if kind in ("text", "multipart") or subtype in ("pgp-signature", "pkcs7-signature", "x-pkcs7-signature"):
        return False
    if parent == "related" and ("content-id" in part or "content-location" in part):
        return False
    return part.get_filename() is not None or parent in ("mixed", "")


def has_attachment(part: Message, parent: str = "") -> bool:
    if is_attachment(part, parent):
        return True
    if part.get_content_maintype() != "multipart" or not part.is_multipart():
        return False
    return any(has_attachment(child, part.get_content_subtype()) for child in part.get_payload())


def differences(data: bytes) -> dict[str, tuple[object, object]]:
    ours = facts.scan(data)
    old = email.message_from_bytes(data, policy=email.policy.compat32)
    new = email.message_from_bytes(data, policy=email.policy.default)
    address, name = first_mailbox(old, new)
    pairs: dict[str, tuple[object, object]] = {
        "from_address": (ours.from_address, address),
        "from_name": (same(ours.from_name), same(one_line(name))),
        "subject": (same(ours.subject), same(decoded(old, "subject"))),
        "to_header": (same(ours.to_header), same(decoded(old, "to"))),
        "attachment": (ours.attachment, has_attachment(old)),
        "hops": (ours.hops, len(old.get_all("received", []))),
        "body_at": (ours.body_at, len(data) - len(body_of(data))),
    }
    return {what: pair for what, pair in pairs.items() if pair[0] != pair[1]}


def body_of(data: bytes) -> bytes:
    return data.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_scan_reads_a_real_message_as_the_standard_library_does(path: Path) -> None:
    found = differences(as_sent(path.read_bytes()))
    expected = {what for name, what in EXPECTED_DIFFERENCES if name == path.name}
    assert set(found) == expected, found


def test_every_listed_difference_is_of_a_file_that_exists() -> None:
    present = {path.name for path in FILES}
    listed = {name for name, _ in EXPECTED_DIFFERENCES}
    if not FOLDERS[0].is_dir():  # a checkout without the shared mail has only the project's own
        listed = {name for name in listed if not name.startswith(("nice-", "spam-", "dkim-"))}
    assert listed <= present
