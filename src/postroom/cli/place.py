"""The settings and the store that a command works with, and how their failures are shown.

Promises: a store opened here is closed; a failure of the settings, the store or the input is one message on standard
error and an exit code, never a traceback. Fails: `Refusal` (exit 1) and `WrongSettings` (exit 2), both click
exceptions.
"""

from __future__ import annotations

import functools
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from postroom.clock import SystemClock
from postroom.errors import PostroomError, SettingsError
from postroom.settings import Settings
from postroom.settings.file import Loaded, read
from postroom.store import DAMAGE, LOCKED, NO_ROOM, Read, Store, Write, logs, open_store

R = TypeVar("R")
T = TypeVar("T")


class Refusal(click.ClickException):
    """Nothing matched, something was refused, or the environment (store, disk) failed."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"postroom: {self.message}", err=True)


class WrongSettings(click.ClickException):
    """One line per problem. Each starts with FILE:LINE, as compilers write it, so that editors can jump there."""

    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def show(self, file: IO[Any] | None = None) -> None:
        for problem in self.problems:
            click.echo(problem, err=True)
        if len(self.problems) > 1:
            click.echo(f"{len(self.problems)} problems in the settings", err=True)


class Commands(click.Group):
    """A group that turns our exceptions into messages, and lists its commands in the order they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as problem:
            raise WrongSettings(problem.problems) from problem
        except PostroomError as problem:
            raise Refusal(str(problem)) from problem
        except DAMAGE as problem:
            raise Refusal(f"the store is damaged: {problem}; stop the gateway and restore a backup") from problem
        except LOCKED as problem:
            raise Refusal("the store is busy: another process holds its write lock; try again") from problem
        except NO_ROOM as problem:
            raise Refusal(f"the store cannot be used: {problem}; check its disk and file permissions") from problem


class Place:
    """The values of --data and --config."""

    def __init__(self, data: str | None, config: str | None) -> None:
        self.data = data
        self.config = None if config is None else Path(config)

    def loaded(self, *, smtp: str | None = None, http: str | None = None) -> Loaded:
        return read(self.config, os.environ, data=self.data, smtp=smtp, http=http)

    def settings(self) -> Settings:
        return self.loaded().settings

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store. A gateway may be using it at the same time."""
        store = open_store(self.settings(), beside=True)
        try:
            yield store
        finally:
            store.close()

    def look(self, read: Read[T]) -> T:
        """Open the store for one look."""
        with self.store() as store:
            return store.read_now().ask(read)

    def change(self, write: Write[T]) -> T:
        """Open the store for one change, which is committed when this returns."""
        with self.store() as store:
            return store.write_now(write)


def at_a_place(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command --data and --config, and hand them to it as `place`."""

    @click.option("--data", metavar="DIR", help="Data directory of the gateway.  [default: data]")
    @click.option("--config", metavar="FILE", envvar="POSTROOM_CONFIG", help="Settings file of the gateway (TOML).")
    @functools.wraps(command)
    def placed(*args: Any, data: str | None, config: str | None, **given: Any) -> R:
        return command(*args, place=Place(data, config), **given)

    return placed


def actor() -> str:
    """The actor for timelines and the audit log. From the process's user id, not from $USER, which can be forged."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:{os.getuid()}"


def audit_line(kind: str, what: str, detail: str = "") -> Write[int]:
    """The line of a change in the audit log, for the transaction of the change (`Write.then`)."""
    return logs.add_audit_line(at=SystemClock().now(), actor=actor(), kind=kind, what=what, detail=detail)
