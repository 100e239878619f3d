"""The services, as a table: the only list of their names, ports and calls to one another."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Service:
    """A deployed service: its purpose in a sentence, its port, and its peers over REST."""

    name: str
    port: int
    purpose: str
    peers: tuple[str, ...] = ()

    @property
    def local_url(self) -> str:
        """The URL on this machine, at the service's own port."""
        return f"http://127.0.0.1:{self.port}"


# By name, in the order in which data passes them.
SERVICES: Final = {
    service.name: service
    for service in (
        Service("ingestion", 8001, "Takes events and catalogue records over REST."),
        Service("features", 8002, "Folds events into the online store and the lake."),
        Service("training", 8003, "Trains models, and promotes the better ones."),
        Service("serving", 8004, "Answers recommendations.", ("training",)),
        Service(
            "monitoring",
            8005,
            "Reports quality and drift, and raises alerts.",
            ("ingestion", "features", "training", "serving"),
        ),
    )
}
