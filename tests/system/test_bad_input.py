"""What a peer or a disk does wrong is answered, and nothing of it stays behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.gateway import Gateway

from tests.system.conftest import Starter, cannot, eventually, need
from tests.system.wire import Sender, a_mail

PAUSED = "\n[processing]\npaused = true\n"
MIB = 1024 * 1024


def test_a_malformed_command_is_refused_and_the_session_goes_on(starting: Starter) -> None:
    gateway = starting(PAUSED)
    with Sender(gateway.smtp) as sender:
        for line in (
            b"XYZZY",
            b"MAIL",
            b"MAIL FROM:alice",
            b"RCPT TO:<bob@corp.example>",
            b"DATA",
            b"\xff\xfe\x00",
            b"",
        ):
            assert sender.command(line)[:1] == b"5", line
        assert sender.mail(a_mail("after all"), "bob@corp.example").startswith(b"250 ")
    assert gateway.queued() == 1


def test_too_large_is_refused_when_announced_and_when_sent(starting: Starter) -> None:
    gateway = starting(PAUSED, base='[gateway]\nhostname = "gw.corp.example"\n\n[smtp]\nmax_size = "256 KiB"\n')
    with Sender(gateway.smtp) as sender:
        assert sender.command(b"MAIL FROM:<alice@corp.example> SIZE=300000").startswith(b"552 5.3.4")
        assert sender.mail(a_mail("large", 300_000), "bob@corp.example").startswith(b"552 5.3.4")
        assert gateway.queued() == 0
        assert sender.mail(a_mail("not so large", 200_000), "bob@corp.example").startswith(b"250 ")
    assert gateway.queued() == 1


def test_a_client_from_outside_may_send_to_our_domains_only(starting: Starter) -> None:
    base = (
        '[gateway]\nhostname = "gw.corp.example"\ninternal_domains = ["corp.example"]\n'
        'relay_networks = ["192.0.2.0/24"]\n'
    )
    gateway = starting(PAUSED, base=base)
    with Sender(gateway.smtp) as sender:
        refused = sender.mail(a_mail("relay me"), "carol@elsewhere.example", sender="mallory@outside.example")
        assert refused.startswith(b"550 5.7.1")
        assert sender.command(b"RSET").startswith(b"250")
        assert sender.mail(a_mail("for you"), "bob@corp.example", sender="mallory@outside.example").startswith(b"250 ")
    assert gateway.queued() == 1


def test_half_a_message_leaves_nothing_behind(starting: Starter) -> None:
    gateway = starting(PAUSED)
    for end in (b"", b".", b"\r\n.\n", b"\r\n.\r"):
        with Sender(gateway.smtp) as sender:
            sender.command(b"MAIL FROM:<alice@corp.example>")
            sender.command(b"RCPT TO:<bob@corp.example>")
            assert sender.command(b"DATA").startswith(b"354")
            sender.write(a_mail("half").removesuffix(b"\r\n") + end)
    eventually(lambda: gateway.metrics()["postroom_smtp_sessions"] == 0, "the sessions have ended")
    assert gateway.queued() == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """64 MiB that can be filled without hurting anybody."""
    if os.geteuid() != 0:
        cannot("only root can mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        [need("mount"), "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        cannot(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    yield place
    # Lazily: the gateway that still runs there is killed by its own fixture, perhaps later.
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize(("mark", "leave"), [("16 MiB", 8 * MIB), ("0 bytes", 0)], ids=["low mark", "to the last byte"])
def test_a_full_disk_refuses_for_now_and_recovers(starting: Starter, small_disk: Path, mark: str, leave: int) -> None:
    gateway = starting(PAUSED + f'\n[limits]\ndisk_low = "{mark}"\n', data=small_disk / "data")
    assert send(gateway, "before", 1000).startswith(b"250 ")
    kept = 1
    filler = small_disk / "filler"
    fill(filler, small_disk, leave)

    refusals: list[bytes] = []

    def is_refused() -> bool:
        refusals.append(send(gateway, "while full", 60_000))
        return not refusals[-1].startswith(b"250 ")

    eventually(is_refused, "intake is refused on a full disk")
    assert refusals[-1].startswith(b"452 4.3.1"), refusals[-1]
    kept += len(refusals) - 1  # what still went in before the gateway noticed is kept like all mail

    filler.unlink()
    eventually(lambda: send(gateway, "after", 1000).startswith(b"250 "), "mail is taken again once there is room")
    kept += 1
    assert gateway.queued() == kept
    gateway.kill()
    gateway.start()
    assert gateway.queued() == kept


def send(gateway: Gateway, subject: str, size: int) -> bytes:
    with Sender(gateway.smtp) as sender:
        return sender.mail(a_mail(subject, size), "bob@corp.example")


def fill(filler: Path, disk: Path, leave: int) -> None:
    """Until only `leave` bytes are left."""
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while free(disk) > leave:
            file.write(b"\0" * 65536)
    assert free(disk) < leave + MIB


def free(disk: Path) -> int:
    state = os.statvfs(disk)
    return state.f_bavail * state.f_frsize
