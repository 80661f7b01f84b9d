"""A sender that puts exactly the given bytes on the wire; nothing of Postroom is used to test Postroom."""

from __future__ import annotations

import socket

LIMIT = 30.0  # seconds for one answer


class Sender:
    """`with Sender(address) as sender: sender.mail(...)`; replies are whole, as bytes, without the last CRLF."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, LIMIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self.socket.makefile("rb")
        self.port = int(self.socket.getsockname()[1])
        try:
            self.greeting = self.reply()
            self.hello = self.command(b"EHLO sender.corp.example")
        except BaseException:  # nobody else can close it
            self.close()
            raise

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._answers.close()
        self.socket.close()

    def write(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reply(self) -> bytes:
        lines = []
        while True:
            line = self._answers.readline()
            if not line.endswith(b"\r\n"):
                raise ConnectionError(f"the gateway closed the connection: {line!r}")
            lines.append(line)
            if line[3:4] != b"-":
                return b"".join(lines).removesuffix(b"\r\n")

    def command(self, line: bytes) -> bytes:
        self.write(line + b"\r\n")
        return self.reply()

    def mail(self, content: bytes, *recipients: str, sender: str = "alice@corp.example") -> bytes:
        """One message; the reply that decided about it."""
        for line in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{recipient}>" for recipient in recipients)):
            reply = self.command(line.encode())
            if not reply.startswith(b"250"):
                return reply
        reply = self.command(b"DATA")
        if not reply.startswith(b"354"):
            return reply
        self.write(stuffed(content))
        return self.reply()


def stuffed(content: bytes) -> bytes:
    """As RFC 5321 4.5.2 wants it, with the end of data."""
    assert content.endswith(b"\r\n")
    body = content.replace(b"\r\n.", b"\r\n..")
    return (b"." if content.startswith(b".") else b"") + body + b".\r\n"


def as_sent(content: bytes) -> bytes:
    """What a real sender makes of a stored mail: every line ends in CRLF, also the last."""
    lines = content.replace(b"\r\n", b"\n")
    if not lines.endswith(b"\n"):
        lines += b"\n"
    return lines.replace(b"\n", b"\r\n")


def a_mail(subject: str, size: int = 1000) -> bytes:
    head = (
        f"From: Alice <alice@corp.example>\r\nTo: Bob <bob@corp.example>\r\nSubject: {subject}\r\n"
        f"Message-ID: <{subject.replace(' ', '-')}@corp.example>\r\n\r\n"
    ).encode()
    line = b"The quick brown fox jumps over the lazy dog, and nobody minds at all.\r\n"
    return head + line * max(1, (size - len(head)) // len(line))
