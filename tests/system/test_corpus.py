"""Mail is handed on unchanged, byte for byte, below the one Received field that every relay adds."""

from __future__ import annotations

from pathlib import Path

import pytest

import postroom_demo
from tests.system.conftest import Starter, eventually, route_to
from tests.system.receiver import Receiver, below_received
from tests.system.wire import Sender, as_sent

FOLDERS = {
    "ours": Path(postroom_demo.__file__).parent / "corpus",
    "shared": Path(__file__).resolve().parents[3] / "shared" / "corpus",
}


@pytest.mark.parametrize("folder", [pytest.param(path, id=name) for name, path in FOLDERS.items() if path.is_dir()])
def test_every_mail_of_the_corpus_arrives_as_it_was_sent(starting: Starter, receiver: Receiver, folder: Path) -> None:
    # Some of our own corpus is there to be held; what checks think of a mail is another test's matter.
    gateway = starting("\n[processing]\nchecks = []\n" + route_to(receiver))
    mails = {path.stem: as_sent(path.read_bytes()) for path in sorted(folder.rglob("*.eml"))}
    assert mails
    with Sender(gateway.smtp) as sender:
        replies = {name: sender.mail(mail, f"{name}@corp.example") for name, mail in mails.items()}
    assert not {name: reply for name, reply in replies.items() if not reply.startswith(b"250 ")}
    eventually(lambda: gateway.queued() == 0, "everything has been delivered")
    arrived = {taken.recipients[0].partition("@")[0]: below_received(taken.content) for taken in receiver.taken}
    assert arrived.keys() == mails.keys()
    assert [name for name in mails if arrived[name] != mails[name]] == []


def test_dots_long_lines_and_raw_bytes_survive(starting: Starter, receiver: Receiver) -> None:
    gateway = starting(route_to(receiver))
    head = b"From: <alice@corp.example>\r\nSubject: odd\r\n\r\n"
    bodies = [
        b".\r\n..\r\n...three\r\n.\r\n",
        b"x" * 5000 + b"\r\n",
        bytes(range(1, 256)).replace(b"\r", b"").replace(b"\n", b"") + b"\r\n",
        b"\0 in between\r\n",
        b"bare\ncr\rand lf\r\n",
        b"y" * 200_000 + b"\r\n",
        b"\r\n\r\n\r\n",
    ]
    with Sender(gateway.smtp) as sender:
        for number, body in enumerate(bodies):
            assert sender.mail(head + body, f"odd{number}@corp.example").startswith(b"250 "), body[:40]
    assert receiver.wait_until(lambda taken: len(taken) == len(bodies), 20)
    arrived = {taken.recipients[0]: below_received(taken.content) for taken in receiver.taken}
    for number, body in enumerate(bodies):
        assert arrived[f"odd{number}@corp.example"] == head + body
