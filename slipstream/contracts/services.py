"""The services, as a table: the only list of their names, ports and connections.

`components/network-policies` of the Kubernetes manifests is generated from it, and a test compares
it with the code and with the table of connections in ARCHITECTURE.md. Topics are in `topics.py`.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Service:
    """A deployed service: its purpose in a sentence, its port, and whom it connects to.

    `peers` are services that it calls over REST. `servers` are those of `SERVERS` that it uses.
    `public` marks a service that clients call.
    """

    name: str
    port: int
    purpose: str
    peers: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    public: bool = False

    @property
    def local_url(self) -> str:
        """The URL on this machine, at the service's own port."""
        return f"http://127.0.0.1:{self.port}"


# What services keep data in, by the sections of their settings. `lake` is a folder or a bucket.
SERVERS: Final = ("kafka", "redis", "database", "lake")

# By name, in the order in which data passes them.
SERVICES: Final = {
    service.name: service
    for service in (
        Service(
            "ingestion",
            8001,
            "Takes events and catalogue records over REST.",
            peers=("monitoring",),
            servers=("kafka", "redis"),
            public=True,
        ),
        Service(
            "features",
            8002,
            "Folds events into the online store and the lake.",
            servers=("kafka", "redis", "lake"),
        ),
        Service(
            "training",
            8003,
            "Trains models, and promotes the better ones.",
            servers=("kafka", "database", "lake"),
        ),
        Service(
            "serving",
            8004,
            "Answers recommendations.",
            peers=("features", "training", "monitoring"),
            servers=("kafka", "redis"),
            public=True,
        ),
        Service(
            "monitoring",
            8005,
            "Reports quality and drift, and raises alerts.",
            peers=("ingestion", "features", "training", "serving"),
            servers=("kafka", "database", "lake"),
        ),
    )
}

# The first words of their paths below /v1, for a request that came to another service.
PATHS: Final = {
    "ingestion": "alias batch erasures group identify import items page pixel.gif projects screen "
    "slipstream.js track users",
    "features": "erasures feature-services feature-views features items slates status users "
    "visitors",
    "training": "aliases audit models models:before-erasure models:rollback runs",
    "serving": "answers bought-together items:search model new popular previews prices rank "
    "recently-viewed recommendations recommendations:batch rules:match sessions:recommend similar "
    "trending users-for-item",
    "monitoring": "alert-metrics alert-rules alerts audit console erasures experiments flow keys "
    "overview peers placements reports services session stream timeline visitors "
    "visitors:export",
}


def owners_of(path: str) -> list[Service]:
    """The services that have paths with the first word of this one."""
    version, _, rest = path.lstrip("/").partition("/")
    word = rest.partition("/")[0]
    return [SERVICES[name] for name in SERVICES if version == "v1" and word in PATHS[name].split()]
