"""`postroom role permit | forbid`: what a role may do, changed in place."""

from __future__ import annotations

import pytest

from postroom.store.access import identity
from postroom.store.access.permissions import HELD_READ, PROCESSING_EDIT, PROCESSING_READ, TRACKING_READ
from postroom.store.logs import audit
from tests.cli.conftest import Gateway, Shell


@pytest.fixture
def reader(postroom: Shell) -> str:
    assert postroom("role", "create", "--name", "reader", "--permission", PROCESSING_READ).exit_code == 0
    return "reader"


def held(gateway: Gateway, name: str) -> tuple[str, ...]:
    found = identity.find_role(gateway.store.read_now().tx, name)
    assert found is not None
    return found.permissions


def told(gateway: Gateway) -> list[tuple[str, str, str]]:
    """Permissions given and taken, oldest first."""
    lines = audit.read(gateway.store.read_now().tx, kind="role")
    return [(line.kind, line.what, line.detail) for line in lines[::-1] if line.kind != "role.create"]


def test_permissions_are_given_and_taken_and_written_down(gateway: Gateway, postroom: Shell, reader: str) -> None:
    given = postroom("role", "permit", reader, PROCESSING_READ, "monitoring|held|read", TRACKING_READ)
    assert given.stdout == (
        f"role reader: permitted {HELD_READ}, {TRACKING_READ}\n"
        f"its permissions: {PROCESSING_READ}, {HELD_READ}, {TRACKING_READ}\n"
    )
    assert held(gateway, reader) == (PROCESSING_READ, HELD_READ, TRACKING_READ)
    assert postroom.json("role", "forbid", reader, HELD_READ, PROCESSING_EDIT) == {
        "name": reader, "permissions": [PROCESSING_READ, TRACKING_READ], "changed": [HELD_READ],
    }  # fmt: skip
    assert held(gateway, reader) == (PROCESSING_READ, TRACKING_READ)
    assert told(gateway) == [
        ("role.permit", reader, f"{HELD_READ}, {TRACKING_READ}"),
        ("role.forbid", reader, HELD_READ),
    ]


@pytest.mark.parametrize(("verb", "permission"), [("permit", PROCESSING_READ), ("forbid", TRACKING_READ)])
def test_what_is_so_already_is_said_and_leaves_no_line(
    gateway: Gateway, postroom: Shell, reader: str, verb: str, permission: str
) -> None:
    same = postroom("role", verb, reader, permission)
    assert (same.exit_code, same.stdout) == (0, f"role reader: nothing changed\nits permissions: {PROCESSING_READ}\n")
    assert postroom.json("role", verb, reader, permission)["changed"] == []
    assert told(gateway) == []


def test_a_role_may_hold_nothing(gateway: Gateway, postroom: Shell, reader: str) -> None:
    assert postroom("role", "forbid", reader, PROCESSING_READ).stdout.endswith("\nits permissions: none\n")
    assert held(gateway, reader) == ()
    assert "none" in postroom("role", "list").stdout


def test_every_permission_is_narrowed_without_a_gap(gateway: Gateway, postroom: Shell, reader: str) -> None:
    assert postroom("role", "permit", reader, "*").exit_code == 0
    refused = postroom("role", "forbid", reader, TRACKING_READ)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert 'permit it those that it is to keep, then forbid it "*"' in refused.stderr
    assert held(gateway, reader) == (PROCESSING_READ, "*")
    assert postroom("role", "permit", reader, HELD_READ).exit_code == 0
    assert postroom("role", "forbid", reader, "*").exit_code == 0
    assert held(gateway, reader) == (PROCESSING_READ, HELD_READ)


def test_the_administrators_keep_every_permission(gateway: Gateway, postroom: Shell) -> None:
    for permission in ("*", TRACKING_READ):
        refused = postroom("role", "forbid", "administrator", permission)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "role administrator keeps every permission" in refused.stderr
    assert held(gateway, "administrator") == ("*",)
    assert told(gateway) == []


@pytest.mark.parametrize("verb", ["permit", "forbid"])
@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("nobody", TRACKING_READ), 1, "no role 'nobody': expected one of administrator, monitor, reader"),
        (("reader", TRACKING_READ, "Monitoring | Hold | Read"), 2, f'did you mean "{HELD_READ}"?'),
        (("reader", "xyz"), 2, "see postroom role permissions"),
        (("reader",), 2, "Missing argument 'PERMISSION...'"),
    ],
)
def test_a_wrong_name_changes_nothing(
    gateway: Gateway, postroom: Shell, reader: str, verb: str, words: tuple[str, ...], status: int, says: str
) -> None:
    refused = postroom("role", verb, *words)
    assert (refused.exit_code, refused.stdout) == (status, "")
    assert says in refused.stderr
    assert held(gateway, reader) == (PROCESSING_READ,)
    assert told(gateway) == []
