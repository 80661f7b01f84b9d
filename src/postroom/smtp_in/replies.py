"""Every reply that the SMTP server can give, as bytes. RFC 5321 4.2, enhanced codes RFC 3463 and 2034.

Promises: each reply is whole lines ending in CRLF, ASCII. Fails: never.
"""

from __future__ import annotations

BYE = b"221 2.0.0 Bye\r\n"
HELP = b"214 2.0.0 EHLO HELO MAIL RCPT DATA RSET NOOP VRFY QUIT\r\n"
OK = b"250 2.0.0 Ok\r\n"
SENDER_OK = b"250 2.1.0 Ok\r\n"
RECIPIENT_OK = b"250 2.1.5 Ok\r\n"
RECIPIENT_ALREADY = b"250 2.1.5 Ok, named before\r\n"
CANNOT_VERIFY = b"252 2.0.0 Send some mail, I will try my best\r\n"
GO_AHEAD = b"354 End data with <CR><LF>.<CR><LF>\r\n"

SHUTTING_DOWN = b"421 4.3.2 Service shutting down\r\n"
TIMEOUT = b"421 4.4.2 Timeout, closing connection\r\n"
TOO_MANY_SESSIONS = b"421 4.7.0 Too many connections, try again later\r\n"
TOO_MANY_SESSIONS_OF_YOU = b"421 4.7.0 Too many connections from your address, try again later\r\n"
TOO_MANY_FILES = b"421 4.3.2 Too many open files here, try again later\r\n"
OUT_OF_MEMORY = b"421 4.3.1 Not enough memory, try again later\r\n"
TOO_MANY_ERRORS = b"421 4.7.0 Too many errors, closing connection\r\n"
TOO_MANY_COMMANDS = b"421 4.7.0 Too many commands without a message, closing connection\r\n"
INTERNAL_ERROR = b"451 4.3.0 Internal error, try again later\r\n"
NO_MEMORY = b"452 4.3.1 Too many messages are being received, try again later\r\n"
NOT_KEPT = b"452 4.3.1 The message could not be stored, try again later\r\n"
DISK_LOW = b"452 4.3.1 Insufficient system storage, try again later\r\n"
NOT_WRITABLE = b"452 4.3.0 The queue cannot be written just now, try again later\r\n"
BACKLOG_FULL = b"452 4.3.1 Too many messages are queued, try again later\r\n"
TOO_MANY_RECIPIENTS = b"452 4.5.3 Too many recipients\r\n"

UNKNOWN_COMMAND = b"500 5.5.2 Command not recognized\r\n"
LINE_TOO_LONG = b"500 5.5.2 Line too long\r\n"
BARE_LINE_END = b"500 5.5.2 Lines must end in <CR><LF>, without other <CR> or <LF>\r\n"
HELO_SYNTAX = b"501 5.5.4 Syntax: EHLO hostname\r\n"
NO_ARGUMENT = b"501 5.5.4 This command takes no argument\r\n"
NEEDS_ARGUMENT = b"501 5.5.4 This command needs an argument\r\n"
MAIL_SYNTAX = b"501 5.5.4 Syntax: MAIL FROM:<address> [SIZE=number] [BODY=7BIT|8BITMIME]\r\n"
RCPT_SYNTAX = b"501 5.5.4 Syntax: RCPT TO:<address>\r\n"
BAD_PARAMETER = b"501 5.5.4 Parameter given twice or with an impossible value\r\n"
BAD_SENDER = b"501 5.1.7 Bad sender address syntax\r\n"
BAD_RECIPIENT = b"501 5.1.3 Bad recipient address syntax\r\n"
NOT_IMPLEMENTED = b"502 5.5.1 Command not implemented\r\n"
NO_HELO = b"503 5.5.1 Send EHLO first\r\n"
NESTED_MAIL = b"503 5.5.1 Sender already given\r\n"
NO_MAIL = b"503 5.5.1 Need MAIL first\r\n"
NO_RCPT = b"503 5.5.1 Need RCPT first\r\n"
RELAYING_DENIED = b"550 5.7.1 relaying denied\r\n"
SOURCE_ROUTE_SENDER = b"553 5.1.7 Source routes are not accepted\r\n"
SOURCE_ROUTE = b"553 5.1.3 Source routes are not accepted\r\n"
ROUTED_RECIPIENT = b"553 5.1.3 Routing inside the local part is not accepted\r\n"
NOT_ASCII = b"553 5.6.7 Addresses beyond ASCII are not supported\r\n"
NO_VALID_RECIPIENTS = b"554 5.5.1 No valid recipients\r\n"
UNSAFE_LINE = (
    b"554 5.6.0 Message refused: a line with a lone dot framed by a bare <CR>, bare <LF> or NUL (SMTP smuggling)\r\n"
)
UNKNOWN_PARAMETER = b"555 5.5.4 Parameter not recognized or not implemented\r\n"


# Conditions of ours, not of one message: the log has the first refusal and, when it is over, how many there were
CONDITIONS = frozenset({DISK_LOW, NOT_WRITABLE, BACKLOG_FULL, NOT_KEPT, NO_MEMORY, TOO_MANY_FILES})

# RFC 5321 4.2.4: 502 for what is a command elsewhere, 500 for what is none
_KNOWN = frozenset((b"EXPN", b"TURN", b"ETRN", b"ATRN", b"SEND", b"SOML", b"SAML", b"BDAT", b"AUTH", b"STARTTLS"))


def unknown(line: bytes) -> bytes:
    return NOT_IMPLEMENTED if line.partition(b" ")[0].upper() in _KNOWN else UNKNOWN_COMMAND


def too_big(limit: int) -> bytes:
    return b"552 5.3.4 Message too big: the limit is %d bytes\r\n" % limit


def header_too_big(limit: int) -> bytes:
    return b"552 5.3.4 Message header too big: the limit is %d bytes\r\n" % limit
