"""The other commands: settings, serve, applications, people, roles; help, version and exit codes of all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from postroom import __version__
from postroom.cli import main
from postroom.settings.doc import reference
from tests.cli.conftest import Gateway, Mail, Shell, ids


def run(*words: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, list(words), env=env, prog_name="postroom")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def commands(command: click.Command = main, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        return [found for name, inner in command.commands.items() for found in commands(inner, (*path, name))]
    return [(path, command)]


@pytest.mark.parametrize(("path", "command"), [pytest.param(*found, id=" ".join(found[0])) for found in commands()])
def test_every_command_explains_itself_with_an_example(path: tuple[str, ...], command: click.Command) -> None:
    code, out, _ = run(*path, "--help")
    assert code == 0
    if path != ("settings", "reference"):
        assert f"postroom {' '.join(path)}" in out.split("Example", 1)[1]
    options = {option for parameter in command.params for option in parameter.opts}
    if path[0] != "settings":
        assert {"--data", "--config"} <= options
    if path not in (("serve",), ("settings", "reference")):
        assert "--json" in options
    assert all(parameter.help for parameter in command.params if isinstance(parameter, click.Option))


@pytest.mark.parametrize(("path", "command"), [pytest.param(*found, id=" ".join(found[0])) for found in commands()])
def test_every_command_is_on_the_operations_page(path: tuple[str, ...], command: click.Command) -> None:
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    assert f"postroom {' '.join(path)}" in page


def test_the_version_is_the_packages() -> None:
    assert run("--version") == (0, f"postroom {__version__}\n", "")


def test_wrong_use_exits_with_2() -> None:
    for words in (["nonsense"], ["queue"], ["queue", "nonsense"], ["queue", "list", "--nonsense"], ["queue", "show"]):
        assert run(*words)[0] == 2


# -- settings


def test_check_says_every_problem_and_exits_with_2(tmp_path: Path) -> None:
    path = tmp_path / "postroom.toml"
    path.write_text('[smtp]\nmax_sise = 1\n[log]\nlevel = "loud"\n')
    code, out, err = run("settings", "check", str(path), env={"POSTROOM_API__PAGE_SIZE": "0"})
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        f"{path}:2: [smtp] max_sise: unknown key; did you mean max_size?",
        f'{path}:4: [log] level: expected one of "debug", "info", "warning", "error", got "loud"',
        'POSTROOM_API__PAGE_SIZE: expected a whole number from 1 to 1000, got "0"',
        "3 problems in the settings",
    ]
    code, out, _ = run("settings", "check", str(path), "--json")
    assert code == 2
    assert json.loads(out) == {"ok": False, "problems": err.splitlines()[:2]}


def test_check_says_when_all_is_right(tmp_path: Path) -> None:
    path = tmp_path / "postroom.toml"
    path.write_text("[smtp]\nmax_errors = 5\n")
    assert run("settings", "check", str(path)) == (0, f"{path}: all right (1 setting given)\n", "")
    assert json.loads(run("settings", "check", str(path), "--json")[1]) == {"ok": True, "problems": []}


def test_wrong_settings_stop_every_command_that_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "postroom.toml"
    path.write_text("[smtp]\nmax_sise = 1\n")
    for words in (["serve"], ["queue", "list"], ["app", "list"], ["settings", "show"]):
        code, out, err = run(*words, "--config", str(path))
        assert (code, out) == (2, "")
        assert err == f"{path}:2: [smtp] max_sise: unknown key; did you mean max_size?\n"
        assert run(*words, env={"POSTROOM_CONFIG": str(path)})[0] == 2


def test_show_prints_what_is_in_force_and_why(tmp_path: Path) -> None:
    path = tmp_path / "postroom.toml"
    path.write_text("[smtp]\nmax_errors = 5\n")
    code, out, _ = run(
        "settings", "show", "--config", str(path), "--data", "here", env={"POSTROOM_LOG__LEVEL": "debug"}
    )
    assert code == 0
    lines = {" ".join(line.split()) for line in out.splitlines()}
    assert f"max_errors = 5 # {path}:2" in lines
    assert 'level = "debug" # POSTROOM_LOG__LEVEL' in lines
    assert 'data = "here" # --data' in lines
    assert 'max_size = "50 MiB" # default' in lines
    document = json.loads(run("settings", "show", "--config", str(path), "--json")[1])
    assert document["settings"]["smtp"]["max_errors"] == 5
    assert document["origins"] == {"smtp.max_errors": f"{path}:2"}


def test_the_reference_is_the_settings_page() -> None:
    assert run("settings", "reference") == (0, reference(), "")


# -- serve


def test_more_workers_than_the_store_can_have_are_refused_in_one_line() -> None:
    code, out, err = run("serve", "--workers", "2")
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.startswith("Error:")]
    assert "--workers 2: with SQLite a single process does all the work" in line
    assert run("serve", "--workers", "0")[0] == 2


def test_wrong_addresses_are_refused_before_anything_starts(tmp_path: Path) -> None:
    code, out, err = run("serve", "--data", str(tmp_path / "data"), "--smtp", "25", "--http", "nowhere")
    assert (code, out) == (2, "")
    assert [line.split(": ")[0] for line in err.splitlines()[:2]] == ["--smtp", "--http"]
    assert not (tmp_path / "data").exists()


# -- applications, people, roles


def test_an_application_is_made_listed_and_revoked(gateway: Gateway, postroom: Shell) -> None:
    made = postroom.json("app", "create", "--name", "soar", "--role", "monitor")
    assert list(made) == ["name", "role", "appId", "appKey", "accessKey", "secretKey", "clientId", "clientSecret"]
    (listed,) = postroom.json("app", "list")
    assert (listed["appId"], listed["name"], listed["role"], listed["revoked"]) == (
        made["appId"],
        "soar",
        "monitor",
        None,
    )
    assert made["secretKey"] not in postroom("app", "list").stdout
    assert postroom("app", "revoke", made["appId"]).stdout == f"application {made['appId']} is revoked\n"
    assert postroom.json("app", "list")[0]["revoked"] is not None
    again = postroom("app", "revoke", made["appId"])
    assert again.exit_code == 1
    assert "no active application has the id" in again.stderr


def test_an_unknown_role_is_refused_with_the_known_ones(gateway: Gateway, postroom: Shell) -> None:
    result = postroom("app", "create", "--name", "soar", "--role", "king")
    assert result.exit_code == 1
    assert result.stderr == "postroom: no role 'king': expected one of administrator, monitor\n"


def test_a_person_gets_a_password_or_brings_one(gateway: Gateway, postroom: Shell) -> None:
    made = postroom.json("user", "create", "--email", "Alice@corp.example", "--role", "administrator")
    assert made["email"] == "alice@corp.example"
    assert len(made["password"]) >= 20
    brought = postroom(
        "user",
        "create",
        "--email",
        "bob@corp.example",
        "--role",
        "monitor",
        "--password-stdin",
        input="correct horse\n",
    )
    assert (brought.exit_code, brought.stdout) == (0, "user bob@corp.example, role monitor\n")
    short = postroom(
        "user", "create", "--email", "c@corp.example", "--role", "monitor", "--password-stdin", input="x\n"
    )
    assert short.exit_code == 1
    assert "password: expected" in short.stderr


def test_roles_are_made_of_menu_paths(gateway: Gateway, postroom: Shell) -> None:
    assert [found["name"] for found in postroom.json("role", "list")] == ["administrator", "monitor"]
    made = postroom("role", "create", "--name", "reader", "--permission", "Monitoring | Processing | Read")
    assert (made.exit_code, made.stdout) == (0, "role reader: Monitoring | Processing | Read\n")
    wrong = postroom("role", "create", "--name", "r2", "--permission", "Monitoring | Procesing | Read")
    assert wrong.exit_code == 2
    assert 'did you mean "Monitoring | Processing | Read"?' in wrong.stderr


# -- as a process


def test_the_installed_command_works_in_a_pipe(gateway: Gateway, mail: Mail) -> None:
    command = Path(sys.executable).parent / "postroom"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
    done = subprocess.run(
        [command, "queue", "list", "--data", gateway.data, "--from", "dave"],
        capture_output=True, text=True, env={**environ, "COLUMNS": "40"}, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ids(mail.maybe, mail.deferred)
    assert "connection lost after the final dot" in done.stdout  # nothing is cut away from a terminal
    assert "\x1b" not in done.stdout
