"""The corpus and the feed: realistic, reserved names only, repeatable by seed, and accepted by a real SMTP server."""

from __future__ import annotations

import email
import email.policy
import itertools
import os
import random
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from postroom_demo.corpus import INTERNAL_DOMAIN, Mail, Template, load
from postroom_demo.feed import MAILSHOT_EVERY, MAILSHOT_SIZE, Posting, Refused, Script, post
from postroom_demo.gateway import free_port

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
TEMPLATES = load()
RESERVED = re.compile(r"(?:^|\.)(?:example|example\.(?:com|net|org))$")  # RFC 2606
MAILBOX = re.compile(r"[\w.+=#-]+@([\w.-]+\w)")


def filled(template: Template, seed: int = 1) -> Mail:
    return template.fill(random.Random(seed), NOW)


def postings(seed: int, number: int, rate: float = 3.0) -> list[Posting]:
    return list(itertools.islice(Script(TEMPLATES, seed=seed, rate=rate).postings(lambda: NOW), number))


def route_of(sender: str, recipient: str) -> str:
    ours = tuple(address.endswith("corp.example") for address in (sender, recipient))
    return {(False, True): "inbound", (True, False): "outbound", (True, True): "internal"}.get(ours, "external")


def test_there_is_enough_of_it_on_every_route() -> None:
    assert 25 <= len(TEMPLATES) <= 40
    assert set(Counter(template.route for template in TEMPLATES)) == {
        "inbound", "outbound", "internal", "external", "mailshot",
    }  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
def test_every_template_becomes_a_message(template: Template) -> None:
    mail = filled(template)
    assert b"{{" not in mail.content
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", mail.content)
    assert max(len(line) for line in mail.content.split(b"\r\n")) <= 998  # RFC 5322 2.1.1
    assert mail.recipients
    wanted = "outbound" if template.route == "mailshot" else template.route
    routes = {route_of(mail.sender, recipient) for recipient in mail.recipients}
    assert wanted in routes
    assert routes <= {wanted, "internal"}
    parsed = email.message_from_bytes(mail.content, policy=email.policy.default)
    assert parsed["From"]
    assert parsed["Subject"]
    assert parsed["Message-ID"]
    assert abs((parsed["Date"].datetime - NOW).total_seconds()) < 60


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
def test_only_reserved_names_are_used(template: Template) -> None:
    mail = filled(template)
    for address in (*mail.recipients, *filter(None, [mail.sender])):
        assert RESERVED.search(address.rpartition("@")[2]), address
    headers = mail.content.partition(b"\r\n\r\n")[0].decode("latin-1")
    for domain in MAILBOX.findall(re.sub(r"=\?.*?\?=|(?<=\n)(?:DKIM-Signature|\s+b).*", "", headers)):
        assert RESERVED.search(domain) or "." not in domain, domain


def test_a_seed_gives_the_same_mail_in_the_same_order() -> None:
    assert postings(7, 60) == postings(7, 60)
    assert postings(7, 60) != postings(8, 60)


def test_everything_comes_in_every_round_and_the_gaps_are_short() -> None:
    first = postings(1, 200, rate=2.0)
    assert {posting.mail.name for posting in first} == {template.name for template in TEMPLATES}
    assert max(posting.after for posting in first) <= 0.75
    ids = [re.search(rb"^Message-ID: (.*)\r$", posting.mail.content, re.MULTILINE)[1] for posting in first]  # type: ignore[index]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_opens_with_mail_that_stays_a_while(seed: int) -> None:
    assert "archive" in postings(seed, 1)[0].mail.name


def test_a_mailshot_is_more_than_ten_identical_ones() -> None:
    mails = [posting.mail for posting in postings(1, MAILSHOT_EVERY + MAILSHOT_SIZE)]
    shots = [mail for mail in mails if mail.name.startswith("mailshot")]
    assert len(shots) == MAILSHOT_SIZE > 10
    assert len({mail.content.partition(b"\r\n\r\n")[2] for mail in shots}) == 1
    assert len({mail.recipients for mail in shots}) > 3


def test_no_other_mail_looks_like_a_mailshot() -> None:
    bodies = Counter(
        (posting.mail.sender, posting.mail.content.partition(b"\r\n\r\n")[2])
        for posting in postings(1, 2000)
        if posting.mail.name.startswith("outbound")
    )
    assert bodies.most_common(1)[0][1] <= 10


@pytest.mark.parametrize(
    "content", [b"Subject: x\n\nx\n", b"X-Envelope-From: <a@b.example>\nSubject: x\n\nx\n", b"x\ny\n"]
)
def test_a_file_that_is_no_template_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.eml").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.eml"):
        load(tmp_path)


class Sink:
    """What aiosmtpd gives us of each message."""

    def __init__(self) -> None:
        self.taken: list[Envelope] = []
        self.reply = "250 2.0.0 ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.taken.append(envelope)
        return self.reply


async def test_what_is_posted_is_what_arrives() -> None:
    sink = Sink()
    # aiosmtpd knocks at its own port while it starts, so it must know the number
    controller = Controller(
        sink, hostname="127.0.0.1", port=free_port(20_000 + os.getpid() % 20_000), decode_data=False
    )
    controller.start()
    try:
        mails = [filled(template) for template in TEMPLATES]
        mails.append(Mail("dots", "a@corp.example", ("b@example.org",), b".\r\n..x\r\n\r\n.y\r\nno end"))
        for mail in mails:
            assert (await post("127.0.0.1", controller.port, mail)).startswith("250")
        sink.reply = "452 4.3.1 later"
        with pytest.raises(Refused, match=r"^452"):
            await post("127.0.0.1", controller.port, mails[0])
    finally:
        controller.stop()
    for mail, taken in zip(mails, sink.taken, strict=False):
        assert taken.mail_from == (mail.sender or "<>")
        assert tuple(taken.rcpt_tos) == mail.recipients
        assert taken.content == mail.content if mail.content.endswith(b"\r\n") else mail.content + b"\r\n"


def test_internal_people_live_in_the_internal_domain() -> None:
    mail = filled(next(template for template in TEMPLATES if template.name == "internal-lunch"))
    assert mail.sender.endswith(f"@{INTERNAL_DOMAIN}")
