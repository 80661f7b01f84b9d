"""`postroom ledger`."""

from __future__ import annotations

from tests.cli.conftest import Gateway, Mail, Shell


def test_the_ledger_is_shown_account_by_account(postroom: Shell, mail: Mail, gateway: Gateway) -> None:
    gateway.deliver(mail.working, mail.working, "250 2.0.0 kept")
    result = postroom("ledger", "--lives")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["created", "5"] in lines
    assert ["accepted", "5"] in lines
    assert ["ended", "1"] in lines
    assert ["delivered", "1"] in lines
    assert ["delivery", "2"] in lines
    assert ["difference", "0"] in lines
    assert [line[-3:] for line in lines if "gateway" in line] == [["gateway", "5", "1"]]


def test_programs_get_every_account(postroom: Shell, mail: Mail) -> None:
    told = postroom.json("ledger")
    assert told["difference"] == 0
    assert told["created"] == {"accepted": 5, "notice": 0, "copy": 0, "redirect": 0, "import": 0}
    assert set(told["ended"].values()) == {0}
    assert told["queued"]["processing"] == 2
    assert told["lives"][0].keys() == {"id", "began", "process", "created", "ended", "kinds"}


def test_a_difference_exits_with_1_and_says_what_to_do(postroom: Shell, mail: Mail, gateway: Gateway) -> None:
    gateway.store.write_now(lambda tx: tx.rows("INSERT INTO ledger VALUES (1, 'accepted', 3)"))
    result = postroom("ledger")
    assert result.exit_code == 1
    assert "the ledger does not balance (+3): mail is unaccounted for: postroom verify" in result.stderr
    assert postroom.json("ledger", exit_code=1)["difference"] == 3
