"""The conversation: every command, every refusal, the order of things, relaying and routes."""

from __future__ import annotations

import pytest

from postroom.model import Route
from postroom.settings import GatewaySettings
from postroom.smtp_in import replies
from tests.smtp_in.dialogue import (
    ENVELOPE,
    OPEN_RELAY,
    QUEUED,
    config,
    deliver,
    greeted,
    say,
    session,
)

MAIL = b"MAIL FROM:<a@example.org>\r\n"
RCPT = b"RCPT TO:<b@corp.example>\r\n"


def test_greeting_names_the_host() -> None:
    assert session().greeting() == b"220 gw.corp.example ESMTP Postroom\r\n"


def test_ehlo_offers_what_we_can() -> None:
    heard = say(session(config(max_size=12345)), b"EHLO client.example\r\n")
    assert heard.lines == [
        "250-gw.corp.example",
        "250-PIPELINING",
        "250-SIZE 12345",
        "250-8BITMIME",
        "250 ENHANCEDSTATUSCODES",
    ]


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"HELO client.example", "250 gw.corp.example"),
        (b"helo client.example", "250 gw.corp.example"),
        (b"EHLO [192.0.2.1]", "250 ENHANCEDSTATUSCODES"),
        (b"EHLO [IPv6:2001:db8::1]", "250 ENHANCEDSTATUSCODES"),
        (b"EHLO under_score", "250 ENHANCEDSTATUSCODES"),
        (b"EHLO  client.example ", "250 ENHANCEDSTATUSCODES"),
        (b"EHLO", "501 5.5.4"),
        (b"EHLO ", "501 5.5.4"),
        (b"HELO two words", "501 5.5.4"),
        (b"EHLO (comment)", "501 5.5.4"),
        (b'EHLO "quoted"', "501 5.5.4"),
        (b"EHLO back\\slash", "501 5.5.4"),
        (b"EHLO b\xc3\xbccher.example", "501 5.5.4"),
        (b"EHLO tab\there", "501 5.5.4"),
        (b"EHLO " + b"x" * 256, "501 5.5.4"),
        (b"EHLOX client", "500 5.5.2"),
        (b"NOOP", "250 2.0.0"),
        (b"noop whatever", "250 2.0.0"),
        (b"RSET", "250 2.0.0"),
        (b"RSET ", "250 2.0.0"),
        (b"RSET now", "501 5.5.4"),
        (b"VRFY somebody", "252 2.0.0"),
        (b"VRFY", "501 5.5.4"),
        (b"HELP", "214 2.0.0"),
        (b"HELP MAIL", "214 2.0.0"),
        (b"EXPN list", "502 5.5.1"),
        (b"TURN", "502 5.5.1"),
        (b"ETRN example.org", "502 5.5.1"),
        (b"BDAT 10 LAST", "502 5.5.1"),
        (b"STARTTLS", "502 5.5.1"),
        (b"AUTH PLAIN AGEAYg==", "502 5.5.1"),
        (b"", "500 5.5.2"),
        (b" NOOP", "500 5.5.2"),
        (b"NOO", "500 5.5.2"),
        (b"NOOPX", "500 5.5.2"),
        (b"GET / HTTP/1.1", "500 5.5.2"),
        (b"\xff\xfe\x00", "500 5.5.2"),
        (b"NOOP\tx", "500 5.5.2"),
        (b"MAIL FROM:<a@example.org>", "503 5.5.1"),
        (b"RCPT TO:<b@corp.example>", "503 5.5.1"),
        (b"DATA", "503 5.5.1"),
        (b"DATA now", "501 5.5.4"),
        (b"QUIT now", "501 5.5.4"),
    ],
)
def test_commands_before_anything_else(line: bytes, reply: str) -> None:
    heard = say(session(), line + b"\r\n")
    assert heard.codes == [reply]


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"MAIL FROM:<a@example.org>", "250 2.1.0"),
        (b"mail from:<a@example.org>", "250 2.1.0"),
        (b"MAIL FROM: <a@example.org>", "250 2.1.0"),
        (b"MAIL FROM:<>", "250 2.1.0"),
        (b"MAIL FROM:<a@[192.0.2.1]>", "250 2.1.0"),
        (b'MAIL FROM:<"a b"@example.org> BODY=8BITMIME', "250 2.1.0"),
        (b"MAIL FROM:<a@example.org> SIZE=1000 BODY=7BIT", "250 2.1.0"),
        (b"MAIL FROM:<a@example.org> SIZE=1000", "250 2.1.0"),
        (b"MAIL FROM:<a@example.org> ", "250 2.1.0"),
        (b"MAIL FROM:<a%b!c@example.org>", "250 2.1.0"),
        (b"MAIL", "501 5.5.4"),
        (b"MAIL TO:<a@example.org>", "501 5.5.4"),
        (b"MAIL FROM <a@example.org>", "501 5.5.4"),
        (b"MAIL FROM:<a@example.org>SIZE=1", "501 5.5.4"),
        (b"MAIL FROM:<a@example.org> SIZE=x", "501 5.5.4"),
        (b"MAIL FROM:<a@example.org> SIZE=+1", "501 5.5.4"),
        (b"MAIL FROM:<a@example.org> SIZE=" + b"1" * 30, "501 5.5.4"),
        (b"MAIL FROM:<a@example.org> BODY=9BIT", "501 5.5.4"),
        (b"MAIL FROM:<a@example.org> SMTPUTF8", "555 5.5.4"),
        (b"MAIL FROM:<a@example.org> AUTH=<>", "555 5.5.4"),
        (b"MAIL FROM:<a@example.org> SIZE=52428801", "552 5.3.4"),
        (b"MAIL FROM:<a@example.org> SIZE=" + b"9" * 20, "552 5.3.4"),
        (b"MAIL FROM:a@example.org", "501 5.1.7"),
        (b"MAIL FROM:<a>", "501 5.1.7"),
        (b"MAIL FROM:<a@example..org>", "501 5.1.7"),
        (b"MAIL FROM:<a@b@example.org>", "501 5.1.7"),
        (b"MAIL FROM:<" + b"x" * 65 + b"@example.org>", "501 5.1.7"),
        (b"MAIL FROM:<a@" + b".".join([b"d" * 60] * 5) + b">", "501 5.1.7"),
        (b"MAIL FROM:<@relay.example:a@example.org>", "553 5.1.7"),
        (b"MAIL FROM:<\xc3\xa4@example.org>", "553 5.6.7"),
    ],
)
def test_mail(line: bytes, reply: str) -> None:
    assert say(greeted(), line + b"\r\n").codes == [reply]


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"RCPT TO:<b@corp.example>", "250 2.1.5"),
        (b"rcpt to:<B@CORP.EXAMPLE>", "250 2.1.5"),
        (b"RCPT TO: <b@second.example>", "250 2.1.5"),
        (b"RCPT TO:<b@corp.example> ", "250 2.1.5"),
        (b'RCPT TO:<"b c"@corp.example>', "250 2.1.5"),
        (b"RCPT TO:<postmaster>", "250 2.1.5"),
        (b"RCPT TO:<PostMaster>", "250 2.1.5"),
        (b'RCPT TO:<"postmaster">', "250 2.1.5"),
        (b'RCPT TO:<"b">', "501 5.1.3"),
        (b'RCPT TO:<"">', "501 5.1.3"),
        (b"RCPT TO:<postmaster@gw.corp.example>", "250 2.1.5"),
        (b"RCPT TO:<b@gw.corp.example>", "550 5.7.1"),
        (b"RCPT TO:<xpostmaster@gw.corp.example>", "550 5.7.1"),
        (b"RCPT TO:<Postmaster@Corp.Example>", "250 2.1.5"),
        (b"RCPT", "501 5.5.4"),
        (b"RCPT FROM:<b@corp.example>", "501 5.5.4"),
        (b"RCPT TO:<b@corp.example>x", "501 5.5.4"),
        (b"RCPT TO:b@corp.example", "501 5.1.3"),
        (b"RCPT TO:<>", "501 5.1.3"),
        (b"RCPT TO:<b>", "501 5.1.3"),
        (b"RCPT TO:<b@corp..example>", "501 5.1.3"),
        (b"RCPT TO:<b@-corp.example>", "501 5.1.3"),
        (b"RCPT TO:<b@192.0.2.1>", "501 5.1.3"),
        (b"RCPT TO:<" + b"x" * 65 + b"@corp.example>", "501 5.1.3"),
        (b"RCPT TO:<b@" + b".".join([b"d" * 60] * 5) + b">", "501 5.1.3"),
        (b"RCPT TO:<b@corp.example> NOTIFY=NEVER", "555 5.5.4"),
        (b"RCPT TO:<@relay.example:b@corp.example>", "553 5.1.3"),
        (b"RCPT TO:<b%example.org@corp.example>", "553 5.1.3"),
        (b"RCPT TO:<example.org!b@corp.example>", "553 5.1.3"),
        (b'RCPT TO:<"b@example.org"@corp.example>', "553 5.1.3"),
        (b'RCPT TO:<"b%example.org"@corp.example>', "553 5.1.3"),
        (b"RCPT TO:<\xc3\xa4@corp.example>", "553 5.6.7"),
        (b"RCPT TO:<b@b\xc3\xbccher.example>", "553 5.6.7"),
        (b"RCPT TO:<b@example.org>", "550 5.7.1"),
        (b"RCPT TO:<b@sub.corp.example>", "550 5.7.1"),
        (b"RCPT TO:<b@corp.example.org>", "550 5.7.1"),
        (b"RCPT TO:<b@[192.0.2.1]>", "550 5.7.1"),
        (b"RCPT TO:<postmaster@example.org>", "550 5.7.1"),
        (b"RCPT TO:<b%corp.example@example.org>", "550 5.7.1"),
    ],
)
def test_rcpt_of_a_stranger(line: bytes, reply: str) -> None:
    assert say(greeted(), MAIL, line + b"\r\n").codes == ["250 2.1.0", reply]


@pytest.mark.parametrize(
    "line",
    [
        b"RCPT TO:<b@example.org>",
        b"RCPT TO:<b@[192.0.2.1]>",
        b"RCPT TO:<b%c@example.org>",
        b"RCPT TO:<b@corp.example>",
    ],
)
def test_rcpt_of_a_trusted_client(line: bytes) -> None:
    assert say(greeted(trusted=True), MAIL, line + b"\r\n").codes[-1] == "250 2.1.5"


def test_no_trusted_client_relays_through_a_local_part_of_ours() -> None:
    heard = say(greeted(trusted=True), MAIL, b"RCPT TO:<b%example.org@corp.example>\r\n")
    assert heard.codes[-1] == "553 5.1.3"


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        ([MAIL, MAIL], ["250 2.1.0", "503 5.5.1"]),
        ([MAIL, b"DATA\r\n"], ["250 2.1.0", "503 5.5.1"]),
        ([MAIL, b"RCPT TO:<x@example.org>\r\n", b"DATA\r\n"], ["250 2.1.0", "550 5.7.1", "554 5.5.1"]),
        ([MAIL, b"RSET\r\n", RCPT], ["250 2.1.0", "250 2.0.0", "503 5.5.1"]),
        ([MAIL, RCPT, b"RSET\r\n", b"DATA\r\n"], ["250 2.1.0", "250 2.1.5", "250 2.0.0", "503 5.5.1"]),
        ([MAIL, b"EHLO again\r\n", RCPT], ["250 2.1.0", "250 ENHANCEDSTATUSCODES", "503 5.5.1"]),
        ([MAIL, b"HELO again\r\n", RCPT], ["250 2.1.0", "250 gw.corp.example", "503 5.5.1"]),
        ([b"MAIL FROM:<bad\r\n", RCPT], ["501 5.1.7", "503 5.5.1"]),
        ([MAIL, b"NOOP\r\n", RCPT], ["250 2.1.0", "250 2.0.0", "250 2.1.5"]),
        ([MAIL, b"RCPT TO:<x@example.org>\r\n", RCPT, b"DATA\r\n"], ["250 2.1.0", "550 5.7.1", "250 2.1.5", "354 End"]),
        ([b"QUIT\r\n", b"NOOP\r\n"], ["221 2.0.0"]),
        ([b"QUIT\r\nNOOP\r\nMAIL FROM:<>\r\n"], ["221 2.0.0"]),
    ],
)
def test_order_of_commands(lines: list[bytes], codes: list[str]) -> None:
    assert say(greeted(), *lines).codes == codes


def test_a_message_has_its_envelope_and_its_bytes() -> None:
    talk = greeted()
    heard = say(
        talk, b"MAIL FROM:<A@Example.ORG> SIZE=20\r\nRCPT TO:<B@Corp.Example>\r\nDATA\r\n", b"x\r\n\r\ny\r\n.\r\n"
    )
    assert heard.last == QUEUED.decode().strip()
    (message,) = heard.messages
    assert message.env_from == "A@Example.ORG"
    assert message.to == ["B@Corp.Example"]
    assert message.body == b"x\r\n\r\ny\r\n"
    assert message.size == 8
    assert (message.helo, message.esmtp) == ("client.example", True)


def test_helo_is_remembered_as_smtp_without_extensions() -> None:
    talk = session()
    say(talk, b"HELO old.example\r\n")
    (message,) = deliver(talk, b"x\r\n.\r\n").messages
    assert (message.helo, message.esmtp) == ("old.example", False)


def test_the_next_message_starts_afresh() -> None:
    talk = greeted()
    deliver(talk, b"x\r\n.\r\n")
    assert say(talk, RCPT).codes == ["503 5.5.1"]
    (second,) = say(talk, b"MAIL FROM:<>\r\nRCPT TO:<c@corp.example>\r\nDATA\r\n", b"y\r\n.\r\n").messages
    assert (second.env_from, second.to, second.body) == ("", ["c@corp.example"], b"y\r\n")


def test_a_refused_message_leaves_the_session_usable() -> None:
    talk = greeted()
    heard = deliver(talk, b"x\r\n.\r\n", answer=b"452 4.3.1 not now\r\n")
    assert heard.codes == ["452 4.3.1"]
    assert talk.refusals[-1] == (b"452 4.3.1 not now\r\n", b"message")
    assert deliver(talk, b"x\r\n.\r\n").codes == ["250 2.0.0"]


def test_a_421_for_a_message_ends_the_session() -> None:
    talk = greeted()
    assert deliver(talk, b"x\r\n.\r\nNOOP\r\n", answer=b"421 4.3.2 bye\r\n").codes == ["421 4.3.2"]
    assert talk.closing


def test_the_same_recipient_twice_is_one_recipient() -> None:
    names = (b"b@corp.example", b"b@CORP.example", b"B@corp.example", b"b@corp.example")
    heard = say(greeted(), MAIL, *[b"RCPT TO:<%s>\r\n" % name for name in names], b"DATA\r\n", b".\r\n")
    assert heard.codes[1:5] == ["250 2.1.5"] * 4
    assert heard.messages[0].to == ["b@corp.example", "B@corp.example"]  # the case of a local part is its owner's


@pytest.mark.parametrize(
    ("sender", "recipient", "trusted", "route"),
    [
        (b"a@example.org", b"b@corp.example", False, Route.INBOUND),
        (b"a@example.org", b"b@corp.example", True, Route.INBOUND),
        (b"a@corp.example", b"b@SECOND.example", False, Route.INTERNAL),
        (b"a@corp.example", b"b@corp.example", True, Route.INTERNAL),
        (b"a@Corp.Example", b"b@example.org", True, Route.OUTBOUND),
        (b"a@example.org", b"b@example.net", True, Route.EXTERNAL),
        (b"", b"b@example.org", True, Route.OUTBOUND),
        (b"", b"b@corp.example", True, Route.INTERNAL),
        (b"", b"b@corp.example", False, Route.INBOUND),
        (b"a@example.org", b"postmaster", False, Route.INBOUND),
    ],
)
def test_routes(sender: bytes, recipient: bytes, trusted: bool, route: Route) -> None:
    talk = greeted(trusted=trusted)
    heard = say(talk, b"MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n" % (sender, recipient), b".\r\n")
    assert heard.messages[0].routes == [route]


def test_each_recipient_has_its_own_route() -> None:
    lines = b"MAIL FROM:<a@corp.example>\r\nRCPT TO:<b@corp.example>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n"
    assert say(greeted(trusted=True), lines, b".\r\n").messages[0].routes == [Route.INTERNAL, Route.OUTBOUND]


def test_the_bare_postmaster_is_the_one_of_our_first_domain() -> None:
    (message,) = say(greeted(), MAIL, b"RCPT TO:<Postmaster>\r\nDATA\r\n", b".\r\n").messages
    assert message.to == ["Postmaster@corp.example"]


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (b"postmaster@gw.corp.example", "postmaster@corp.example"),
        (b"PostMaster@GW.corp.Example", "PostMaster@corp.example"),
        (b'"postmaster"@gw.corp.example', "postmaster@corp.example"),
        (b'"post\\master"@gw.corp.example', "postmaster@corp.example"),
        (b'"Postmaster"', "Postmaster@corp.example"),
    ],
)
def test_the_postmaster_of_our_own_name_is_the_one_of_our_first_domain(asked: bytes, kept: str, trusted: bool) -> None:
    talk = greeted(trusted=trusted)
    (message,) = say(talk, MAIL, b"RCPT TO:<%s>\r\nDATA\r\n" % asked, b".\r\n").messages
    assert message.to == [kept]
    assert message.routes == [Route.INBOUND]


def test_the_postmaster_named_in_several_ways_is_one_recipient() -> None:
    lines = b"RCPT TO:<postmaster>\r\nRCPT TO:<postmaster@gw.corp.example>\r\nRCPT TO:<postmaster@corp.example>\r\n"
    (message,) = say(greeted(), MAIL + lines + b"DATA\r\n", b".\r\n").messages
    assert message.to == ["postmaster@corp.example"]


def test_the_postmaster_of_our_own_name_stays_there_when_the_name_is_a_domain_of_ours() -> None:
    ours = GatewaySettings(hostname="gw.corp.example", internal_domains=("corp.example", "gw.corp.example"))
    talk = greeted(config(gateway=ours))
    (message,) = say(talk, MAIL, b"RCPT TO:<postmaster@gw.corp.example>\r\nDATA\r\n", b".\r\n").messages
    assert message.to == ["postmaster@gw.corp.example"]


def test_without_domains_of_ours_the_postmaster_of_our_own_name_is_taken_from_anybody() -> None:
    talk = greeted(config(gateway=OPEN_RELAY))
    (message,) = say(talk, MAIL, b"RCPT TO:<postmaster@gw.corp.example>\r\nDATA\r\n", b".\r\n").messages
    assert message.to == ["postmaster@gw.corp.example"]
    assert message.routes == [Route.INBOUND]


def test_without_domains_of_ours_only_relay_networks_may_send() -> None:
    assert say(greeted(config(gateway=OPEN_RELAY)), MAIL, RCPT).codes[-1] == "550 5.7.1"
    talk = greeted(config(gateway=OPEN_RELAY), trusted=True)
    (message,) = deliver(talk, b"x\r\n.\r\n").messages
    assert message.routes == [Route.EXTERNAL]
    (message,) = say(talk, MAIL, b"RCPT TO:<postmaster>\r\nDATA\r\n", b".\r\n").messages
    assert message.to == ["postmaster@gw.corp.example"]


def test_pipelined_commands_are_answered_in_order() -> None:
    heard = say(greeted(), MAIL + b"RCPT TO:<x@example.org>\r\n" + RCPT + b"DATA\r\n", b"x\r\n.\r\nQUIT\r\n")
    assert heard.codes == ["250 2.1.0", "550 5.7.1", "250 2.1.5", "354 End", "250 2.0.0", "221 2.0.0"]


def test_what_is_pipelined_behind_a_message_waits_for_its_answer() -> None:
    talk = greeted()
    say(talk, ENVELOPE)
    talk.receive(b"one\r\n.\r\n" + ENVELOPE)
    assert talk.outgoing() == b""
    assert talk.backlog == len(ENVELOPE)
    talk.receive(b"RSET\r\n")
    assert talk.outgoing() == b""
    assert talk.transaction is not None
    assert talk.transaction.body == b"one\r\n"
    talk.answer(QUEUED)
    assert talk.outgoing().split(b"\r\n")[0] == QUEUED.strip()
    assert talk.backlog == 0
    assert talk.receiving is not None
    assert say(talk, b"two\r\n.\r\n").messages[0].body == b"RSET\r\ntwo\r\n"


def test_commands_behind_data_that_did_not_wait_are_the_message() -> None:
    heard = say(greeted(), ENVELOPE + b"RSET\r\nQUIT\r\n.\r\nNOOP\r\n")
    assert heard.messages[0].body == b"RSET\r\nQUIT\r\n"
    assert heard.codes[-2:] == ["250 2.0.0", "250 2.0.0"]


def test_many_pipelined_messages_in_one_chunk() -> None:
    heard = say(greeted(), (ENVELOPE + b"x\r\n.\r\n") * 2000)
    assert len(heard.messages) == 2000
    assert heard.codes.count("250 2.0.0") == 2000


@pytest.mark.parametrize(
    "wire",
    [
        b"NOOP\n",
        b"NOOP\r",
        b"NOOP \n\r\n",
        b"NOOP \rx\r\n",
        b"\n",
        b"\r\r\n",
        b"NOOP\r\r\n",
        b"NOOP \nRSET\r\n",
    ],
)
def test_a_line_that_does_not_end_in_crlf_is_not_obeyed(wire: bytes) -> None:
    heard = say(greeted(), MAIL, wire, b"x\r\n", RCPT)
    refused = heard.codes[1:-1]
    assert set(refused) == {"500 5.5.2"}
    assert heard.codes[-1] == "250 2.1.5"  # the transaction was not touched, the next clean line is obeyed


def test_nothing_behind_a_bare_lf_is_smuggled_in() -> None:
    talk = greeted()
    heard = say(talk, b"NOOP hello\nMAIL FROM:<evil@example.org>\nRSET\r\nRCPT TO:<b@corp.example>\r\n")
    assert heard.codes == ["500 5.5.2", "500 5.5.2", "500 5.5.2", "503 5.5.1"]


def test_closing_when_idle_lets_a_message_finish() -> None:
    talk = greeted()
    say(talk, ENVELOPE)
    talk.receive(b"x\r\n")
    talk.close_when_idle(replies.SHUTTING_DOWN)
    assert not talk.closing
    heard = say(talk, b"y\r\n.\r\n" + ENVELOPE)
    assert heard.codes == ["250 2.0.0", "421 4.3.2"]
    assert heard.messages[0].body == b"x\r\ny\r\n"
    assert talk.closing


def test_closing_when_idle_is_at_once_between_messages() -> None:
    talk = greeted()
    say(talk, MAIL, RCPT)
    talk.close_when_idle(replies.SHUTTING_DOWN)
    assert talk.closing
    assert talk.outgoing() == replies.SHUTTING_DOWN
    talk.close_now(replies.TIMEOUT)
    assert talk.outgoing() == b""


def test_a_message_in_hand_is_answered_even_when_the_peer_is_gone() -> None:
    of = config()
    talk = greeted(of)
    say(talk, ENVELOPE)
    talk.receive(b"x\r\n.\r\nNOOP\r\n")
    talk.abandon()
    assert of.memory.used == 3
    talk.answer(QUEUED)
    assert of.memory.used == 0
    assert talk.transaction is None


def test_refusals_are_kept_for_the_log() -> None:
    talk = greeted()
    say(talk, MAIL, b"RCPT TO:<b@example.org>\r\n", b"EXPN x\r\n")
    assert talk.refusals == [
        (replies.RELAYING_DENIED, b"RCPT TO:<b@example.org>"),
        (replies.NOT_IMPLEMENTED, b"EXPN x"),
    ]


def test_a_session_shows_what_it_is_doing() -> None:
    talk = greeted()
    assert "idle" in repr(talk)
    say(talk, ENVELOPE)
    assert "DATA" in repr(talk)
    talk.receive(b".\r\n")
    assert "message in hand" in repr(talk)
    assert "0 bytes" in repr(talk.transaction)
    talk.abandon()
    assert "closing" in repr(talk)
