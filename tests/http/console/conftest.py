"""A visitor that speaks plain HTTP to a console: what a browser without scripts would do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.http.console.scene import EMAIL, PASSWORD, Console, fill

_TOKEN = re.compile(r'name="token" value="([0-9a-f]{64})"')


class Visitor(httpx.Client):
    """Keeps cookies, follows no redirect by itself."""

    token = ""

    def page(self, path: str, **given: str) -> httpx.Response:
        answer = self.get(path, params=given or None)
        if found := _TOKEN.search(answer.text):
            self.token = found[1]
        return answer

    def submit(self, path: str, *, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
        return self.post(path, data={"token": self.token, **fields}, headers=headers)

    def log_in(self, email: str = EMAIL, password: str = PASSWORD, **fields: str) -> httpx.Response:
        self.page("/console/login")
        answer = self.submit("/console/login", email=email, password=password, **fields)
        if answer.status_code == 303:
            self.page("/console/")
        return answer


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    """An empty one of its own."""
    with Console(tmp_path).serving() as running:
        yield running


@pytest.fixture
def visitor(console: Console) -> Iterator[Visitor]:
    with Visitor(base_url=console.base) as visiting:
        yield visiting


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Console, dict[str, int]]]:
    """One full of mail, for tests that only look."""
    made = Console(tmp_path_factory.mktemp("console"))
    named = fill(made.store, made.clock)
    with made.serving() as running:
        yield running, named


@pytest.fixture(scope="module")
def looker(full: tuple[Console, dict[str, int]]) -> Iterator[Visitor]:
    """Logged in there."""
    with Visitor(base_url=full[0].base) as visiting:
        assert visiting.log_in().status_code == 303
        yield visiting
