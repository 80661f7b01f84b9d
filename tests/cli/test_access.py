"""People, roles, applications and the audit log from the command line."""

from __future__ import annotations

import re

import pytest

from postroom.store import plans
from postroom.store.access import bindings, identity, people, permissions
from postroom.store.logs import audit
from tests.cli.conftest import Gateway, Mail, Shell, ids

ALICE = "alice@corp.example"


@pytest.fixture
def alice(gateway: Gateway, postroom: Shell) -> str:
    """An administrator; there is another one."""
    for email in (ALICE, "bob@corp.example"):
        made = postroom("user", "create", "--email", email, "--role", "administrator", "--password-stdin",
                        input="correct horse\n")  # fmt: skip
        assert made.exit_code == 0
    return ALICE


def password_is(gateway: Gateway, password: str) -> bool:
    return identity.verify_password(identity.find_user(gateway.store.read_now().tx, ALICE), password)


def test_people_are_listed_without_secrets(gateway: Gateway, postroom: Shell, alice: str) -> None:
    found = postroom.json("user", "list")
    assert [list(user) for user in found] == [["email", "role", "created", "disabled", "keys"]] * 2
    assert [(user["email"], user["role"], user["disabled"], user["keys"]) for user in found] == [
        (alice, "administrator", None, 0), ("bob@corp.example", "administrator", None, 0),
    ]  # fmt: skip
    table = postroom("user", "list").stdout
    assert alice in table
    assert "argon2" not in table + str(found)


def test_no_people_is_said_on_standard_error(gateway: Gateway, postroom: Shell) -> None:
    result = postroom("user", "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no users\n")


def test_a_new_password_takes_the_place_of_the_old_one(gateway: Gateway, postroom: Shell, alice: str) -> None:
    gateway.store.write_now(lambda tx: identity.create_session(tx, alice, lifetime=10**12))
    made = postroom.json("user", "password", "Alice@Corp.Example")
    assert made["email"] == alice
    assert password_is(gateway, made["password"])
    assert not password_is(gateway, "correct horse")
    rows = gateway.store.read_now().tx.rows("SELECT count(*) FROM console_session")
    assert rows == [(0,)]
    brought = postroom("user", "password", alice, "--password-stdin", input="battery staple\n")
    assert (brought.exit_code, brought.stdout) == (0, f"user {alice} has a new password\n")
    assert password_is(gateway, "battery staple")
    assert postroom("user", "password", alice, "--password-stdin", input="").exit_code == 1
    nobody = postroom("user", "password", "nobody@corp.example")
    assert (nobody.exit_code, nobody.stderr) == (
        1, "postroom: no user 'nobody@corp.example'; postroom user list shows them\n",
    )  # fmt: skip


def test_a_person_is_shut_out_and_let_in_again(gateway: Gateway, postroom: Shell, alice: str) -> None:
    assert postroom("user", "disable", alice).stdout == f"user {alice} is disabled\n"
    assert postroom("user", "disable", alice).stdout == f"user {alice} was already disabled\n"
    assert not password_is(gateway, "correct horse")
    assert postroom.json("user", "list")[0]["disabled"] is not None
    again = postroom("user", "create", "--email", alice, "--role", "monitor")
    assert (again.exit_code, again.stderr) == (1, f"postroom: user {alice} exists already\n")
    assert postroom.json("user", "enable", alice) == {"email": alice, "disabled": False, "changed": True}
    assert password_is(gateway, "correct horse")


def test_a_person_is_deleted_with_what_was_theirs(gateway: Gateway, postroom: Shell, alice: str) -> None:
    sealer_free = b"sealed elsewhere"
    gateway.store.write_now(
        lambda tx: tx.rows("INSERT INTO binding VALUES ('key', 'app', ?, ?, 1, 1)", (alice, sealer_free))
    )
    assert [user["keys"] for user in postroom.json("user", "list")] == [1, 0]
    asked = postroom("user", "delete", alice)
    assert asked.exit_code == 2
    assert "there is no terminal to confirm on: add --yes" in asked.stderr
    assert postroom("user", "delete", alice, "--yes").stdout == f"user {alice} is deleted\n"
    assert [user["email"] for user in postroom.json("user", "list")] == ["bob@corp.example"]
    rows = gateway.store.read_now().tx.rows("SELECT count(*) FROM binding")
    assert rows == [(0,)]
    assert bindings.MOST


def test_the_last_administrator_stays(gateway: Gateway, postroom: Shell, alice: str) -> None:
    assert postroom("user", "disable", "bob@corp.example").exit_code == 0
    for words in (("disable", alice), ("delete", alice, "--yes")):
        result = postroom("user", *words)
        assert result.exit_code == 1
        assert "the last administrator who can log in" in result.stderr
    assert postroom("user", "delete", "bob@corp.example", "--yes").exit_code == 0
    assert [user.email for user in people.list_users(gateway.store.read_now().tx)] == [alice]


def test_the_permissions_are_listed_with_their_sentences(gateway: Gateway, postroom: Shell) -> None:
    found = {row["permission"]: row["allows"] for row in postroom.json("role", "permissions")}
    assert found == permissions.PERMISSIONS | {"*": "Everything, including what later releases add."}
    assert permissions.TRACKING_READ in postroom("role", "permissions").stdout


def test_the_plan_limit_of_a_role_is_shown_changed_and_written_down(gateway: Gateway, postroom: Shell) -> None:
    made = postroom.json(
        "role", "create", "--name", "reader", "--permission", "Monitoring|Processing|Read", "--plan-limit", "500"
    )
    assert made["planLimit"] == 500

    def shown() -> dict[str, int | None]:
        return {row["name"]: row["planLimit"] for row in postroom.json("role", "list")}

    assert shown() == {"administrator": None, "monitor": None, "reader": 500}
    assert re.search(r"(?m)^reader +500 +Monitoring", postroom("role", "list").stdout)
    assert re.search(r"(?m)^monitor +- +", postroom("role", "list").stdout)
    assert postroom("role", "limit", "reader", "--plan-limit", "20").stdout == "role reader: plan limit 20\n"
    assert gateway.store.read_now().ask(plans.limit_of(["administrator", "reader"])) == 20
    assert postroom.json("role", "limit", "reader", "--no-plan-limit") == {
        "name": "reader", "planLimit": None, "changed": True,
    }  # fmt: skip
    assert postroom("role", "limit", "reader", "--no-plan-limit").stdout == "role reader: plan limit - already\n"
    assert shown()["reader"] is None
    assert told(postroom, "--kind", "role") == [
        ("role.create", "reader", "Monitoring | Processing | Read; at most 500 entries in a plan", 1),
        ("role.limit", "reader", "at most 20 entries in a plan", 1),
        ("role.limit", "reader", "no limit of its own", 1),
    ]


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("nobody", "--plan-limit", "5"), 1, "no role 'nobody': expected one of administrator, monitor"),
        (("monitor",), 2, "either --plan-limit N or --no-plan-limit"),
        (("monitor", "--plan-limit", "5", "--no-plan-limit"), 2, "either --plan-limit N or --no-plan-limit"),
        (("monitor", "--plan-limit", "0"), 2, "0 is not in the range"),
        (("monitor", "--plan-limit", str(1 << 63)), 2, "is not in the range"),
    ],
)
def test_a_plan_limit_that_cannot_be_is_refused(
    gateway: Gateway, postroom: Shell, words: tuple[str, ...], status: int, says: str
) -> None:
    refused = postroom("role", "limit", *words)
    assert (refused.exit_code, refused.stdout) == (status, "")
    assert says in refused.stderr


# -- the audit log


def told(postroom: Shell, *words: str) -> list[tuple[str, str, str, int]]:
    return [
        (line["kind"], line["what"], line["detail"], line["times"])
        for line in reversed(postroom.json("audit", "list", *words))
    ]


def test_every_change_stands_in_the_audit_log_with_who_did_it(
    gateway: Gateway, mail: Mail, postroom: Shell, alice: str
) -> None:
    made = postroom.json("app", "create", "--name", "soar", "--role", "monitor")
    assert postroom("role", "create", "--name", "reader", "--permission", "monitoring|processing|read").exit_code == 0
    for words in (
        ("app", "revoke", made["appId"]), ("app", "revoke", made["appId"]), ("user", "password", alice),
        ("user", "disable", alice), ("user", "disable", alice), ("user", "enable", alice),
        ("user", "delete", alice, "--yes"),
        ("queue", "pause", "delivery"), ("queue", "pause", "delivery"), ("queue", "resume", "delivery"),
        ("queue", "hold", *ids(mail.waiting), "--reason", "asked for by legal"),
        ("queue", "release", *ids(mail.waiting)),
        ("queue", "retry", *ids(mail.deferred, mail.maybe)),
    ):  # fmt: skip
        postroom(*words)
    (waiting,) = ids(mail.waiting)
    assert told(postroom) == [
        ("user.create", alice, "role administrator", 1),
        ("user.create", "bob@corp.example", "role administrator", 1),
        ("app.create", made["appId"], "soar, role monitor", 1),
        ("role.create", "reader", "Monitoring | Processing | Read", 1),
        ("app.revoke", made["appId"], "", 1),
        ("user.password", alice, "", 1),
        ("user.disable", alice, "", 1),
        ("user.enable", alice, "", 1),
        ("user.delete", alice, "", 1),
        ("queue.pause", "delivery", "", 1),
        ("queue.resume", "delivery", "", 1),
        ("entries.hold", waiting, "asked for by legal", 1),
        ("entries.release", waiting, "", 1),
        ("entries.retry", "", "", 2),
    ]
    lines = postroom.json("audit", "list")
    assert {re.sub(":.*", "", line["actor"]) for line in lines} == {"cli"}
    assert {line["outcome"] for line in lines} == {"done"}
    kept = str(lines)
    assert not [made[name] for name in ("appKey", "secretKey", "clientSecret", "accessKey") if made[name] in kept]


def test_what_could_not_be_changed_leaves_no_line(gateway: Gateway, postroom: Shell) -> None:
    assert postroom("app", "create", "--name", "soar", "--role", "king").exit_code == 1
    assert postroom("user", "delete", ALICE, "--yes").exit_code == 1
    result = postroom("audit", "list")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "postroom: nothing in the audit log matches\n")


def test_lines_are_chosen_by_time_actor_kind_outcome_and_number(gateway: Gateway, postroom: Shell) -> None:
    def fill(tx: object) -> None:
        for number in range(3):
            audit.add(
                tx,
                at=number,
                actor="user:alice@corp.example",
                kind="login",
                outcome="refused",
                times=number + 1,
            )  # type: ignore[arg-type]

    gateway.store.write_now(fill)
    postroom("queue", "pause", "delivery")
    assert [line[0] for line in told(postroom, "--since", "1 hour")] == ["queue.pause"]
    assert [line[0] for line in told(postroom, "--kind", "queue")] == ["queue.pause"]
    assert [line[3] for line in told(postroom, "--actor", "alice", "--outcome", "refused", "--limit", "2")] == [2, 3]
    table = postroom("audit", "list").stdout
    assert "user:alice@corp.example" in table
    assert "1970-01-01T00:00:00Z" in table
    wrong = postroom("audit", "list", "--kind", "logins")
    assert wrong.exit_code == 2
    assert "expected one of app, entries, " in wrong.stderr
    assert postroom("audit", "list", "--since", "yesterdayish").exit_code == 2
