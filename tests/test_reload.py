"""What a reload changes and what it leaves: every setting is one or the other."""

from __future__ import annotations

import msgspec

from postroom.settings import Address, Delivery, DeliveryRoute, Http, HttpTls, Limits, Settings, Smtp
from postroom.settings.keys import KEYS
from postroom.settings.reload import NEEDS_RESTART, plan


def test_nothing_changed_is_nothing_to_do() -> None:
    planned = plan(Settings(), Settings())
    assert (planned.changed, planned.waiting, planned.settings) == ((), (), Settings())


def test_what_can_change_is_in_force_and_what_cannot_keeps_its_old_value() -> None:
    old = Settings(smtp=Smtp(max_size=1), http=Http(tls=HttpTls("a.pem", "a.key")), data="here")
    new = Settings(
        smtp=Smtp(max_size=2, listen=(Address("192.0.2.1", 25),)),
        http=Http(tls=HttpTls("b.pem", "b.key"), trusted_proxies=("192.0.2.0/24",)),
        delivery=Delivery(routes=(DeliveryRoute("*", Address("192.0.2.9", 25)),)),
        limits=Limits(lease=5_000),
        data="there",
    )
    planned = plan(old, new)
    assert set(planned.changed) == {"smtp.max_size", "http.trusted_proxies", "delivery.routes", "limits.lease"}
    assert set(planned.waiting) == {"smtp.listen", "http.tls.certificate", "http.tls.key", "data"}
    expected = msgspec.structs.replace(
        new,
        smtp=Smtp(max_size=2),
        http=Http(tls=HttpTls("a.pem", "a.key"), trusted_proxies=("192.0.2.0/24",)),
        data="here",
    )
    assert planned.settings == expected
    assert plan(planned.settings, new).changed == (), "what waits waits still, and nothing else is left"


def test_a_table_is_touched_by_each_of_its_keys_and_by_no_other() -> None:
    planned = plan(Settings(), Settings(limits=Limits(lease=5_000)))
    assert planned.touches("limits")
    assert planned.touches("api", "limits.lease")
    assert not planned.touches("limit", "limits.disk_low", "api")


def test_what_needs_a_restart_are_settings_that_there_are() -> None:
    assert set(KEYS) >= NEEDS_RESTART
