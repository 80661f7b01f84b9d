"""SIGHUP: the settings are read anew; no session and no message is lost; a wrong file changes nothing."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request
from pathlib import Path

import pytest
from bench.gateway import Gateway

from tests.faults.conftest import all_delivered, logged, ready_again, send
from tests.faults.receiver import SlowReceiver
from tests.faults.test_disk import command
from tests.system.conftest import SETTINGS, Starter, eventually, route_to
from tests.system.receiver import Receiver, subject_of
from tests.system.wire import Sender, a_mail


def reload(gateway: Gateway, settings: str, event: str = "reloaded") -> str:
    """Ask for it, and wait for what the log says about it."""
    before = len(logged(gateway, event))
    gateway.config.write_text(settings)
    os.kill(gateway.pid, signal.SIGHUP)
    eventually(
        lambda: len(logged(gateway, event)) > before, f"the log says {event}, and not: {gateway.log.read_text()[-600:]}"
    )
    return logged(gateway, event)[-1]


@pytest.fixture
def second(tmp_path: Path):
    with Receiver(tmp_path / "received by the second") as running:
        yield running


def test_an_open_session_and_mail_in_hand_go_on_and_new_mail_takes_the_new_route(
    starting: Starter, slow_receiver: SlowReceiver, second: Receiver
) -> None:
    gateway = starting(route_to(slow_receiver))
    assert send(gateway, "in hand").startswith(b"250 ")
    assert slow_receiver.wait_until(lambda taken: len(taken) == 1, 30)
    with Sender(gateway.smtp) as sender:
        sender.command(b"MAIL FROM:<alice@corp.example>")
        sender.command(b"RCPT TO:<bob@corp.example>")
        assert sender.command(b"DATA").startswith(b"354")
        sender.write(a_mail("half way"))
        assert "delivery.routes" in reload(gateway, SETTINGS + route_to(second))
        sender.write(b".\r\n")
        assert sender.reply().startswith(b"250 ")
        assert sender.mail(a_mail("same session"), "bob@corp.example").startswith(b"250 ")
    assert second.wait_until(lambda taken: len(taken) == 2, 30)
    assert {subject_of(one.content) for one in second.taken} == {"half way", "same session"}
    slow_receiver.let_go()
    all_delivered(gateway, slow_receiver, {"in hand"})
    assert len(slow_receiver.taken) == 1


def test_a_wrong_file_changes_nothing_and_every_problem_is_in_one_line(starting: Starter, receiver: Receiver) -> None:
    gateway = starting(route_to(receiver))
    wrong = SETTINGS + '\n[smtp]\nmax_size = "much"\nmax_sesions = 5\n\n[delivery]\npaused = "perhaps"\n'
    line = reload(gateway, wrong, "settings_wrong")
    for number, word in ((6, "max_size"), (7, "max_sesions"), (10, "paused")):
        assert f"{gateway.config}:{number}: [" in line
        assert word in line
    assert send(gateway, "as before").startswith(b"250 ")
    all_delivered(gateway, receiver, {"as before"})
    reload(gateway, "[gateway\n", "settings_wrong")
    gateway.config.unlink()
    before = len(logged(gateway, "settings_wrong"))
    os.kill(gateway.pid, signal.SIGHUP)
    eventually(lambda: len(logged(gateway, "settings_wrong")) > before, "a missing file is one line, too")
    ready_again(gateway)


def test_limits_domains_and_relays_are_those_of_the_file_for_new_sessions(
    starting: Starter, receiver: Receiver
) -> None:
    gateway = starting(route_to(receiver))
    stranger = SETTINGS.replace("[gateway]", '[gateway]\nrelay_networks = ["192.0.2.0/24"]')
    stranger = stranger.replace('"corp.example"', '"other.example"')
    with Sender(gateway.smtp) as before:
        reload(
            gateway,
            stranger + '\n[smtp]\nmax_size = "1 MiB"\n[log]\nlevel = "warning"\n' + route_to(receiver),
            "reloaded",
        )
        with Sender(gateway.smtp) as after:
            assert b"SIZE 1048576" in after.hello
            assert after.mail(a_mail("no relay"), "carol@corp.example", sender="x@outside.example").startswith(
                b"550 5.7.1"
            )
            assert after.command(b"RSET").startswith(b"250")
            assert after.mail(a_mail("ours now"), "bob@other.example", sender="x@outside.example").startswith(b"250 ")
        assert before.mail(a_mail("old rules"), "carol@elsewhere.example").startswith(b"250 ")
    assert receiver.wait_until(lambda taken: len(taken) == 2, 30)


def test_a_new_name_is_said_by_every_door(starting: Starter, receiver: Receiver) -> None:
    gateway = starting(route_to(receiver))
    reload(gateway, SETTINGS.replace("gw.corp.example", "renamed.corp.example") + route_to(receiver))
    with Sender(gateway.smtp) as sender:
        assert sender.greeting.startswith(b"220 renamed.corp.example ")
        assert sender.mail(a_mail("renamed"), "bob@corp.example").startswith(b"250 ")
    all_delivered(gateway, receiver, {"renamed"})
    assert b"by renamed.corp.example " in receiver.taken[0].content.partition(b"\r\nFrom:")[0]
    with urllib.request.urlopen(f"http://{gateway.http[0]}:{gateway.http[1]}/console/login") as answer:
        assert b"renamed.corp.example" in answer.read()


def test_a_pause_follows_the_file_but_one_by_a_person_stays(starting: Starter, receiver: Receiver) -> None:
    gateway = starting(route_to(receiver))
    reload(gateway, SETTINGS + "\n[processing]\npaused = true\n" + route_to(receiver))
    command(gateway, "queue", "pause", "delivery")
    assert send(gateway, "paused").startswith(b"250 ")
    assert gateway.metrics()['postroom_queue_entries{queue="processing"}'] == 1
    reload(gateway, SETTINGS + route_to(receiver))
    eventually(lambda: gateway.metrics()['postroom_queue_entries{queue="delivery"}'] == 1, "processing goes on")
    assert receiver.taken == []
    command(gateway, "queue", "resume", "delivery")
    all_delivered(gateway, receiver, {"paused"})


def test_what_only_a_restart_can_change_is_named_and_stays(starting: Starter, receiver: Receiver) -> None:
    gateway = starting(route_to(receiver))
    moved = SETTINGS + '\n[store]\nurl = "sqlite:///elsewhere.db"\n' + route_to(receiver)
    line = reload(gateway, moved, "restart_needed")
    assert "settings=store.url" in line
    assert send(gateway, "as before").startswith(b"250 ")
    all_delivered(gateway, receiver, {"as before"})
    assert not (gateway.data / "elsewhere.db").exists()


def test_many_reloads_under_load_lose_nothing(starting: Starter, receiver: Receiver) -> None:
    gateway = starting(route_to(receiver))
    acked = set()
    with Sender(gateway.smtp) as sender:
        for number in range(20):
            gateway.config.write_text(SETTINGS + f"\n[smtp]\nmax_recipients = {100 + number}\n" + route_to(receiver))
            os.kill(gateway.pid, signal.SIGHUP)
            assert sender.mail(a_mail(f"under way {number}"), "bob@corp.example").startswith(b"250 ")
            acked.add(f"under way {number}")
    all_delivered(gateway, receiver, acked)
    assert gateway.stop() == 0


def test_the_service_manager_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starting: Starter, receiver: Receiver
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        place = f"postroom-test-{os.getpid()}"
        manager.bind(f"\0{place}")
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{place}")
        gateway = starting(route_to(receiver))
        assert manager.recv(4096) == b"READY=1"
        os.kill(gateway.pid, signal.SIGHUP)
        assert manager.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(4096) == b"READY=1"
        assert gateway.stop() == 0
        assert manager.recv(4096) == b"STOPPING=1"
