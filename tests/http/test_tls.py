"""HTTPS by real handshakes: which certificate is shown, what is refused, what changes while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from postroom.errors import EnvironmentFailed, SettingsError
from postroom.http.listener import tls
from postroom.http.listener.tls import Certificate
from postroom.settings import Address, Http, HttpTls
from postroom.settings.file import load
from postroom.telemetry import Log
from tests.http.conftest import FIND, Answer, Quiet, Serve, Served, read_answer, request_bytes
from tests.http.keys import audit_told

NAME = "gw.corp.example"


class Pair:
    """A certificate and its key, signed by itself."""

    def __init__(self, serial: int) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
        now = datetime.now(UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(serial)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def write(self, directory: Path, *, locked: bool = False) -> None:
        self.write_certificate(directory)
        lock = serialization.BestAvailableEncryption(b"secret") if locked else serialization.NoEncryption()
        pem = self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        replace(directory / "key.pem", pem)

    def write_certificate(self, directory: Path) -> None:
        replace(directory / "certificate.pem", self.certificate.public_bytes(serialization.Encoding.PEM))


def replace(path: Path, content: bytes) -> None:
    """Another file under the same name, as renewal tools do it: seen however coarse the clock of the disk is."""
    aside = path.with_suffix(".new")
    aside.write_bytes(content)
    os.replace(aside, path)


FILES = HttpTls("certificate.pem", "key.pem")


@pytest.fixture
async def secure(serve: Serve, tmp_path: Path) -> Served:
    Pair(1).write(tmp_path)
    return await serve(http=Http(listen=(Address("127.0.0.1", 0),), tls=FILES))


def trusting(directory: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=directory / "certificate.pem")


def looking() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def ask(address: Address, context: ssl.SSLContext, request: bytes, name: str | None = NAME) -> Answer:
    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=context, server_hostname=name if name else ""
    )
    try:
        writer.write(request)
        return await read_answer(reader)
    finally:
        writer.close()


async def shown(address: Address, name: str = NAME) -> int:
    """The serial number of the certificate that a new connection sees."""
    _, writer = await asyncio.open_connection(address.host, address.port, ssl=looking(), server_hostname=name)
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(der).serial_number
    finally:
        writer.close()


async def test_a_signed_call_is_answered_over_tls_and_browsers_are_told_to_stay(secure: Served, tmp_path: Path) -> None:
    request = request_bytes("POST", FIND, secure.signed(), b"{}")
    answer = await ask(secure.address, trusting(tmp_path), request)
    assert answer.messages == []
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


async def test_the_console_sets_its_strictest_cookies_over_tls(secure: Served, tmp_path: Path) -> None:
    answer = await ask(secure.address, trusting(tmp_path), request_bytes("GET", "/console/login", {}))
    assert answer.status == 200
    assert answer.headers["set-cookie"].startswith("__Host-postroom_form=")
    assert "secure" in answer.headers["set-cookie"].lower()


async def test_without_tls_nobody_is_told_to_stay(served: Served) -> None:
    assert "strict-transport-security" not in (await served.get("/health/live")).headers


async def test_old_protocols_are_refused(secure: Served, recwarn: pytest.WarningsRecorder) -> None:
    context = looking()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await ask(secure.address, context, request_bytes("GET", "/health/live", {}))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert (await ask(secure.address, context, request_bytes("GET", "/health/live", {}))).status == 200
    recwarn.clear()  # that old protocols are old


async def test_plain_http_on_the_tls_port_is_no_answer_and_no_failure(secure: Served) -> None:
    reader, writer = await asyncio.open_connection(secure.address.host, secure.address.port)
    writer.write(request_bytes("GET", "/health/live", {}))
    said = b""
    with contextlib.suppress(ConnectionError):
        said = await reader.read()
    writer.close()
    assert b"HTTP/1.1 200" not in said
    assert await shown(secure.address) == 1
    assert not [line for line in secure.told.lines if "http_failed" in line]


def certificate(directory: Path, told: Quiet) -> Certificate:
    return Certificate(FILES, str(directory), Log(told))


async def test_a_changed_pair_serves_from_the_next_connection_on(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_EVERY", 0.01)
    Pair(1).write(tmp_path)
    served = await serve(http=Http(listen=(Address("127.0.0.1", 0),), tls=FILES))
    reader, writer = await asyncio.open_connection(
        served.address.host, served.address.port, ssl=looking(), server_hostname=NAME
    )
    assert await shown(served.address) == 1
    Pair(2).write(tmp_path)
    async with asyncio.timeout(60):
        while await shown(served.address) != 2:
            await asyncio.sleep(0.01)  # the watcher must have its turn
    assert await shown(served.address, "other.example") == 2
    writer.write(request_bytes("GET", "/health/live", {}))  # who is connected stays so
    assert (await read_answer(reader)).status == 200
    writer.close()


async def test_what_is_half_written_is_not_read(tmp_path: Path) -> None:
    told = Quiet()
    Pair(1).write(tmp_path)
    found = certificate(tmp_path, told)
    assert not found.look()
    pair = Pair(2)
    pair.write_certificate(tmp_path)
    assert not found.look()  # just changed
    pair.write(tmp_path)
    assert not found.look()  # changed again
    assert found.look()
    assert not found.look()
    assert not [line for line in told.lines if " error " in line]


async def test_a_pair_that_does_not_fit_keeps_the_old_one_and_is_told_once(tmp_path: Path) -> None:
    told = Quiet()
    Pair(1).write(tmp_path)
    found = certificate(tmp_path, told)
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=found.context)
    address = Address(*server.sockets[0].getsockname()[:2])
    problems = []
    for break_it in (
        lambda: Pair(2).write_certificate(tmp_path),
        lambda: replace(tmp_path / "certificate.pem", b"not PEM"),
        lambda: Pair(3).write(tmp_path, locked=True),
        (tmp_path / "key.pem").unlink,
    ):
        break_it()
        assert [found.look() for _ in range(4)] == [False] * 4
        problems += [line for line in told.lines if " error http_certificate_refused " in line]
        told.lines.clear()
        assert await shown(address) == 1
    assert len(problems) == 3  # a file that is not there may be on its way
    for line, says in zip(problems, ("another certificate", "not a PEM file", "locked by a password"), strict=True):
        assert says in line
        assert "secret" not in line
    Pair(4).write(tmp_path)
    assert [found.look(), found.look()] == [False, True]
    assert await shown(address) == 4
    server.close()
    await server.wait_closed()


async def test_what_became_of_a_renewed_pair_stands_in_the_audit_log(served: Served, tmp_path: Path) -> None:
    Pair(1).write(tmp_path)
    found = Certificate(FILES, str(tmp_path), Log(Quiet()), served.server.guard.trail)
    Pair(2).write_certificate(tmp_path)
    assert [found.look() for _ in range(3)] == [False] * 3
    pair = Pair(3)
    pair.write(tmp_path)
    assert [found.look(), found.look()] == [False, True]
    expires = pair.certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert await audit_told(served) == [
        ("settings.reload", "", "[http.tls] certificate.pem", "failed", "the key belongs to another certificate", 1),
        ("settings.reload", "", "[http.tls] certificate.pem", "done", f"expires {expires}", 1),
    ]


async def test_the_server_hands_its_audit_log_to_the_certificate(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_EVERY", 0.01)
    Pair(1).write(tmp_path)
    served = await serve(http=Http(listen=(Address("127.0.0.1", 0),), tls=FILES))
    Pair(2).write(tmp_path)
    async with asyncio.timeout(60):
        while not await audit_told(served, kind="settings"):
            await asyncio.sleep(0.01)  # the watcher must have its turn
    ((_, _, _, outcome, detail, _),) = await audit_told(served, kind="settings")
    assert (outcome, detail[:8]) == ("done", "expires ")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda at: (at / "key.pem").unlink(), "No such file"),
        (lambda at: Pair(2).write_certificate(at), "another certificate"),
        (lambda at: replace(at / "certificate.pem", b""), "not a PEM file"),
        (lambda at: Pair(2).write(at, locked=True), "locked by a password"),
    ],
)
async def test_nothing_starts_with_a_pair_that_does_not_fit(
    serve: Serve, tmp_path: Path, spoil: object, says: str
) -> None:
    Pair(1).write(tmp_path)
    spoil(tmp_path)  # type: ignore[operator]
    with pytest.raises(EnvironmentFailed, match=says) as caught:
        await serve(http=Http(listen=(Address("127.0.0.1", 0),), tls=FILES))
    assert "certificate.pem" in str(caught.value)


@pytest.mark.parametrize("address", ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:443", "gw.corp.example:8080"])
def test_listening_beyond_this_machine_in_clear_is_refused(address: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, {}, http=address)
    (problem,) = caught.value.problems
    assert address in problem
    assert "[http.tls]" in problem
    assert "insecure = true" in problem
    assert load(None, {"POSTROOM_HTTP__INSECURE": "true"}, http=address).http.insecure
    both = {"POSTROOM_HTTP__TLS__CERTIFICATE": "c.pem", "POSTROOM_HTTP__TLS__KEY": "k.pem"}
    assert load(None, both, http=address).http.tls == HttpTls("c.pem", "k.pem")


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "127.9.9.9:1", "[::1]:8080", "localhost:8080"])
def test_this_machine_needs_no_tls(address: str) -> None:
    assert str(load(None, {}, http=address).http.listen[0]) == address


@pytest.mark.parametrize(("given", "missing"), [("CERTIFICATE", "key"), ("KEY", "certificate")])
def test_a_certificate_without_its_key_is_a_settings_error(given: str, missing: str) -> None:
    with pytest.raises(SettingsError, match=rf"POSTROOM_HTTP__TLS__{given}: \[http.tls\] {missing}: missing"):
        load(None, {f"POSTROOM_HTTP__TLS__{given}": "a.pem"})


def test_serve_says_so_and_exits_with_2(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("postroom"), "serve", "--data", tmp_path / "data", "--http", "0.0.0.0:0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert "insecure = true" in ended.stderr
    assert not (tmp_path / "data").exists()
