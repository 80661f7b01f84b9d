from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.model import Outcome
from postroom.rules.bounce import MAX_HEADERS, notice

AT = 1_795_352_400_000


def made(**changes: Any) -> bytes:
    facts: dict[str, Any] = {
        "original_from": "alice@corp.example",
        "recipient": "bob@example.org",
        "subject": "Quarterly report",
        "reply": "550 5.1.1 <bob@example.org>: no such user",
        "outcome": Outcome.BOUNCED,
        "attempts": 1,
        "arrived": AT - 7_200_000,
        "now": AT,
        "hostname": "gw.corp.example",
        "ident": "19f",
        "headers": b"From: alice@corp.example\r\nSubject: Quarterly report\r\n\r\nthe body\r\n",
    }
    return notice(**{**facts, **changes})


def parsed(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def parts(raw: bytes) -> tuple[str, EmailMessage, bytes]:
    human, status, head = parsed(raw).iter_parts()  # exactly three
    assert [part.get_content_type() for part in (human, status, head)] == [
        "text/plain", "message/delivery-status", "text/rfc822-headers",
    ]  # fmt: skip
    # each group of status fields is parsed as a message of its own: first about us, then about the recipient
    recipient_fields = status.get_payload()[1]
    head_bytes = head.get_payload(decode=True)
    assert isinstance(recipient_fields, EmailMessage)
    assert isinstance(head_bytes, bytes)
    return human.get_content(), recipient_fields, head_bytes


def test_a_notice_is_a_delivery_report_that_no_one_answers() -> None:
    message = parsed(made())
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["From"] == "Mail Delivery System <postmaster@gw.corp.example>"
    assert message["To"] == "alice@corp.example"
    assert message["Subject"] == "Not delivered: Quarterly report"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Message-ID"] == "<19f.notice@gw.corp.example>"
    assert message["Date"] == "Sun, 22 Nov 2026 13:00:00 +0000"
    assert not message.defects


def test_people_read_who_why_and_what_to_do() -> None:
    human, _, _ = parts(made(attempts=3))
    for words in ("bob@example.org", "Quarterly report", "after 3 attempts in 2 hours", "no such user", "What to do:"):
        assert words in human
    assert max(map(len, human.splitlines())) <= 78


def test_programs_read_the_status() -> None:
    _, status, _ = parts(made())
    assert status["Final-Recipient"] == "rfc822; bob@example.org"
    assert status["Action"] == "failed"
    assert status["Status"] == "5.1.1"
    assert status["Diagnostic-Code"] == "smtp; 550 5.1.1 <bob@example.org>: no such user"


@pytest.mark.parametrize(
    ("outcome", "reply", "status", "kind"),
    [
        (Outcome.BOUNCED, "550 no", "5.0.0", "smtp"),
        (Outcome.BOUNCED, "552-5.2.2 full", "5.2.2", "smtp"),
        (Outcome.EXPIRED, "451 4.3.0 later", "4.4.7", "smtp"),
        (Outcome.EXPIRED, "connect to 192.0.2.1:25: Connection refused", "4.4.7", "x-postroom"),
        (Outcome.REJECTED, "Too many hops", "5.7.1", "x-postroom"),
        (Outcome.REJECTED, "", "5.7.1", None),
    ],
)
def test_status_by_outcome_and_reply(outcome: Outcome, reply: str, status: str, kind: str | None) -> None:
    _, fields, _ = parts(made(outcome=outcome, reply=reply))
    assert fields["Status"] == status
    assert fields["Diagnostic-Code"] == (f"{kind}; {reply}" if kind else None)


def test_a_null_sender_gets_no_notice() -> None:
    with pytest.raises(AssertionError):
        made(original_from="")


def test_only_the_header_goes_back() -> None:
    _, _, head = parts(made())
    assert head == b"From: alice@corp.example\r\nSubject: Quarterly report\r\n"
    assert b"the body" not in made()


def test_a_huge_header_is_cut_at_a_line() -> None:
    _, _, head = parts(made(headers=b"X-Line: 0123456789\r\n" * 10_000))
    assert MAX_HEADERS - 40 < len(head) <= MAX_HEADERS
    assert head.endswith(b"X-Line: 0123456789\r\n")


def test_binary_headers_survive() -> None:
    rough = b"Subject: \xff\x00 \xc3\xbc\r\nX: bare\nlf and \rcr\r\n." + b"y" * 2000 + b"\r\n"
    raw = made(headers=rough)
    assert raw.isascii()
    assert parts(raw)[2] == rough


def test_characters_beyond_ascii_are_encoded() -> None:
    raw = made(subject="Größe 漢字", recipient="bücher@exämple.org", reply="550 5.1.1 nicht möglich")
    assert raw.isascii()
    human, status, _ = parts(raw)
    assert parsed(raw)["Subject"] == "Not delivered: Größe 漢字"
    assert "bücher@exämple.org" in human
    assert status["Final-Recipient"] == "utf-8; b\\x{FC}cher@ex\\x{E4}mple.org"
    assert status["Diagnostic-Code"] == "smtp; 550 5.1.1 nicht m\\x{F6}glich"


def test_a_header_that_guesses_the_boundary_ends_no_part() -> None:
    guess = b"X: y\r\n--=_postroom-19f--\r\n--=_postroom-19fx\r\nContent-Type: text/html\r\n"
    assert parts(made(headers=guess))[2] == guess


NASTY = st.text(alphabet=st.sampled_from("a \r\n\t\x00\x0b\x85\u2028:<>ü漢\ud800-=_."), max_size=80) | st.text()


@given(
    subject=NASTY, reply=NASTY, recipient=NASTY.map(lambda text: f"x{text}@x"), sender=NASTY, headers=st.binary(),
    outcome=st.sampled_from([Outcome.BOUNCED, Outcome.EXPIRED, Outcome.REJECTED]),
)  # fmt: skip
def test_no_text_can_add_a_header_or_a_part(
    subject: str, reply: str, recipient: str, sender: str, headers: bytes, outcome: Outcome
) -> None:
    raw = made(
        subject=subject,
        reply=reply,
        recipient=recipient,
        original_from=f"x{sender}@x",
        headers=headers,
        outcome=outcome,
    )
    parts(raw)  # three
    top, _, _ = raw.partition(b"\r\n\r\n")
    names = [line.partition(b":")[0] for line in top.split(b"\r\n") if line[:1] not in (b" ", b"\t")]
    assert names == [
        b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Auto-Submitted", b"MIME-Version", b"Content-Type",
    ]  # fmt: skip
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")
    assert b"\0" not in raw
