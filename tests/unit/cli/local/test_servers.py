import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import KafkaSettings
from slipstream_cli.local import servers
from slipstream_cli.local.processes import StartError, free_port
from tests.conftest import OwnBroker, OwnRedis
from tests.e2e.stack import alive


def test_broker_takes_topics_once_it_answers(broker: KafkaSettings, namespace: str) -> None:
    ensure_topics(broker, namespace)
    ensure_topics(broker, namespace)


def test_valkey_keeps_what_it_acknowledged_after_a_crash(own_redis: OwnRedis) -> None:
    settings, server = own_redis()
    with redis.Redis.from_url(settings.url.get_secret_value()) as client:
        client.set("seen", "1")
    server.kill()
    assert not server.answers()
    server.start()
    with redis.Redis.from_url(settings.url.get_secret_value()) as client:
        assert client.get("seen") == b"1"


def test_broker_starts_again_on_its_port(own_broker: OwnBroker, namespace: str) -> None:
    settings, server = own_broker()
    ensure_topics(settings, namespace)
    server.kill()
    server.start()
    ensure_topics(settings, namespace)


def test_start_names_the_server_and_the_port_when_it_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"valkey can't start: port {port} is in use"):
            servers.valkey(port, tmp_path).start()


def test_start_says_so_when_the_server_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("not a folder")
    with pytest.raises(StartError, match="valkey ended with status 1 while starting"):
        servers.valkey(free_port(), tmp_path).start()


STARTER = """
import sys, pathlib, time
from slipstream_cli.local import servers
server = servers.valkey(int(sys.argv[1]), pathlib.Path(sys.argv[2])).start()
print(server.process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="the kernel ties a child to its parent on Linux only"
)
def test_server_dies_with_its_parent_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER, str(free_port()), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while alive([child]):
        assert time.monotonic() < deadline, "the server outlived its parent"
        time.sleep(0.02)
