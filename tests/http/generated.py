"""Counts the cases that property tests really ran, so that a run can say how many there were."""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import settings

COUNTS: Counter[str] = Counter()


def generated(cases: int, what: str, **chosen: Any) -> Callable[[Any], Any]:
    """Above `@given`: this many cases, always the same ones, each counted under `what`."""

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
        return settings(max_examples=cases, derandomize=True, **chosen)(test)

    return decorate
