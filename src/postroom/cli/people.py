"""`postroom user`: the people who log in to the console, or over the API for keys.

Promises: a generated password is shown once, on standard output only; every change writes an audit line in the same
transaction, and ends the sessions and keys that it invalidates. Fails: `Refusal` (exit 1) naming the address, password
or role that was wrong.
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
    """Manage people: the accounts for the console and the API's login."""


@user.command("create")
@click.option("--email", required=True, metavar="ADDRESS", help="Address to log in with.")
@click.option("--role", required=True, metavar="ROLE", help="Role of the person; see postroom role list.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of generating one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def create_user(place: Place, email: str, role: str, password_stdin: bool, as_json: bool) -> None:
    """Create a person and print their generated password. It is shown only once.

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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array of objects.")
@at_a_place
def list_users(place: Place, as_json: bool) -> None:
    """List the people, their roles, and how many keys each has from the API's login.

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
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of generating one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def set_password(place: Place, email: str, password_stdin: bool, as_json: bool) -> None:
    """Set a new password and print it once. Ends the person's sessions and the keys from their logins.

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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def disable_user(place: Place, email: str, as_json: bool) -> None:
    """Lock a person out. Their sessions, and the keys from their logins, end within a second.

    \b
    Example:
      postroom user disable alice@corp.example
    """
    _switch(place, email, as_json, disabled=True)


@user.command("enable")
@click.argument("email", metavar="ADDRESS")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def enable_user(place: Place, email: str, as_json: bool) -> None:
    """Let a disabled person log in again, with the same password.

    \b
    Example:
      postroom user enable alice@corp.example
    """
    _switch(place, email, as_json, disabled=False)


def _switch(place: Place, email: str, as_json: bool, *, disabled: bool) -> None:
    """Idempotent: a change that is already made is not an error, so that scripts can repeat it."""
    switch = access.disable_user(email, SystemClock().now()) if disabled else access.enable_user(email)
    kind = "user.disable" if disabled else "user.enable"
    found, done = place.change(switch.then(lambda done: audit_line(kind, done[0]) if done[1] else None))
    if as_json:
        print_json({"email": found, "disabled": disabled, "changed": done})
    else:
        state = "disabled" if disabled else "enabled"
        click.echo(f"user {found} {f'is {state}' if done else f'was already {state}'}")


@user.command("delete")
@click.argument("email", metavar="ADDRESS")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def delete_user(place: Place, email: str, yes: bool, as_json: bool) -> None:
    """Delete a person, their sessions and their keys. Timelines and the audit log keep what they did.

    \b
    Examples:
      postroom user delete alice@corp.example
      postroom user delete alice@corp.example --yes
    """
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(f"there is no terminal to confirm on: add --yes to delete {email}")
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
