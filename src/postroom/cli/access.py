"""`postroom app | user | role`: who may ask. Applications sign API requests, people log in to the console.

Promises: secrets are shown once, by the command that makes them, on standard output only. Fails: `Refusal` (exit 1) naming what was wrong
with a name, a role or an address.
"""

from __future__ import annotations

import re
import secrets
import sys

import click

from postroom.cli.place import Commands, Place, Refusal, at_a_place
from postroom.cli.table import Cell, Column, print_json, print_pairs, print_table
from postroom.cli.words import ago
from postroom.clock import SystemClock
from postroom.sealing import Sealer
from postroom.store import identity
from postroom.telemetry import stamp

_PERMISSION = re.compile(r"[\w /&-]+( \| [\w /&-]+)+ \| (Read|Edit)")  # contract section 8: "Menu | Item | Read"


@click.group(cls=Commands)
def app() -> None:
    """Applications: what signs requests to the API."""


@app.command("create")
@click.option("--name", required=True, help="What it is for; shown in lists.")
@click.option("--role", required=True, metavar="ROLE", help="What it may do; postroom role list shows the roles.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@at_a_place
def create_app(place: Place, name: str, role: str, as_json: bool) -> None:
    """Create an application and print its keys. They are shown this once.

    \b
    Examples:
      postroom app create --name soar --role monitor
      postroom app create --name soar --role administrator --json > soar.json
    """
    settings = place.settings()
    with place.store() as store:
        sealer = Sealer.at(settings.data)
        made = store.write_now(lambda c: identity.create_app(c, sealer, name=name, role=role))
    keys = {
        "appId": made.app_id,
        "appKey": made.app_key,
        "accessKey": made.access_key,
        "secretKey": made.secret_key,
        "clientId": made.client_id,
        "clientSecret": made.client_secret,
    }
    if as_json:
        print_json({"name": name.strip(), "role": role, **keys})
    else:
        click.echo(f"application {name.strip()}, role {role}; keep these keys, they are not shown again:")
        print_pairs(list(keys.items()))


@app.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array of objects.")
@at_a_place
def list_apps(place: Place, as_json: bool) -> None:
    """List applications, without their secrets.

    \b
    Example:
      postroom app list
    """
    with place.store() as store:
        found = identity.list_apps(store.read_now().connection)
    if as_json:
        print_json(
            [
                {
                    "appId": listed.app_id,
                    "name": listed.name,
                    "role": listed.role,
                    "accessKey": listed.access_key,
                    "clientId": listed.client_id,
                    "created": stamp(listed.created),
                    "revoked": None if listed.revoked is None else stamp(listed.revoked),
                }
                for listed in found
            ]
        )
        return
    now = SystemClock().now()
    columns = (
        Column("APP ID"),
        Column("NAME", least=10),
        Column("ROLE", least=8),
        Column("CREATED"),
        Column("REVOKED"),
    )
    rows = [
        (
            listed.app_id,
            listed.name,
            listed.role,
            ago(listed.created, now),
            Cell(
                "-" if listed.revoked is None else ago(listed.revoked, now), None if listed.revoked is None else "red"
            ),
        )
        for listed in found
    ]
    if rows:
        print_table(columns, rows)
    else:
        click.echo("no applications", err=True)


@app.command("revoke")
@click.argument("app_id", metavar="APP_ID")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@at_a_place
def revoke_app(place: Place, app_id: str, as_json: bool) -> None:
    """Revoke an application: its keys stop working within a second, for good.

    \b
    Example:
      postroom app revoke 3f0c9c52-8a0e-4d58-9d1b-0f2f6f1f9d3e
    """
    with place.store() as store:
        revoked = store.write_now(lambda c: identity.revoke_app(c, app_id))
    if as_json:
        print_json({"appId": app_id, "revoked": revoked})
    if not revoked:
        raise Refusal(f"no living application has the id {app_id!r}; postroom app list shows them")
    if not as_json:
        click.echo(f"application {app_id} is revoked")


@click.group(cls=Commands)
def user() -> None:
    """People: who may log in to the console."""


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
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else secrets.token_urlsafe(15)
    hashed = identity.hash_password(password)
    with place.store() as store:
        made = store.write_now(lambda c: identity.create_user(c, email=email, password_hash=hashed, role=role))
    shown = {} if password_stdin else {"password": password}
    if as_json:
        print_json({"email": made.email, "role": role, **shown})
    else:
        click.echo(f"user {made.email}, role {role}")
        print_pairs(list(shown.items()))


@click.group(cls=Commands)
def role() -> None:
    """Roles: what applications and people may do."""


@role.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array of objects.")
@at_a_place
def list_roles(place: Place, as_json: bool) -> None:
    """List the roles with their permissions; "*" is every permission.

    \b
    Example:
      postroom role list
    """
    with place.store() as store:
        found = identity.list_roles(store.read_now().connection)
    if as_json:
        print_json([{"name": listed.name, "permissions": list(listed.permissions)} for listed in found])
    else:
        rows = [(listed.name, ", ".join(listed.permissions)) for listed in found]
        print_table((Column("ROLE"), Column("PERMISSIONS", least=20)), rows)


@role.command("create")
@click.option("--name", required=True, help="What applications and people name it by.")
@click.option("--permission", "permissions", multiple=True, required=True, metavar="TEXT", help="May be given again.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@at_a_place
def create_role(place: Place, name: str, permissions: tuple[str, ...], as_json: bool) -> None:
    """Create a role from permissions: menu paths that end in Read or Edit, or "*" for all.

    \b
    Examples:
      postroom role create --name reader --permission "Monitoring | Processing | Read"
      postroom role list                      which permissions the roles have that there are
    """
    for permission in permissions:
        if permission != identity.ALL_PERMISSIONS and not _PERMISSION.fullmatch(permission):
            expected = f'a menu path like "{identity.PROCESSING_READ}", or "*"'
            raise click.UsageError(f"--permission: expected {expected}, got {permission!r}")
    with place.store() as store:
        made = store.write_now(lambda c: identity.create_role(c, name, tuple(dict.fromkeys(permissions))))
    if as_json:
        print_json({"name": made.name, "permissions": list(made.permissions)})
    else:
        click.echo(f"role {made.name}: {', '.join(made.permissions)}")
