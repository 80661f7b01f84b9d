"""`postroom settings check | show | reference`: are they right, what is in force and why, what is there.

Promises: `check` says exactly what `serve` would say; `show` prints a settings file that reads back the same.
Fails: exit 2 with every problem of the settings.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from postroom.cli.place import Commands, Place, WrongSettings, at_a_place
from postroom.cli.table import print_json
from postroom.cli.words import many
from postroom.errors import SettingsError
from postroom.settings import doc as settings_doc
from postroom.settings.file import read


@click.group(cls=Commands)
def settings() -> None:
    """Check settings, show what is in force, explain what there is."""


@settings.command()
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: ok, problems.")
def check(file: str, as_json: bool) -> None:
    """Find every error of a settings FILE at once, with line numbers.

    The environment is checked with it, as `postroom serve` would. Exits 0 when all is right, 2 when something is wrong.

    \b
    Example:
      postroom settings check /etc/postroom/postroom.toml && systemctl restart postroom
    """
    try:
        loaded = read(Path(file), os.environ)
    except SettingsError as problem:
        if as_json:
            print_json({"ok": False, "problems": problem.problems})
            raise SystemExit(WrongSettings.exit_code) from problem
        raise
    if as_json:
        print_json({"ok": True, "problems": []})
    else:
        click.echo(f"{file}: all right ({many(len(loaded.origins), 'setting')} given)")


@settings.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object: settings as the file writes them, and origins.")
@at_a_place
def show(place: Place, as_json: bool) -> None:
    """Show the settings in force, and where each came from, as a settings file.

    \b
    Examples:
      postroom settings show
      postroom settings show --config /etc/postroom/postroom.toml | grep -v default
    """
    loaded = place.loaded()
    if as_json:
        print_json({"settings": settings_doc.values(loaded.settings), "origins": loaded.origins})
    else:
        click.echo(settings_doc.toml(loaded.settings, loaded.origins), nl=False)


@settings.command()
def reference() -> None:
    """Print what every setting means, takes and is by default (docs/settings.md)."""
    click.echo(settings_doc.reference(), nl=False)
