"""What the command line says of a plan whose row cannot be read."""

from __future__ import annotations

from tests.cli.conftest import Gateway, Mail, Shell, ids
from tests.cli.test_plans import made


def test_a_damaged_plan_is_shown_as_damaged_and_refused_with_what_to_do(
    gateway: Gateway, postroom: Shell, mail: Mail
) -> None:
    hurt, sound = made(postroom, "delete", *ids(mail.waiting)), made(postroom, "hold", "from:dave")
    assert postroom("queue", "apply", hurt, "--reason", "junk").exit_code == 0
    gateway.store.write_now(lambda tx: tx.rows("UPDATE plan SET action = 'dance' WHERE id = ?", (int(hurt, 16),)))
    listed = postroom("queue", "plans")
    assert listed.exit_code == 0
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith(hurt)]
    assert "damaged" in line
    assert "action" in line
    assert sound in listed.stdout
    assert listed.stderr == "postroom verify --repair closes damaged plans\n"
    shown = {plan["id"]: plan for plan in postroom.json("queue", "plans")}
    assert shown.keys() == {hurt, sound}
    assert shown[hurt] == {"id": hurt, "state": "damaged", "columns": ["action"]}
    for words in (("undo", hurt), ("plans", hurt), ("apply", hurt, "--reason", "again")):
        refused = postroom("queue", *words)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert f"plan {hurt} is damaged (action)" in refused.stderr
        assert "postroom verify --repair closes it, and holds for a person" in refused.stderr
    assert gateway.store.read_now().leaving() == 1
    told = postroom("verify", "--repair").stdout
    assert f"{hurt}  not possible or not readable: action -> closed: it is final" in told
    assert gateway.store.read_now().leaving() == 0
