"""Postfix in private directories: the yardstick for our figures.

Promises: it uses nothing of the machine's own Postfix but its programs; it listens on a free port of 127.0.0.1 and is
stopped by its master's process id. Fails: `missing` names the package to install; OSError or RuntimeError when it does
not start. Needs root, as Postfix does, and directories that Postfix's user can reach.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

INSTALL = "apt-get install --no-install-recommends postfix"
EVERYTHING_ON_HOLD = "smtpd_client_restrictions = check_client_access static:HOLD"
NO_INTAKE_BRAKE = "in_flow_delay = 0"  # the default slows intake while delivery lags behind
_QUEUES = ("maildrop", "incoming", "active", "deferred")

_MAIN = """\
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
shlib_directory = /usr/lib/postfix
meta_directory = /etc/postfix
mail_owner = postfix
setgid_group = postdrop
myhostname = bench.localdomain
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
local_recipient_maps =
local_transport = error:none
alias_maps =
alias_database =
disable_dns_lookups = yes
smtp_host_lookup = native
smtp_dns_support_level = disabled
relayhost = [127.0.0.1]:{relay}
smtpd_relay_restrictions = permit_mynetworks, reject
message_size_limit = 52428800
minimal_backoff_time = 3600s
queue_run_delay = 3600s
smtp_tls_security_level =
smtpd_tls_security_level =
maillog_file = {root}/mail.log
maillog_file_prefixes = {root}
{extra}
"""

# type, private, unprivileged, chroot, wakeup, processes, program: Debian's own, without chroot
_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 3600 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
"""


def missing() -> str:
    """Why Postfix cannot run here; empty when it can."""
    if shutil.which("postfix") is None or shutil.which("postconf") is None:
        return f"postfix is not installed ({INSTALL})"
    if os.geteuid() != 0:
        return "postfix can only be started by root"
    return ""


def version() -> str:
    return subprocess.run(
        ["postconf", "-dh", "mail_version"], capture_output=True, text=True, check=True
    ).stdout.strip()


class Postfix:
    """`with Postfix(directory, relay_port, extra) as postfix: ...`"""

    def __init__(self, directory: Path, relay: int, extra: str) -> None:
        self.root = directory
        self.etc = directory / "etc"
        self.relay = relay
        self.extra = extra
        self.smtp = ("127.0.0.1", 0)
        self.pid = 0

    def __enter__(self) -> Postfix:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        for path in (self.etc, self.root / "queue", self.root / "data"):
            path.mkdir(parents=True, exist_ok=True)
        shutil.chown(self.root / "data", "postfix")
        self.smtp = ("127.0.0.1", free_port())
        (self.etc / "main.cf").write_text(_MAIN.format(root=self.root, relay=self.relay, extra=self.extra))
        (self.etc / "master.cf").write_text(_MASTER.format(port=self.smtp[1]))
        (self.etc / "dynamicmaps.cf").write_text("")
        subprocess.run(["postfix", "-c", self.etc, "start"], check=True, capture_output=True, timeout=60)
        self.pid = int((self.root / "queue/pid/master.pid").read_text())
        wait_for_port(*self.smtp)

    def stop(self) -> None:
        if not self.pid:
            return
        pid, self.pid = self.pid, 0
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + 15
        while time.monotonic() < until and Path(f"/proc/{pid}").exists():
            time.sleep(0.05)

    def on_hold(self) -> int:
        return sum(len(files) for _, _, files in os.walk(self.root / "queue/hold"))

    def is_empty(self) -> bool:
        """Whether all accepted mail has left; stops at the first message it finds."""
        return not any(files for name in _QUEUES for _, _, files in os.walk(self.root / "queue" / name))

    def deferred(self) -> int:
        return sum(len(files) for _, _, files in os.walk(self.root / "queue/deferred"))


def free_port() -> int:
    """A port that was free a moment ago, for programs that cannot choose one themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(host: str, port: int, limit: float = 15.0) -> None:
    until = time.monotonic() + limit
    while True:
        try:
            socket.create_connection((host, port), 1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise RuntimeError(f"nothing listens on {host}:{port} after {limit:.0f} s") from None
            time.sleep(0.05)
