"""Pages as HTTP answers: templates, security headers, static files.

Promises: every value in a template passes `wording.visible` and is then escaped, in one place that no template can
skip; pages load scripts and styles only from our static files; pages are never cached. Static files are read once, at
start, and named by a hash of their content. Fails: a template that uses an undefined value is a bug
(jinja2.UndefinedError).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import RedirectResponse, Response

from postroom.http.console import wording
from postroom.http.console.listing import PREFIX

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
NO_STORE = {"cache-control": "no-store"}
STATIC_TYPES = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "mark.svg": "image/svg+xml",
}


def _shown(value: object) -> object:
    """Called for every `{{ }}` before escaping. Markup comes from macros, whose values have passed already."""
    return wording.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_static = {name: files(__package__).joinpath("static", name).read_bytes() for name in STATIC_TYPES}
_static_paths = {
    name: f"{PREFIX}/static/{hashlib.sha256(content).hexdigest()[:16]}/{name}" for name, content in _static.items()
}

_environment = Environment(
    loader=PackageLoader(__package__, "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_shown,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals["static"] = _static_paths
_environment.globals["prefix"] = PREFIX
_environment.filters["number"] = wording.number_text


def page(
    template: str, values: Mapping[str, object], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    content = _environment.get_template(template).render(values)
    return Response(
        content,
        status,
        headers={**SECURITY_HEADERS, **NO_STORE, **(headers or {})},
        media_type="text/html; charset=utf-8",
    )


def see_other(address: str) -> Response:
    """The redirect after a form. `address` is a console page: it starts with one slash, never with two."""
    assert address.startswith(f"{PREFIX}/"), address
    return RedirectResponse(address, 303, headers={**SECURITY_HEADERS, **NO_STORE})


def static_file(name: str) -> Response | None:
    """None: no such file. The address changes with the content, so browsers may cache the file for ever."""
    content = _static.get(name)
    if content is None:
        return None
    headers = {**SECURITY_HEADERS, "cache-control": "public, max-age=31536000, immutable"}
    return Response(content, headers=headers, media_type=STATIC_TYPES[name])
