"""250 means on disk: every acknowledgement comes after a sync that began after the message's last byte was read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.conftest import Starter, cannot, need, route_to
from tests.system.receiver import Receiver
from tests.system.strace import READS, SYNCS, WRITES, Call, Tracing, parse
from tests.system.wire import Sender, a_mail, stuffed

MESSAGES = 50


def one_by_one(sender: Sender) -> None:
    for number in range(MESSAGES):
        assert sender.mail(a_mail(f"sync {number}"), "bob@corp.example").startswith(b"250 ")


def pipelined(sender: Sender) -> None:
    """The next envelope travels behind each body (RFC 2920)."""
    envelope = b"MAIL FROM:<alice@corp.example>\r\nRCPT TO:<bob@corp.example>\r\nDATA\r\n"
    sender.write(envelope)
    for number in range(MESSAGES):
        assert [sender.reply()[:3] for _ in range(3)] == [b"250", b"250", b"354"]
        sender.write(stuffed(a_mail(f"sync {number}")) + (envelope if number + 1 < MESSAGES else b""))
        assert sender.reply().startswith(b"250 ")


@pytest.mark.parametrize("way", [one_by_one, pipelined])
@pytest.mark.parametrize("paused", [True, False], ids=["paused", "working"])
def test_every_acknowledgement_follows_a_sync_that_began_after_the_last_byte(
    starting: Starter, receiver: Receiver, tmp_path: Path, way: Callable[[Sender], None], paused: bool
) -> None:
    strace = need("strace")
    settings = route_to(receiver) + ("\n[processing]\npaused = true\n" if paused else "")
    gateway = starting(settings)
    with Sender(gateway.smtp) as sender, Tracing(strace, gateway.pid, tmp_path / "trace") as tracing:
        if not tracing.attached:
            cannot(f"strace may not attach: {tracing.problem}")
        way(sender)
        see_the_last_call_end(sender)
        port = sender.port
    if not paused:
        assert receiver.wait_until(lambda taken: len(taken) == MESSAGES, 20)

    ours = [call for call in tracing.calls if call.file.endswith(f":{port}]")]
    read = [end for call in ours if call.name in READS for end in [call.end] * call.data.count(b"\r\n.\r\n")]
    answered = [call.begin for call in ours if call.name in WRITES for _ in range(acknowledgements(call))]
    assert len(read) == len(answered) == MESSAGES
    commits = committed(tracing.calls)
    for number, (last_byte, reply) in enumerate(zip(read, answered, strict=True)):
        assert any(last_byte < begin and end < reply for begin, end in commits), (
            f"message {number}: read by line {last_byte}, answered at line {reply} of {tmp_path / 'trace'}"
        )


def test_a_large_body_and_its_name_are_synced_before_the_acknowledgement(starting: Starter, tmp_path: Path) -> None:
    """Bodies over 128 KiB are files: neither their bytes nor their directory entry may be only in the page cache."""
    strace = need("strace")
    gateway = starting("\n[processing]\npaused = true\n")
    with Sender(gateway.smtp) as sender, Tracing(strace, gateway.pid, tmp_path / "trace") as tracing:
        if not tracing.attached:
            cannot(f"strace may not attach: {tracing.problem}")
        assert sender.mail(a_mail("large", 300_000), "bob@corp.example").startswith(b"250 ")
        see_the_last_call_end(sender)
        port = sender.port
    calls = tracing.calls
    ours = [call for call in calls if call.file.endswith(f":{port}]")]
    read = next(call.end for call in ours if call.name in READS and call.data.endswith(b"\r\n.\r\n"))
    answered = next(call.begin for call in ours if call.name in WRITES and acknowledgements(call))
    synced = [call.file for call in calls if call.name in SYNCS and read < call.begin and call.end < answered]
    bodies = str(gateway.data / "bodies")
    files = [file for file in synced if file.startswith(bodies) and not Path(file).is_dir()]
    assert len(files) == 1, synced
    assert any(Path(file).is_dir() for file in synced if file.startswith(bodies)), synced
    assert any(file.endswith("-wal") for file in synced), synced


def see_the_last_call_end(sender: Sender) -> None:
    """We have the reply before strace writes down the call that sent it; the thread's next call comes after that."""
    assert sender.command(b"HELP").startswith(b"214")


def acknowledgements(call: Call) -> int:
    return sum(line.startswith(b"250 2.0.0 ") or line.startswith(b"250 2.6.0 ") for line in call.data.split(b"\r\n"))


def committed(calls: list[Call]) -> list[tuple[int, int]]:
    """Successful syncs of the write-ahead log by the thread that wrote to it just before: from the first such write on.

    The checkpointer syncs the same file from its own thread; that is no commit of anything.
    """
    commits = []
    writing: dict[int, int] = {}  # thread -> where its first write since its last sync began
    for call in calls:
        if not call.file.endswith("-wal") or call.result < 0:
            continue
        if call.name.startswith("pwrite"):
            writing.setdefault(call.thread, call.begin)
        elif call.name in SYNCS and call.thread in writing:
            commits.append((writing.pop(call.thread), call.end))
    return commits


def test_the_trace_is_read_though_threads_overtake_each_other() -> None:
    text = (
        "11 read(7<TCP:[127.0.0.1:25->127.0.0.1:99]>,  <unfinished ...>\n"
        "12 fdatasync(9</data/postroom.db-wal> <unfinished ...>\n"
        '11 <... read resumed>"a\\r\\n.\\r\\n\\0\\33\\"", 65536) = 9\n'
        "12 <... fdatasync resumed>)           = 0\n"
        '11 write(7<TCP:[127.0.0.1:25->127.0.0.1:99]>, "250 2.0.0 Ok\\r\\n", 14) = 14\n'
        "11 read(7<TCP:[127.0.0.1:25->127.0.0.1:99]>, 0x55, 65536) = -1 EAGAIN (Resource temporarily unavailable)\n"
        "12 +++ exited with 0 +++\n"
    )
    assert parse(text) == [
        Call(11, "read", "TCP:[127.0.0.1:25->127.0.0.1:99]", b'a\r\n.\r\n\x00\x1b"', 9, 0, 2),
        Call(12, "fdatasync", "/data/postroom.db-wal", b"", 0, 1, 3),
        Call(11, "write", "TCP:[127.0.0.1:25->127.0.0.1:99]", b"250 2.0.0 Ok\r\n", 14, 4, 4),
        Call(11, "read", "TCP:[127.0.0.1:25->127.0.0.1:99]", b"", -1, 5, 5),
    ]
