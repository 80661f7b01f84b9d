"""Whether a person would see an attachment, and the shape of a message."""

from __future__ import annotations

import pytest

from postroom.facts import mime, scan


def single(*lines: str) -> bytes:
    return "".join([line + "\r\n" for line in ("From: a@b", *lines)]).encode() + b"\r\nbody\r\n"


def multi(subtype: str, *parts: str, boundary: str = "x", end: bool = True) -> str:
    """A multipart with these parts (each: header lines, empty line, body), from its Content-Type on."""
    inner = "".join([f"--{boundary}\r\n{part}\r\n" for part in parts])
    return f"Content-Type: multipart/{subtype}; boundary={boundary}\r\n\r\n{inner}" + (
        f"--{boundary}--\r\n" if end else ""
    )


def message(content: str) -> bytes:
    return b"From: a@b\r\n" + content.encode()


TEXT = "Content-Type: text/plain\r\n\r\nhello"
HTML = "Content-Type: text/html\r\n\r\n<p>hello"
PDF = 'Content-Type: application/pdf; name="a.pdf"\r\n\r\n%PDF'
PNG_CID = 'Content-Type: image/png; name="a.png"\r\nContent-ID: <1@x>\r\n\r\nPNG'
RFC822 = "Content-Type: message/rfc822\r\n\r\nFrom: c@d\r\nSubject: inner\r\n\r\nhello"


@pytest.mark.parametrize(
    ("lines", "attachment"),
    [
        ((), False),
        (("Content-Type: text/plain",), False),
        (("Content-Type: text",), False),
        (("Content-Type: text/plain; name=a.txt",), False),
        (("Content-Type: text/plain", "Content-Disposition: inline; filename=a.txt"), False),
        (("Content-Type: text/plain", "Content-Disposition: attachment; filename=a.txt"), True),
        (("Content-Disposition: ATTACHMENT",), True),
        (("Content-Disposition: attachments",), False),
        (("Content-Type: application/pdf",), True),
        (("Content-Type: nonsense",), False),
        (("Content-Type: message/rfc822",), True),
    ],
)
def test_a_message_of_one_part(lines: tuple[str, ...], attachment: bool) -> None:
    found = scan(single(*lines))
    assert (found.attachment, found.parts, found.problems) == (attachment, 1, ())


@pytest.mark.parametrize(
    ("content", "attachment", "parts", "depth"),
    [
        (multi("mixed", TEXT), False, 1, 1),
        (multi("mixed", TEXT, PDF), True, 2, 1),
        (multi("mixed", TEXT, "Content-Type: application/pdf\r\n\r\n%PDF"), True, 2, 1),
        (multi("strange", TEXT, "Content-Type: application/pdf\r\n\r\n%PDF"), True, 2, 1),
        (multi("mixed", TEXT, 'Content-Type: text/plain; name="a.txt"\r\n\r\nx'), False, 2, 1),
        (multi("mixed", TEXT, "Content-Disposition: attachment\r\n\r\nx"), True, 2, 1),
        (multi("mixed", TEXT, "\r\nno header"), False, 2, 1),
        (multi("alternative", TEXT, HTML), False, 2, 1),
        (multi("alternative", TEXT, "Content-Type: application/x-amp\r\n\r\nx"), False, 2, 1),
        (multi("alternative", TEXT, "Content-Type: application/x; name*0*=utf-8''a\r\n\r\nx"), True, 2, 1),
        (multi("related", HTML, PNG_CID), False, 2, 1),
        (multi("related", HTML, PNG_CID.replace("\r\n\r\n", "\r\nContent-Disposition: inline\r\n\r\n")), False, 2, 1),
        (
            multi("related", HTML, PNG_CID.replace("\r\n\r\n", "\r\nContent-Disposition: attachment\r\n\r\n")),
            True,
            2,
            1,
        ),
        (multi("related", HTML, 'Content-Type: image/png; name="a.png"\r\n\r\nPNG'), True, 2, 1),
        (multi("mixed", TEXT, PNG_CID), True, 2, 1),
        (multi("mixed", multi("related", HTML, PNG_CID, boundary="y")), False, 2, 2),
        (multi("mixed", multi("alternative", TEXT, HTML, boundary="y"), PDF), True, 3, 2),
        (multi("mixed", TEXT, RFC822), True, 2, 2),
        (multi("digest", "\r\nFrom: c@d\r\n\r\nhello"), True, 1, 2),
        (multi("report", TEXT, "Content-Type: message/delivery-status\r\n\r\nStatus: 5.0.0", RFC822), False, 3, 2),
        (multi("signed", TEXT, "Content-Type: application/pgp-signature; name=a.asc\r\n\r\nx"), False, 2, 1),
        (
            multi(
                "signed",
                TEXT,
                "Content-Type: application/pkcs7-signature\r\nContent-Disposition: attachment; filename=smime.p7s\r\n"
                "\r\nx",
            ),
            False,
            2,
            1,
        ),
        (
            multi(
                "encrypted",
                "Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1",
                "Content-Type: application/octet-stream; name=encrypted.asc\r\n\r\nx",
            ),
            False,
            2,
            1,
        ),
        # inside an attached message: counted, not looked at
        (
            multi("report", TEXT, "Content-Type: message/rfc822\r\n\r\n" + multi("mixed", TEXT, PDF, boundary="y")),
            False,
            3,
            3,
        ),
    ],
)
def test_what_a_person_sees_of_a_multipart(content: str, attachment: bool, parts: int, depth: int) -> None:
    found = scan(message(content))
    assert (found.attachment, found.parts, found.depth, found.problems) == (attachment, parts, depth, ())
    bare = scan(message(content).replace(b"\r\n", b"\n"))
    assert (bare.attachment, bare.parts, bare.depth, bare.problems) == (attachment, parts, depth, ())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (multi("mixed", TEXT, end=False), mime.UNTERMINATED),
        (multi("mixed", multi("mixed", TEXT, boundary="y", end=False), PDF), mime.UNTERMINATED),
        (multi("mixed"), None),
        (multi("mixed", end=False), mime.NEVER_STARTED),
        ("Content-Type: multipart/mixed\r\n\r\n--x\r\n", mime.NO_BOUNDARY),
        (f"Content-Type: multipart/mixed; boundary={'x' * 300}\r\n\r\n--x\r\n", mime.NO_BOUNDARY),
        (multi("mixed", multi("mixed", TEXT)), mime.BOUNDARY_TWICE),
        (multi("mixed", *[TEXT] * (mime.MAX_PARTS + 1)), mime.TOO_MANY_PARTS),
        (multi("mixed", *[multi("mixed", boundary="y")] * (mime.MAX_PARTS + 1)), mime.TOO_MANY_PARTS),
        (multi("mixed", TEXT + "\r\n--" * (mime.MAX_DASHED + 1)), mime.TOO_MANY_DASHED),
    ],
)
def test_faults_of_structure_are_named(content: str, problem: str | None) -> None:
    problems = scan(message(content)).problems
    assert problem in problems if problem else problems == ()


def nested(levels: int) -> str:
    content = TEXT
    for level in range(levels):
        content = multi("mixed", content, boundary=f"b{level}")
    return content


def test_depth_is_counted_up_to_its_limit() -> None:
    at_limit = scan(message(nested(mime.MAX_DEPTH)))
    assert (at_limit.depth, at_limit.parts, at_limit.problems) == (mime.MAX_DEPTH, 1, ())
    beyond = scan(message(nested(mime.MAX_DEPTH + 1)))
    assert (beyond.depth, beyond.problems) == (mime.MAX_DEPTH, (mime.TOO_DEEP,))
    wrapped = scan(message("Content-Type: message/rfc822\r\n\r\n" * 60 + "\r\n"))
    assert (wrapped.depth, wrapped.problems) == (mime.MAX_DEPTH, (mime.TOO_DEEP,))


def test_the_parts_limit_is_exact() -> None:
    found = scan(message(multi("mixed", *[TEXT] * mime.MAX_PARTS)))
    assert (found.parts, found.problems) == (mime.MAX_PARTS, ())


@pytest.mark.parametrize(
    "ctype",
    [
        'multipart/mixed; boundary="x y"',
        'Multipart/Mixed;\r\n\tcharset=x;\r\n\tBOUNDARY = "x y"',
        'multipart/mixed; boundary="x\\ y"',
        'multipart/mixed; x-boundary=z; boundary="x y  "',
    ],
)
def test_a_boundary_is_read_as_it_is_written(ctype: str) -> None:
    found = scan(message(f"Content-Type: {ctype}\r\n\r\n--x y \t\r\n{PDF}\r\n--x y--\r\n"))
    assert (found.attachment, found.parts, found.problems) == (True, 1, ())


def test_only_whole_lines_are_boundaries() -> None:
    content = multi("mixed", "\r\n--xy\r\n--x y\r\n -- x\r\ntext --x\r\n---x")
    assert scan(message(content)).parts == 1
