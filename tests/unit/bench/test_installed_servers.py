"""Messages where servers are not installed. Running servers: tests/integration."""

from pathlib import Path

import pytest

from bench import apache_kafka, installed_servers
from slipstream_cli.local.processes import StartError, free_port


def test_what_is_absent_is_said_with_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    told = "\n".join(installed_servers.absent({"KAFKA_HOME": str(tmp_path)}))
    assert "Kafka: unpack a binary from kafka.apache.org/downloads, and set KAFKA_HOME" in told
    assert "apt-get install default-jre-headless" in told
    assert "apt-get install redis-server" in told
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "kafka-clients-1.jar").touch()
    assert "unpack" not in "\n".join(installed_servers.absent({"KAFKA_HOME": str(tmp_path)}))
    with pytest.raises(StartError, match="Java 17 or newer"):
        apache_kafka.kafka(tmp_path, free_port(), tmp_path)
    with pytest.raises(StartError, match="Redis is not installed; Debian"):
        installed_servers.redis(free_port(), tmp_path)
