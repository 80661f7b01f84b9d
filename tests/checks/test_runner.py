"""The runner: order, kept verdicts, waiting checks, and checks that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from postroom.checks import ALL_PASSED, KNOWN, CheckedMessage, Runner, build
from postroom.errors import SettingsError
from postroom.model import Verdict, VerdictKind
from postroom.settings import Antivirus, Processing, Settings
from tests.checks.examples import log_and_text, message

Result = tuple[tuple[Verdict, ...], Verdict]


class Says:
    """A check that answers at once, and notes that it was asked."""

    def __init__(self, name: str, verdict: Verdict | Exception | None = None) -> None:
        self.name = name
        self.verdict = verdict or Verdict(VerdictKind.PASS, name)
        self.asked = 0

    def inspect(self, work: CheckedMessage) -> Verdict | Awaitable[Verdict]:
        self.asked += 1
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict


class Waits(Says):
    """A check that answers when it is told to."""

    def __init__(self, name: str, verdict: Verdict | Exception | None = None) -> None:
        super().__init__(name, verdict)
        self.started = asyncio.Event()
        self.go = asyncio.Event()

    def inspect(self, work: CheckedMessage) -> Verdict | Awaitable[Verdict]:
        self.asked += 1
        return self._later()

    async def _later(self) -> Verdict:
        self.started.set()
        await self.go.wait()
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict


def passed(*names: str) -> tuple[Verdict, ...]:
    return tuple(Verdict(VerdictKind.PASS, name) for name in names)


def start(runner: Runner, kept: tuple[Verdict, ...] = ()) -> asyncio.Future[Result]:
    done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    runner.run(message(), b"", kept, lambda passes, last: done.set_result((passes, last)))
    return done


async def test_checks_that_answer_at_once_are_done_before_run_returns() -> None:
    runner = Runner([Says("a"), Says("b")], log_and_text()[0])
    done = start(runner)
    assert done.result() == (passed("a", "b"), ALL_PASSED)
    assert runner.waiting == 0


def test_quick_checks_need_no_event_loop() -> None:
    results: list[Result] = []
    Runner([Says("a")], log_and_text()[0]).run(message(), b"", (), lambda passes, last: results.append((passes, last)))
    assert results == [(passed("a"), ALL_PASSED)]


async def test_the_first_verdict_that_is_no_pass_ends_the_run() -> None:
    held = Verdict(VerdictKind.HOLD, "b", "why")
    third = Says("c")
    done = start(Runner([Says("a"), Says("b", held), third], log_and_text()[0]))
    assert done.result() == (passed("a"), held)
    assert third.asked == 0


async def test_checks_with_a_kept_verdict_are_not_run_again() -> None:
    first, second = Says("a"), Says("b")
    released = (Verdict(VerdictKind.HOLD, "a", "released since"),)
    done = start(Runner([first, second], log_and_text()[0]), released)
    assert done.result() == (released + passed("b"), ALL_PASSED)
    assert (first.asked, second.asked) == (0, 1)


async def test_without_checks_everything_passes() -> None:
    assert start(Runner([], log_and_text()[0])).result() == ((), ALL_PASSED)


async def test_a_check_that_waits_is_finished_by_the_event_loop() -> None:
    waits, last = Waits("b"), Waits("d")
    runner = Runner([Says("a"), waits, Says("c"), last], log_and_text()[0])
    done = start(runner)
    await waits.started.wait()
    assert (done.done(), runner.waiting) == (False, 1)
    waits.go.set()
    last.go.set()
    assert await done == (passed("a", "b", "c", "d"), ALL_PASSED)
    await asyncio.sleep(0)
    assert runner.waiting == 0


async def test_a_check_that_waits_can_end_the_run() -> None:
    verdict = Verdict(VerdictKind.REJECT, "a", "554 5.7.1 no")
    waits, after = Waits("a", verdict), Says("b")
    waits.go.set()
    assert await start(Runner([waits, after], log_and_text()[0])) == ((), verdict)
    assert after.asked == 0


@pytest.mark.parametrize("kind", [Says, Waits])
async def test_a_check_that_raises_means_retry_and_a_line_in_the_log(kind: type[Says]) -> None:
    log, text = log_and_text()
    check = kind("b", ValueError("broken"))
    if isinstance(check, Waits):
        check.go.set()
    passes, last = await start(Runner([Says("a"), check, Says("c")], log))
    assert passes == passed("a")
    assert last == Verdict(VerdictKind.RETRY, "b", "Check b failed; the log says why")
    assert "check_failed check=b id=1" in text.getvalue()
    assert "ValueError: broken" in text.getvalue()


async def test_a_check_that_never_answers_means_retry() -> None:
    log, text = log_and_text()
    _, last = await start(Runner([Waits("slow")], log, timeout=0.01))
    assert last == Verdict(VerdictKind.RETRY, "slow", "Check slow did not answer in time")
    assert "check_timeout check=slow" in text.getvalue()


async def test_closing_stops_what_waits_without_a_result() -> None:
    runner = Runner([Waits("a")], log_and_text()[0])
    done = start(runner)
    await runner.close()
    assert (done.done(), runner.waiting) == (False, 0)
    await runner.close()


async def test_a_result_that_nobody_could_take_is_logged() -> None:
    log, text = log_and_text()
    waits = Waits("a")
    waits.go.set()
    runner = Runner([waits], log)

    def refuse(passes: tuple[Verdict, ...], last: Verdict) -> None:
        raise RuntimeError("nobody home")

    runner.run(message(), b"", (), refuse)
    while runner.waiting:
        await asyncio.sleep(0)
    assert "check_result_lost" in text.getvalue()


def test_checks_are_built_in_the_order_of_the_settings() -> None:
    names = ("loop", "antivirus", "size", "structure")
    checks = build(Settings(processing=Processing(checks=names)), log_and_text()[0])
    assert tuple(check.name for check in checks) == names
    assert sorted(KNOWN) == sorted(names)


def test_an_unknown_check_is_an_error_of_the_settings() -> None:
    with pytest.raises(SettingsError) as failure:
        build(Settings(processing=Processing(checks=("size", "spelling", "size"))), log_and_text()[0])
    assert failure.value.problems == [
        'processing.checks: "spelling" is not a check; known are size, structure, loop, antivirus',
        'processing.checks: "size" is named twice',
    ]


@pytest.mark.parametrize("address", ["localhost", "localhost:", "localhost:0", "localhost:70000", ":3310", "h:x"])
def test_a_wrong_address_of_the_scanner_is_an_error_of_the_settings(address: str) -> None:
    settings = Settings(processing=Processing(checks=("antivirus",)), antivirus=Antivirus(address=address))
    with pytest.raises(SettingsError, match=r"antivirus\.address"):
        build(settings, log_and_text()[0])
