"""What a peer may not exceed, and what happens then."""

from __future__ import annotations

import pytest

from tests.smtp_in.dialogue import ENVELOPE, config, deliver, greeted, say, session

MAIL = b"MAIL FROM:<a@example.org>\r\n"
LONGEST = b"NOOP " + b"x" * 2041  # 2,048 with CRLF


def test_the_longest_line_is_obeyed_and_one_byte_more_is_not() -> None:
    talk = session()
    assert say(talk, LONGEST + b"\r\n").codes == ["250 2.0.0"]
    assert say(talk, LONGEST + b"x\r\n").lines == ["500 5.5.2 Line too long"]
    assert say(talk, b"NOOP\r\n").codes == ["250 2.0.0"]


def test_a_line_without_end_is_refused_once_and_kept_nowhere() -> None:
    talk = session()
    heard = say(talk, *[b"x" * 1000] * 50)
    assert heard.lines == ["500 5.5.2 Line too long"]
    assert len(talk._line) <= 1
    assert say(talk, b"NOOP\r", b"\nNOOP\r\n").codes == ["250 2.0.0"]


def test_a_line_that_is_too_long_and_ends_in_a_bare_lf_spoils_the_next() -> None:
    assert say(session(), b"x" * 3000 + b"\nNOOP\r\nNOOP\r\n").codes == ["500 5.5.2", "500 5.5.2", "250 2.0.0"]


def test_too_many_errors_end_the_session() -> None:
    talk = session(config(max_errors=3))
    assert say(talk, b"x\r\n" * 10).codes == ["500 5.5.2"] * 3 + ["421 4.7.0"]
    assert talk.closing
    assert say(talk, b"NOOP\r\n").said == b""


def test_lines_that_are_too_long_count_as_errors() -> None:
    talk = session(config(max_errors=2))
    assert say(talk, b"x" * 3000, b"\r\n", b"x" * 3000).codes == ["500 5.5.2"] * 2 + ["421 4.7.0"]


def test_a_message_forgives_errors() -> None:
    talk = greeted(config(max_errors=3))
    for _ in range(5):
        assert say(talk, b"x\r\nx\r\n").codes == ["500 5.5.2"] * 2
        assert deliver(talk, b".\r\n").codes == ["250 2.0.0"]


def test_refused_messages_are_errors() -> None:
    talk = greeted(config(max_errors=2, max_size=10))
    assert deliver(talk, b"x" * 18 + b"\r\n.\r\n").codes == ["552 5.3.4"]
    assert deliver(talk, b"x" * 18 + b"\r\n.\r\nNOOP\r\n").codes == ["552 5.3.4", "421 4.7.0"]


def test_later_answers_are_no_errors() -> None:
    talk = greeted(config(max_errors=2, max_recipients=1, max_commands=100))
    heard = say(talk, MAIL, *[b"RCPT TO:<b%d@corp.example>\r\n" % number for number in range(10)])
    assert heard.codes[1:] == ["250 2.1.5"] + ["452 4.5.3"] * 9
    assert not talk.closing


def test_too_many_commands_without_a_message_end_the_session() -> None:
    talk = session(config(max_commands=4))
    assert say(talk, b"NOOP\r\n" * 10).codes == ["250 2.0.0"] * 5 + ["421 4.7.0"]
    assert talk.closing


def test_recipients_are_not_counted_as_commands_unless_they_repeat() -> None:
    talk = greeted(config(max_commands=6))
    heard = say(talk, MAIL, *[b"RCPT TO:<b%d@corp.example>\r\n" % number for number in range(50)])
    assert heard.codes[1:] == ["250 2.1.5"] * 50
    assert say(talk, b"DATA\r\n", b".\r\n").codes == ["354 End", "250 2.0.0"]
    heard = say(talk, MAIL, b"RCPT TO:<b@corp.example>\r\n" * 50)
    assert heard.codes[-1] == "421 4.7.0"


def test_a_message_starts_the_count_of_commands_again() -> None:
    talk = greeted(config(max_commands=6))
    for _ in range(10):
        assert deliver(talk, b".\r\n").codes == ["250 2.0.0"]


def test_recipients_beyond_the_limit_are_refused_for_now_and_the_rest_is_taken() -> None:
    talk = greeted(config(max_recipients=2))
    heard = say(talk, MAIL, *[b"RCPT TO:<b%d@corp.example>\r\n" % number for number in range(3)], b"DATA\r\n", b".\r\n")
    assert heard.codes == ["250 2.1.0", "250 2.1.5", "250 2.1.5", "452 4.5.3", "354 End", "250 2.0.0"]
    assert heard.messages[0].to == ["b0@corp.example", "b1@corp.example"]


def test_the_declared_size_is_believed() -> None:
    talk = greeted(config(max_size=1000))
    assert say(talk, b"MAIL FROM:<a@example.org> SIZE=1001\r\n").lines == [
        "552 5.3.4 Message too big: the limit is 1000 bytes"
    ]
    assert say(talk, b"MAIL FROM:<a@example.org> SIZE=1000\r\n").codes == ["250 2.1.0"]


@pytest.mark.parametrize(("length", "code"), [(998, "250 2.0.0"), (999, "552 5.3.4"), (1998, "552 5.3.4")])
def test_the_real_size_counts(length: int, code: str) -> None:
    of = config(max_size=1000)
    talk = greeted(of)
    assert deliver(talk, b"x" * length + b"\r\n.\r\n").codes == [code]
    assert of.memory.used == 0
    assert deliver(talk, b"fine\r\n.\r\n").codes == ["250 2.0.0"]


def test_the_size_is_counted_without_dot_stuffing() -> None:
    talk = greeted(config(max_size=300))
    heard = deliver(talk, b"..\r\n" * 100 + b".\r\n")
    assert heard.codes == ["250 2.0.0"]
    assert heard.messages[0].body == b".\r\n" * 100


def test_nothing_of_a_message_that_is_too_big_is_kept_while_it_is_read() -> None:
    of = config(max_size=1000)
    talk = greeted(of)
    say(talk, ENVELOPE)
    for _ in range(20):
        talk.receive(b"x" * 98 + b"\r\n")
        assert of.memory.used <= 1000
    assert say(talk, b".\r\n").codes == ["552 5.3.4"]
    assert not talk.closing


@pytest.mark.parametrize("step", [1, 7, 500, 5000])
@pytest.mark.parametrize(
    ("wire", "limits"),
    [
        (b"x" * 3000, {}),
        (b"x" * 1999 + b"\r\n.\r\nNOOP\r\n", {}),
        (b"a\n.\n" + b"x" * 3000, {}),
        (b"x" * 1990 + b"\n.\n" + b"x" * 3000 + b"\r\n.\r\nNOOP\r\n", {}),
        (b"x" * 3000, {"max_header": 50}),
        (b"x" * 3000, {"memory": 100}),
    ],
)
def test_a_message_twice_as_big_as_may_be_ends_the_session(wire: bytes, limits: dict[str, int], step: int) -> None:
    of = config(max_size=1000, **limits)
    talk = greeted(of)
    assert deliver(talk, b"").said == b""
    heard = say(talk, *[wire[at : at + step] for at in range(0, len(wire), step)])
    assert heard.lines == ["552 5.3.4 Message too big: the limit is 1000 bytes"]
    assert talk.closing
    assert talk.cut_short
    assert talk.refusals == [(heard.said, b"message")]
    assert of.memory.used == 0


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"X: " + b"y" * 95 + b"\r\n\r\n", "250 2.0.0"),  # exactly 100 bytes of fields
        (b"X: " + b"y" * 96 + b"\r\n\r\n", "552 5.3.4"),
        (b"X: " + b"y" * 96 + b"\n\n", "250 2.0.0"),
        (b"X: " + b"y" * 97 + b"\n\n", "552 5.3.4"),
        (b"\r\n", "250 2.0.0"),
        (b"\n", "250 2.0.0"),
        (b"", "552 5.3.4"),
    ],
)
@pytest.mark.parametrize("behind", [0, 1, 2, 500])
def test_the_header_has_a_limit_of_its_own(header: bytes, behind: int, code: str) -> None:
    talk = greeted(config(max_header=100))
    body = (header or b"z" * 100) + b"z" * behind + b"\r\n"
    assert deliver(talk, body + b".\r\n").codes == [code]
    assert deliver(talk, b"fine\r\n.\r\n").codes == ["250 2.0.0"]


def test_a_closed_intake_refuses_mail_for_now() -> None:
    talk = greeted(config(closed=b"452 4.3.1 disk\r\n"))
    assert say(talk, MAIL, b"RCPT TO:<b@corp.example>\r\n", b"NOOP\r\n").codes == [
        "452 4.3.1",
        "503 5.5.1",
        "250 2.0.0",
    ]
    assert not talk.closing
    talk = greeted(config(closed=b"421 4.3.2 closed\r\n"))
    assert say(talk, MAIL, b"NOOP\r\n").codes == ["421 4.3.2"]
    assert talk.closing


def test_memory_of_all_messages_together_is_bounded() -> None:
    of = config(memory=1000)
    first, second = greeted(of), greeted(of)
    say(first, ENVELOPE, b"x" * 600 + b"\r\n")
    assert 590 <= of.memory.used <= 602
    assert say(second, b"MAIL FROM:<a@example.org> SIZE=500\r\n").codes == ["452 4.3.1"]
    heard = deliver(second, b"y" * 600 + b"\r\n.\r\n")
    assert heard.codes == ["452 4.3.1"]
    assert heard.messages == []
    assert of.memory.used <= 602
    assert say(first, b".\r\n").codes == ["250 2.0.0"]
    assert of.memory.used == 0
    assert deliver(second, b"y" * 600 + b"\r\n.\r\n").codes == ["250 2.0.0"]


def test_a_lost_connection_gives_its_memory_back() -> None:
    of = config()
    talk = greeted(of)
    say(talk, ENVELOPE, b"x" * 1000)
    assert of.memory.used == 1000
    talk.abandon()
    assert of.memory.used == 0
    assert "0 of" in repr(of.memory)
