"""A disk full before the start, bodies on a disk of their own, and senders slowed down before they are refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.gateway import Gateway, GatewayFailed

from tests.faults.conftest import all_delivered, logged, not_ready_because, ready_again, send
from tests.faults.test_disk import command
from tests.system.conftest import SETTINGS, Starter, eventually, route_to
from tests.system.receiver import Receiver
from tests.system.test_bad_input import MIB, fill
from tests.system.wire import Sender, a_mail

PAUSED = "\n[processing]\npaused = true\n"
NO_MARK = '\n[limits]\ndisk_low = "0 bytes"\n'
MARK = '\n[limits]\ndisk_low = "16 MiB"\n'
LOW = b"452 4.3.1 Insufficient system storage, try again later"
SLOW = 0.3  # seconds, of one at most: no quick machine is as slow as that by itself


def slowed_down(gateway: Gateway, acked: set[str]) -> Callable[[], bool]:
    """Asks by sending, less often than the gateway looks: whether the answer came late. What got its 250 is noted."""
    again = 0.0

    def is_slow() -> bool:
        nonlocal again
        began = time.monotonic()
        if began < again:
            return False
        again = began + 1.5
        subject = f"asked {len(acked)}"
        reply = send(gateway, subject)
        assert reply.startswith(b"250 "), f"slowed down, not refused: {reply!r}"
        acked.add(subject)
        return time.monotonic() - began > SLOW

    return is_slow


def test_senders_are_slowed_down_before_the_disk_is_low(
    starting: Starter, receiver: Receiver, small_disk: Path
) -> None:
    gateway = starting(route_to(receiver) + '\n[limits]\ndisk_low = "32 MiB"\n', data=small_disk / "data")
    acked: set[str] = set()
    fill(small_disk / "filler", small_disk, 36 * MIB)  # it begins at 40
    eventually(slowed_down(gateway, acked), "answers take longer", 60)
    assert not logged(gateway, "disk_low")
    (small_disk / "filler").unlink()
    all_delivered(gateway, receiver, acked)


def test_senders_are_slowed_down_before_the_backlog_is_full(starting: Starter, receiver: Receiver) -> None:
    gateway = starting(route_to(receiver) + PAUSED + "[limits]\nqueued_entries = 200\n")
    acked: set[str] = set()
    with Sender(gateway.smtp) as sender:
        for number in range(190):  # half of the way between where it begins and where it ends
            subject = f"quick {number}"
            assert sender.mail(a_mail(subject), "bob@corp.example").startswith(b"250 ")
            acked.add(subject)
    eventually(slowed_down(gateway, acked), "answers take longer", 60)
    assert not logged(gateway, "backlog_full")
    command(gateway, "queue", "resume", "processing")
    all_delivered(gateway, receiver, acked)


@pytest.mark.parametrize("first", [True, False], ids=["the first start", "a store with mail"])
def test_a_start_without_room_for_anything_is_one_clear_line(
    tmp_path: Path, starting: Starter, receiver: Receiver, small_disk: Path, first: bool
) -> None:
    data, acked = small_disk / "data", set()
    if not first:
        before = starting(PAUSED + NO_MARK, data=data)
        assert send(before, "before").startswith(b"250 ")
        acked.add("before")
        before.kill()
    fill(small_disk / "filler", small_disk, 0)
    gateway = Gateway(tmp_path / "late", SETTINGS + route_to(receiver) + NO_MARK, data=data)
    try:
        with pytest.raises(GatewayFailed, match="ended with status 1"):
            gateway.start()
        (said,) = gateway.log.read_text().splitlines()
        assert said.startswith(f"postroom: cannot {'make the key file' if first else 'open the store'} {data}/")
        assert "check its directory, rights and disk" in said
        (small_disk / "filler").unlink()
        gateway.start()
        all_delivered(gateway, receiver, acked)
    finally:
        gateway.kill()


def test_a_start_on_a_disk_that_is_low_refuses_mail_until_there_is_room(
    starting: Starter, receiver: Receiver, small_disk: Path
) -> None:
    gateway = starting(PAUSED + MARK, data=small_disk / "data")
    assert send(gateway, "before").startswith(b"250 ")
    gateway.kill()
    fill(small_disk / "filler", small_disk, 8 * MIB)
    gateway.config.write_text(SETTINGS + route_to(receiver) + MARK)
    gateway.start()
    assert send(gateway, "while low") == LOW
    not_ready_because(gateway, f"16 MiB needed: {small_disk / 'data'}")
    (small_disk / "filler").unlink()
    ready_again(gateway)
    assert send(gateway, "after").startswith(b"250 ")
    all_delivered(gateway, receiver, {"before", "after"})


# -- bodies on a disk of their own


def with_bodies_on(disk: Path) -> str:
    return f'\n[store]\nbodies = "file:///{disk}/bodies"\n'


def test_a_low_disk_for_bodies_closes_intake_and_what_is_delivered_makes_room(
    starting: Starter, receiver: Receiver, small_disk: Path
) -> None:
    gateway = starting(with_bodies_on(small_disk) + PAUSED + route_to(receiver) + MARK)
    acked = {f"large {number}" for number in range(3)}
    for subject in acked:
        assert send(gateway, subject, 4 * MIB).startswith(b"250 ")
    fill(small_disk / "filler", small_disk, 10 * MIB)
    not_ready_because(gateway, f"16 MiB needed: {small_disk / 'bodies'}")
    assert send(gateway, "while low") == LOW
    command(gateway, "queue", "resume", "processing")
    all_delivered(gateway, receiver, acked)
    ready_again(gateway)  # the filler is still there: 12 MiB of bodies have gone
    assert send(gateway, "after", 300_000).startswith(b"250 ")
    all_delivered(gateway, receiver, acked | {"after"})


def test_a_full_disk_for_bodies_refuses_large_mail_and_lets_small_mail_through(
    starting: Starter, receiver: Receiver, small_disk: Path
) -> None:
    gateway = starting(with_bodies_on(small_disk) + route_to(receiver) + NO_MARK)
    fill(small_disk / "filler", small_disk, 0)
    for number in range(3):
        assert send(gateway, f"large {number}", 300_000).startswith(b"452 4.3.1 ")
    assert send(gateway, "small").startswith(b"250 ")
    assert len(logged(gateway, "body_not_kept")) == 1, "once, not for each message"
    (small_disk / "filler").unlink()
    assert send(gateway, "large after", 300_000).startswith(b"250 ")
    all_delivered(gateway, receiver, {"small", "large after"})
