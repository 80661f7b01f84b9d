"""`make bench-soak`: an hour of steady load with deferrals, to show that memory, files and acknowledgements stay flat.

A paced sender (RATE messages a second over CONNECTIONS kept connections, one in a hundred with a body in a file of its
own) and a receiver that defers one try in ten, both on this machine. It prints a line a minute, and at the end the
first and the last quarter of the steady part side by side.

Promises: limited in time and count; every acknowledged message leaves the gateway in the end, or the run fails.
Fails: RuntimeError when a message is refused, the ledger does not add up, or the queue does not drain.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import uvloop

from bench import duel, machine
from bench.gateway import Gateway
from bench.mail import Mail, Writer

RATE = 200  # messages a second
CONNECTIONS = 20
DEFERRED = 0.10  # of all tries
LARGE_EVERY = 100  # messages; 200 KiB
WARM_UP = 10  # minutes until retries and retention are steady
MIB = 1024 * 1024
SETTINGS = """\
[gateway]
hostname = "gw.corp.example"
internal_domains = ["corp.example"]

[retention]
history = "{retention}"

[[delivery.routes]]
domain = "*"
host = "127.0.0.1:{port}"
"""


class Sink(asyncio.Protocol):
    """The receiver: answers each command, defers one MAIL in ten, keeps no mail."""

    chance = random.Random(2026)
    taken = deferred = 0
    _transport: asyncio.Transport
    _buffer = b""
    _in_data = False
    _tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's, whatever its class
        self._transport.write(b"220 sink.example ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        if self._in_data:
            self._content(data)
            return
        self._buffer += data
        while not self._in_data and b"\n" in self._buffer:
            line, _, self._buffer = self._buffer.partition(b"\n")
            self._command(line.upper())
        rest, self._buffer = (self._buffer, b"") if self._in_data else (b"", self._buffer)
        if rest:
            self._content(rest)

    def _command(self, line: bytes) -> None:
        write = self._transport.write
        if line.startswith(b"EHLO"):
            write(b"250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
        elif line.startswith(b"MAIL") and Sink.chance.random() < DEFERRED:
            Sink.deferred += 1
            write(b"451 4.7.1 Greylisted, come again\r\n")
            self._refusing = True
        elif line.startswith(b"MAIL"):
            self._refusing = False
            write(b"250 2.1.0 Ok\r\n")
        elif line.startswith((b"RCPT", b"DATA")) and self._refusing:
            write(b"503 5.5.1 MAIL first\r\n")
        elif line.startswith(b"DATA"):
            self._in_data, self._tail = True, b"\r\n"
            write(b"354 Go on\r\n")
        elif line.startswith(b"QUIT"):
            write(b"221 2.0.0 Bye\r\n")
            self._transport.close()
        else:
            write(b"250 2.0.0 Ok\r\n")

    _refusing = False

    def _content(self, data: bytes) -> None:
        seen = self._tail + data
        end = seen.find(b"\r\n.\r\n")
        if end < 0:
            self._tail = seen[-4:]
            return
        self._in_data = False
        Sink.taken += 1
        self._transport.write(b"250 2.0.0 Taken\r\n")
        rest = seen[end + 5 :]
        if rest:
            self.data_received(rest)


@dataclass
class Minute:
    """The figures of one minute."""

    minute: int
    sent: int = 0
    ack_p50: float = 0.0  # milliseconds
    ack_p99: float = 0.0
    ack_max: float = 0.0
    resident: float = 0.0  # MiB
    private: float = 0.0
    database: float = 0.0  # MiB, with its log
    bodies: float = 0.0
    queued: int = 0
    deferred: int = 0  # so far
    cpu: float = 0.0  # share of one core
    other_cpu: float = 0.0  # of all else on the machine, this driver included
    fsyncs: int = 0  # per second, of the disk at this moment


@dataclass
class Load:
    """What the senders have counted since the last look."""

    times: list[float] = field(default_factory=list)
    sent: int = 0
    late: float = 0.0  # seconds behind the pace, at worst


async def send(address: tuple[str, int], mails: Callable[[], Mail], load: Load, until: float, offset: float) -> None:
    """One connection: a message each CONNECTIONS / RATE seconds, the transaction's commands pipelined."""
    reader, writer = await asyncio.open_connection(*address)
    await reader.readline()
    writer.write(b"EHLO load.example\r\n")
    while not (await reader.readline()).startswith(b"250 "):
        pass
    due = time.monotonic() + offset
    while time.monotonic() < until:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        load.late = max(load.late, time.monotonic() - due)
        due += CONNECTIONS / RATE
        mail = mails()
        writer.write(f"MAIL FROM:<{mail.sender}>\r\nRCPT TO:<{mail.recipient}>\r\nDATA\r\n".encode())
        for expected in (b"250", b"250", b"354"):
            _expect(await reader.readline(), expected)
        writer.write(mail.content + b"\r\n")
        await writer.drain()
        begin = time.perf_counter()
        writer.write(b".\r\n")
        _expect(await reader.readline(), b"250")
        load.times.append((time.perf_counter() - begin) * 1000)
        load.sent += 1
    writer.write(b"QUIT\r\n")
    await reader.readline()
    writer.close()


def _expect(reply: bytes, code: bytes) -> None:
    if not reply.startswith(code):
        raise RuntimeError(f"expected {code.decode()}, got {reply!r}")


async def watch(gateway: Gateway, load: Load, minutes: list[Minute], until: float) -> None:
    begin, cpu, busy = time.monotonic(), machine.cpu_of(gateway.pid), machine.busy_seconds()
    number = 0
    while time.monotonic() < until:
        number += 1
        await asyncio.sleep(max(0.0, begin + 60 * number - time.monotonic()))
        times, load.times = load.times, []
        sent, load.sent = load.sent, 0
        used, busy_now = machine.cpu_of(gateway.pid), machine.busy_seconds()
        seen = await asyncio.to_thread(look, gateway, number)
        seen.sent = sent
        if times:
            seen.ack_p50, seen.ack_p99 = duel.percentile(times, 50), duel.percentile(times, 99)
            seen.ack_max = max(times)
        seen.cpu = (used - cpu) / 60
        seen.other_cpu = (busy_now - busy) / 60 - seen.cpu
        cpu, busy = used, busy_now
        minutes.append(seen)
        print(line(seen), flush=True)


def look(gateway: Gateway, number: int) -> Minute:
    metrics = gateway.metrics()
    files = sum(path.stat().st_size for path in gateway.data.glob("postroom.db*"))
    bodies = sum(
        entry.stat().st_size
        for directory in os.scandir(gateway.data / "bodies")
        if directory.is_dir()
        for entry in os.scandir(directory.path)
    )
    if difference := metrics["postroom_ledger_difference"]:
        raise RuntimeError(f"the ledger is off by {difference:g}")
    return Minute(
        minute=number,
        resident=machine.resident_of(gateway.pid) / MIB,
        private=machine.private_of(gateway.pid) / MIB,
        database=files / MIB,
        bodies=bodies / MIB,
        queued=int(sum(value for name, value in metrics.items() if name.startswith("postroom_queue_entries{"))),
        deferred=Sink.deferred,
        fsyncs=machine.fsync_rate(gateway.data.parent, 0.2),
    )


HEAD = "minute   sent  ack p50    p99    max  RSS MiB  own MiB  db MiB  bodies  queued  cpu  other  fsync/s"


def line(seen: Minute) -> str:
    return (
        f"{seen.minute:6} {seen.sent:6} {seen.ack_p50:8.1f} {seen.ack_p99:6.1f} {seen.ack_max:6.0f} "
        f"{seen.resident:8.1f} {seen.private:8.1f} {seen.database:7.1f} {seen.bodies:7.1f} {seen.queued:7} "
        f"{seen.cpu:4.2f} {seen.other_cpu:6.2f} {seen.fsyncs:8}"
    )


def mails_from(writer: Writer) -> Callable[[], Mail]:
    """Made in advance, so that the run does not pay for them; subjects repeat, bodies and people vary."""
    prepared = list(writer.mails(5000))
    first = prepared[0]
    large = Mail(first.sender, first.recipient, first.content + b"A long line of a large message, again.\r\n" * 5000)
    count = 0

    def following() -> Mail:
        nonlocal count
        count += 1
        return large if count % LARGE_EVERY == 0 else prepared[count % len(prepared)]

    return following


async def run(gateway: Gateway, seconds: float) -> list[Minute]:
    load, minutes = Load(), list[Minute]()
    mails = mails_from(Writer(random.Random(2026)))
    print(HEAD, flush=True)
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as tasks:
        for number in range(CONNECTIONS):
            tasks.create_task(send(gateway.smtp, mails, load, until, number / RATE))
        tasks.create_task(watch(gateway, load, minutes, until))
    if load.late > 1:
        print(f"  (the senders were up to {load.late:.1f} s behind their pace)")
    return minutes


def report(minutes: list[Minute]) -> None:
    """Medians of the first and the last quarter after the warm-up."""
    steady = [one for one in minutes if one.minute > min(WARM_UP, len(minutes) // 3)]
    quarter = max(1, len(steady) // 4)
    print(f"\n{'':22}{'first quarter':>15}{'last quarter':>15}   (medians, after the warm-up)")
    for name in ("ack_p50", "ack_p99", "resident", "private", "database", "bodies", "queued", "cpu"):
        first, last = (
            statistics.median(getattr(one, name) for one in part) for part in (steady[:quarter], steady[-quarter:])
        )
        print(f"  {name:<20}{first:>15.2f}{last:>15.2f}")


async def main_run(chosen: argparse.Namespace, work: Path) -> int:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    gateway = Gateway(work / "postroom", SETTINGS.format(port=port, retention=chosen.retention))
    await asyncio.to_thread(gateway.start)
    try:
        minutes = await run(gateway, chosen.minutes * 60)
        report(minutes)
        final = await asyncio.to_thread(look, gateway, len(minutes) + 1)
        accepted = sum(one.sent for one in minutes)
        print(
            f"\n  {accepted:,} acknowledged, {Sink.taken:,} taken, {Sink.deferred:,} tries deferred, "
            f"{final.queued:,} queued, ledger 0"
        )
        document = {
            "what": "soak", "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine.description(),
            "versions": {"postroom": version("postroom")}, "rate": RATE, "deferred": DEFERRED,
            "minutes": [asdict(one) for one in minutes],
        }  # fmt: skip
        path = duel.RESULTS / "soak.json"
        path.write_text(json.dumps(document, indent=1) + "\n")
        print(f"all measurements: {os.path.relpath(path)}")
    finally:
        await asyncio.to_thread(gateway.stop)
        server.close()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="An hour of steady load with deferrals.")
    parser.add_argument("--minutes", type=float, default=60, help="length of the run (60)")
    parser.add_argument(
        "--retention",
        default="10 minutes",
        help="how long to keep the history, so that its size is steady (10 minutes)",
    )
    parser.add_argument("--work", type=Path, help="a directory on the disk to measure (bench-data)")
    chosen = parser.parse_args()
    with duel.work_directory(chosen.work) as work:
        return uvloop.run(main_run(chosen, work))


if __name__ == "__main__":
    sys.exit(main())
