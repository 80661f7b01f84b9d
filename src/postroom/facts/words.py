"""Header bytes -> readable text: 8-bit headers and encoded words (RFC 2047), with the faults of real mail.

Promises: total (any bytes give a text), linear in the input. The result holds neither control characters nor lone
surrogates: it can be stored, logged and shown as one line. A charset name from a message never reaches the codec
registry, which would remember each unknown name for ever.
Fails: never; text that cannot be decoded is guessed (UTF-8, the declared charset, Windows-1252, Latin-1) or left as is.
"""

from __future__ import annotations

import binascii
import re
from encodings.aliases import aliases

MAX_TEXT = 998  # RFC 5322 2.1.1: the longest line; longer texts are cut
MAX_RAW = 16 * 1024  # bytes of one field that are read for a text of MAX_TEXT characters

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_WORD = re.compile(r"=\?([^?\s*]{1,60}+)(?:\*[^?\s]{0,40}+)?\?([BbQq])\?")  # RFC 2231 5: charset*language

# Codecs that are not charsets, that warn or raise on their own account, or that are not linear (punycode, idna).
_NO_CHARSET = {
    "base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec", "mbcs", "oem",
    "idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape",
}  # fmt: skip
_CHARSETS = {alias: codec for alias, codec in aliases.items() if codec not in _NO_CHARSET}
_CHARSETS |= {codec: codec for codec in _CHARSETS.values()}
_CHARSETS |= {
    # What senders mean by these names, as mail readers treat them: a larger set that contains the named one.
    **dict.fromkeys([name for name, codec in _CHARSETS.items() if codec == "latin_1"], "cp1252"),
    **dict.fromkeys([name for name, codec in _CHARSETS.items() if codec in ("gb2312", "gbk")], "gb18030"),
    **dict.fromkeys(("ks_c_5601_1987", "ks_c_5601", "ksc5601", "euc_kr"), "cp949"),
    **dict.fromkeys(("shift_jis", "sjis", "x_sjis", "windows_31j"), "cp932"),
    "iso_8859_8_i": "iso8859_8",
    "iso_8859_8_e": "iso8859_8",
    "windows_874": "cp874",
    "utf8mb4": "utf_8",
}
for _name in [name for name, codec in _CHARSETS.items() if codec == "ascii"]:
    del _CHARSETS[_name]  # 8-bit text that says it is ASCII is guessed


def text_of(raw: bytes, charset: str = "", limit: int = MAX_TEXT) -> str:
    """A field's raw value as one clean line; `charset`: declared by the message, for 8-bit text without one."""
    text = unworded(raw, charset)
    if "=?" in text:
        text = decode_words(text)
    return clean(text, limit)


def unworded(raw: bytes, charset: str = "", limit: int = MAX_RAW) -> str:
    """A field's raw value as text, encoded words still encoded: addresses are parsed before decoding."""
    if len(raw) > limit:
        raw = raw[:limit]
        if not raw.isascii():  # do not let the cut make valid UTF-8 look broken
            while raw and raw[-1] & 0xC0 == 0x80:
                raw = raw[:-1]
            raw = raw[:-1]
    return raw.decode("ascii") if raw.isascii() else guess(raw, charset)


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """One line: control characters become blanks, the ends are trimmed, the text is cut at the limit."""
    if not text.isprintable():
        text = _CONTROL.sub(" ", text)
    return text.strip()[:limit]


def guess(raw: bytes, charset: str = "") -> str:
    """8-bit text without a charset, or with one that we do not know."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    for codec in (_CHARSETS.get(_normal(charset), "cp1252"), "cp1252"):
        try:
            return raw.decode(codec)
        except UnicodeError:
            continue
    return raw.decode("latin-1")


def decode_words(text: str) -> str:
    """Decodes RFC 2047 words as leniently as mail readers do: in quotes, without blanks between, badly padded.

    Joins neighbours in the same charset before decoding, because senders cut words inside a character.
    Linear: every search starts where the last one ended.
    """
    out: list[str] = []
    pending = bytearray()
    pending_charset = ""
    done = look = 0  # text up to `done` is in `out`
    end = -1
    while (start := text.find("=?", look)) >= 0:
        head = _WORD.match(text, start)
        if head is None:
            look = start + 2
            continue
        if end < head.end():
            end = text.find("?=", head.end())
            if end < 0:
                break
        other = text.find("=?", head.end(), end)
        if 0 <= other < end - 1:  # another word starts before this one ended: this one is broken
            look = other
            continue
        raw = _word_bytes(head[2], text[head.end() : end])
        if raw is None:
            look = end + 2
            continue
        charset = head[1].lower()
        gap = text[done:start]
        between = pending_charset and (not gap or gap.isspace())  # RFC 2047 6.2: blanks between words are not text
        if pending_charset and not (between and charset == pending_charset):
            out.append(_in_charset(bytes(pending), pending_charset))
            pending.clear()
        if not between:
            out.append(gap)
        pending += raw
        pending_charset = charset
        done = look = end + 2
    if pending_charset:
        out.append(_in_charset(bytes(pending), pending_charset))
    out.append(text[done:])
    return "".join(out)


def _word_bytes(encoding: str, text: str) -> bytes | None:
    raw = text.encode("utf-8", "replace")
    if encoding in "Qq":
        return binascii.a2b_qp(raw, header=True)
    raw = raw.rstrip(b"= ")
    for letters in (raw, raw[:-1]):  # one letter too many: a cut word
        try:
            found = binascii.a2b_base64(letters + b"==")
        except binascii.Error:
            continue
        return found if found or not raw else None
    return None


def _in_charset(raw: bytes, charset: str) -> str:
    codec = _CHARSETS.get(_normal(charset))
    if codec is None:
        return guess(raw)
    if codec != "cp1252":
        return raw.decode(codec, "replace")
    try:
        return raw.decode("cp1252")
    except UnicodeDecodeError:  # it has holes, which Latin-1 fills
        return raw.decode("latin-1")


def _normal(charset: str) -> str:
    return charset.strip("\"' ").lower().replace("-", "_").replace(" ", "_")
