"""What holds for all tests.

Property tests give the same verdict on a busy machine as on an idle one. A gateway that a test starts finds its modules
compiled, as an installed one does; compiling them takes nearly half of a start.

`make test` gives whole files to two workers (pytest-xdist), those first whose tests start processes and wait for them:
they take the longest, and short files at the end let the workers end together. `pytest FILE` runs in one process as
ever. What could go on for hours has its quick form here, and its long one in a target of the Makefile (`make crash`,
`make generated`).
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.http.generated import Report

settings.register_profile("postroom", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("postroom")

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # of the hundreds of processes that are started

LONG = ("browser", "system")  # marks of tests that start processes


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Report())


@pytest.hookimpl(trylast=True)  # the marks are given by the folders' own hooks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    long = {item.path for item in items if any(item.get_closest_marker(mark) for mark in LONG)}
    items.sort(key=lambda item: item.path not in long)
