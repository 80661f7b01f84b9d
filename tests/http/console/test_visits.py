"""Who gets in, how they are kept apart, and what nobody else can make them do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from postroom.clock import HOUR, MINUTE
from postroom.http.console.visits import MAX_FORM, local_address
from postroom.store.access import identity
from tests.http.console.conftest import Visitor
from tests.http.console.scene import EMAIL, PASSWORD, Console

SESSION = "postroom_session"


def cookies_set(answer: httpx.Response) -> dict[str, str]:
    return {line.partition("=")[0]: line for line in answer.headers.get_list("set-cookie")}


@pytest.fixture
def other(console: Console) -> Iterator[Visitor]:
    with Visitor(base_url=console.base) as visiting:
        yield visiting


def test_without_a_session_there_is_only_the_login_and_the_way_back_is_kept(visitor: Visitor) -> None:
    answer = visitor.get("/console/entries/abc?queue=held&q=a+b")
    assert answer.status_code == 303
    to = urlsplit(answer.headers["location"])
    assert to.path == "/console/login"
    assert parse_qs(to.query) == {"next": ["/console/entries/abc?queue=held&q=a+b"]}
    page = visitor.page(answer.headers["location"])
    assert 'name="next" value="/console/entries/abc?queue=held&amp;q=a+b"' in page.text
    assert visitor.log_in(next="/console/entries/abc?queue=held&q=a+b").headers["location"] == (
        "/console/entries/abc?queue=held&q=a+b"
    )


def test_a_fragment_without_a_session_is_401(visitor: Visitor) -> None:
    answer = visitor.get("/console/", headers={"x-fragment": "1"})
    assert answer.status_code == 401
    assert "list" not in answer.text


def test_login_gives_a_session_that_no_script_and_no_other_site_can_use(visitor: Visitor) -> None:
    answer = visitor.log_in()
    line = cookies_set(answer)[SESSION].lower()
    for word in ("httponly", "samesite=strict", "path=/console", "max-age=28800"):
        assert word in line, word
    assert "secure" not in line  # plain http here
    assert visitor.page("/console/").status_code == 200


def test_behind_tls_every_cookie_is_secure_and_those_that_matter_are_bound_to_this_host(console: Console) -> None:
    with httpx.Client(base_url=console.base, headers={"x-forwarded-proto": "https"}) as browser:
        kept: dict[str, str] = {}  # by hand: a jar sends no secure cookie over the plain http of this test

        def went(answer: httpx.Response) -> httpx.Response:
            for name, line in cookies_set(answer).items():
                assert "secure" in line.lower(), name
                assert "path=/;" in line.lower() or not name.startswith("__Host-"), line
                kept[name] = line.partition(";")[0]
            return answer

        def asked(path: str) -> httpx.Response:
            return went(browser.get(path, headers={"cookie": "; ".join(kept.values())}))

        def submitted(path: str, page: httpx.Response, **fields: str) -> httpx.Response:
            found = re.search(r'name="token" value="([0-9a-f]{64})"', page.text)
            assert found is not None
            data = {"token": found[1], **fields}
            return went(browser.post(path, data=data, headers={"cookie": "; ".join(kept.values())}))

        page = asked("/console/login")
        assert submitted("/console/login", page, email=EMAIL, password=PASSWORD).status_code == 303
        page = asked("/console/")
        assert page.status_code == 200
        submitted("/console/theme", page, theme="dark")
        assert kept.keys() == {"__Host-postroom_form", f"__Host-{SESSION}", "postroom_theme"}
        kept[SESSION] = kept.pop(f"__Host-{SESSION}").removeprefix("__Host-")  # as a sibling host could set it
        assert asked("/console/").status_code == 303


def test_unknown_user_and_wrong_password_get_the_same_answer(visitor: Visitor, other: Visitor) -> None:
    def said(answer: httpx.Response) -> tuple[int, str]:
        return answer.status_code, re.sub(r'value="[^"]*"', "", answer.text)

    wrong = visitor.log_in(password="not the password")
    unknown = other.log_in(email="nobody@postroom.local")
    assert said(wrong) == said(unknown)
    assert wrong.status_code == 403
    assert "The e-mail address or the password is wrong" in wrong.text
    assert SESSION not in cookies_set(wrong)


def test_the_address_may_be_typed_in_any_case(visitor: Visitor) -> None:
    assert visitor.log_in(email=f"  {EMAIL.upper()} ").status_code == 303


def test_guessing_is_slowed_also_for_the_right_password(console: Console, visitor: Visitor) -> None:
    for _ in range(5):
        assert visitor.log_in(password="guess").status_code == 403
    slowed = visitor.log_in()
    assert slowed.status_code == 429
    assert slowed.headers["retry-after"] == "60"
    assert "Wait 60 seconds" in slowed.text
    console.clock.move(MINUTE)
    assert visitor.log_in().status_code == 303


def test_logging_out_ends_the_session_in_the_store(visitor: Visitor, other: Visitor) -> None:
    visitor.log_in()
    other.cookies.set(SESSION, visitor.cookies[SESSION], path="/console")  # a copy of the cookie
    assert other.get("/console/").status_code == 200
    answer = visitor.submit("/console/logout")
    assert answer.headers["location"] == "/console/login?said=logged-out"
    assert "max-age=0" in cookies_set(answer)[SESSION].lower()
    assert other.get("/console/").status_code == 303
    assert "You are logged out." in visitor.page("/console/login?said=logged-out").text


def test_every_login_has_a_token_of_its_own_and_ends_the_one_before(visitor: Visitor, other: Visitor) -> None:
    visitor.log_in()
    first = visitor.cookies[SESSION]
    assert visitor.submit("/console/login", email=EMAIL, password=PASSWORD).status_code == 303
    assert visitor.cookies[SESSION] != first
    other.cookies.set(SESSION, first, path="/console")
    assert other.get("/console/").status_code == 303


def test_a_session_ends_by_itself(console: Console, visitor: Visitor) -> None:
    visitor.log_in()
    console.clock.move(8 * HOUR - 1)
    assert visitor.get("/console/").status_code == 200
    console.clock.move(1)
    assert visitor.get("/console/").status_code == 303


@pytest.mark.parametrize("value", ["", "x", "x" * 5000, "../..", "%00"])
def test_a_made_up_session_is_none(visitor: Visitor, value: str) -> None:
    visitor.cookies.set(SESSION, value, path="/console")
    assert visitor.get("/console/").status_code == 303


@pytest.mark.parametrize("path", ["/console/login", "/console/logout", "/console/theme"])
def test_a_form_needs_the_token_of_this_browser(console: Console, visitor: Visitor, other: Visitor, path: str) -> None:
    visitor.log_in()
    other.page("/console/login")
    fields = {"email": EMAIL, "password": PASSWORD, "theme": "dark"}
    for token in ("", "0" * 64, other.token, visitor.token[:-1], "é"):
        answer = visitor.post(path, data={**fields, "token": token})
        assert answer.status_code == 403, token
        assert not cookies_set(answer)
    with Visitor(base_url=console.base) as cookieless:
        assert cookieless.post(path, data={**fields, "token": visitor.token}).status_code == 403
    assert visitor.get("/console/").status_code == 200


def test_a_form_of_another_site_is_refused_even_with_a_token(visitor: Visitor) -> None:
    visitor.log_in()
    for site in ("cross-site", "same-site"):
        assert visitor.submit("/console/logout", headers={"sec-fetch-site": site}).status_code == 403
    assert visitor.submit("/console/logout", headers={"sec-fetch-site": "same-origin"}).status_code == 303


def test_only_forms_of_bounded_size_are_read(visitor: Visitor) -> None:
    visitor.page("/console/login")
    assert visitor.post("/console/login", json={"token": visitor.token}).status_code == 415
    assert visitor.submit("/console/login", email="x" * MAX_FORM).status_code == 413
    many = {f"f{number}": "" for number in range(40)}
    assert visitor.submit("/console/login", **many).status_code == 400
    raw = visitor.post(
        "/console/login", content=b"\xff\xfe", headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert raw.status_code == 400


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.example/", "//evil.example/console/", "/\\evil.example", "/console/../../evil", "/console/login",
        "/console//evil.example", "/console/\r\nset-cookie: a=b", "javascript:alert(1)", "/api/",
        "/console/?q=<script>", "/console/entries/abc#x", "/console/entries/abc/../..", "/console/\n", "",
    ],
)  # fmt: skip
def test_a_login_leads_nowhere_else(visitor: Visitor, to: str) -> None:
    assert local_address(to) == "/console/"
    assert visitor.log_in(next=to).headers["location"] == "/console/"


def test_the_theme_is_kept_in_a_cookie(visitor: Visitor) -> None:
    visitor.log_in()
    assert 'data-theme="auto"' in visitor.page("/console/").text
    answer = visitor.submit("/console/theme", theme="dark", next="/console/?queue=held")
    assert answer.headers["location"] == "/console/?queue=held"
    assert 'data-theme="dark"' in visitor.page("/console/").text
    visitor.submit("/console/theme", theme='"><script>')
    assert 'data-theme="dark"' in visitor.page("/console/").text


def test_every_answer_has_the_security_headers(visitor: Visitor) -> None:
    visitor.log_in()
    static = re.findall(r'(?:href|src)="(/console/static/[^"]+)"', visitor.page("/console/").text)
    assert {path.rpartition(".")[2] for path in static} == {"css", "js", "svg"}
    for path in (
        "/console/",
        "/console/login",
        "/console/nothing",
        "/console/plans",
        "/console/entries/1",
        "/console/?queue=x",
        *static,
    ):
        headers = visitor.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; "), path
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == ("no-store" if path not in static else "public, max-age=31536000, immutable")


def test_there_is_no_inline_script_or_style_and_nothing_from_elsewhere(visitor: Visitor) -> None:
    visitor.log_in()
    for path in ("/console/", "/console/login?said=logged-out", "/console/nothing"):
        text = visitor.page(path).text
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text), path
        assert not re.search(r"<script(?! src=)", text), path
        assert not re.search(r'(?:href|src|action)="(?!/console/|#)', text), path


@pytest.mark.parametrize("name", ["nothing.css", "..%2f__init__.py", "%2e%2e/answers.py"])
def test_only_our_own_static_files_are_given(visitor: Visitor, name: str) -> None:
    assert visitor.get(f"/console/static/0/{name}").status_code in (303, 404)


def test_a_role_sees_only_what_it_may(console: Console, visitor: Visitor) -> None:
    def prepare(tx: object) -> None:
        identity.create_role(tx, "held only", ("Monitoring | Held | Read",))  # type: ignore[arg-type]
        identity.create_role(tx, "nothing", ())  # type: ignore[arg-type]
        for email, role in (("held@corp.example", "held only"), ("none@corp.example", "nothing")):
            identity.create_user(tx, email=email, password_hash=console.password_hash, role=role)  # type: ignore[arg-type]

    console.store.write_now(prepare)
    visitor.log_in("held@corp.example")
    assert visitor.page("/console/").status_code == 403
    held = visitor.page("/console/?queue=held")
    assert held.status_code == 200
    assert re.findall(r'data-key="tab-(\w+)"', held.text) == ["Held"]
    with Visitor(base_url=console.base) as nobody:
        nobody.log_in("none@corp.example")
        answer = nobody.page("/console/?queue=held")
        assert answer.status_code == 403
        assert "cannot see queues" in answer.text


def test_the_log_names_who_and_where_never_the_password(console: Console, visitor: Visitor) -> None:
    visitor.log_in(password="a secret guess")
    visitor.log_in()
    visitor.submit("/console/logout")
    console.log.flush()
    logged = console.logged.getvalue()
    assert f"console_login_refused user={EMAIL} ip=127.0.0.1" in logged
    assert f"console_login user={EMAIL} ip=127.0.0.1" in logged
    assert f"console_logout user={EMAIL} ip=127.0.0.1" in logged
    assert "secret guess" not in logged
    assert PASSWORD not in logged
