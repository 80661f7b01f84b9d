from __future__ import annotations

from collections.abc import Iterator

import pytest
from scripted_vendor import CREDENTIALS, ScriptedVendor

from postroom_client import Client, Retries


@pytest.fixture
def vendor() -> Iterator[ScriptedVendor]:
    server = ScriptedVendor()
    yield server
    server.close()


@pytest.fixture
def client(vendor: ScriptedVendor) -> Iterator[Client]:
    with Client(vendor.url, CREDENTIALS, retries=Retries(attempts=3, first_wait=0.001, longest_wait=1)) as made:
        yield made
