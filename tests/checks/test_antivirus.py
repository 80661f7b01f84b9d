"""The antivirus check against a scripted clamd and against a real one."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest
import uvloop

from postroom.checks.antivirus import PIECE, AntivirusCheck
from postroom.model import Verdict, VerdictKind
from postroom.settings import Antivirus
from tests.checks.clamd import Clamd, Connection, Script
from tests.checks.examples import log_and_text, work

# The EICAR test string, in two halves so that this file itself is not taken for it.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
PASSED = Verdict(VerdictKind.PASS, "antivirus")


def on_both_loops(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """The gateway runs on uvloop, which orders reads, writes and resets differently from asyncio's own loop."""

    def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], **given: object) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(test(**given))

    own = inspect.signature(test)
    extra = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), extra])  # type: ignore[attr-defined]
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    factories = [asyncio.new_event_loop, uvloop.new_event_loop]
    return pytest.mark.parametrize("loop_factory", factories, ids=["asyncio", "uvloop"])(run)


def check_for(address: str, *, timeout: int = 10_000, concurrency: int = 8) -> AntivirusCheck:
    return AntivirusCheck(Antivirus(address=address, timeout=timeout, concurrency=concurrency), log_and_text()[0])


async def scan_of(connection: Connection) -> None:
    content = await connection.content()
    await connection.say(b"stream: Eicar-Signature FOUND\0" if EICAR in content else b"stream: OK\0")


def says(reply: bytes) -> Script:
    async def script(connection: Connection) -> None:
        await connection.content()
        await connection.say(reply)

    return script


@on_both_loops
async def test_a_clean_message_passes_over_tcp_and_over_a_unix_socket(tmp_path: Path) -> None:
    for path in ("", str(tmp_path / "clamd.ctl")):
        async with Clamd(scan_of, path) as clamd:
            assert await check_for(clamd.address).inspect(work(b"clean")) == PASSED
            assert clamd.connections[0].pieces == [5]


@on_both_loops
async def test_a_virus_is_rejected_with_its_name() -> None:
    async with Clamd(scan_of) as clamd:
        verdict = await check_for(clamd.address).inspect(work(b"x" + EICAR))
    assert verdict == Verdict(VerdictKind.REJECT, "antivirus", "554 5.7.1 Virus found: Eicar-Signature")


@on_both_loops
async def test_the_name_of_a_virus_cannot_break_the_reply() -> None:
    async with Clamd(says(b"stream: A\r\nB\xff FOUND\0")) as clamd:
        verdict = await check_for(clamd.address).inspect(work())
    assert verdict.info == "554 5.7.1 Virus found: A B"


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7])
@on_both_loops
async def test_every_byte_arrives_in_pieces(size: int, tmp_path: Path) -> None:
    content = os.urandom(size)
    file = tmp_path / "body"
    file.write_bytes(content)
    received: list[bytes] = []

    async def keep(connection: Connection) -> None:
        received.append(await connection.content())
        await connection.say(b"stream: OK\0")

    async with Clamd(keep) as clamd:
        check = check_for(clamd.address)
        assert await check.inspect(work(content)) == PASSED
        assert await check.inspect(work(file)) == PASSED
        expected = [PIECE] * (size // PIECE) + ([size % PIECE] if size % PIECE else [])
        assert [connection.pieces for connection in clamd.connections] == [expected, expected]
    assert received == [content, content]


@pytest.mark.parametrize(
    ("reply", "info"),
    [
        (
            b"INSTREAM: Can't open file or directory ERROR\0",
            "Antivirus scanner answered with an error; the log has its reply",
        ),
        (b"UNKNOWN COMMAND\0", "Antivirus scanner answered with an error; the log has its reply"),
        (b"stream: OK", "Antivirus scanner answered with an error; its reply was cut"),
        (b"", "Antivirus scanner closed the connection without an answer"),
        (b"x" * 100_000, "Antivirus scanner answered with what is not a reply of clamd"),
        (b"\0", "Antivirus scanner answered with an error; the log has its reply"),
        (b"stream: NOT OK\0", "Antivirus scanner answered with an error; the log has its reply"),
    ],
)
@on_both_loops
async def test_what_is_no_clear_answer_means_retry(reply: bytes, info: str) -> None:
    async with Clamd(says(reply)) as clamd:
        assert await check_for(clamd.address).inspect(work()) == Verdict(VerdictKind.RETRY, "antivirus", info)


@on_both_loops
async def test_a_message_over_the_scanners_own_limit_means_retry_with_that_reason() -> None:
    async def limited(connection: Connection) -> None:
        await connection.content(limit=PIECE)
        await connection.say(b"INSTREAM size limit exceeded. ERROR\0")

    async with Clamd(limited) as clamd:
        verdict = await check_for(clamd.address).inspect(work(b"x" * 40 * PIECE))
    assert verdict.kind is VerdictKind.RETRY
    # When the connection is reset before the reply was read, only that can be said.
    assert verdict.info in (
        "Antivirus scanner refuses messages of this size (StreamMaxLength of clamd)",
        "Antivirus scanner closed the connection without an answer",
    )


@on_both_loops
async def test_a_scanner_that_is_not_there_is_named(tmp_path: Path) -> None:
    verdict = await check_for(str(tmp_path / "nothing")).inspect(work())
    assert verdict.info == "Antivirus scanner is not answering (its socket does not exist)"
    async with Clamd(scan_of) as clamd:
        address = clamd.address
    verdict = await check_for(address).inspect(work())
    assert verdict == Verdict(VerdictKind.RETRY, "antivirus", "Antivirus scanner is not answering (connection refused)")


@on_both_loops
async def test_a_scanner_that_is_silent_means_retry() -> None:
    async def silent(connection: Connection) -> None:
        await connection.content()
        await connection.reader.read()

    async with Clamd(silent) as clamd:
        verdict = await check_for(clamd.address, timeout=50).inspect(work())
    assert verdict == Verdict(VerdictKind.RETRY, "antivirus", "Antivirus scanner is not answering (timeout)")


@on_both_loops
async def test_a_scanner_that_stops_reading_means_retry() -> None:
    async def deaf(connection: Connection) -> None:
        await asyncio.Event().wait()

    async with Clamd(deaf) as clamd:
        verdict = await check_for(clamd.address, timeout=50).inspect(work(b"x" * 100 * PIECE))
    assert verdict.info == "Antivirus scanner is not answering (timeout)"


@on_both_loops
async def test_no_more_than_the_allowed_number_are_with_the_scanner_at_once() -> None:
    inside, most = 0, 0
    full, release = asyncio.Event(), asyncio.Event()

    async def slow(connection: Connection) -> None:
        nonlocal inside, most
        await connection.content()
        inside += 1
        most = max(most, inside)
        if inside == 2:
            full.set()
        await release.wait()
        inside -= 1
        await connection.say(b"stream: OK\0")

    async with Clamd(slow) as clamd:
        check = check_for(clamd.address, concurrency=2)
        answers = [asyncio.ensure_future(check.inspect(work())) for _ in range(10)]
        await full.wait()
        assert len(clamd.connections) == 2
        release.set()
        assert await asyncio.gather(*answers) == [PASSED] * 10
    assert most == 2


@on_both_loops
async def test_a_scanner_going_and_coming_back_is_one_line_each_in_the_log(tmp_path: Path) -> None:
    log, text = log_and_text()
    path = str(tmp_path / "clamd.ctl")
    check = AntivirusCheck(Antivirus(address=path), log)
    for _ in range(3):
        assert (await check.inspect(work())).kind is VerdictKind.RETRY
    async with Clamd(scan_of, path):
        for _ in range(3):
            assert await check.inspect(work()) == PASSED
    log.flush()
    assert [line.split()[2] for line in text.getvalue().splitlines()] == ["antivirus_away", "antivirus_back"]


@on_both_loops
async def test_those_in_line_do_not_each_find_out_that_the_scanner_is_away(tmp_path: Path) -> None:
    check = check_for(str(tmp_path / "nothing"), concurrency=1)
    verdicts = await asyncio.gather(*[check.inspect(work()) for _ in range(50)])
    assert {verdict.info for verdict in verdicts} == {"Antivirus scanner is not answering (its socket does not exist)"}


@on_both_loops
async def test_a_stopped_scan_leaves_nothing_behind() -> None:
    started = asyncio.Event()
    gone = asyncio.Event()

    async def silent(connection: Connection) -> None:
        await connection.content()
        started.set()
        try:
            await connection.reader.read()
        finally:
            gone.set()

    async with Clamd(silent) as clamd:
        check = check_for(clamd.address, concurrency=1)
        scan = asyncio.ensure_future(check.inspect(work()))
        await started.wait()
        scan.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scan
        await gone.wait()


@on_both_loops
async def test_a_body_that_cannot_be_read_is_not_a_pass(tmp_path: Path) -> None:
    async with Clamd(scan_of) as clamd:
        with pytest.raises(FileNotFoundError):
            await check_for(clamd.address).inspect(work(tmp_path / "lost"))


@pytest.fixture(scope="module")
def real_clamd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real clamd on a private socket, whose only signature is the EICAR test string."""
    program = shutil.which("clamd") or shutil.which("clamd", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("clamd is not installed; Debian and Ubuntu: apt-get install clamav-daemon")
        pytest.skip("clamd is not installed (package clamav-daemon): the scripted one was tested, the real one was not")
    folder = tmp_path_factory.mktemp("clamd")
    database = folder / "db"
    database.mkdir()
    (database / "test.ndb").write_text(f"Eicar.Test:0:*:{EICAR.hex()}\n")
    config = folder / "clamd.conf"
    config.write_text(
        f"LocalSocket {folder}/s\nDatabaseDirectory {database}\nForeground yes\nStreamMaxLength 1M\nMaxThreads 4\n"
    )
    daemon = subprocess.Popen([program, "-c", str(config)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert daemon.stdout is not None
    said = []
    for line in daemon.stdout:
        said.append(line)
        if "Self checking" in line:  # its last line before it serves
            break
    else:
        pytest.fail("clamd did not start: " + "".join(said))
    yield str(folder / "s")
    daemon.terminate()
    daemon.communicate(timeout=30)


@pytest.fixture
def real_check(real_clamd: str) -> AntivirusCheck:
    return check_for(real_clamd, timeout=60_000)


@on_both_loops
async def test_a_real_clamd_passes_clean_mail_and_finds_the_test_virus(
    real_check: AntivirusCheck, tmp_path: Path
) -> None:
    header = b"From: a@b.example\r\nSubject: x\r\n\r\n"
    large = tmp_path / "body"
    large.write_bytes(header + b"x" * 900_000)
    assert await real_check.inspect(work(header + b"hello\r\n")) == PASSED
    assert await real_check.inspect(work(large)) == PASSED
    assert await real_check.inspect(work(b"")) == PASSED
    verdict = await real_check.inspect(work(header + EICAR + b"\r\n"))
    assert verdict == Verdict(VerdictKind.REJECT, "antivirus", "554 5.7.1 Virus found: Eicar.Test.UNOFFICIAL")
    large.write_bytes(header + b"x" * 500_000 + EICAR)
    assert (await real_check.inspect(work(large))).kind is VerdictKind.REJECT


@on_both_loops
async def test_a_real_clamd_says_what_is_too_large_for_it(real_check: AntivirusCheck) -> None:
    verdict = await real_check.inspect(work(b"x" * 8_000_000))
    assert verdict.kind is VerdictKind.RETRY
    assert verdict.info in (
        "Antivirus scanner refuses messages of this size (StreamMaxLength of clamd)",
        "Antivirus scanner closed the connection without an answer",
    )
