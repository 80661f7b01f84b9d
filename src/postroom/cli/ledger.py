"""`postroom ledger`: everything created = everything ended + everything queued, account by account.

Promises: one consistent read, also while the gateway runs. Fails: `Refusal` (exit 1) when the difference is not 0.
"""

from __future__ import annotations

import click

from postroom.cli.place import Place, Refusal, at_a_place
from postroom.cli.table import Cell, Column, print_json, print_table
from postroom.cli.words import local_exact
from postroom.ids import public_id
from postroom.store import keep

SHOWN_LIVES = 10


@click.command()
@click.option("--lives", is_flag=True, help="Also show what each process counted, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def ledger(place: Place, lives: bool, as_json: bool) -> None:
    """Show the ledger: entries created, ended and queued. No mail is missing when the difference is 0.

    \b
    Examples:
      postroom ledger
      postroom ledger --lives
      postroom ledger --json | jq .difference

    The ledger counts entries: a message to three recipients is three. Exits 1 when the difference is not 0: then mail
    is unaccounted for, and postroom verify finds which.
    """
    with place.store() as store:
        found = store.read_now().ask(keep.read_ledger())
    if as_json:
        print_json(keep.ledger_as_json(found))
    else:
        _print(found)
        if lives:
            click.echo()
            _print_lives(found)
    if found.difference:
        raise Refusal(f"the ledger does not balance ({found.difference:+,}): {keep.REMEDY}")


def _print(found: keep.Ledger) -> None:
    queued = {**{queue.value: number for queue, number in found.queued.items()}, "leaving": found.leaving}
    rows: list[list[str | Cell]] = []
    for title, accounts in (("created", found.created), ("ended", found.ended), ("queued", queued)):
        rows.append([Cell(title, bold=True), "", Cell(f"{sum(accounts.values()):,}", bold=True)])
        rows += [["", kind, f"{number:,}"] for kind, number in accounts.items() if number]
    colour = "red" if found.difference else "green"
    rows.append([Cell("difference", colour, bold=True), "", Cell(f"{found.difference:+,}".replace("+0", "0"), colour)])
    print_table((Column("SIDE"), Column("ACCOUNT"), Column("ENTRIES", right=True)), rows)


def _print_lives(found: keep.Ledger) -> None:
    columns = (
        Column("LIFE"),
        Column("BEGAN"),
        Column("PROCESS"),
        Column("CREATED", right=True),
        Column("ENDED", right=True),
    )
    rows = [
        (
            public_id(life.id),
            local_exact(life.began),
            "command" if life.beside else "gateway",
            f"{life.created:,}",
            f"{life.ended:,}",
        )
        for life in found.lives[:SHOWN_LIVES]
    ]
    if rows:
        print_table(columns, rows)
    older = len(found.lives) - len(rows) + found.earlier
    if older:
        click.echo(f"and {older:,} earlier ones", err=True)
