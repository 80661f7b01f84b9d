"""`postroom backup` and `postroom restore` as a person and as a script see them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from postroom.cli import main
from tests.cli.conftest import Gateway, Mail, Shell


def run(*words: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words], prog_name="postroom")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def as_json(*words: str | Path) -> Any:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def backup(postroom: Shell, mail: Mail, tmp_path: Path) -> Path:
    place = tmp_path / "copy"
    result = postroom("backup", str(place))
    assert result.exit_code == 0, result.output
    assert "5 entries of 5 messages" in result.stdout
    assert "not included" in result.stdout
    return place


def test_a_backup_tells_programs_what_is_in_it(postroom: Shell, mail: Mail, tmp_path: Path) -> None:
    told = postroom.json("backup", str(tmp_path / "copy"))
    assert told["directory"] == str(tmp_path / "copy")
    assert (told["entries"], told["messages"], told["bodies"], told["secrets"]) == (5, 5, 0, False)
    assert (told["ledgerDifference"], told["missingBodies"]) == (0, [])
    assert told["takenAt"].endswith("Z")
    assert "files" not in told


def test_the_secrets_key_is_taken_along_only_when_asked(postroom: Shell, gateway: Gateway, tmp_path: Path) -> None:
    refused = postroom("backup", str(tmp_path / "copy"), "--with-secrets")
    assert refused.exit_code == 1
    assert "no key file at" in refused.stderr
    (gateway.data / "secrets.key").write_bytes(os.urandom(32))
    assert postroom.json("backup", str(tmp_path / "copy"), "--with-secrets")["secrets"]
    assert (tmp_path / "copy" / "secrets.key").read_bytes() == (gateway.data / "secrets.key").read_bytes()


def test_a_second_backup_to_the_same_place_is_refused(postroom: Shell, backup: Path) -> None:
    result = postroom("backup", str(backup))
    assert result.exit_code == 1
    assert result.stderr == f"postroom: {backup} is not empty: give a directory that is not there yet\n"


def test_a_restore_tells_what_it_labelled(backup: Path, tmp_path: Path) -> None:
    result = run("restore", backup, "--data", tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert "5 entries: may have been delivered since" in result.stdout
    assert "the backup has no secrets key" in result.stderr
    listed = as_json("queue", "list", "--data", tmp_path / "new")
    assert [entry["maybeDelivered"] for entry in listed] == [True] * 5
    shown = run("queue", "list", "--data", tmp_path / "new").stdout
    assert shown.count("maybe delivered: ") == 5


def test_a_restore_with_hold_leaves_everything_to_a_person(backup: Path, tmp_path: Path) -> None:
    told = as_json("restore", backup, "--data", tmp_path / "new", "--hold")
    assert (told["entries"], told["labelled"], told["held"], told["ledgerDifference"]) == (5, 5, 5, 0)
    listed = as_json("queue", "list", "--data", tmp_path / "new")
    assert {entry["queue"] for entry in listed} == {"held"}
    assert {entry["fromQueue"] for entry in listed} == {"processing", "delivery", "system"}
    shown = as_json("queue", "show", listed[0]["id"], "--data", tmp_path / "new")
    assert shown[0]["events"][-1]["kind"] == "restored"
    assert shown[0]["events"][-1]["actor"].startswith("cli:")


def test_the_policy_for_what_may_have_been_delivered_holds_for_a_restore(backup: Path, tmp_path: Path) -> None:
    config = tmp_path / "postroom.toml"
    config.write_text('[delivery]\nmaybe_delivered = "hold"\n')
    told = as_json("restore", backup, "--data", tmp_path / "new", "--config", config)
    assert told["held"] == 5


def test_a_restore_over_a_store_is_refused(postroom: Shell, backup: Path, gateway: Gateway) -> None:
    result = postroom("restore", str(backup))
    assert result.exit_code == 1
    assert f"there is a store at {gateway.data / 'postroom.db'} already" in result.stderr


def test_a_damaged_backup_names_the_file(backup: Path, tmp_path: Path) -> None:
    with (backup / "postroom.db").open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff")
    result = run("restore", backup, "--data", tmp_path / "new")
    assert result.exit_code == 1
    assert "is damaged, nothing was restored: postroom.db" in result.stderr
    assert not (tmp_path / "new").exists()


def test_a_backup_where_no_store_is_says_so(tmp_path: Path) -> None:
    result = run("backup", tmp_path / "copy", "--data", tmp_path / "nothing")
    assert result.exit_code == 1
    assert "no store at" in result.stderr
    assert list(tmp_path.iterdir()) == []
