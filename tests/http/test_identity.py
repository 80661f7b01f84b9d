"""Keys, people, sessions and the first administrator, on a real store."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from postroom.clock import HandClock
from postroom.errors import EnvironmentFailed, PeerError
from postroom.sealing import KEY_NAME, Sealer
from postroom.settings import Settings
from postroom.store.access import identity, permissions
from postroom.store.engine import Tx
from postroom.store.store import Store, open_store

NOW = 1_800_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(Settings(data=str(tmp_path)), clock=HandClock(NOW))
    yield opened
    opened.close()


@pytest.fixture
def sealer(tmp_path: Path) -> Sealer:
    return Sealer.at(tmp_path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- sealing


def test_what_is_sealed_opens_in_its_context_only(sealer: Sealer) -> None:
    sealed = sealer.seal(b"secret", b"here")
    assert b"secret" not in sealed
    assert sealer.open(sealed, b"here") == b"secret"
    assert sealer.seal(b"secret", b"here") != sealed
    for wrong, context in ((sealed, b"there"), (sealed[:-1], b"here"), (b"", b"here"), (b"\x02" + sealed[1:], b"here")):
        with pytest.raises(EnvironmentFailed, match="do not belong together"):
            sealer.open(wrong, context)
    with pytest.raises(EnvironmentFailed):
        Sealer(bytes(32)).open(sealed, b"here")


def test_each_purpose_has_its_own_key(sealer: Sealer) -> None:
    assert sealer.key("a") == sealer.key("a") != sealer.key("b")
    assert len(sealer.key("a", 64)) == 64


def test_the_key_file_is_made_once_for_this_user_alone(tmp_path: Path) -> None:
    first = Sealer.at(tmp_path / "new")
    path = tmp_path / "new" / KEY_NAME
    assert (mode(path), path.stat().st_size) == (0o600, 32)
    assert Sealer.from_file(path).key("x") == first.key("x")
    assert os.listdir(path.parent) == [KEY_NAME]
    assert path.read_bytes().hex() not in repr(first)


def test_a_key_file_that_is_damaged_or_open_to_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / KEY_NAME
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(EnvironmentFailed, match="expected 32 bytes, found 5"):
        Sealer.at(tmp_path)
    path.write_bytes(bytes(32))
    path.chmod(0o640)
    with pytest.raises(EnvironmentFailed, match="chmod 600"):
        Sealer.at(tmp_path)
    assert path.read_bytes() == bytes(32)


# -- applications


def test_an_application_has_keys_like_real_ones_and_they_are_kept_sealed(store: Store, sealer: Sealer) -> None:
    made = store.write_now(lambda tx: identity.create_app(tx, sealer, name="SOAR", role="monitor"))
    tx = store.read_now().tx
    keys = identity.find_app(tx, sealer, made.app_id)
    assert keys is not None
    assert (keys.app_key, keys.access_key, keys.role.name) == (made.app_key, made.access_key, "monitor")
    assert len(keys.secret_key) == 64
    assert ":" not in made.access_key
    kept = b"".join([path.read_bytes() for path in Path(store.path).parent.glob("postroom.db*")])
    for secret in (made.app_key, made.secret_key, made.client_secret):
        assert secret.encode() not in kept
    for shown in (repr(made), repr(keys)):
        assert made.secret_key not in shown
        assert made.app_key not in shown
    other = identity.find_app(tx, Sealer(bytes(32)), made.app_id)
    assert other is not None
    assert not other.usable
    assert (other.app_key, other.secret_key) != (keys.app_key, keys.secret_key)
    assert identity.unusable_apps(tx, Sealer(bytes(32))) == ["SOAR"]
    assert identity.unusable_apps(tx, sealer) == []


def test_sealed_keys_do_not_open_in_another_row(store: Store, sealer: Sealer) -> None:
    first, second = [
        store.write_now(lambda tx: identity.create_app(tx, sealer, name="x", role="monitor")) for _ in range(2)
    ]

    def swap(tx: Tx) -> None:
        tx.rows(
            "UPDATE app SET secret_key_sealed = (SELECT secret_key_sealed FROM app WHERE app_id = ?) WHERE app_id = ?",
            (first.app_id, second.app_id),
        )

    store.write_now(swap)
    tx = store.read_now().tx
    found = [identity.find_app(tx, sealer, made.app_id) for made in (first, second)]
    assert [app is not None and app.usable for app in found] == [True, False]


def test_a_revoked_application_stays_listed_and_is_not_found(store: Store, sealer: Sealer) -> None:
    made = store.write_now(lambda tx: identity.create_app(tx, sealer, name="SOAR", role="monitor", now=NOW))
    assert store.write_now(lambda tx: identity.revoke_app(tx, made.app_id, now=NOW + 1))
    assert not store.write_now(lambda tx: identity.revoke_app(tx, made.app_id))
    assert not store.write_now(lambda tx: identity.revoke_app(tx, "unknown"))
    tx = store.read_now().tx
    assert identity.find_app(tx, sealer, made.app_id) is None
    (listed,) = identity.list_apps(tx)
    assert (listed.app_id, listed.name, listed.created, listed.revoked) == (made.app_id, "SOAR", NOW, NOW + 1)


@pytest.mark.parametrize(
    ("name", "role", "says"),
    [
        ("", "monitor", "application name"), ("x\n", "nobody", "expected one of administrator, monitor"),
        ("x" * 101, "monitor", "1 to 100"),
    ],
)  # fmt: skip
def test_an_application_that_makes_no_sense_is_refused(
    store: Store, sealer: Sealer, name: str, role: str, says: str
) -> None:
    with pytest.raises(PeerError, match=says):
        store.write_now(lambda tx: identity.create_app(tx, sealer, name=name, role=role))
    assert identity.list_apps(store.read_now().tx) == []


def test_builtin_roles_and_new_ones(store: Store) -> None:
    tx = store.read_now().tx
    administrator = identity.find_role(tx, "administrator")
    monitor = identity.find_role(tx, "monitor")
    assert administrator is not None
    assert administrator.allows("Anything | Of | Later")
    assert monitor is not None
    assert monitor.allows(permissions.PROCESSING_READ)
    assert not monitor.allows(permissions.PROCESSING_EDIT)
    store.write_now(
        lambda tx: identity.create_role(tx, "operator", (permissions.PROCESSING_READ, permissions.PROCESSING_EDIT))
    )
    assert [role.name for role in identity.list_roles(tx)] == ["administrator", "monitor", "operator"]
    with pytest.raises(PeerError, match="exists already"):
        store.write_now(lambda tx: identity.create_role(tx, "operator", ()))


# -- people and sessions


def test_a_person_logs_in_with_the_right_password_only(store: Store) -> None:
    hashed = identity.hash_password("correct horse")
    assert hashed.startswith("$argon2id$")
    store.write_now(
        lambda tx: identity.create_user(tx, email=" Alice@Corp.Example ", password_hash=hashed, role="monitor")
    )
    user = identity.find_user(store.read_now().tx, "ALICE@corp.example")
    assert user is not None
    assert user.email == "alice@corp.example"
    assert hashed not in repr(user)
    assert identity.verify_password(user, "correct horse")
    assert not identity.verify_password(user, "correct horsE")
    assert not identity.verify_password(user, "")
    assert not identity.verify_password(None, "correct horse")
    assert not identity.verify_password(msgspec.structs.replace(user, password_hash="damaged"), "correct horse")
    with pytest.raises(PeerError, match="exists already"):
        store.write_now(
            lambda tx: identity.create_user(tx, email="alice@corp.example", password_hash=hashed, role="monitor")
        )


@pytest.mark.parametrize("password", ["", "short", "x" * 1025])
def test_a_password_has_a_sensible_length(password: str) -> None:
    with pytest.raises(PeerError, match="8 to 1024"):
        identity.hash_password(password)


@pytest.mark.parametrize("email", ["", "alice", "@corp.example", "alice@", "a b@corp.example", "a\n@corp.example"])
def test_an_address_that_is_none_is_refused(store: Store, email: str) -> None:
    with pytest.raises(PeerError, match="e-mail address"):
        store.write_now(lambda tx: identity.create_user(tx, email=email, password_hash="x", role="monitor"))


def test_a_session_lasts_until_it_is_over_or_dropped(store: Store) -> None:
    store.write_now(lambda tx: identity.create_user(tx, email="a@b.example", password_hash="x", role="monitor"))
    tx = store.read_now().tx
    token, session = store.write_now(lambda tx: identity.create_session(tx, "a@b.example", lifetime=1000, now=NOW))
    assert (session.email, session.role.name, session.expires) == ("a@b.example", "monitor", NOW + 1000)
    assert identity.find_session(tx, token, now=NOW + 999) == session
    assert identity.find_session(tx, token, now=NOW + 1000) is None
    assert identity.find_session(tx, token + "x", now=NOW) is None
    kept = tx.rows("SELECT hex(token_hash) FROM console_session")
    assert token.encode().hex().upper() not in str(kept)
    other, _ = store.write_now(lambda tx: identity.create_session(tx, "a@b.example", lifetime=1000, now=NOW + 2000))
    assert tx.rows("SELECT count(*) FROM console_session") == [(1,)]  # the old one is cleared
    store.write_now(lambda tx: identity.drop_session(tx, other))
    assert identity.find_session(tx, other, now=NOW + 2000) is None
    with pytest.raises(PeerError, match="no user"):
        store.write_now(lambda tx: identity.create_session(tx, "nobody@b.example", lifetime=1, now=NOW))


# -- the first administrator


def start(store: Store, sealer: Sealer, path: Path) -> bool:
    return store.write_now(lambda tx: identity.bootstrap(tx, sealer, "http://127.0.0.1:8080", "127.0.0.1:2525", path))


def test_the_first_administrator_is_written_once(store: Store, sealer: Sealer, tmp_path: Path) -> None:
    path = tmp_path / "admin.json"
    assert start(store, sealer, path)
    assert mode(path) == 0o600
    told = json.loads(path.read_text())
    assert list(told) == [
        "baseUrl", "smtp", "appId", "appKey", "accessKey", "secretKey", "clientId", "clientSecret", "email", "password",
    ]  # fmt: skip
    tx = store.read_now().tx
    keys = identity.find_app(tx, sealer, told["appId"])
    assert keys is not None
    assert keys.app_key == told["appKey"]
    assert keys.role.allows("anything")
    assert identity.verify_password(identity.find_user(tx, told["email"]), told["password"])
    path.unlink()
    assert not start(store, sealer, path)
    assert not path.exists()
    store.write_now(lambda tx: identity.revoke_app(tx, told["appId"]))
    assert not start(store, sealer, path)  # a store that had one gets no second one behind its owner's back


def test_an_administrator_nobody_could_be_told_of_is_not_made(store: Store, sealer: Sealer, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="cannot write the first administrator"):
        start(store, sealer, tmp_path / "missing" / "admin.json")
    assert identity.list_apps(store.read_now().tx) == []
    assert start(store, sealer, tmp_path / "admin.json")
