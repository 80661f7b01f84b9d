"""`postroom app | role`: API clients, and what they may do.

An application signs API requests or uses OAuth tokens. A role is the set of permissions of an application or a person.
Promises: secrets are shown once, by the command that creates them, on standard output only; every change writes an
audit line in the same transaction. Fails: `Refusal` (exit 1) naming the name, role or address that was wrong.
"""

from __future__ import annotations

from typing import Any

import click

from postroom.cli.place import Commands, Place, Refusal, at_a_place, audit_line
from postroom.cli.table import Column, print_json, print_list, print_pairs, print_table
from postroom.cli.words import ago, ended
from postroom.clock import SystemClock
from postroom.errors import PeerError
from postroom.sealing import Sealer
from postroom.store import access, permissions
from postroom.telemetry import stamp


@click.group(cls=Commands)
def app() -> None:
    """Manage applications: the API clients and their keys."""


@app.command("create")
@click.option("--name", required=True, help="Name of the application, for lists.")
@click.option("--role", required=True, metavar="ROLE", help="Role of the application; see postroom role list.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def create_app(place: Place, name: str, role: str, as_json: bool) -> None:
    """Create an application and print its keys. The keys are shown only once.

    \b
    Examples:
      postroom app create --name soar --role monitor
      postroom app create --name soar --role administrator --json > soar.json
    """
    settings = place.settings()
    with place.store() as store:  # opened first: without a store there is no key file either, and none is made
        create = access.create_app(Sealer.at(settings.data), name=name, role=role)
        told = f"{name.strip()}, role {role}"
        made = store.write_now(create.then(lambda made: audit_line("app.create", made.app_id, told)))
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
        click.echo(f"application {name.strip()}, role {role}; save these keys, they are not shown again:")
        print_pairs(list(keys.items()))


@app.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array of objects.")
@at_a_place
def list_apps(place: Place, as_json: bool) -> None:
    """List the applications, without their secrets.

    \b
    Example:
      postroom app list
    """
    found = place.look(access.list_apps())
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
            ended(listed.revoked, now),
        )
        for listed in found
    ]
    print_list(columns, rows, empty="no applications")


@app.command("revoke")
@click.argument("app_id", metavar="APP_ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def revoke_app(place: Place, app_id: str, as_json: bool) -> None:
    """Revoke an application for good. Its keys stop working within a second.

    \b
    Example:
      postroom app revoke 3f0c9c52-8a0e-4d58-9d1b-0f2f6f1f9d3e
    """
    revoke = access.revoke_app(app_id)
    revoked = place.change(revoke.then(lambda done: audit_line("app.revoke", app_id) if done else None))
    if as_json:
        print_json({"appId": app_id, "revoked": revoked})
    if not revoked:
        raise Refusal(f"no active application has the id {app_id!r}; see postroom app list")
    if not as_json:
        click.echo(f"application {app_id} is revoked")


@click.group(cls=Commands)
def role() -> None:
    """Manage roles: the permissions of applications and people."""


@role.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array of objects.")
@at_a_place
def list_roles(place: Place, as_json: bool) -> None:
    """List the roles: their permissions ("*" is every permission) and their plan limit.

    The plan limit is the largest number of entries that one plan of the role may have.

    \b
    Examples:
      postroom role list
      postroom role permissions               list all permissions
    """
    with place.store() as store:
        reader = store.read_now()
        found, limits = reader.ask(access.list_roles()), reader.ask(access.list_plan_limits())
    if as_json:
        print_json([_role_shown(listed, limits[listed.name]) for listed in found])
    else:
        rows = [(listed.name, _limit_shown(limits[listed.name]), _held(listed)) for listed in found]
        print_table((Column("ROLE"), Column("PLAN LIMIT", right=True), Column("PERMISSIONS", least=20)), rows)


@role.command("permissions")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array of objects.")
@at_a_place
def list_permissions(place: Place, as_json: bool) -> None:
    """List every permission and what it allows.

    \b
    Example:
      postroom role permissions
    """
    found = [*permissions.PERMISSIONS.items(), (permissions.ALL, "Everything, including what later releases add.")]
    if as_json:
        print_json([{"permission": name, "allows": text} for name, text in found])
    else:
        print_table((Column("PERMISSION"), Column("ALLOWS", least=20)), found)


@role.command("create")
@click.option("--name", required=True, help="Name of the role.")
@click.option(
    "--permission",
    "wanted",
    multiple=True,
    required=True,
    metavar="TEXT",
    help="A permission of the role; repeat the option for more.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--plan-limit",
    type=click.IntRange(min=1, max=(1 << 63) - 1),
    metavar="N",
    help="Most entries in one plan of this role.  [default: [plans] max_entries]",
)
@at_a_place
def create_role(place: Place, name: str, wanted: tuple[str, ...], plan_limit: int | None, as_json: bool) -> None:
    """Create a role with the given permissions.

    A permission is a menu path that ends in Read or Edit; "*" means all.

    \b
    Examples:
      postroom role create --name reader --permission "Monitoring | Processing | Read"
      postroom role permissions               list all permissions
    """
    held = _checked("--permission", wanted)
    limited = "" if plan_limit is None else f"; at most {plan_limit} entries in a plan"
    made = place.change(
        access.create_role(name, held)
        .then(lambda made: access.limit_plans(made.name, plan_limit))
        .then(lambda made: audit_line("role.create", made.name, ", ".join(made.permissions) + limited))
    )
    if as_json:
        print_json(_role_shown(made, plan_limit))
    else:
        click.echo(f"role {made.name}: {', '.join(made.permissions)}")


@role.command("limit")
@click.argument("name", metavar="NAME")
@click.option(
    "--plan-limit", type=click.IntRange(min=1, max=(1 << 63) - 1), metavar="N", help="Most entries in one plan."
)
@click.option("--no-plan-limit", is_flag=True, help="Remove the limit of the role; [plans] max_entries applies.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def limit_role(place: Place, name: str, plan_limit: int | None, no_plan_limit: bool, as_json: bool) -> None:
    """Limit the size of a role's plans. A running gateway applies the limit to the next plan.

    \b
    Examples:
      postroom role limit reader --plan-limit 500
      postroom role limit reader --no-plan-limit
    """
    if (plan_limit is None) != no_plan_limit:
        raise click.UsageError("give either --plan-limit N or --no-plan-limit")
    text = "no limit of its own" if plan_limit is None else f"at most {plan_limit} entries in a plan"
    limit = access.limit_plans(name, plan_limit)
    before = place.change(
        limit.then(lambda before: None if before == plan_limit else audit_line("role.limit", name, text))
    )
    changed = before != plan_limit
    if as_json:
        print_json({"name": name, "planLimit": plan_limit, "changed": changed})
    else:
        click.echo(f"role {name}: plan limit {_limit_shown(plan_limit)}{'' if changed else ' already'}")


@role.command("permit")
@click.argument("name", metavar="NAME")
@click.argument("wanted", metavar="PERMISSION...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def permit_role(place: Place, name: str, wanted: tuple[str, ...], as_json: bool) -> None:
    """Add permissions to a role. Keys, tokens and sessions already in use have them within a second.

    \b
    Examples:
      postroom role permit reader "Monitoring | Held | Read" "Account | Dashboard | Read"
      postroom role permissions               list all permissions
    """
    _change_role(place, name, wanted, as_json, permit=True)


@role.command("forbid")
@click.argument("name", metavar="NAME")
@click.argument("wanted", metavar="PERMISSION...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def forbid_role(place: Place, name: str, wanted: tuple[str, ...], as_json: bool) -> None:
    """Remove permissions from a role. Keys, tokens and sessions already in use lose them within a second.

    \b
    Examples:
      postroom role forbid reader "Monitoring | Held | Read"
      postroom role list                      list the permissions of each role

    A role with "*" has every permission, so no single one can be removed: add the permissions it should keep, then
    remove "*". The role administrator always keeps every permission.
    """
    _change_role(place, name, wanted, as_json, permit=False)


def _change_role(place: Place, name: str, wanted: tuple[str, ...], as_json: bool, *, permit: bool) -> None:
    """Idempotent: a change that is already made is not an error, so that scripts can repeat it."""
    meant = _checked("PERMISSION", wanted)
    change = (access.permit_role if permit else access.forbid_role)(name, meant)
    kind = "role.permit" if permit else "role.forbid"
    now, changed = place.change(
        change.then(lambda done: audit_line(kind, name, ", ".join(done[1])) if done[1] else None)
    )
    if as_json:
        print_json({"name": now.name, "permissions": list(now.permissions), "changed": list(changed)})
        return
    done = "permitted" if permit else "forbidden"
    click.echo(f"role {now.name}: {done} {', '.join(changed)}" if changed else f"role {now.name}: nothing changed")
    click.echo(f"its permissions: {_held(now)}")


def _checked(where: str, wanted: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return permissions.check(wanted)
    except PeerError as problem:
        raise click.UsageError(f"{where}: {problem}; see postroom role permissions") from problem


def _held(shown: access.Role) -> str:
    return ", ".join(shown.permissions) or "none"


def _role_shown(shown: access.Role, plan_limit: int | None) -> dict[str, Any]:
    return {"name": shown.name, "permissions": list(shown.permissions), "planLimit": plan_limit}


def _limit_shown(plan_limit: int | None) -> str:
    return "-" if plan_limit is None else str(plan_limit)
