"""Which settings a reload can change while the gateway runs, and which need a restart. Pure.

Promises: after a reload every changed setting is either in force or listed as waiting for a restart. Fails: never.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import msgspec

from postroom.settings import Settings

# Listeners and the store are opened once. The files named in http.tls are watched; their names are not.
NEEDS_RESTART = frozenset(
    {"smtp.listen", "http.listen", "http.insecure", "http.tls.certificate", "http.tls.key", "store.url",
     "store.bodies", "data"}
)  # fmt: skip


S = TypeVar("S", bound=msgspec.Struct)


class Reload(NamedTuple):
    settings: Settings  # in force from now on
    changed: tuple[str, ...]  # keys that differ from before
    waiting: tuple[str, ...]  # keys that differ and need a restart

    def touches(self, *prefixes: str) -> bool:
        """Whether any of these settings, or of these tables, has changed."""
        return any(key == prefix or key.startswith(f"{prefix}.") for key in self.changed for prefix in prefixes)


def plan(old: Settings, new: Settings) -> Reload:
    """The step from the settings in force to those of the file."""
    differing = _differing(old, new)
    waiting = tuple([key for key in differing if key in NEEDS_RESTART])
    kept = new
    for key in waiting:
        kept = _with(kept, key.split("."), _value(old, key))
    return Reload(kept, tuple([key for key in differing if key not in NEEDS_RESTART]), waiting)


def _differing(old: msgspec.Struct, new: msgspec.Struct, path: str = "") -> list[str]:
    found: list[str] = []
    for name in old.__struct_fields__:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        if isinstance(before, msgspec.Struct) and isinstance(after, msgspec.Struct):
            found += _differing(before, after, f"{path}{name}.")
        else:
            found.append(f"{path}{name}")
    return found


def _value(settings: Settings, key: str) -> object:
    value: object = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _with(node: S, path: list[str], value: object) -> S:
    name, rest = path[0], path[1:]
    return msgspec.structs.replace(node, **{name: _with(getattr(node, name), rest, value) if rest else value})
