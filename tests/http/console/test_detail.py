"""One message in full: its header wherever its bytes lie, and what remains when they are gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from postroom.clock import HandClock
from postroom.http.console.detail import MAX_HEADER, Detail, detail, look_up
from postroom.settings import Settings
from postroom.store.bodies import Bodies
from postroom.store.store import Store, open_store
from tests.http.console.scene import NOW, Mailroom

HEADER = b"X-Odd: =?utf-8?q?=C3=A4?=\r\nFrom: Alice <alice@b.example>\r\nSubject: Hello\r\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(Settings(data=str(tmp_path)), clock=HandClock(NOW))
    yield opened
    opened.close()


def shown(store: Store, raw: bytes, *, as_object: bytes | None = None, lost: bool = False) -> Detail:
    """The panel of a message with these bytes; `as_object`: kept in a file that holds this."""
    ident = Mailroom(store, HandClock(NOW)).take(raw=raw).entries[0]
    found = look_up(store.read_now(), store.bodies, ident)
    assert found is not None
    if as_object is not None:
        name = store.bodies.put(as_object)
        if lost:
            store.bodies.delete(name)
        store.write_now(lambda tx: tx.rows("UPDATE message SET body_object = ? WHERE id = ?", (name, ident)))
        found = look_up(store.read_now(), store.bodies, ident)
        assert found is not None
    return detail(found, {}, NOW)


def test_the_fields_people_ask_for_come_first_and_decoded(store: Store) -> None:
    panel = shown(store, HEADER + b"\r\nSubject: not a header\r\n")
    assert [name for name, _ in panel.header.fields] == ["From", "Subject", "X-Odd"]
    assert panel.header.fields[2] == ("X-Odd", "ä")
    assert panel.header.raw == HEADER.decode().splitlines()
    assert not panel.header.cut


def test_a_large_message_is_read_from_its_file_up_to_its_header(store: Store) -> None:
    panel = shown(store, HEADER + b"\r\n", as_object=HEADER + b"\r\n" + b"x" * 300_000)
    assert [name for name, _ in panel.header.fields] == ["From", "Subject", "X-Odd"]
    assert not panel.header.cut
    assert panel.header.unreadable == ""


def test_an_endless_header_is_cut_and_said_to_be(store: Store) -> None:
    panel = shown(store, HEADER + b"\r\n", as_object=HEADER + b"X-Long: " + b"y" * 2 * MAX_HEADER)
    assert panel.header.cut
    assert sum(map(len, panel.header.raw)) <= MAX_HEADER


def test_bytes_that_cannot_be_read_are_said_to_be_so(store: Store) -> None:
    panel = shown(store, HEADER + b"\r\n", as_object=b"", lost=True)
    assert panel.header.unreadable.startswith("the message cannot be read: No such file")
    assert panel.subject == "Hello"


def test_without_its_message_the_record_remains(store: Store) -> None:
    ident = Mailroom(store, HandClock(NOW)).take(raw=HEADER + b"\r\n").entries[0]
    found = look_up(store.read_now(), store.bodies, ident)
    assert found is not None
    panel = detail(msgspec.structs.replace(found, message=None, header=b""), {}, NOW)
    assert panel.gone
    assert panel.recipient.endswith("@corp.example")


def test_what_was_never_here_is_none(store: Store, tmp_path: Path) -> None:
    assert look_up(store.read_now(), Bodies(tmp_path / "bodies"), 1) is None
