"""`postroom user`: the people who log in to the console, or over the API for keys.

Promises: a password that is made here is shown once, on standard output only; every change stands in the audit log, in the same
transaction, and ends sessions and keys that it takes the ground from. Fails: `Refusal` (exit 1) naming what was wrong with an address, a
password or a role.
"""

from __future__ import annotations

import secrets
import sys

import click

from postroom.cli.place import Commands, Place, Refusal, at_a_place, audit_line
from postroom.cli.table import Column, print_json, print_list, print_pairs
from postroom.cli.words import ago, ended
from postroom.clock import SystemClock
from postroom.store import access
from postroom.telemetry import stamp


@click.group(cls=Commands)
def user() -> None:
    """People: who may log in to the console, or over the API."""


@user.command("create")
@click.option("--email", required=True, metavar="ADDRESS", help="What they log in with.")
@click.option("--role", required=True, metavar="ROLE", help="What they may do; postroom role list shows the roles.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of making one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@at_a_place
def create_user(place: Place, email: str, role: str, password_stdin: bool, as_json: bool) -> None:
    """Create a person and print a new password for them, this once.

    \b
    Examples:
      postroom user create --email alice@corp.example --role administrator
      pass mail/alice | postroom user create --email alice@corp.example --role monitor --password-stdin
    """
    password = _password(password_stdin)
    hashed = access.hash_password(password)
    create = access.create_user(email=email, password_hash=hashed, role=role)
    made = place.change(create.then(lambda made: audit_line("user.create", made.email, f"role {role}")))
    shown = {} if password_stdin else {"password": password}
    if as_json:
        print_json({"email": made.email, "role": role, **shown})
    else:
        click.echo(f"user {made.email}, role {role}")
        print_pairs(list(shown.items()))


@user.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array of objects.")
@at_a_place
def list_users(place: Place, as_json: bool) -> None:
    """List people with their roles, and how many keys the API's login has given them.

    \b
    Example:
      postroom user list
    """
    found = place.look(access.list_users())
    if as_json:
        print_json(
            [
                {
                    "email": listed.email,
                    "role": listed.role,
                    "created": stamp(listed.created),
                    "disabled": None if listed.disabled is None else stamp(listed.disabled),
                    "keys": listed.keys,
                }
                for listed in found
            ]
        )
        return
    now = SystemClock().now()
    columns = (
        Column("EMAIL", least=10),
        Column("ROLE"),
        Column("CREATED"),
        Column("DISABLED"),
        Column("KEYS", right=True),
    )
    rows = [
        (
            listed.email,
            listed.role,
            ago(listed.created, now),
            ended(listed.disabled, now),
            str(listed.keys),
        )
        for listed in found
    ]
    print_list(columns, rows, empty="no users")


@user.command("password")
@click.argument("email", metavar="ADDRESS")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of making one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@at_a_place
def set_password(place: Place, email: str, password_stdin: bool, as_json: bool) -> None:
    """Give a person a new password and print it, this once. Their sessions and their keys from login end.

    \b
    Examples:
      postroom user password alice@corp.example
      pass mail/alice | postroom user password alice@corp.example --password-stdin
    """
    password = _password(password_stdin)
    hashed = access.hash_password(password)
    found = place.change(access.set_password(email, hashed).then(lambda found: audit_line("user.password", found)))
    shown = {} if password_stdin else {"password": password}
    if as_json:
        print_json({"email": found, **shown})
    else:
        click.echo(f"user {found} has a new password")
        print_pairs(list(shown.items()))


@user.command("disable")
@click.argument("email", metavar="ADDRESS")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@at_a_place
def disable_user(place: Place, email: str, as_json: bool) -> None:
    """Shut a person out: sessions and keys from login end within a second. Enabling lets them log in again.

    \b
    Example:
      postroom user disable alice@corp.example
    """
    _switch(place, email, as_json, disabled=True)


@user.command("enable")
@click.argument("email", metavar="ADDRESS")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@at_a_place
def enable_user(place: Place, email: str, as_json: bool) -> None:
    """Let a disabled person log in again, with the password that they had.

    \b
    Example:
      postroom user enable alice@corp.example
    """
    _switch(place, email, as_json, disabled=False)


def _switch(place: Place, email: str, as_json: bool, *, disabled: bool) -> None:
    """Asking for what is already so is no failure: a script may say it twice."""
    switch = access.disable_user(email, SystemClock().now()) if disabled else access.enable_user(email)
    kind = "user.disable" if disabled else "user.enable"
    found, done = place.change(switch.then(lambda done: audit_line(kind, done[0]) if done[1] else None))
    if as_json:
        print_json({"email": found, "disabled": disabled, "changed": done})
    else:
        state = "may not log in" if disabled else "may log in"
        click.echo(f"user {found} {state}{'' if done else ' already'}")


@user.command("delete")
@click.argument("email", metavar="ADDRESS")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@at_a_place
def delete_user(place: Place, email: str, yes: bool, as_json: bool) -> None:
    """Delete a person, their sessions and their keys. What they did stays in timelines and in the audit log.

    \b
    Examples:
      postroom user delete alice@corp.example
      postroom user delete alice@corp.example --yes
    """
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(f"nobody can be asked: say --yes to delete {email}")
        click.confirm(f"Delete {email}?", abort=True, err=True)
    found = place.change(access.delete_user(email).then(lambda found: audit_line("user.delete", found)))
    if as_json:
        print_json({"email": found, "deleted": True})
    else:
        click.echo(f"user {found} is deleted")


def _password(from_input: bool) -> str:
    if not from_input:
        return secrets.token_urlsafe(15)
    typed = sys.stdin.readline().rstrip("\r\n")
    if not typed:
        raise Refusal("no password on standard input")
    return typed
