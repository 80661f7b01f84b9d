"""Any server, cut at any byte: the session against a server that decides by dice and a wire that tears."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.rules.lifecycle import Deferred, Delivered, Refused, SendResult
from postroom.smtp_out.job import Job
from postroom.smtp_out.session import CLOSED, CONTENT, IDLE, QUIT, Session


class Server:
    """Answers what has come in so far, strictly in order; `codes` are the dice."""

    def __init__(self, codes: Iterator[int], extensions: tuple[str, ...]) -> None:
        self.codes = codes
        self.extensions = extensions
        self.input = b""
        self.in_content = False
        self.recipients: list[str] = []
        self.kept: list[tuple[list[str], bytes]] = []
        self.content_seen: list[bytes] = []

    def answer(self, sent: bytes) -> bytes:
        self.input += sent
        replies = b""
        while True:
            if self.in_content:
                if self.input.startswith(b".\r\n"):
                    content, self.input = b"", self.input[3:]
                else:
                    content, end, rest = self.input.partition(b"\r\n.\r\n")
                    if not end:
                        return replies
                    content, self.input = content + b"\r\n", rest
                self.in_content = False
                code = self.roll(250)
                if content and self.recipients:
                    self.content_seen.append(content)
                    if 200 <= code < 300:
                        self.kept.append((self.recipients, content))
                replies += b"%d end\r\n" % code
                continue
            line, end, rest = self.input.partition(b"\r\n")
            if not end:
                return replies
            self.input = rest
            replies += self.command(line)

    def command(self, line: bytes) -> bytes:
        verb = line[:4]
        if verb == b"EHLO":
            return "".join([f"250{'-' if word != 'X' else ' '}{word}\r\n" for word in (*self.extensions, "X")]).encode()
        code = self.roll(354 if verb == b"DATA" else 250) if verb != b"RSET" else 250
        if verb == b"MAIL":
            self.recipients = []
        elif verb == b"RCPT" and 200 <= code < 300:
            self.recipients = [*self.recipients, line[9:-1].decode()]
        elif verb == b"DATA" and 300 <= code < 400:
            self.in_content = True
        return b"%d-%s\r\n%d done\r\n" % (code, verb, code)

    def roll(self, good: int) -> int:
        code = next(self.codes)
        return good if code == 200 else code


def converse(
    jobs: list[Job], codes: list[int], extensions: tuple[str, ...], cuts: list[int], tear: int | None
) -> tuple[Session, Server, dict[int, tuple[SendResult, ...] | None]]:
    """Runs until nothing more is said. `cuts` = lengths of the pieces in which replies arrive; `tear` = how many reply
    bytes arrive before the connection is lost."""
    session = Session("gw.example")
    server = Server(iter([*codes, *[200] * 1000]), extensions)
    waiting, outcome = list(jobs), dict[int, tuple[SendResult, ...] | None]()
    wire, arrived, piece = b"220 hi\r\n", 0, 0

    def effects() -> None:
        for job, results in session.done:
            assert job.key not in outcome
            outcome[job.key] = results
        for job in session.returned:
            assert job.key not in outcome
            outcome[job.key] = None
        session.done, session.returned = [], []

    while wire and session.stage != CLOSED:
        length = cuts[piece % len(cuts)] if cuts else len(wire)
        piece += 1
        if tear is not None and arrived + length > tear:
            session.receive(wire[: tear - arrived])
            session.lost("torn")
            break
        data, wire = wire[:length], wire[length:]
        arrived += len(data)
        session.receive(data)
        while session.room and waiting:
            session.give(waiting.pop(0))
        assert session.stage != CONTENT
        effects()
        if session.stage == IDLE and not waiting:
            session.quit()
        sent, session.out = b"".join(session.out), []
        wire += server.answer(sent)
    session.lost("over")
    effects()
    for job in waiting:
        outcome[job.key] = None
    return session, server, outcome


CODES = st.sampled_from([200] * 8 + [450, 451, 452, 550, 552, 554, 421, 250, 354])
JOBS = st.lists(st.integers(1, 3), min_size=1, max_size=4)
EXTENSIONS = st.sampled_from([(), ("PIPELINING",), ("PIPELINING", "SIZE 100000", "8BITMIME")])


def jobs(shape: list[int]) -> list[Job]:
    def never(job: Job, results: Any) -> None:
        raise AssertionError

    return [
        Job(
            key,
            "a@x.example",
            tuple([f"r{at}@y.example" for at in range(count)]),
            b"",
            b"m%d\r\n" % key,
            4,
            False,
            never,
        )
        for key, count in enumerate(shape)
    ]


@settings(max_examples=300)
@given(JOBS, st.lists(CODES, max_size=30), EXTENSIONS, st.lists(st.integers(1, 40), max_size=6))
def test_results_do_not_depend_on_how_replies_are_cut(
    shape: list[int], codes: list[int], extensions: tuple[str, ...], cuts: list[int]
) -> None:
    # One-by-one delivery of single bytes gives ahead what a whole group would not, so the dice fall differently there;
    # without PIPELINING, or with a single message, order is fixed and the results must be the same.
    if "PIPELINING" in extensions:
        shape = shape[:1]
    _, _, whole = converse(jobs(shape), codes, extensions, [], None)
    _, _, pieces = converse(jobs(shape), codes, extensions, cuts, None)
    assert pieces == whole


@settings(max_examples=500)
@given(
    JOBS,
    st.lists(CODES, max_size=30),
    EXTENSIONS,
    st.lists(st.integers(1, 40), max_size=6),
    st.none() | st.integers(0, 600),
)
def test_each_job_has_one_end_and_it_is_true(
    shape: list[int], codes: list[int], extensions: tuple[str, ...], cuts: list[int], tear: int | None
) -> None:
    given_jobs = jobs(shape)
    session, server, outcome = converse(given_jobs, codes, extensions, cuts, tear)
    assert session.stage in (CLOSED, QUIT)
    assert session.in_hand == 0
    assert sorted(outcome) == list(range(len(shape)))
    for job in given_jobs:
        results = outcome[job.key]
        kept = {recipient for recipients, content in server.kept if content == job.body for recipient in recipients}
        times = sum(content == job.body for content in server.content_seen)
        assert times <= 1
        if results is None:
            assert times == 0, "a job whose content was sent came back as untouched"
            continue
        assert len(results) == len(job.recipients)
        for recipient, result in zip(job.recipients, results, strict=True):
            if isinstance(result, Delivered):
                assert recipient in kept
            elif isinstance(result, Refused):
                assert recipient not in kept
            elif recipient in kept:
                assert result == Deferred(result.reply, maybe=True), "delivered, and nobody will know"
