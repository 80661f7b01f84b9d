"""Counts the cases that property tests really ran, over all processes of a run."""

from __future__ import annotations

import functools
import inspect
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

COUNTS: Counter[str] = Counter()
TIMES = int(os.environ.get("TIMES", "1"))  # `make generated TIMES=n`: the long run


class Report:
    """The plugin that says it: workers of pytest-xdist hand their counts to the process that prints."""

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if (handed := getattr(session.config, "workeroutput", None)) is not None:
            handed["generated"] = dict(COUNTS)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        COUNTS.update(getattr(node, "workeroutput", {}).get("generated", {}))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if COUNTS:
            listed = ", ".join(f"{number:,} {what}" for what, number in sorted(COUNTS.items()))
            terminalreporter.write_line(f"generated cases: {COUNTS.total():,} ({listed})")


def generated(cases: int, what: str, **chosen: Any) -> Callable[[Any], Any]:
    """Above `@given`: so many cases, always the same, counted under `what`. The long run: TIMES as many, all new."""

    def decorate(test: Any) -> Any:
        inner = test.hypothesis.inner_test

        if inspect.iscoroutinefunction(inner):

            @functools.wraps(inner)
            async def counted_async(*args: Any, **named: Any) -> None:
                COUNTS[what] += 1
                await inner(*args, **named)

            test.hypothesis.inner_test = counted_async
        else:

            @functools.wraps(inner)
            def counted(*args: Any, **named: Any) -> None:
                COUNTS[what] += 1
                inner(*args, **named)

            test.hypothesis.inner_test = counted
        return settings(max_examples=cases * TIMES, derandomize=TIMES == 1, **chosen)(test)

    return decorate
