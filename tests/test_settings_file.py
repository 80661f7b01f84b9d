"""Settings: what a file, the environment and options give, and every mistake with its line, all at once."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from postroom.clock import DAY, HOUR, SECOND
from postroom.errors import SettingsError
from postroom.settings import MIB, Address, DeliveryRoute, Settings
from postroom.settings import doc as settings_doc
from postroom.settings.file import load, read, variable
from postroom.settings.keys import FIELDS, KEYS, value_of, with_value

ROOT = Path(__file__).parent.parent


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "postroom.toml"
    path.write_text(text)
    return path


def problems(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """What is wrong, without the directory that the test happens to use."""
    with pytest.raises(SettingsError) as refused:
        load(written(tmp_path, text), environ or {})
    return [problem.removeprefix(f"{tmp_path}/") for problem in refused.value.problems]


def test_without_anything_the_defaults_hold() -> None:
    assert load(None, {}) == Settings()


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        [gateway]
        hostname = "GW.corp.example"
        internal_domains = ["Corp.Example"]
        [smtp]
        listen = ["127.0.0.1:0", "[::1]:2525"]
        max_size = "10 MiB"
        [retry.processing]
        waits = ["10 seconds", "10 seconds", "1 hour"]
        attempts = 7
        age = "4 days"
        [[delivery.routes]]
        domain = "*.Example.org"
        host = "mx.example.org:25"
        [[delivery.routes]]
        domain = "*"
        host = "[::1]:2626"
        [api]
        rate_limit = "800 per 5 seconds"
        binding_lifetime = "3 days"
        """,
    )
    settings = load(path, {})
    assert settings.gateway.hostname == "gw.corp.example"
    assert settings.gateway.internal_domains == ("corp.example",)
    assert settings.smtp.listen == (Address("127.0.0.1", 0), Address("::1", 2525))
    assert settings.smtp.max_size == 10 * MIB
    assert settings.retry.processing.waits == (10 * SECOND, 10 * SECOND, HOUR)
    assert (settings.retry.processing.attempts, settings.retry.processing.age) == (7, 4 * DAY)
    assert settings.retry.delivery == Settings().retry.delivery
    assert settings.delivery.routes == (
        DeliveryRoute("*.example.org", Address("mx.example.org", 25)),
        DeliveryRoute("*", Address("::1", 2626)),
    )
    assert (settings.api.rate_limit, settings.api.rate_window) == (800, 5 * SECOND)
    assert settings.api.binding_lifetime == 3 * DAY
    assert settings.smtp.max_recipients == Settings().smtp.max_recipients


def test_the_environment_wins_over_the_file_and_an_option_over_both(tmp_path: Path) -> None:
    path = written(tmp_path, '[smtp]\nlisten = ["127.0.0.1:1"]\nmax_errors = 3\n[processing]\npaused = false\n')
    environ = {
        "POSTROOM_SMTP__LISTEN": "127.0.0.1:2, [::1]:2",
        "POSTROOM_PROCESSING__PAUSED": "true",
        "POSTROOM_SMTP__MAX_ERRORS": "4",
        "POSTROOM_DELIVERY__ROUTES": "example.org=mx.example.org:25, *=127.0.0.1:2626",
        "POSTROOM_RETRY__DELIVERY__WAITS": "1 minute,5 minutes",
    }
    settings = load(path, environ)
    assert settings.smtp.listen == (Address("127.0.0.1", 2), Address("::1", 2))
    assert settings.processing.paused
    assert settings.smtp.max_errors == 4
    assert [route.domain for route in settings.delivery.routes] == ["example.org", "*"]
    assert settings.retry.delivery.waits == (60 * SECOND, 300 * SECOND)
    assert load(path, environ, smtp="127.0.0.1:3").smtp.listen == (Address("127.0.0.1", 3),)


def test_where_each_value_came_from_is_known(tmp_path: Path) -> None:
    path = written(tmp_path, "[smtp]\nmax_errors = 3\nmax_commands = 30\n")
    loaded = read(path, {"POSTROOM_SMTP__MAX_ERRORS": "4"}, http="127.0.0.1:0")
    assert loaded.origins == {
        "smtp.max_errors": "POSTROOM_SMTP__MAX_ERRORS",
        "smtp.max_commands": f"{path}:3",
        "http.listen": "--http",
    }


def test_the_data_directory_of_a_file_is_relative_to_the_file_and_an_option_to_the_caller(tmp_path: Path) -> None:
    assert load(written(tmp_path, 'data = "mail"'), {}).data == str(tmp_path / "mail")
    assert load(written(tmp_path, ""), {}).data == str(tmp_path / "data")
    assert load(written(tmp_path, 'data = "/var/lib/postroom"'), {}).data == "/var/lib/postroom"
    assert load(written(tmp_path, 'data = "mail"'), {"POSTROOM_DATA": "elsewhere"}).data == "elsewhere"
    assert load(written(tmp_path, 'data = "mail"'), {"POSTROOM_DATA": "elsewhere"}, data="here").data == "here"
    assert load(None, {}).data == "data"


def test_variables_without_a_double_underscore_are_not_ours() -> None:
    """Kubernetes sets POSTROOM_PORT and POSTROOM_SERVICE_HOST for a service of this name."""
    assert (
        load(None, {"POSTROOM_PORT": "tcp://10.0.0.1:80", "POSTROOM_SERVICE_HOST": "x", "POSTROOM_CONFIG": "y"})
        == Settings()
    )


MISTAKES = [
    # syntax, text, file
    ("syntax", "[smtp]\nmax_size = \n[http]", r"postroom.toml:2: not TOML, column 12: invalid value: max_size ="),
    ("syntax at the end", '[smtp]\nmax_size = """x', r"postroom.toml:2: not TOML, at the end of the file: "),
    (
        "a key twice", "[smtp]\nmax_errors = 1\nmax_errors = 2\n",
        r"postroom.toml:3: not TOML, column \d+: cannot overwrite a value",
    ),
    ("a section twice", "[smtp]\n[http]\n[smtp]\n", r"postroom.toml:3: not TOML, column \d+: cannot declare .*smtp"),
    # names
    ("unknown section", "\n\n[smpt]\nx = 1", r"postroom.toml:3: \[smpt\]: unknown section; did you mean \[smtp\]\?"),
    (
        "unheard-of section", "[zebra]",
        r"postroom.toml:1: \[zebra\]: unknown section; the sections are \[gateway\], .*\[log\]",
    ),
    (
        "unknown key", "[smtp]\n\nmax_sise = 1",
        r"postroom.toml:3: \[smtp\] max_sise: unknown key; did you mean max_size\?",
    ),
    (
        "key of another section", "[http]\nmax_hops = 1",
        r"postroom.toml:2: \[http\] max_hops: unknown key; did you mean max_hops in \[processing\]\?",
    ),
    (
        "key without its section", "hostname = 'x'",
        r"postroom.toml:1: hostname: unknown key; did you mean hostname in \[gateway\]\?",
    ),
    (
        "data in a section", "[log]\ndata = 'x'",
        r"\[log\] data: unknown key; did you mean data at the top, before the first section\?",
    ),
    ("unheard-of key", "[log]\nzebra = 1", r"postroom.toml:2: \[log\] zebra: unknown key; the keys are format, level"),
    (
        "unknown key below a section", "[retry.delivery]\nwait = []",
        r":2: \[retry.delivery\] wait: unknown key; did you mean waits\?",
    ),
    ("a dotted name", '[log]\n"a.b" = 1', r"postroom.toml:2: \[log\] a.b: unknown key"),
    # forms
    ("value for a section", "smtp = 5", r"postroom.toml:1: \[smtp\]: expected a section \[smtp\], got 5"),
    (
        "list of sections", "[[smtp]]\nmax_errors = 1",
        r"postroom.toml:1: \[smtp\]: expected one section \[smtp\], with single brackets",
    ),
    ("section for a value", "[log.level]\nx = 1", r"postroom.toml:1: \[log\] level: expected one of .*, got a section"),
    ("date for a value", "[log]\nlevel = 2026-01-01", r"\[log\] level: expected .*, got the date or time 2026-01-01"),
    # flags and numbers
    (
        "flag as text", '[processing]\npaused = "yes"',
        r':2: \[processing\] paused: expected true or false, got "yes"; did you mean true, without quotes\?',
    ),
    ("flag as number", "[delivery]\npaused = 1", r":2: \[delivery\] paused: expected true or false, got 1"),
    ("number as text", '[smtp]\nmax_errors = "20"', r'got "20"; did you mean 20, without quotes\?'),
    ("flag as a number", "[smtp]\nmax_errors = true", r"max_errors: expected a whole number from 1 to 10000, got true"),
    ("fraction", "[smtp]\nmax_errors = 1.5", r"max_errors: expected a whole number from 1 to 10000, got 1.5"),
    ("too small", "[smtp]\nmax_errors = 0", r"max_errors: expected a whole number from 1 to 10000, got 0"),
    (
        "too large", "[bulk]\nshare = 101",
        r"postroom.toml:2: \[bulk\] share: expected a whole number from 1 to 100, got 101",
    ),
    # quantities
    (
        "size", '[smtp]\nmax_size = "50 Mib"',
        r'postroom.toml:2: \[smtp\] max_size: expected a size like "50 MiB", got "50 Mib"; did you mean "50 MiB"\?',
    ),
    ("size without unit", "[smtp]\nmax_size = 50", r'expected a size like "50 MiB", got 50; did you mean "50 bytes"\?'),
    ("size out of range", '[smtp]\nmax_size = "1 KiB"', r'expected a size from 64 KiB to 2 GiB, got "1 KiB"'),
    ("duration", '[smtp]\nidle_timeout = "5 minuts"', r'like "10 minutes", got "5 minuts"; did you mean "5 minutes"\?'),
    ("duration without unit", "[smtp]\nidle_timeout = 300", r'got 300; did you mean "300 seconds"\?'),
    (
        "duration out of range", '[limits]\nlease = "2 hours"',
        r'expected a duration from 1 second to 1 hour, got "2 hours"',
    ),
    (
        "never, where it is not allowed", '[smtp]\nidle_timeout = "never"',
        r'expected a duration like "10 minutes", got "never"',
    ),
    (
        "nearly never", '[api]\nbinding_lifetime = "nevr"',
        r'expected a duration like "3 days" or "never", got "nevr"; did you mean "never"\?',
    ),
    (
        "zero for never", '[api]\nbinding_lifetime = "0 days"',
        r'expected a duration from 1 minute to 3650 days or "never"',
    ),
    ("rate", '[api]\nrate_limit = "10 per 5 secs"', r'got "10 per 5 secs"; did you mean "10 per 5 seconds"\?'),
    ("rate as a number", "[api]\nrate_limit = 10", r'rate_limit: expected a rate like "10000 per 5 seconds", got 10'),
    ("rate out of range", '[api]\nrate_limit = "0 per second"', r"expected a rate from 1 to 10000000 in at most 1 day"),
    # words
    (
        "choice", '[delivery]\nmaybe_delivered = "holt"',
        r'expected "retry" or "hold", got "holt"; did you mean "hold"\?',
    ),
    ("level", '[log]\nlevel = "warn"', r'got "warn"; did you mean "warning"\?'),
    (
        "check", '[processing]\nchecks = ["size",\n"antivirsu"]',
        r'postroom.toml:3: \[processing\] checks: expected one of "size".*got "antivirsu"; did you mean "antivirus"\?',
    ),
    # places
    (
        "hostname", '[gateway]\nhostname = "my_host"',
        r':2: \[gateway\] hostname: expected a domain like "corp.example", got "my_host"',
    ),
    (
        "domain with umlauts", '[gateway]\ninternal_domains = ["köln.example"]',
        r'got "köln.example"; did you mean "xn--kln-sna.example"\?',
    ),
    ("address for a domain", '[gateway]\ninternal_domains = ["bob@corp.example"]', r'did you mean "corp.example"\?'),
    (
        "domain twice", '[gateway]\ninternal_domains = ["a.example",\n"A.example"]',
        r'postroom.toml:3: \[gateway\] internal_domains: "A.example" is listed twice',
    ),
    (
        "text for a list", '[gateway]\ninternal_domains = "a.example"',
        r'got "a.example"; did you mean \["a.example"\]\?',
    ),
    ("number for a list", "[gateway]\ninternal_domains = 5", r"expected a list, each a domain .*, got 5"),
    ("network", '[gateway]\nrelay_networks = ["10.0.0.1/8"]', r'got "10.0.0.1/8"; did you mean "10.0.0.0/8"\?'),
    (
        "no network", '[gateway]\nrelay_networks = ["10.0.0"]',
        r'expected an address or network like "192.0.2.0/24" or "::1", got "10.0.0"',
    ),
    (
        "empty list", "[smtp]\nlisten = []",
        r"postroom.toml:2: \[smtp\] listen: expected a list, each HOST:PORT .*; got an empty list",
    ),
    ("no port", '[smtp]\nlisten = ["127.0.0.1"]', r'got "127.0.0.1"; did you mean "127.0.0.1:2525"\?'),
    ("port alone", '[http]\nlisten = [":8080"]', r'got ":8080"; did you mean "127.0.0.1:8080"\?'),
    (
        "port out of range", '[http]\nlisten = [\n\n"127.0.0.1:99999"]',
        r'postroom.toml:4: \[http\] listen: expected a port from 0 to 65535, got "127.0.0.1:99999"',
    ),
    ("every address", '[smtp]\nlisten = ["*:25"]', r'got "\*:25"; did you mean "0.0.0.0:25"\?'),
    ("IPv6 without brackets", '[smtp]\nlisten = ["::1:25"]', r'got "::1:25"; did you mean "\[::1\]:25"\?'),
    ("IPv6 without brackets and port", '[smtp]\nlisten = ["fe80::1"]', r'did you mean "\[fe80::1\]:2525"\?'),
    ("no IPv6", '[smtp]\nlisten = ["[::zz]:25"]', r"expected an IPv6 address inside the brackets"),
    ("no IPv4", '[smtp]\nlisten = ["127.0.0.300:25"]', r'expected HOST:PORT like .*, got "127.0.0.300:25"'),
    ("database", '[store]\nurl = "sqlite://mail.db"', r'got "sqlite://mail.db"; did you mean "sqlite:///mail.db"\?'),
    (
        "database of a later release", '[store]\nurl = "postgresql://u@h/d"',
        r"\(postgresql is not in this release\), got",
    ),
    (
        "bodies of a later release", '[store]\nbodies = "s3://b/p"',
        r'expected a place like "file:///bodies" \(s3 is not in this release\)',
    ),
    (
        "scanner", '[antivirus]\naddress = "clamd"',
        r'or HOST:PORT like "127.0.0.1:3310", got "clamd"; did you mean "clamd:3310"\?',
    ),
    ("directory", 'data = ""', r'postroom.toml:1: data: expected the path of a directory, got ""'),
    # schedules
    (
        "wait", '[retry.processing]\nwaits = [\n"1 s",\n"fast"]',
        r'postroom.toml:4: \[retry.processing\] waits: expected a duration .*, got "fast"',
    ),
    ("no waits", "[retry.delivery]\nwaits = []", r"\[retry.delivery\] waits: .*; got an empty list"),
    # routes
    (
        "route without host", '[[delivery.routes]]\ndomain = "*"',
        r'postroom.toml:1: \[\[delivery.routes\]\] host: missing; expected HOST:PORT like "mx.example.org:25"',
    ),
    (
        "route with an unknown key", '[[delivery.routes]]\ndomain = "*"\nhost = "h:1"\nhots = 1',
        r"postroom.toml:4: \[\[delivery.routes\]\] hots: unknown key; did you mean host\?",
    ),
    (
        "route to no port", '[[delivery.routes]]\ndomain = "*"\nhost = "h:0"',
        r':3: \[\[delivery.routes\]\] host: expected a port from 1 to 65535, got "h:0"',
    ),
    (
        "route of no domain", '[[delivery.routes]]\nhost = "h:1"\ndomain = "exa mple"',
        r':3: \[\[delivery.routes\]\] domain: expected a domain like "\*", "example.org" or "\*.example.org", got '
        r'"exa mple"',
    ),
    (
        "the same route",
        '[[delivery.routes]]\ndomain = "*.a"\nhost = "h:1"\n[[delivery.routes]]\ndomain = "*.A"\nhost = "h:2"',
        r'postroom.toml:5: .* domain: "\*.a" has a route already; only the first is used',
    ),
    (
        "route behind all",
        '[[delivery.routes]]\ndomain = "*"\nhost = "h:1"\n[[delivery.routes]]\ndomain = "a"\nhost = "h:2"',
        r'postroom.toml:5: .* "a" is never used: the earlier route for "\*" matches first',
    ),
    (
        "route behind a wider one",
        '[[delivery.routes]]\ndomain = "*.a"\nhost = "h:1"\n[[delivery.routes]]\ndomain = "b.a"\nhost = "h:2"',
        r'"b.a" is never used: the earlier route for "\*.a"',
    ),
    (
        "single brackets", '[delivery.routes]\ndomain = "*"\nhost = "h:1"',
        r"postroom.toml:1: .*did you mean \[\[delivery.routes\]\], with two brackets\?",
    ),
    # together
    (
        "header larger than a message", '[smtp]\nmax_size = "64 KiB"',
        r"postroom.toml:2: \[smtp\] max_header: expected at most .*max_size",
    ),
    (
        "an address twice", '[http]\nlisten = ["127.0.0.1:2525"]',
        r'postroom.toml:2: \[http\] listen: "127.0.0.1:2525" is taken by \[smtp\] listen',
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [case[1:] for case in MISTAKES], ids=[case[0] for case in MISTAKES])
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert re.search(expected, problem), problem


def test_all_mistakes_are_told_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    text = '[log]\nlevel = "loud"\n[zebra]\n[smtp]\nmax_sise = 1\nmax_size = "x"\nlisten = ["a", "b:c"]\n'
    found = problems(tmp_path, text, {"POSTROOM_SMTP__MAX_ERRORS": "many", "POSTROOM_SMTP__MAX_SISE": "1"})
    assert [re.split(": ", problem)[0] for problem in found] == [
        "postroom.toml:2", "postroom.toml:3", "postroom.toml:5", "postroom.toml:6", "postroom.toml:7",
        "postroom.toml:7",
        "POSTROOM_SMTP__MAX_ERRORS", "POSTROOM_SMTP__MAX_SISE",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"POSTROOM_SMTP__MAX_SISE": "1"},
            "POSTROOM_SMTP__MAX_SISE: unknown setting; did you mean POSTROOM_SMTP__MAX_SIZE?",
        ),
        (
            {"POSTROOM_RETRY__DELIVERY": "1"},
            "POSTROOM_RETRY__DELIVERY: unknown setting; did you mean POSTROOM_RETRY__DELIVERY__AGE?",
        ),
        (
            {"POSTROOM_Smtp__MAX_SIZE": "1 MiB"},
            "POSTROOM_Smtp__MAX_SIZE: unknown setting; did you mean POSTROOM_SMTP__MAX_SIZE?",
        ),
        ({"POSTROOM_PROCESSING__PAUSED": "maybe"}, 'POSTROOM_PROCESSING__PAUSED: expected true or false, got "maybe"'),
        (
            {"POSTROOM_SMTP__LISTEN": ""},
            'POSTROOM_SMTP__LISTEN: expected a list, each HOST:PORT like "127.0.0.1:2525" or "[::1]:2525"; got an '
            'empty list',
        ),
        (
            {"POSTROOM_DELIVERY__ROUTES": "mx:25"},
            'POSTROOM_DELIVERY__ROUTES: expected routes like "example.org=mx.example.org:25, *=127.0.0.1:2626", got '
            '"mx:25"',
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_the_environment_is_named_by_its_variable(environ: dict[str, str], expected: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(None, environ)
    assert refused.value.problems == [expected]


def test_a_mistake_in_an_option_is_named_by_the_option() -> None:
    with pytest.raises(SettingsError) as refused:
        load(None, {}, smtp="here", http="127.0.0.1:http", data="")
    assert [problem.split(": ")[0] for problem in refused.value.problems] == ["--data", "--smtp", "--http"]


def test_a_file_that_cannot_be_read_is_a_mistake_like_any_other(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere.toml: cannot read the settings: No such file or directory"):
        load(tmp_path / "nowhere.toml", {})
    with pytest.raises(SettingsError, match="cannot read the settings: Is a directory"):
        load(tmp_path, {})
    path = tmp_path / "latin.toml"
    path.write_bytes(b"[log]\n# K\xf6ln\n")
    with pytest.raises(SettingsError, match=r"latin.toml:2: expected text in UTF-8, got the byte 0xf6"):
        load(path, {})


def test_a_file_may_begin_with_a_byte_order_mark_and_end_lines_as_windows_does(tmp_path: Path) -> None:
    path = tmp_path / "postroom.toml"
    path.write_bytes(b"\xef\xbb\xbf[smtp]\r\nmax_errors = 3\r\n")
    assert load(path, {}).smtp.max_errors == 3


# -- the list of keys, and what is generated from it


def leaves(node: msgspec.Struct, prefix: str = "") -> list[str]:
    """Every field of the tree; addresses and routes are values, not sections."""
    found = []
    for field in node.__struct_fields__:
        value = getattr(node, field)
        inner = isinstance(value, msgspec.Struct) and not isinstance(value, Address)
        found += leaves(value, f"{prefix}{field}.") if inner else [prefix + field]
    return found


def test_every_field_of_the_tree_is_a_key_of_the_file() -> None:
    reached = [
        ".".join((*key.split(".")[:-1], field)) for key in KEYS for field in FIELDS.get(key, (key.rpartition(".")[2],))
    ]
    assert reached == leaves(Settings())


@pytest.mark.parametrize("key", KEYS)
def test_every_default_is_accepted_where_it_is_written(tmp_path: Path, key: str) -> None:
    value = value_of(Settings(), key)
    assert with_value(Settings(), key, value) == Settings()
    table, _, name = key.rpartition(".")
    text = (f"[{table}]\n" if table else "") + f"{name} = {settings_doc.literal(KEYS[key].write(value))}\n"
    settings = load(written(tmp_path, text), {})
    assert msgspec.structs.replace(settings, data=Settings().data) == Settings()


def test_what_show_prints_reads_back_as_the_same(tmp_path: Path) -> None:
    loaded = read(ROOT / "examples/postroom.toml", {"POSTROOM_LOG__LEVEL": "debug"})
    text = settings_doc.toml(loaded.settings, loaded.origins)
    assert "# POSTROOM_LOG__LEVEL" in text
    assert load(written(tmp_path, text), {}) == loaded.settings
    values = settings_doc.values(loaded.settings)
    assert values == tomllib.loads(text)


def test_the_example_is_right_and_says_what_its_comments_say() -> None:
    settings = load(ROOT / "examples/postroom.toml", {})
    assert settings.gateway.internal_domains == ("corp.example",)
    assert [route.domain for route in settings.delivery.routes] == ["corp.example", "*.corp.example"]


def test_the_settings_page_is_what_the_program_says() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    assert page == settings_doc.reference(), "run: postroom settings reference > docs/settings.md"


@pytest.mark.parametrize("key", KEYS)
def test_every_setting_is_on_its_page_with_its_meaning_and_default(key: str) -> None:
    page = (ROOT / "docs/settings.md").read_text()
    table, _, name = key.rpartition(".")
    section = page.split(f"\n## [{table}]\n" if table else "\n## At the top of the file\n")[1].split("\n## ")[0]
    said = section.split(f"\n### {name}\n")[1].split("\n### ")[0]
    meaning, default = said.strip().split("\n\n")
    assert len(meaning) > 10
    shown = re.search(r"^- default: `(.*)`$", default, re.MULTILINE)
    assert shown is not None
    assert tomllib.loads(f"value = {shown[1]}")["value"] == KEYS[key].write(value_of(Settings(), key))
    assert f"- environment: `{variable(key)}`" in default
