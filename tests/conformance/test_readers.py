"""Searches for the same thing come to the same thread while it is idle, and never wait for it while another one is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import TypeVar

import pytest

from postroom.errors import StoreUnavailable
from postroom.store import MAIL, Store

GENEROUS = 60.0  # seconds
READERS = 3  # threads, beside the one for mail
T = TypeVar("T")


class Readers:
    """Reads of a store that look at nothing in it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def run(self, function: Callable[[], T], like: Hashable = None) -> asyncio.Task[T]:
        async def read() -> T:
            return await self._store.read(lambda reader: function(), like)

        return asyncio.ensure_future(read())


@pytest.fixture
def readers(store: Store) -> Readers:
    return Readers(store)


async def test_the_same_search_comes_to_the_same_thread(readers: Readers) -> None:
    names = {[await readers.run(threading.get_ident, like="whale")][0] for _ in range(20)}
    assert len(names) == 1
    others = {await readers.run(threading.get_ident, like=number) for number in range(READERS)}
    assert len(others) == READERS


async def test_none_waits_while_another_thread_is_idle(readers: Readers) -> None:
    free = threading.Event()
    inside = threading.Barrier(READERS + 1)

    def work() -> int:
        inside.wait(GENEROUS)
        assert free.wait(GENEROUS)
        return threading.get_ident()

    try:
        busy = [readers.run(work, like="whale") for _ in range(READERS)]
        await asyncio.to_thread(inside.wait, GENEROUS)  # all of them at once
        assert await asyncio.wait_for(readers.run(lambda: "mail", like=MAIL), GENEROUS) == "mail"
    finally:
        free.set()
    assert len({await one for one in busy}) == READERS


async def test_what_found_nobody_idle_is_read_by_whoever_is_idle_first(readers: Readers) -> None:
    ends = [threading.Event() for _ in range(READERS)]
    inside = threading.Barrier(READERS + 1)

    def work(number: int) -> None:
        inside.wait(GENEROUS)
        assert ends[number].wait(GENEROUS)

    try:
        busy = [readers.run(partial(work, number)) for number in range(READERS)]
        await asyncio.to_thread(inside.wait, GENEROUS)
        late = [readers.run(partial(str, number), like="whale") for number in range(5)]
        ends[1].set()
        assert await asyncio.wait_for(asyncio.gather(*late), GENEROUS) == ["0", "1", "2", "3", "4"]
    finally:
        for end in ends:
            end.set()
    await asyncio.gather(*busy)


async def test_a_thread_is_idle_only_when_it_has_ended_what_nobody_waits_for_any_more(readers: Readers) -> None:
    free, begun = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert free.wait(GENEROUS)

    try:
        left = readers.run(work, like="whale")
        assert await asyncio.to_thread(begun.wait, GENEROUS)
        left.cancel()
        await asyncio.wait([left])
        assert await asyncio.wait_for(readers.run(lambda: "another thread", like="whale"), GENEROUS) == "another thread"
    finally:
        free.set()


async def test_what_fails_passes_through_and_leaves_the_thread_idle(readers: Readers) -> None:
    def fail() -> None:
        raise ValueError("as it was")

    where = await readers.run(threading.get_ident, like="whale")
    with pytest.raises(ValueError, match="as it was"):
        await readers.run(fail, like="whale")
    assert await readers.run(threading.get_ident, like="whale") == where


async def test_without_a_thread_the_store_is_unavailable(store: Store) -> None:
    store.close()
    with pytest.raises(StoreUnavailable, match="could not be read"):
        await store.read(lambda reader: threading.get_ident())


@pytest.mark.parametrize("problem", [RuntimeError("can't start new thread"), MemoryError()])
@pytest.mark.parametrize("like", ["whale", MAIL])
async def test_a_thread_that_could_not_be_started_is_started_later(
    readers: Readers, monkeypatch: pytest.MonkeyPatch, problem: BaseException, like: object
) -> None:
    def no_memory(thread: threading.Thread) -> None:
        raise problem

    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", no_memory)
        for _ in range(READERS + 1):
            with pytest.raises(StoreUnavailable, match=r"can't start new thread|no memory"):
                await readers.run(threading.get_ident, like=like)
    where = await asyncio.wait_for(readers.run(threading.get_ident, like=like), GENEROUS)
    assert await readers.run(threading.get_ident, like=like) == where


@pytest.mark.parametrize("like", ["whale", MAIL])
async def test_a_result_that_could_not_be_told_is_told_later(
    readers: Readers, monkeypatch: pytest.MonkeyPatch, like: object
) -> None:
    loop = asyncio.get_running_loop()
    tell, tried = loop.call_soon_threadsafe, []

    def short_of_memory(*call: object) -> object:
        tried.append(call)
        if len(tried) == 1:
            raise MemoryError
        return tell(*call)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_soon_threadsafe", short_of_memory)
    assert await asyncio.wait_for(readers.run(lambda: "told", like=like), GENEROUS) == "told"
    assert len(tried) == 2
    assert await asyncio.wait_for(readers.run(lambda: "the next", like=like), GENEROUS) == "the next"


async def test_what_no_future_takes_does_not_leave_anybody_waiting(readers: Readers) -> None:
    def fail() -> None:
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(readers.run(fail), GENEROUS)
