"""Apache Kafka in KRaft mode, from an unpacked distribution: one node or a local cluster."""

import os
import shlex
import shutil
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from slipstream_cli.local.processes import Child, StartError, free_port
from slipstream_cli.local.servers import ask

# The variable that names the folder into which the distribution was unpacked.
KAFKA_HOME: Final = "KAFKA_HOME"
HOW_TO_GET: Final = (
    "unpack a binary from kafka.apache.org/downloads,"
    f" and set {KAFKA_HOME} to the folder that has libs/"
)
HOW_TO_GET_JAVA: Final = "17 or newer; Debian, Ubuntu: apt-get install default-jre-headless"
# Any 16 bytes in base64: all nodes of a cluster are formatted with the same.
_CLUSTER_ID: Final = "c2xpcHN0cmVhbS1sb2NhbA"
# Metadata v1 (key 3), correlation id 7, no client id, an empty list of topics: the brokers alone.
_METADATA: Final = struct.pack(">hhihi", 3, 1, 7, -1, 0)
_START_S, _GRACE_S = 120.0, 30.0


def home_of(environment: Mapping[str, str]) -> Path | None:
    """Return the distribution that `KAFKA_HOME` names; None without one, or without jars in it."""
    home = Path(environment.get(KAFKA_HOME) or os.devnull)
    return home.resolve() if any(home.glob("libs/kafka-clients-*.jar")) else None


def version(home: Path) -> str:
    """Read Kafka's version from the names of its jars."""
    return next(home.glob("libs/kafka-clients-*.jar")).stem.removeprefix("kafka-clients-")


def java() -> str | None:
    """Find the Java that runs Kafka: that of `JAVA_HOME`, or the first on the path."""
    return (
        shutil.which("java", path=f"{os.environ['JAVA_HOME']}/bin")
        if "JAVA_HOME" in os.environ
        else shutil.which("java")
    )


def kafka(home: Path, port: int, directory: Path, *, advertised_port: int = 0) -> Child:
    """Build a node that is broker and controller.

    Args:
        directory: Folder of its records, which it reads again at a start.
        advertised_port: The port that clients are sent to, where a proxy may listen; 0: `port`.
    """
    return kafka_cluster(home, [port], directory, advertised_ports=[advertised_port or port])[0]


def kafka_cluster(
    home: Path,
    ports: Sequence[int],
    directory: Path,
    *,
    advertised_ports: Sequence[int] = (),
) -> list[Child]:
    """Build a cluster with a node for each of `ports`; start it with `start_together`.

    With three nodes the internal topics have three replicas, and two must be in sync for any topic.

    Args:
        ports: Where the nodes listen.
        directory: Parent of the nodes' folders.
        advertised_ports: The ports that clients are sent to; empty: `ports`.
    """
    controllers = [free_port() for _ in ports]
    voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(controllers, 1))
    nodes = []
    for node, (port, controller, advertised) in enumerate(
        zip(ports, controllers, advertised_ports or ports, strict=True), 1
    ):
        folder = directory.resolve() / f"kafka-{node}"
        folder.mkdir(parents=True, exist_ok=True)
        lines = {
            "node.id": node,
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{advertised}",
            "log.dirs": folder / "data",
            **_settings(replicas=min(len(ports), 3)),
            # A killed node counts as alive until its session ends, and can't return before.
            # A single node has no replica to take over, so its session is short.
            "broker.session.timeout.ms": 3_000 if len(ports) == 1 else 9_000,
            "broker.heartbeat.interval.ms": 500 if len(ports) == 1 else 2_000,
        }
        (folder / "server.properties").write_text(
            "".join(f"{name}={value}\n" for name, value in lines.items())
        )
        name = "kafka" if len(ports) == 1 else f"kafka {node}"
        answers = partial(_serves, advertised_port=advertised)
        nodes.append(
            Child(name, port, _command(home, folder), answers, grace_s=_GRACE_S, start_s=_START_S)
        )
    return nodes


def _settings(replicas: int) -> dict[str, object]:
    """List the settings that differ from Kafka's defaults."""
    in_sync = max(1, replicas - 1)
    return {
        "process.roles": "broker,controller",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "group.initial.rebalance.delay.ms": 0,
        # A deleted topic's files go at once: runs of many short-lived topics keep few files open.
        "file.delete.delay.ms": 1_000,
    }


def _command(home: Path, folder: Path) -> list[str]:
    """Build the command that formats the storage, where it is new, and becomes the node.

    Both happen in one process, so that the nodes of a cluster format side by side.
    """
    if (binary := java()) is None:
        raise StartError(f"Kafka needs Java {HOW_TO_GET_JAVA}")
    # Java's C1 compiler alone halves the time to start.
    start = [
        binary,
        "-Xmx384m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Djava.awt.headless=true",
        "-cp",
        f"{home}/libs/*",
    ]
    properties = str(folder / "server.properties")
    format_storage = [
        *start,
        "kafka.tools.StorageTool",
        "format",
        "-t",
        _CLUSTER_ID,
        "-c",
        properties,
    ]
    formatted = folder / "data" / "meta.properties"
    script = f"test -e {shlex.quote(str(formatted))} || {shlex.join(format_storage)} && exec "
    return ["/bin/sh", "-c", script + shlex.join([*start, "kafka.Kafka", properties])]


def _serves(port: int, advertised_port: int) -> bool:
    # A node answers before the cluster counts it as alive, and takes no topics until then. It is
    # ready when its own answer lists it.
    answer = ask(port, struct.pack(">i", len(_METADATA)) + _METADATA)
    return answer[4:8] == struct.pack(">i", 7) and advertised_port in _broker_ports(answer[8:])


def _broker_ports(body: bytes) -> list[int]:
    """Parse the brokers' ports from a Metadata answer, version 1.

    Raises:
        OSError: The answer is cut short.
    """
    try:
        ports, at = [], 4
        for _ in range(*struct.unpack_from(">i", body)):
            (host,) = struct.unpack_from(">h", body, at + 4)
            port, rack = struct.unpack_from(">ih", body, at + 6 + host)
            ports.append(port)
            at += 12 + host + max(0, rack)
    except struct.error as error:
        raise OSError("half an answer") from error
    return ports
