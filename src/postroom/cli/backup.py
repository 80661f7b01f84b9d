"""`postroom backup | restore`: a copy of the store at one instant, and the way back.

Promises: a backup can be taken while the gateway runs, and is complete or absent; a restore writes only to a directory
without a store, and reports what it labelled. Fails: `Refusal` (exit 1) naming the place, the problem and the remedy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from postroom.cli.place import Place, Refusal, actor, at_a_place
from postroom.cli.table import Cell, print_json, print_pairs, warn
from postroom.cli.words import local_exact, many, size_words
from postroom.clock import SystemClock
from postroom.sealing import KEY_NAME
from postroom.store import backup

_DIRECTORY = click.Path(file_okay=True, path_type=Path)
_STEPS = 1000  # of the progress bar


@click.command("backup")
@click.argument("directory", metavar="DIR", type=_DIRECTORY)
@click.option(
    "--with-secrets", is_flag=True, help="Include secrets.key, which decrypts the API keys. Guard such a backup."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def take_backup(place: Place, directory: Path, with_secrets: bool, as_json: bool) -> None:
    """Back up the queue, messages, history, applications and people.

    DIR must be new or empty. The gateway may keep running; the backup is the store as it was at one instant. It
    contains mail, so only you can read it. It does not contain your settings file.

    \b
    Examples:
      postroom backup /backup/postroom-2026-11-22
      postroom backup /backup/today --data /var/lib/postroom
      postroom backup /safe/full --with-secrets        with secrets.key, so that API keys work after a restore
    """
    settings = place.settings()
    key = Path(settings.data, KEY_NAME) if with_secrets else None
    if key is not None and not key.exists():
        raise Refusal(f"no key file at {key}: give the gateway's --data, or leave --with-secrets out")
    with place.store() as store, _shown("Backing up") as progress:
        made = backup.take(store, directory, clock=SystemClock(), key=key, progress=progress)
        store.write_now(backup.record(directory, at=SystemClock().now(), actor=actor(), with_key=key is not None))
    if as_json:
        print_json({"directory": str(directory), **backup.as_json(made)})
    else:
        click.echo(f"backup {directory}")
        print_pairs(
            [
                ("as of", local_exact(made.instant)),
                ("waiting", f"{many(made.entries)} of {many(made.messages, 'message')}"),
                ("history", many(made.history)),
                ("large bodies", f"{made.bodies:,}"),
                ("size", size_words(made.bytes)),
                ("secrets key", "included: guard this backup like a password" if made.secrets else "not included"),
            ]
        )
    _tell_missing(made.missing_bodies)


@click.command("restore")
@click.argument("directory", metavar="DIR", type=_DIRECTORY)
@click.option("--hold", is_flag=True, help="Move every waiting entry to held, for a person to release.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def restore_backup(place: Place, directory: Path, hold: bool, as_json: bool) -> None:
    """Restore a backup to a data directory without a store.

    Mail that waited when the backup was taken may have been delivered since. So every entry is labelled "may have been
    delivered", and is tried again when the gateway starts. With --hold, or with maybe_delivered = "hold" in the
    settings, entries wait in held until a person releases them.

    \b
    Examples:
      postroom restore /backup/postroom-2026-11-22 --data /var/lib/postroom
      postroom restore /backup/postroom-2026-11-22 --data look --hold    to inspect it; nothing is sent
    """
    settings = place.settings()
    by_policy = settings.delivery.maybe_delivered == "hold"
    with _shown("Restoring") as progress:
        made = backup.restore(
            directory, settings, clock=SystemClock(), hold=hold or by_policy, actor=actor(), progress=progress
        )
    if as_json:
        print_json(msgspec.to_builtins(made))
    else:
        click.echo(f"restored to {made.data}, as it was at {made.taken_at}")
        print_pairs(
            [
                ("waiting", many(made.entries)),
                ("labelled", f"{many(made.labelled)}: may have been delivered since"),
                ("held", many(made.held)),
                ("large bodies", f"{made.bodies:,}"),
                ("ledger", "agrees" if not made.ledger_difference else Cell(f"{made.ledger_difference:+,}", "red")),
            ]
        )
        if not made.secrets and not Path(settings.data, KEY_NAME).exists():
            warn(
                "the backup has no secrets key, so existing API keys do not work. Copy the old gateway's "
                f"{KEY_NAME} to {made.data} before the gateway starts, or create new keys: postroom app create"
            )
    _tell_missing(made.missing_bodies)


def _tell_missing(names: tuple[str, ...]) -> None:
    if names:
        warn(f"{many(len(names), 'body')} could not be read from the store ({names[0]}, ...): run postroom verify")


@contextmanager
def _shown(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with click.progressbar(length=_STEPS, label=label, file=sys.stderr) as bar:
        yield lambda done, total: bar.update(min(done, total) * _STEPS // max(total, 1) - bar.pos)
