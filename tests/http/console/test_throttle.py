"""Guessing is slow; an owner is not locked out."""

from __future__ import annotations

from postroom.clock import MINUTE, HandClock
from postroom.http.door.throttle import MAX_KEYS, Throttle, network


def a_throttle() -> tuple[Throttle, HandClock]:
    clock = HandClock()
    return Throttle(clock, attempts=5, window=5 * MINUTE), clock


def test_five_tries_at_once_then_one_a_minute() -> None:
    throttle, clock = a_throttle()
    assert [throttle.wait("192.0.2.1", "admin") for _ in range(7)] == [0, 0, 0, 0, 0, 60, 60]
    clock.move(59_000)
    assert throttle.wait("192.0.2.1", "admin") == 1
    clock.move(1_000)
    assert [throttle.wait("192.0.2.1", "admin") for _ in range(2)] == [0, 60]
    clock.move(5 * MINUTE)
    assert [throttle.wait("192.0.2.1", "admin") for _ in range(6)] == [0, 0, 0, 0, 0, 60]


def test_an_address_is_slowed_over_all_accounts_and_an_account_over_all_addresses() -> None:
    throttle, _ = a_throttle()
    assert [throttle.wait("192.0.2.1", f"user{number}") for number in range(6)][-1] == 60
    assert [throttle.wait(f"198.51.100.{number}", "admin") for number in range(6)][-1] == 60
    assert throttle.wait("203.0.113.1", "other") == 0


def test_an_ipv6_customer_is_one_address() -> None:
    throttle, _ = a_throttle()
    assert [throttle.wait(f"2001:db8::{number:x}", f"user{number}") for number in range(6)][-1] == 60
    assert network("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert network("fe80::1%eth0") == "fe80::/64"
    assert network("192.0.2.1") == "192.0.2.1"
    assert network("") == ""


def test_success_costs_nothing() -> None:
    throttle, _ = a_throttle()
    for _ in range(50):
        assert throttle.wait("192.0.2.1", "admin") == 0
        throttle.succeeded("192.0.2.1", "admin")


def test_an_owner_at_a_known_address_is_not_locked_out_by_others() -> None:
    throttle, _ = a_throttle()
    assert throttle.wait("192.0.2.1", "admin") == 0
    throttle.succeeded("192.0.2.1", "admin")
    for number in range(20):
        throttle.wait(f"198.51.100.{number}", "admin")
    assert throttle.wait("198.51.100.99", "admin") > 0
    assert throttle.wait("192.0.2.1", "admin") == 0


def test_memory_is_bounded_and_the_busiest_are_remembered() -> None:
    throttle, _ = a_throttle()
    while throttle.wait("192.0.2.1", "admin") == 0:
        pass
    for number in range(2 * MAX_KEYS):
        throttle.wait(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", f"user{number}")
    assert len(throttle._full_at) <= MAX_KEYS + 2
    assert throttle.wait("192.0.2.1", "admin") > 0
