"""The lenient reader: everything that clients send, nothing that hurts."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.http.gateway.wire.lenient import MAX_BODY, MAX_DEPTH, UnreadableBody, read_body

FORM = b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n%b\r\n--b--\r\n'
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_json_reads_back(value: Any) -> None:
    assert read_body(json.dumps(value).encode()) == value
    assert read_body(json.dumps(value, ensure_ascii=False).encode()) == value


@given(VALUES)
def test_the_repr_of_python_reads_back(value: Any) -> None:
    assert read_body(repr(value).encode()) == value


@given(st.dictionaries(TEXTS, VALUES, min_size=1))
def test_the_slow_reader_agrees_with_the_fast_one(value: Any) -> None:
    text = json.dumps(value)
    assert read_body(text.encode()) == read_body((text[:-1] + ",}").encode())


@given(st.binary(max_size=300))
def test_no_bytes_break_it_and_what_is_read_can_be_written(data: bytes) -> None:
    try:
        value = read_body(data)
    except UnreadableBody:
        return
    json.dumps(value, allow_nan=False).encode()


@given(st.text(alphabet="{}[]'\":,\\ nulltruexU0123456789.-e\n", max_size=200))
def test_no_near_json_breaks_it(text: str) -> None:
    try:
        value = read_body(text.encode())
    except UnreadableBody:
        return
    json.dumps(value, allow_nan=False).encode()


@pytest.mark.parametrize("data", [b"", b"  \r\n", b"\xef\xbb\xbf"])
def test_nothing_is_nothing(data: bytes) -> None:
    assert read_body(data) is None


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"{'data': [{'a': True, 'b': None, 'c': False}]}", {"data": [{"a": True, "b": None, "c": False}]}),
        (b"{data: [{sortOrder: 'ascending', $x_1: TRUE, y: NULL, z: fAlSe}]}",
         {"data": [{"sortOrder": "ascending", "$x_1": True, "y": None, "z": False}]}),
        (b'{"a": [1, 2,], "b": {"c": 1,},}', {"a": [1, 2], "b": {"c": 1}}),
        (b"\xef\xbb\xbf{\"a\": 1}", {"a": 1}),
        (b"\xef\xbb\xbf{'a': 1}", {"a": 1}),
        (
            b"{'it': \"it's\", \"say\": 'say \"x\"', 'both': 'it\\'s \"x\"'}",
            {"it": "it's", "say": 'say "x"', "both": "it's \"x\""},
        ),
        (b"{'a': '\\xe9\\u00e9\\U0001f600\\n\\\\'}", {"a": "éé\U0001f600\n\\"}),
        (b'{"a": "\\ud83d\\ude00", "b": "\\ud800x",}', {"a": "\U0001f600", "b": "�x"}),
        (b'{"a": "caf\xe9"}', {"a": "café"}),  # PowerShell 5 sends Latin-1
        (b"{'a': -1.5e3, 'b': .5, 'c': 7}", {"a": -1500.0, "b": 0.5, "c": 7}),
        (b"{'a': 'line\nbreak'}", {"a": "line\nbreak"}),
        (b"{'a': 1, 'a': 2}", {"a": 2}),
        (b"[]", []),
        # Pasted from a web page or a document: no-break space, its narrow and wide kin, line separator, a second byte
        # order mark.
        ("{\xa0'a'\u202f:\u3000[1,\u2007\u2028 2\xa0]\ufeff}\xa0".encode(), {"a": [1, 2]}),
        (b"{\xa0'a':\xa01}", {"a": 1}),  # the same in Latin-1
        ("{'a': '\xa0x\u3000'}".encode(), {"a": "\xa0x\u3000"}),  # inside a text they are text
        (b"{u'data': [{u'subject': u'caf\\xe9', u'x': [u\"it's\"], u'n': None}]}",  # Python 2
         {"data": [{"subject": "café", "x": ["it's"], "n": None}]}),
        (b"{u: 1, 'u': 2, ux: 3}", {"u": 2, "ux": 3}),
        (b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--b\r\n'
         b'Content-Disposition: form-data; name="data"\r\nContent-Type: text/plain\r\n\r\n{"type": "processing"}\r\n'
         b'--b--\r\n',
         {"data": {"type": "processing"}}),
        (FORM % b'{"data": [{"type": "processing"}], "meta": {}}', {"data": [{"type": "processing"}], "meta": {}}),
        (FORM % b"{'data': [{'type': 'processing'}]}", {"data": [{"type": "processing"}]}),
        (FORM % b'{"meta": {"pagination": {"pageSize": 1}}}', {"meta": {"pagination": {"pageSize": 1}}}),
        (b"data=%7B%22type%22%3A+%22processing%22%7D", {"data": {"type": "processing"}}),
        (b" data=%5B%5D&meta=%7B'pagination'%3A%7B%7D%7D&x=%7B", {"data": [], "meta": {"pagination": {}}}),
        (b"data=%7B%22data%22%3A+%5B%7B%7D%5D%7D", {"data": [{}]}),
        (b"meta=", {"meta": None}),
        (FORM % b'[{"type": "processing"}]', {"data": [{"type": "processing"}]}),
    ],
)  # fmt: skip
def test_what_clients_send_in_place_of_json(data: bytes, value: Any) -> None:
    assert read_body(data) == value


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "character 1: expected a name, found the end"),
        (b"{'a'}", "character 4: expected ':', found '}'"),
        (b"{'a': foo}", "character 6: expected a value, found 'foo}'"),
        (b"{'a': 1 'b': 2}", "character 8: expected ',' or '}'"),
        (b"{'a': 'open}", "character 6: expected a closed string"),
        (b"{'a': '\\q'}", "unknown escape '\\\\q'"),
        (b"{'a': '\\U00110000'}", "unknown character"),
        (b"{,}", "character 1: expected a name"),
        ("{'a':\u200b1}".encode(), "character 5: expected a value, found '\\u200b1}'"),  # no blank, and not to be seen
        ("{a\xa0b: 1}".encode(), "character 3: expected ':', found 'b: 1}'"),
        (b"{} {}", "character 3: expected the end of the body"),
        (b"{'a': 1e999}", "a finite number"),
        (b"[" + b"1" * 65 + b",]", "a number of sensible length"),
        (b"{'a': u}", "character 6: expected a value"),
        (b"{'a': uu'x'}", "character 6: expected a value"),
        (b"__import__('os')", "character 0: expected a value"),
        (b"{'a': (1)}", "character 6: expected a value"),
        (b"type=processing", "character 0: expected a value"),
        (b"data=%7B", "character 1: expected a name, found the end"),
        (b"data=" + b"&a=" * 20, "a form of more than 20 fields"),
        (b"--b\r\n\r\nnothing\r\n--b--", "without a field named 'data'"),
    ],
)
def test_what_cannot_be_read_says_where_and_what_was_expected(data: bytes, says: str) -> None:
    with pytest.raises(UnreadableBody) as caught:
        read_body(data)
    assert says in str(caught.value)


def test_depth_is_bounded_for_both_readers() -> None:
    assert read_body(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) is not None
    for tail in (b"]" * (MAX_DEPTH + 1), b""):
        with pytest.raises(UnreadableBody, match=f"at most {MAX_DEPTH} levels"):
            read_body(b"[" * (MAX_DEPTH + 1) + tail)
    with pytest.raises(UnreadableBody):
        read_body(b'{"a":' * (MAX_BODY // 5))


@pytest.mark.parametrize(
    "piece",
    [
        b"[", b"\\'", b"a:1,", b" ", b"\\u00e9", b"1,", b"1", b"--a\n", b"x", b"\n--", b"name=data ", b"{},", b"'",
        b'"', b"\\", b"{'a':", b"-", b"1e", b"--", b"\xff",
    ],
)  # fmt: skip
@pytest.mark.parametrize("head", [b"", b"'", b"[", b"{", b"{'", b"--\n"])
def test_time_grows_with_length_only(head: bytes, piece: bytes) -> None:
    """Sixteen times the length may take sixteen times the work, with much room for noise; a quadratic reader would need
    256 times. By the processor time of this thread: what else the machine does is not counted."""

    def seconds(length: int) -> float:
        data = (head + piece * length)[:length]
        best = 60.0
        for _ in range(3):
            begun = time.thread_time()
            with contextlib.suppress(UnreadableBody):
                read_body(data)
            best = min(best, time.thread_time() - begun)
        return best

    assert seconds(64 * 1024) < 80 * seconds(4 * 1024) + 0.01
