"""The store under test. The engine is a fixture: an engine that is added to ENGINES runs the whole suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from postroom.clock import HandClock
from postroom.settings import Settings
from postroom.store import Store, open_store
from tests.conformance.driven import START

ENGINES = ("sqlite",)

Opener = Callable[..., Store]


def settings_of(engine: str, data: Path) -> Settings:
    """A store of this engine in this directory."""
    assert engine == "sqlite"
    return Settings(data=str(data))


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def settings(engine: str, tmp_path: Path) -> Settings:
    return settings_of(engine, tmp_path)


Elsewhere = Callable[[Path], Settings]


@pytest.fixture
def elsewhere(engine: str) -> Elsewhere:
    """Settings of one more store of the same engine."""
    return lambda data: settings_of(engine, data)


@pytest.fixture
def clock() -> HandClock:
    return HandClock(START)


@pytest.fixture
def opening(settings: Settings, clock: HandClock) -> Iterator[Opener]:
    """Opens the store; whatever was opened is closed at the end."""
    opened: list[Store] = []

    def open_it(**changed: object) -> Store:
        beside = bool(changed.pop("beside", False))
        store = open_store(msgspec.structs.replace(settings, **changed), clock=clock, beside=beside)
        opened.append(store)
        return store

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(opening: Opener) -> Store:
    return opening()
