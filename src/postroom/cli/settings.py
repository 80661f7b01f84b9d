"""`postroom settings check | show | reference`: find errors, show the values in force, document every setting.

Promises: `check` reports exactly what `serve` would report; `show` prints a settings file that reads back the same.
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
    """Check settings, show the values in force, list all settings."""


@settings.command()
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: ok, problems.")
def check(file: str, as_json: bool) -> None:
    """Report every error in a settings FILE, with line numbers.

    Also checks the environment variables, as `postroom serve` does. Exits 0 without errors, 2 with errors.

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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: settings and origins.")
@at_a_place
def show(place: Place, as_json: bool) -> None:
    """Print the settings in force and the origin of each, as a settings file.

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
    """Print the reference of all settings (docs/settings.md)."""
    click.echo(settings_doc.reference(), nl=False)
