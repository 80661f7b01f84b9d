"""A store restored without its secrets key: the answer to keys sealed with it, and what still works."""

from __future__ import annotations

import msgspec

from postroom.sealing import Sealer
from postroom.store.access import identity
from tests.http.conftest import FIND, Serve, golden


async def test_keys_sealed_with_another_key_are_wrong_keys_and_the_log_says_so_once(serve: Serve) -> None:
    served = await serve()
    old = served.keys[identity.ADMINISTRATOR]
    await served.server.stop(1)
    services = msgspec.structs.replace(served.services, sealer=Sealer(b"n" * 32))
    served.server = type(served.server)(services.settings, services, services.log)
    await served.server.start()

    for _ in range(2):
        answer = await served.post(FIND, served.signed(), b"{}")
        assert (answer.status, answer.body) == (401, golden("invalid_signature"))
    served.services.log.flush()
    told = [line for line in served.told.lines if "application_unusable" in line]
    assert len(told) == 1
    assert old.app_id in told[0]
    assert "postroom app create" in told[0]

    made = await served.store.write(
        lambda tx: identity.create_app(tx, services.sealer, name="new", role=identity.ADMINISTRATOR)
    )
    served.keys[identity.ADMINISTRATOR] = made
    assert (await served.find()).status == 200
