"""The disk is full, read-only, broken or slow: senders get a 4xx, nothing is lost, and work resumes by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench.gateway import Gateway, GatewayFailed

from tests.faults.conftest import all_delivered, logged, not_ready_because, ready_again, send
from tests.faults.injecting import Injecting
from tests.system.conftest import Starter, eventually, route_to
from tests.system.receiver import Receiver
from tests.system.test_bad_input import MIB, fill
from tests.system.wire import Sender, a_mail

HELD_UP = 2.0  # seconds in which a gateway that did not stop would have delivered


def test_below_the_low_mark_nothing_comes_in_and_nothing_leaves(
    starting: Starter, receiver: Receiver, small_disk: Path
) -> None:
    """What leaves could not be recorded, and would leave again."""
    settings = route_to(receiver) + '\n[limits]\ndisk_low = "16 MiB"\n'
    gateway = starting(settings, data=small_disk / "data")
    command(gateway, "queue", "pause", "delivery")
    eventually(lambda: "delivery" in command(gateway, "queue", "count", "--json"), "delivery is paused")
    acked = {f"before {number}" for number in range(5)}
    for subject in acked:
        assert send(gateway, subject).startswith(b"250 ")
    fill(small_disk / "filler", small_disk, 8 * MIB)
    not_ready_because(gateway, "disk low")
    for number in range(20):
        assert send(gateway, f"while low {number}") == b"452 4.3.1 Insufficient system storage, try again later"
    taken_before = len(receiver.taken)
    command(gateway, "queue", "resume", "delivery")
    assert not receiver.wait_until(lambda taken: len(taken) > taken_before, HELD_UP), "delivered below the low mark"
    assert len(logged(gateway, "disk_low")) == 1, "once, not for each message"
    eventually(lambda: 0 < len(logged(gateway, "refused")) < 10, "logged when it begins, not for each message")

    (small_disk / "filler").unlink()
    ready_again(gateway)
    assert send(gateway, "after").startswith(b"250 ")
    all_delivered(gateway, receiver, acked | {"after"})
    assert len(logged(gateway, "disk_fine")) == 1


@pytest.mark.parametrize(
    ("faults", "name"),
    [
        (["fdatasync:error=EIO"], "syncs fail"),
        (["pwrite64:error=EROFS"], "read-only"),
        (["pwrite64:error=ENOSPC"], "no space, though it said so"),
    ],
    ids=["syncs fail", "read-only", "no space"],
)
def test_while_the_log_cannot_be_written_mail_is_refused_and_nothing_is_lost(
    starting: Starter, receiver: Receiver, faults: list[str], name: str
) -> None:
    gateway = starting(route_to(receiver))
    acked = {"before"}
    assert send(gateway, "before").startswith(b"250 ")
    with Injecting(gateway.pid, *faults, path=gateway.data / "postroom.db-wal"):

        def is_refused() -> bool:
            reply = send(gateway, f"while: {name}")
            if reply.startswith(b"250 "):  # a message that still went in is kept like all mail
                acked.add(f"while: {name}")
            return reply.startswith(b"452 4.3.")

        eventually(is_refused, "intake is refused")
        not_ready_because(gateway, "store not writable")
        assert send(gateway, "known by now") == b"452 4.3.0 The queue cannot be written just now, try again later"
    ready_again(gateway)
    assert len(logged(gateway, "store_unavailable")) == 1
    eventually(lambda: send(gateway, "after").startswith(b"250 "), "mail is taken again")
    all_delivered(gateway, receiver, acked | {"after"})
    assert gateway.stop() == 0


def test_what_was_delivered_while_the_log_could_not_be_written_is_recorded_afterwards(
    starting: Starter, slow_receiver
) -> None:
    """The receiver answers when the disk has failed already: the fact is kept until it can be written."""
    gateway = starting(route_to(slow_receiver))
    assert send(gateway, "under way").startswith(b"250 ")
    assert slow_receiver.wait_until(lambda taken: len(taken) == 1, 30)
    with Injecting(gateway.pid, "fdatasync:error=EIO", path=gateway.data / "postroom.db-wal"):
        slow_receiver.let_go()
        not_ready_because(gateway, "store not writable")
    ready_again(gateway)
    all_delivered(gateway, slow_receiver, {"under way"})
    assert len(slow_receiver.taken) == 1, "delivered again"


def test_a_large_body_that_cannot_be_written_is_refused_for_now(starting: Starter, receiver: Receiver) -> None:
    gateway = starting(route_to(receiver))
    with Injecting(gateway.pid, "fsync:error=EIO"):  # bodies are synced by fsync, the log by fdatasync
        for number in range(3):
            assert send(gateway, f"large {number}", 300_000).startswith(b"452 4.3.1 ")
        assert send(gateway, "small").startswith(b"250 ")
    assert len(logged(gateway, "body_not_kept")) == 1, "once, not for each message"
    assert send(gateway, "large after", 300_000).startswith(b"250 ")
    all_delivered(gateway, receiver, {"small", "large after"})
    assert [path for path in (gateway.data / "bodies").glob("??/*") if path.is_file()] == []


def test_a_disk_that_is_slow_to_sync_delays_answers_and_loses_nothing(starting: Starter, receiver: Receiver) -> None:
    gateway = starting(route_to(receiver))
    acked = set()
    with Injecting(gateway.pid, "fdatasync:delay_enter=300000"), Sender(gateway.smtp) as sender:
        for number in range(5):
            assert sender.mail(a_mail(f"slow {number}"), "bob@corp.example").startswith(b"250 ")
            acked.add(f"slow {number}")
    all_delivered(gateway, receiver, acked)
    assert gateway.metrics()["postroom_leases_lost_total"] == 0


def test_a_read_only_directory_is_one_clear_line_at_the_start(starting: Starter, small_disk: Path) -> None:
    gateway = starting('\n[limits]\ndisk_low = "0 bytes"\n', data=small_disk / "data")
    assert gateway.stop() == 0
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(GatewayFailed, match="ended with status 1"):
        gateway.start()
    last = gateway.log.read_text().splitlines()[-1]
    assert last.startswith("postroom: cannot "), last
    assert str(small_disk / "data") in last
    assert "Traceback" not in gateway.log.read_text()
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    gateway.start()
    ready_again(gateway)


def command(gateway: Gateway, *words: str) -> str:
    """The command line, as an operator uses it beside the gateway."""
    program = Path(sys.executable).with_name("postroom")
    done = subprocess.run(
        [program, *words, "--config", gateway.config, "--data", gateway.data],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
