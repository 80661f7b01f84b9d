"""What the history keeps of a rejected message beside what it shows."""

from __future__ import annotations

from msgspec.structs import replace

from postroom.model import Action
from postroom.store import Store
from tests.conformance.driven import a_message, accepted


def test_an_ended_message_keeps_its_message_id(store: Store) -> None:
    message = a_message()
    message = replace(message, facts=replace(message.facts, message_id="<1@corp.example>"))
    (entry,) = accepted(store, message).entries
    store.act_now(Action.REJECT, [entry], actor="ann")
    assert store.read_now().tx.rows("SELECT header_id FROM history") == [("<1@corp.example>",)]
