"""Stories run on both event loops: uvloop, which carries mail, and asyncio's, whose transports act as documented."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
import uvloop

Run = Callable[[Awaitable[None]], None]


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs one story to its end; whatever was raised where nobody could catch it fails the test."""
    unseen: list[dict[str, object]] = []

    async def bounded(story: Awaitable[None]) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
        await asyncio.wait_for(story, 30)

    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.SelectorEventLoop
    with asyncio.Runner(loop_factory=factory) as runner:
        yield lambda story: runner.run(bounded(story))
    assert not unseen
