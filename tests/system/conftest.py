"""Every test here starts the gateway as a process of its own and ends it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.gateway import Gateway

from tests.system.receiver import Receiver

SETTINGS = """\
[gateway]
hostname = "gw.corp.example"
internal_domains = ["corp.example"]
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("system")


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path / "received") as running:
        yield running


def route_to(receiver: Receiver) -> str:
    host, port = receiver.address
    return f'\n[[delivery.routes]]\ndomain = "*"\nhost = "{host}:{port}"\n'


Starter = Callable[..., Gateway]


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[Starter]:
    """Starts gateways: `starting(more_settings, data=...)`; what still runs at the end is killed."""
    started: list[Gateway] = []

    def start(more: str = "", *, data: Path | None = None, base: str = SETTINGS) -> Gateway:
        gateway = Gateway(tmp_path / f"gateway-{len(started)}", base + more, data=data)
        started.append(gateway)
        gateway.start()
        return gateway

    yield start
    for gateway in started:
        gateway.kill()


def eventually(condition: Callable[[], bool], what: str, limit: float = 60.0) -> None:
    """Asks a process that cannot signal us until it says yes."""
    until = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < until, f"not within {limit:.0f} s: {what}"
        time.sleep(0.02)


def need(program: str) -> str:
    """Where a program of the system is; without it the test cannot run, which counts as a failure on CI."""
    path = shutil.which(program)
    if path is None:
        cannot(f"{program} is not installed")
        raise AssertionError
    return path


def cannot(reason: str) -> None:
    """Skip, saying why; on CI everything must run."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
