"""One closed list of permissions, checked on every call."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from postroom.errors import PeerError
from postroom.http.admin.operations import OPERATIONS
from postroom.http.console import choices
from postroom.http.gateway.front import functions
from postroom.model import Action
from postroom.store.access import identity, permissions
from tests.http.conftest import Served
from tests.http.keys import a_token, an_app, audit_told, carrying

# contract section 2: which permission the vendor documents for each call
DOCUMENTED = {
    "/api/gateway/find-processing-messages": "Monitoring | Processing | Read",
    "/api/gateway/get-hold-message-list": "Account | Dashboard | Read",
    "/api/gateway/get-hold-summary-list": "Account | Monitoring | Held Summary | Read",
    "/api/gateway/hold-release": "Account | Monitoring | Held | Edit",
    "/api/gateway/hold-reject": "Account | Monitoring | Held | Edit",
    "/api/email/get-email-queues": "Account | Dashboard | Read",
    "/api/message-finder/search": "Gateway | Tracking | Read",
    "/api/message-finder/get-message-info": "Gateway | Tracking | Read",
    "/api/gateway/get-held-release-logs": "Monitoring | Held | Read",
    "/api/gateway/get-rejections": "Monitoring | Rejections | Read",
}


async def test_every_call_asks_for_the_documented_permission(served: Served) -> None:
    asked = {path: function.permission for path, function in functions(served.services).items()}
    assert {path: asked.get(path) for path in DOCUMENTED} == DOCUMENTED
    assert {permission for permission in asked.values() if permission} <= permissions.PERMISSIONS.keys()


def test_our_own_api_asks_for_permissions_of_the_list() -> None:
    assert {operation.permission for operation in OPERATIONS} <= permissions.PERMISSIONS.keys() | {""}


P, H = permissions.PROCESSING_EDIT, permissions.HELD_EDIT


@pytest.mark.parametrize(
    ("action", "elsewhere", "held"),
    [
        (Action.RETRY, P, H),
        (Action.HOLD, P, H),
        (Action.RELEASE, H, H),
        (Action.REJECT, P, H),
        (Action.BOUNCE, P, H),
        (Action.DELETE, P, H),
        (Action.BULK, P, H),
        (Action.UNBULK, P, H),
    ],
)
def test_which_permission_an_action_takes(action: Action, elsewhere: str, held: str) -> None:
    assert permissions.needed(action, held=False) == elsewhere
    assert permissions.needed(action, held=True) == held == permissions.PLANS_OF_HELD
    for mine in ((), (P,), (H,), (P, H)):
        confined = permissions.confined(mine.__contains__, action)
        assert (confined is not False) == (held in mine)
        if held in mine:
            assert (confined is None) == (elsewhere in mine)


@pytest.mark.parametrize("action", list(choices.NAMES))
def test_the_console_offers_what_the_role_may_do_where_it_can_be_done(action: Action) -> None:
    for mine, held in product(((), (P,), (H,), (P, H)), (False, True)):
        can = action in (Action.RELEASE, Action.REJECT) if held else action is not Action.RELEASE
        may = permissions.needed(action, held=held) in mine
        assert choices.permitted(mine.__contains__, action, held=held) == (can and may)


async def test_every_way_to_act_asks_for_the_same_permission(served: Served) -> None:
    ours = {one.name: one.permission for one in OPERATIONS}
    for action in (Action.RETRY, Action.HOLD, Action.RELEASE):
        assert ours[f"{action.value}Entry"] == permissions.needed(action, held=False)
    assert {ours[name] for name in ("makePlan", "applyPlan", "undoPlan")} == {permissions.PLANS}
    vendor = functions(served.services)
    for action in (Action.RELEASE, Action.REJECT):
        assert vendor[f"/api/gateway/hold-{action.value}"].permission == permissions.needed(action, held=True)


def test_which_permission_a_look_takes() -> None:
    assert permissions.to_see(held=False) == permissions.PROCESSING_READ
    assert permissions.to_see(held=True) == permissions.HELD_READ


async def test_every_permission_is_asked_for_somewhere(served: Served) -> None:
    """One that nothing checks would be a promise that nobody keeps."""
    asked = {function.permission for function in functions(served.services).values()}
    asked |= {operation.permission for operation in OPERATIONS} | {permissions.API_LOGIN}  # at the login
    assert asked >= permissions.PERMISSIONS.keys()


async def test_every_call_is_refused_without_its_permission_and_let_in_with_it(served: Served) -> None:
    table = {path: function.permission for path, function in functions(served.services).items() if function.permission}
    await an_app(served, "nothing")
    nothing = carrying(await a_token(served, "nothing"))
    for number, permission in enumerate(sorted(set(table.values()))):
        await an_app(served, f"only {number}", permission)
        only = carrying(await a_token(served, f"only {number}"))
        for path, wanted in table.items():
            signed = await served.post(path, served.signed(path, role=f"only {number}"), b"{}")
            bearer = await served.post(path, only, b"{}")
            assert (signed.status, bearer.status) == ((200, 200) if wanted == permission else (403, 403)), path
    for path, wanted in table.items():
        answer = await served.post(path, nothing, b"{}")
        assert (answer.status, answer.json["fail"][0]["errors"][0]["code"]) == (403, "err_xdk_operation_forbidden")
        assert f"role nothing lacks the permission {wanted}" in answer.json["fail"][0]["errors"][0]["message"]
    refused = await audit_told(served, kind="call", actor="app:nothing")
    assert [(what, outcome) for _, _, what, outcome, _, _ in refused] == [(path, "refused") for path in table]


def test_the_list_is_written_like_the_vendors_menu_paths_and_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/access.md").read_text().replace("\\|", "|")
    for name, text in permissions.PERMISSIONS.items():
        assert re.fullmatch(r"[A-Z]\w+( \| [A-Z][\w ]+)+ \| (Read|Edit)", name)
        assert f"| `{name}` | {text} |" in page


async def test_the_built_in_roles_hold_permissions_of_the_list(served: Served) -> None:
    roles = await served.store.read(lambda reader: identity.list_roles(reader.tx))
    assert [role.name for role in roles] == ["administrator", "monitor"]
    for role in roles:
        assert set(role.permissions) <= permissions.PERMISSIONS.keys() | {permissions.ALL}
    monitor = set(roles[1].permissions)
    assert permissions.API_LOGIN in monitor
    assert {name for name in monitor if name.endswith("Edit")} == {permissions.API_LOGIN}


@pytest.mark.parametrize("text", ["Monitoring | Processing | Read", " monitoring|processing |  READ ", "*"])
def test_blanks_and_case_do_not_matter(text: str) -> None:
    assert permissions.check([text, text]) == ("*" if text == "*" else "Monitoring | Processing | Read",)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Monitoring | Procesing | Read", "Monitoring | Processing | Read"),
        ("Gateway | Tracking", "Gateway | Tracking | Read"),
    ],
)
def test_what_is_nearly_right_is_suggested(text: str, meant: str) -> None:
    with pytest.raises(PeerError, match=re.escape(f'did you mean "{meant}"?')):
        permissions.check([text])


def test_nonsense_is_refused() -> None:
    for text in ("", "Everything", "|"):
        with pytest.raises(PeerError, match="expected one of the list"):
            permissions.check([text])
