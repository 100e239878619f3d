"""Part 5: with the NetworkPolicies, connections come about along each arrow of the table of
services, and no others, tried from the pods themselves.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from slipstream.contracts.services import SERVICES
from tests.cluster.bed import Bed
from tests.cluster.components import rendered
from tests.cluster.kubectl import NAMESPACE, ClusterError
from tests.cluster.load import pods
from tests.cluster.overlay import SERVERS, wait_all_ready
from tests.cluster.parts.kills import probe
from tests.cluster.report import Part

TITLE = "5 NetworkPolicies: every arrow, and nothing else"
SERVER_PORTS = {"kafka": 9092, "redis": 6379, "postgres": 5432}
# The table's names of servers, and those of the overlay.
SERVER_OF = {"kafka": "kafka", "redis": "redis", "database": "postgres"}
# Sources in addition to the pods of the overlay: clients, and pods that nothing allows.
CLIENT, STRANGER = "client", "stranger"
CONNECT_S, ENFORCED_LIMIT_S = 2, 60.0
Reached = dict[tuple[str, str], bool]
# Prints, as JSON, which of its arguments HOST:PORT take a connection.
PYTHON = f"""
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def takes(place):
    host, port = place.rsplit(':', 1)
    try:
        socket.create_connection((host, int(port)), {CONNECT_S}).close()
    except OSError:
        return False
    return True
with ThreadPoolExecutor(16) as pool:
    print(json.dumps(list(pool.map(takes, sys.argv[1:]))))
"""
# The same without Python, for the servers' images.
SHELL = f"""
results=$(mktemp -d /tmp/takes.XXXXXX)
takes() {{ timeout {CONNECT_S} bash -c "</dev/tcp/$1/$2" && echo true || echo false; }} 2>/dev/null
n=0
for place in "$@"; do
    n=$((n + 1))
    takes "${{place%:*}}" "${{place##*:}}" >"$results/$n" &
done
wait
separator='['
for i in $(seq $n); do printf '%s%s' "$separator" "$(cat $results/$i)"; separator=','; done
printf ']'
rm -r "$results"
"""


def run(bed: Bed, part: Part) -> None:
    policies = [
        item
        for item in rendered(bed.kubectl, "network-policies")
        if item["kind"] == "NetworkPolicy"
    ]
    with (
        pods.idle(bed.kubectl, bed.tag, pods.CLIENTS, CLIENT),
        pods.idle(bed.kubectl, bed.tag, pods.STRANGERS, STRANGER),
    ):
        open_all = _reached(bed)
        part.tell("without policies", f"{sum(open_all.values())} of {len(open_all)} pass")
        part.demand(
            all(open_all.values()), f"closed without policies: {_named(open_all, {}, True)}"
        )
        bed.kubectl.apply(*policies, *name_server(bed))
        at = time.monotonic()
        allowed = dict.fromkeys(arrows(), True)
        found = _settled(bed, allowed)
        took = time.monotonic() - at
        if all(found.values()):
            part.skipped = "no plug-in of this cluster enforces NetworkPolicies"
            bed.kubectl.delete("networkpolicy", "--all")
            return
        part.tell("policies, in force after", f"{len(policies)}, {took:.0f} s at most")
        passed = sum(found[arrow] for arrow in allowed)
        refused = [pair for pair in found if pair not in allowed]
        part.tell("arrows that pass", f"{passed} of {len(allowed)}")
        part.tell(
            "others that are refused", f"{sum(not found[p] for p in refused)} of {len(refused)}"
        )
        part.demand(passed == len(allowed), f"refused: {_named(found, allowed, True)}")
        part.demand(
            not any(found[pair] for pair in refused),
            f"let through: {_named(found, allowed, False)}",
        )
        at = time.monotonic()
        probe(bed)
        part.tell("an event applied behind them", f"{time.monotonic() - at:.1f} s")
    bed.kubectl.delete("networkpolicy", "--all")
    wait_all_ready(bed.kubectl, "the end of the policies")


def arrows() -> Iterator[tuple[str, str]]:
    """Who may connect to whom: the table of services, and clients. (Pods of one service apart, of
    which the overlay has one each.)
    """
    for name, service in SERVICES.items():
        yield from ((name, peer) for peer in service.peers)
        yield from ((name, SERVER_OF[s]) for s in service.servers if s in SERVER_OF)
        if service.public:
            yield CLIENT, name


def _settled(bed: Bed, allowed: Mapping[tuple[str, str], bool]) -> Reached:
    """What is reached once the policies are in force, or as it is after the limit."""
    deadline = time.monotonic() + ENFORCED_LIMIT_S
    while True:
        found = _reached(bed)
        if all(reached == (pair in allowed) for pair, reached in found.items()):
            return found
        if time.monotonic() > deadline:
            return found


def _reached(bed: Bed) -> Reached:
    """Each pair of a source and a target, and whether a connection comes about. Targets are pods'
    own addresses.
    """
    targets = {}
    for app in (*SERVICES, *SERVERS):
        (pod, *_) = bed.kubectl.of(app)
        port = SERVICES[app].port if app in SERVICES else SERVER_PORTS[app]
        targets[app] = f"{pod.address}:{port}"
    places = list(targets.values())

    def ask(source: str) -> list[bool]:
        return _from(bed, source, places)

    sources = [*SERVICES, *SERVERS, CLIENT, STRANGER]
    with ThreadPoolExecutor(4) as pool:
        answers = dict(zip(sources, pool.map(ask, sources), strict=True))
    return {
        (source, target): took
        for source, answer in answers.items()
        for target, took in zip(targets, answer, strict=True)
        # A pod always reaches itself, whatever its policies say.
        if source != target
    }


def _from(bed: Bed, source: str, places: Sequence[str]) -> list[bool]:
    if source in SERVERS:
        command: Sequence[str] = ("bash", "-c", SHELL, "takes", *places)
    else:
        command = ("python", "-c", PYTHON, *places)
    if source in (CLIENT, STRANGER):
        namespace, name = pods.CLIENTS if source == CLIENT else pods.STRANGERS, source
    else:
        namespace, name = NAMESPACE, bed.kubectl.of(source)[0].name
    try:
        answer = bed.kubectl.execute(name, *command, namespace=namespace)
    except ClusterError as error:
        raise AssertionError(f"no answer from {source}: {error}") from error
    found: list[bool] = json.loads(answer)
    return found


def name_server(bed: Bed) -> list[dict[str, Any]]:
    """A policy for the cluster's name server, where it has no pod that the component finds."""
    (pod, *_) = bed.kubectl.of("ingestion")
    lines = bed.kubectl.execute(pod.name, "cat", "/etc/resolv.conf").decode().splitlines()
    servers = [line.split()[1] for line in lines if line.startswith("nameserver")]
    ports = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    rule = {"to": [{"ipBlock": {"cidr": f"{one}/32"}} for one in servers], "ports": ports}
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "name-server", "namespace": NAMESPACE},
            "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]},
        }
    ]


def _named(
    found: Mapping[tuple[str, str], bool], allowed: Mapping[tuple[str, str], bool], closed: bool
) -> str:
    """The pairs that are not as they must be."""
    return ", ".join(
        f"{source}→{target}"
        for (source, target), took in found.items()
        if took != closed and (not allowed or ((source, target) in allowed) == closed)
    )
