"""The clock is set forward or back, with the gateway running or not: mail flows on, nothing is lost or put off."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.gateway import Gateway

from tests.faults.clock import MachineClock
from tests.faults.conftest import all_delivered, logged, ready_again, rows, send
from tests.faults.receiver import SlowReceiver
from tests.system.conftest import SETTINGS, eventually, route_to
from tests.system.receiver import Receiver

DAY = 86_400.0
PATIENT = '\n[retry.delivery]\nwaits = ["1 second"]\nattempts = 0\nage = "96 hours"\n'
NOWHERE = '\n[[delivery.routes]]\ndomain = "*"\nhost = "127.0.0.1:9"\n'


@pytest.fixture
def clock(tmp_path: Path) -> MachineClock:
    return MachineClock(tmp_path / "clock")


Build = Callable[[str], Gateway]


@pytest.fixture
def building(tmp_path: Path, clock: MachineClock):
    built: list[Gateway] = []

    def build(more: str) -> Gateway:
        gateway = Gateway(tmp_path / f"gateway-{len(built)}", SETTINGS + more)
        gateway.program = clock.program
        built.append(gateway)
        gateway.start()
        return gateway

    yield build
    for gateway in built:
        gateway.kill()


@pytest.mark.parametrize("jump", [-3 * DAY, 3 * DAY], ids=["back", "forward"])
def test_mail_flows_on_when_the_clock_is_set(
    building: Build, clock: MachineClock, slow_receiver: SlowReceiver, jump: float
) -> None:
    gateway = building(route_to(slow_receiver))
    acked = {"in hand"}
    assert send(gateway, "in hand").startswith(b"250 ")
    assert slow_receiver.wait_until(lambda taken: len(taken) == 1, 30)
    clock.set(jump)
    eventually(lambda: len(logged(gateway, "clock_set")) == 1, "the jump is logged")
    for number in range(3):
        assert send(gateway, f"afterwards {number}").startswith(b"250 ")
        acked.add(f"afterwards {number}")
    slow_receiver.let_go()
    all_delivered(gateway, slow_receiver, acked)
    assert len(slow_receiver.taken) == len(acked), "delivered twice"
    ids = [ident for (ident,) in rows(gateway, "SELECT id FROM history ORDER BY rowid")]
    assert ids == sorted(ids)
    assert gateway.metrics()["postroom_leases_lost_total"] == 0
    ready_again(gateway)


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it does not"])
def test_what_was_put_off_by_a_wrong_clock_is_tried_when_the_clock_is_right(
    building: Build, clock: MachineClock, receiver: Receiver, running: bool
) -> None:
    clock.set(3 * DAY)
    gateway = building(NOWHERE + PATIENT)
    acked = {f"put off {number}" for number in range(3)}
    for subject in acked:
        assert send(gateway, subject).startswith(b"250 ")
    eventually(lambda: waiting(gateway) == 3, "all wait for their next attempt, in three days")
    if running:
        clock.set(0)
        eventually(lambda: len(logged(gateway, "rescheduled")) == 1, "the jump was noticed")
        assert gateway.stop() == 0
    else:
        assert gateway.stop() == 0
        clock.set(0)
    gateway.config.write_text(SETTINGS + PATIENT + route_to(receiver))
    gateway.start()
    all_delivered(gateway, receiver, acked)


def test_the_leases_of_a_killed_process_are_found_though_they_end_in_days(
    building: Build, clock: MachineClock, slow_receiver: SlowReceiver
) -> None:
    clock.set(3 * DAY)
    gateway = building(route_to(slow_receiver))
    assert send(gateway, "leased for days").startswith(b"250 ")
    assert slow_receiver.wait_until(lambda taken: len(taken) == 1, 30)
    gateway.kill()
    clock.set(0)
    ((until,),) = rows(gateway, "SELECT locked_until FROM entry")
    assert until > (time.time() + 2 * DAY) * 1000
    gateway.start()
    slow_receiver.let_go()
    all_delivered(gateway, slow_receiver, {"leased for days"})
    assert gateway.metrics()["postroom_taken_over_total"] == 1


def waiting(gateway: Gateway) -> int:
    """Entries whose attempt failed."""
    return rows(gateway, "SELECT count(*) FROM entry WHERE queue = 2 AND attempts >= 1 AND lease IS NULL")[0][0]
