"""The session as a table: what the server says, what we say, what becomes of each job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from postroom.rules.lifecycle import Deferred, Delivered, Refused, SendResult
from postroom.smtp_out.job import Job
from postroom.smtp_out.replies import MAX_LINE, MAX_REPLY, MAX_TEXT
from postroom.smtp_out.session import CLOSED, IDLE, QUIT, RSET, Session

FULL = b"250-r.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
PLAIN = b"250 r.example\r\n"
OK = b"250 2.1.0 ok\r\n"
GO = b"354 go on\r\n"
KEPT = b"250 2.0.0 kept\r\n"
DELIVERED = Delivered("250 2.0.0 kept")
ENVELOPE = b"MAIL FROM:<a@x.example> SIZE=11\r\nRCPT TO:<b@y.example>\r\nDATA\r\n"


def job(*recipients: str, body: bytes | Path = b"hello\r\n", **changes: Any) -> Job:
    facts: dict[str, Any] = {
        "key": 1, "env_from": "a@x.example", "prefix": b"P:\r\n", "eightbit": None,
        "size": len(body) if isinstance(body, bytes) else 7, "done": lambda job, results: None,
    }  # fmt: skip
    return Job(recipients=recipients or ("b@y.example",), body=body, **{**facts, **changes})


def opened(ehlo: bytes = FULL, **settings: int) -> Session:
    session = Session("gw.example", **settings)
    session.receive(b"220 hello\r\n")
    assert said(session) == b"EHLO gw.example\r\n"
    session.receive(ehlo)
    assert session.stage == IDLE
    assert session.room
    return session


def said(session: Session) -> bytes:
    text = b"".join(session.out)
    session.out.clear()
    return text


def results(session: Session) -> list[tuple[SendResult, ...]]:
    found = [results for _, results in session.done]
    session.done.clear()
    return found


# --- opening ---------------------------------------------------------------------------------------------------------


def test_helo_where_ehlo_is_not_known() -> None:
    session = Session("gw.example")
    session.receive(b"220-hello\r\n220 there\r\n")
    session.receive(b"502 what?\r\n")
    assert said(session) == b"EHLO gw.example\r\nHELO gw.example\r\n"
    session.receive(b"250 r.example\r\n")
    session.give(job())
    assert said(session) == b"MAIL FROM:<a@x.example>\r\n"


@pytest.mark.parametrize(
    ("talk", "failure"),
    [
        ([b"554 no mail here\r\n"], "554 no mail here"),
        ([b"421 4.3.2 busy\r\n"], "421 4.3.2 busy"),
        ([b"220 hi\r\n", b"421-4.3.2 too\r\n421 4.3.2 many\r\n"], "421 4.3.2 too many"),
        ([b"220 hi\r\n", b"451 later\r\n"], "451 later"),
        ([b"220 hi\r\n", b"500 no\r\n", b"550 go away\r\n"], "550 go away"),
        ([b"SSH-2.0-OpenSSH\r\n"], "not an SMTP reply: SSH-2.0-OpenSSH"),
        ([b"\x16\x03\x01\n"], "not an SMTP reply: ???"),
        ([b"2200 hi\r\n"], "not an SMTP reply: 2200 hi"),
        ([b"199 hi\r\n"], "not an SMTP reply: 199 hi"),
    ],
)
def test_a_server_that_does_not_open_closes_the_session_with_its_words(talk: list[bytes], failure: str) -> None:
    session = Session("gw.example")
    for data in talk:
        session.receive(data)
    assert session.stage == CLOSED
    assert session.failure == failure
    assert not session.room
    assert session.receive(b"250 ok\r\n") >= 0  # nothing more happens
    assert (session.done, session.returned) == ([], [])


@pytest.mark.parametrize(
    "data",
    [
        b"2" * (MAX_LINE + 1),
        b"220 " + b"x" * MAX_LINE + b"\r\n",
        b"220-" + b"x" * 80 + b"\r\n",
    ],
)
def test_what_is_held_of_a_reply_is_bounded(data: bytes) -> None:
    session = Session("gw.example")
    for _ in range(MAX_REPLY // len(data) + 1):
        session.receive(data)
    assert session.stage == CLOSED
    assert session.failure.startswith("not an SMTP reply")
    assert len(session.failure) <= MAX_TEXT


# --- one message -----------------------------------------------------------------------------------------------------

A, B = "b@y.example", "c@y.example"
DEFERRED, REFUSED = Deferred("450 4.2.1 not now"), Refused("550 5.1.1 no")
NOT_NOW, NO = b"450 4.2.1 not now\r\n", b"550 5.1.1 no\r\n"
LATE = Deferred("451 4.3.0 late")

# name, recipients, replies in order (pipelined; one by one leaves out those in SKIPPED), results
TABLE: list[tuple[str, tuple[str, ...], list[bytes], Sequence[SendResult]]] = [
    ("accepted", (A,), [OK, OK, GO, KEPT], [DELIVERED]),
    ("two accepted", (A, B), [OK, OK, OK, GO, KEPT], [DELIVERED, DELIVERED]),
    ("one refused", (A, B), [OK, NO, OK, GO, KEPT], [REFUSED, DELIVERED]),
    ("one deferred", (A, B), [OK, OK, NOT_NOW, GO, KEPT], [DELIVERED, DEFERRED]),
    ("forwarded", (A,), [OK, b"251 elsewhere\r\n", GO, KEPT], [DELIVERED]),
    ("all refused", (A, B), [OK, NO, NOT_NOW, b"554 none\r\n"], [REFUSED, DEFERRED]),
    ("content refused", (A, B), [OK, OK, NO, GO, b"554 5.7.1 spam\r\n"], [Refused("554 5.7.1 spam"), REFUSED]),
    ("content deferred", (A,), [OK, OK, GO, b"451 4.3.0 late\r\n"], [LATE]),
    ("data deferred", (A,), [OK, OK, b"451 4.3.0 late\r\n"], [LATE]),
    ("data refused", (A, B), [OK, OK, NOT_NOW, b"554 5.7.1 spam\r\n"], [Refused("554 5.7.1 spam"), DEFERRED]),
    ("mail refused", (A, B), [NO, b"503 seq\r\n", b"503 seq\r\n", b"503 seq\r\n"], [REFUSED, REFUSED]),
    ("mail deferred", (A,), [NOT_NOW, b"503 seq\r\n", b"503 seq\r\n"], [DEFERRED]),
    ("too many", (A, B), [OK, OK, b"552 many\r\n", GO, KEPT], [DELIVERED, Deferred("552 many")]),
    ("mailbox full", (A, B), [OK, b"552 full\r\n", OK, GO, KEPT], [Refused("552 full"), DELIVERED]),
    (
        "story",
        (A,),
        [OK, OK, GO, b"250-2.0.0 kept\r\n250-2.0.0 as\r\n250 2.0.0 7\r\n"],
        [Delivered("250 2.0.0 kept as 7")],
    ),
    ("bare code", (A,), [b"250\r\n", b"250\n", b"354\r\n", b"250\r\n"], [Delivered("250")]),
]


@pytest.mark.parametrize(
    ("recipients", "replies", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_pipelined(
    recipients: tuple[str, ...], replies: list[bytes], expected: Sequence[SendResult], piece: int
) -> None:
    session = opened()
    session.give(job(*recipients))
    stream = b"".join(replies)
    for start in range(0, len(stream), piece):
        session.receive(stream[start : start + piece])
    assert results(session) == [tuple(expected)]
    if session.stage == RSET:
        session.receive(OK)
    assert session.stage == IDLE
    assert session.room


@pytest.mark.parametrize(
    ("recipients", "replies", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_one_by_one(recipients: tuple[str, ...], replies: list[bytes], expected: Sequence[SendResult]) -> None:
    session = opened(PLAIN)
    session.give(job(*recipients))
    for reply in replies:
        command = said(session)
        assert command.count(b"\r\n") == 1 or command.endswith(b"\r\n.\r\n")
        session.receive(reply)
        if session.done:
            break
    assert results(session) == [tuple(expected)]
    if session.stage == RSET:
        assert said(session) == b"RSET\r\n"
        session.receive(OK)
    assert session.stage == IDLE
    assert said(session) == b""


def test_go_ahead_for_nobody_is_answered_by_a_lone_dot() -> None:
    session = opened()
    session.give(job(A, B))
    said(session)
    session.receive(OK + NO + NOT_NOW + GO)
    assert said(session) == b".\r\n"
    session.receive(KEPT)  # whatever it says, nobody got anything
    assert results(session) == [(REFUSED, DEFERRED)]
    assert session.stage == IDLE


def test_go_ahead_after_a_refused_sender() -> None:
    session = opened()
    session.give(job(A))
    said(session)
    session.receive(NO + NO + GO)
    assert said(session) == b".\r\n"
    session.receive(b"554 none\r\n")
    assert results(session) == [(REFUSED,)]
    assert session.room


def test_a_server_that_takes_recipients_of_a_refused_sender_gets_no_dot() -> None:
    session = opened()
    session.give(job(A))
    said(session)
    session.receive(NO + OK + GO)
    assert said(session) == b""
    assert results(session) == [(REFUSED,)]
    assert session.stage == CLOSED


def test_the_sender_is_taken_back_before_the_next_message() -> None:
    session = opened()
    session.give(job())
    said(session)
    session.receive(OK + NO + b"554 none\r\n")
    assert said(session) == b"RSET\r\n"
    assert not session.room
    session.receive(OK)
    assert session.room
    session.give(job())
    assert said(session) == ENVELOPE


def test_content_is_sent_behind_its_prefix_byte_for_byte() -> None:
    session = opened()
    session.give(job(body=b".dot\r\n.\r\nbare\n.\ncr\r.\r\nend"))
    said(session)
    session.receive(OK + OK + GO)
    assert said(session) == b"P:\r\n..dot\r\n..\r\nbare\n.\ncr\r.\r\nend\r\n.\r\n"


# --- parameters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "mail"),
    [
        (job(), b"MAIL FROM:<a@x.example> SIZE=11\r\n"),
        (job(env_from=""), b"MAIL FROM:<> SIZE=11\r\n"),
        (job(body=b"\xff\r\n"), b"MAIL FROM:<a@x.example> SIZE=7 BODY=8BITMIME\r\n"),
        (job(body=b"\xff\r\n", eightbit=False), b"MAIL FROM:<a@x.example> SIZE=7\r\n"),
        (job(eightbit=True), b"MAIL FROM:<a@x.example> SIZE=11 BODY=8BITMIME\r\n"),
        (job(body=Path("/stored")), b"MAIL FROM:<a@x.example> SIZE=11 BODY=8BITMIME\r\n"),
        (job("ü@y.example"), b"MAIL FROM:<a@x.example> SIZE=11 SMTPUTF8\r\n"),
        (job(env_from="ü@x.example"), "MAIL FROM:<ü@x.example> SIZE=11 SMTPUTF8\r\n".encode()),
    ],
)
def test_mail_says_what_the_peer_wants_to_know(given: Job, mail: bytes) -> None:
    session = opened()
    session.give(given)
    assert said(session).startswith(mail)
    session = opened(PLAIN)
    if not mail.endswith(b"SMTPUTF8\r\n"):
        session.give(given)
        assert said(session) == mail.partition(b">")[0] + b">\r\n"  # nothing that was not offered


def test_a_message_too_large_for_the_peer_is_refused_without_a_word() -> None:
    session = opened()
    session.give(job(size=997))
    assert results(session) == [(Refused("552 5.3.4 message of 1001 bytes; the next hop takes at most 1000"),)]
    assert said(session) == b""
    assert session.room
    session.give(job(size=996))
    assert said(session)


@pytest.mark.parametrize("size", [b"SIZE", b"SIZE 0", b"SIZE lots", b"SIZE " + b"9" * 5000, "SIZE ²".encode()])
def test_a_peer_without_a_size_limit_gets_any_size(size: bytes) -> None:
    session = Session("gw.example")
    session.receive(b"220 hi\r\n")
    session.receive(b"250-r.example\r\n250 " + size[:4000] + b"\r\n")
    session.give(job(size=10**12))
    assert said(session).endswith(b"SIZE=1000000000004\r\n")


def test_addresses_beyond_ascii_need_smtputf8() -> None:
    session = opened(PLAIN)
    session.give(job(A, "ü@y.example", B))
    for reply in (OK, OK, OK, GO, KEPT):
        session.receive(reply)
    assert b"\xc3" not in said(session)
    refused = Refused("553 5.6.7 the next hop does not take addresses beyond ASCII: ü@y.example")
    assert results(session) == [(DELIVERED, refused, DELIVERED)]
    session.give(job(A, B, env_from="ü@y.example"))
    assert results(session) == [(refused, refused)]
    session.give(job("ü@y.example"))
    assert results(session) == [(refused,)]
    assert session.room


@pytest.mark.parametrize(
    "address",
    ["a@x\r\nRCPT TO:<evil@x", "a@x> SIZE=1 <b@x", "a b@x", "a\x00@x", "a\x85@x", '"a\n"@x', '"a@x', "a\\b@x"],
)
def test_no_address_can_carry_a_command(address: str) -> None:
    session = opened()
    session.give(job(env_from=address))
    session.give(job(address))
    assert said(session) == b""
    for (result,) in results(session):
        assert isinstance(result, Refused)
        assert result.reply.startswith("553 5.1.3")
        assert result.reply.isprintable()


def test_a_quoted_address_is_an_address() -> None:
    session = opened()
    session.give(job('"a b>\\"c"@y.example'))
    assert b'RCPT TO:<"a b>\\"c"@y.example>\r\n' in said(session)


# --- sent ahead ------------------------------------------------------------------------------------------------------


def test_the_next_envelope_goes_behind_the_content() -> None:
    session = opened()
    session.give(job())
    assert said(session) == ENVELOPE
    assert not session.room
    session.receive(OK + OK + GO)
    assert session.room
    session.give(job())
    assert said(session) == b"P:\r\nhello\r\n.\r\n" + ENVELOPE
    assert not session.room
    session.receive(KEPT + OK + OK + GO)
    assert results(session) == [(DELIVERED,)]
    assert said(session) == b"P:\r\nhello\r\n.\r\n"
    session.receive(b"550 5.7.1 spam\r\n")
    assert results(session) == [(Refused("550 5.7.1 spam"),)]
    assert session.stage == IDLE


def test_nothing_is_sent_ahead_to_a_peer_without_pipelining() -> None:
    session = opened(PLAIN)
    session.give(job())
    for reply in (OK, OK, GO):
        session.receive(reply)
        assert not session.room
    session.receive(KEPT)
    assert session.room


def test_no_more_messages_than_allowed() -> None:
    session = opened(limit=2)
    session.give(job())
    session.receive(OK + OK + GO)
    session.give(job())
    session.receive(KEPT + OK + OK + GO)
    assert not session.room
    session.receive(KEPT)
    assert not session.room
    assert session.spent
    session.quit()
    assert said(session).endswith(b"QUIT\r\n")
    assert session.stage == QUIT
    session.receive(b"221 bye\r\n")
    assert session.stage == CLOSED


# --- losing the connection -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replies", [b"", OK, OK + OK])
def test_lost_before_the_content(replies: bytes) -> None:
    session = opened()
    session.give(job())
    session.receive(replies)
    session.lost("gone")
    assert results(session) == [(Deferred("gone"),)]
    assert session.returned == []


def test_lost_after_the_final_dot_may_have_been_delivered() -> None:
    session = opened()
    session.give(job(A, B))
    session.receive(OK + NO + OK + GO)
    session.lost("gone")
    assert results(session) == [(REFUSED, Deferred("gone", maybe=True))]


def test_a_final_dot_that_never_left_cannot_have_delivered() -> None:
    session = opened()
    session.give(job())
    session.receive(OK + OK + GO)
    session.lost("gone", unsent=True)
    assert results(session) == [(Deferred("gone"),)]


def test_unsent_bytes_behind_which_the_dot_is_not_last_say_nothing() -> None:
    session = opened()
    session.give(job())
    session.receive(OK + OK + GO)
    session.give(job())
    session.lost("gone", unsent=True)
    assert results(session) == [(Deferred("gone", maybe=True),)]
    assert len(session.returned) == 1


@pytest.mark.parametrize("replies", [b"", KEPT, KEPT + OK, KEPT + OK + OK])
@pytest.mark.parametrize("end", [b"", b"421 4.3.2 stopping\r\n"])
def test_a_message_sent_ahead_comes_back_untouched(replies: bytes, end: bytes) -> None:
    session = opened()
    session.give(job(key=1))
    session.receive(OK + OK + GO)
    session.give(job(key=2))
    session.receive(replies + end)
    session.lost("gone")
    (first,) = results(session)
    assert first == (
        (DELIVERED,) if replies else (Deferred("421 4.3.2 stopping"),) if end else (Deferred("gone", True),)
    )
    assert [returned.key for returned in session.returned] == [2]


def test_a_message_sent_ahead_that_was_refused_has_its_result() -> None:
    session = opened()
    session.give(job(key=1))
    session.receive(OK + OK + GO)
    session.give(job(key=2))
    session.receive(KEPT + OK + NO)
    session.lost("gone")
    assert results(session) == [(DELIVERED,), (REFUSED,)]
    assert session.returned == []


def test_a_connection_that_died_of_boredom_returns_what_it_was_given() -> None:
    session = opened()
    session.give(job())
    session.receive(OK + OK + GO)
    session.receive(KEPT)
    session.give(job(key=2))
    session.lost("gone")
    assert [returned.key for returned in session.returned] == [2]
    assert results(session) == [(DELIVERED,)]


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        (b"421 4.3.2 stopping\r\n", Deferred("421 4.3.2 stopping")),
        (OK + b"421 4.3.2 stopping\r\n", Deferred("421 4.3.2 stopping")),
        (OK + OK + b"421 4.3.2 stopping\r\n", Deferred("421 4.3.2 stopping")),
        (OK + OK + GO + b"421 4.3.2 stopping\r\n", Deferred("421 4.3.2 stopping")),
        (b"hm\r\n", Deferred("not an SMTP reply: hm")),
        (b"354 go\r\n", Deferred("unexpected reply to MAIL: 354 go")),
        (OK + b"354 go\r\n", Deferred("unexpected reply to RCPT: 354 go")),
        (OK + OK + b"250 hm\r\n", Deferred("unexpected reply to DATA: 250 hm")),
        (OK + OK + GO + b"354 go\r\n", Deferred("unexpected reply to the content: 354 go", maybe=True)),
        (OK + OK + GO + b"25", None),
        (OK + OK + GO + b"kept!\r\n", Deferred("not an SMTP reply: kept!", maybe=True)),
    ],
)
def test_a_peer_that_stops_or_talks_nonsense(replies: bytes, expected: SendResult | None) -> None:
    session = opened()
    session.give(job())
    session.receive(replies)
    assert results(session) == ([(expected,)] if expected else [])
    assert (session.stage == CLOSED) == (expected is not None)


def test_421_while_idle_only_ends_the_session() -> None:
    session = opened()
    session.receive(b"421 4.4.2 timeout\r\n")
    assert session.stage == CLOSED
    assert session.done == []
    assert not session.room


def test_replies_are_one_short_printable_line() -> None:
    session = opened()
    session.give(job())
    session.receive(OK + OK + b"550 \x1b[31mred\x07\t\xc3\xbc\xff " + b"x" * 2000 + b"\r\n")
    ((result,),) = results(session)
    assert isinstance(result, Refused)
    assert result.reply.startswith("550 ?[31mred? ü")
    assert result.reply.isprintable()
    assert len(result.reply) == MAX_TEXT


# --- content that the owner streams ----------------------------------------------------------------------------------


def test_streamed_content_gets_its_dot_when_it_is_sent() -> None:
    session = opened()
    given = job(body=Path("/stored"), eightbit=False)
    session.give(given)
    assert said(session) == ENVELOPE
    session.receive(OK + OK + GO)
    assert said(session) == b"P:\r\n"
    assert session.stream is given
    assert not session.room
    session.content_sent()
    assert said(session) == b".\r\n"
    assert session.stream is None
    assert session.room
    session.receive(KEPT)
    assert results(session) == [(DELIVERED,)]


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (b"", Deferred("gone")),
        (b"552 5.3.4 too big\r\n", Refused("552 5.3.4 too big")),
        (b"452 4.3.1 full\r\n", Deferred("452 4.3.1 full")),
        (b"421 4.3.2 stopping\r\n", Deferred("421 4.3.2 stopping")),
        (b"250 2.0.0 kept\r\n", Deferred("a reply before the end of the content: 250 2.0.0 kept")),
    ],
)
def test_what_ends_before_the_dot_was_not_delivered(end: bytes, expected: SendResult) -> None:
    session = opened()
    session.give(job(body=Path("/stored")))
    session.receive(OK + OK + GO)
    session.receive(end)
    session.lost("gone")
    assert results(session) == [(expected,)]
    assert session.stream is None
    assert session.stage == CLOSED


def test_streamed_content_that_was_begun_is_not_untouched() -> None:
    session = opened()
    session.give(job())
    session.receive(OK + OK + GO)
    session.give(job(body=Path("/stored")))
    session.receive(KEPT + OK + OK + GO)
    session.lost("gone")
    assert results(session) == [(DELIVERED,), (Deferred("gone"),)]
    assert session.returned == []


def test_the_session_can_be_read() -> None:
    session = opened()
    session.give(job())
    assert repr(session) == "<Session waiting for the reply to MAIL, 1 given, 1 in hand>"
