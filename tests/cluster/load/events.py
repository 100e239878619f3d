"""The program of a pod that sends events to ingestion, as SDKs do, until it is stopped.

It stands in a ConfigMap with the fault tests' client, and runs in an image of the services.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from tests.cluster.load.signals import RESULT, STOP, hand_over
from tests.faults.client import Client
from tests.faults.traffic import Sent

PATIENCE_S = 120.0
LONGEST_S = 1_800.0


def main() -> None:
    client = Client(
        [os.environ["URL"]],
        os.environ["WRITE_KEY"],
        seed=int(os.environ["SEED"]),
        rate=float(os.environ["RATE"]),
        name=os.environ["NAME"],
    )
    client.run(0, PATIENCE_S, lambda: not Path(STOP).exists(), LONGEST_S)
    hand_over(
        RESULT,
        orjson.dumps(
            {
                "acknowledged": plain_events(client.acknowledged),
                "unacknowledged": plain_events(client.unacknowledged),
                "rejected": client.rejected,
                "figures": client.figures,
            }
        ),
    )


def plain_events(messages: Sequence[Sent]) -> list[list[tuple[Any, ...]]]:
    """The events of each message that makes some, in plain tuples."""
    return [[tuple(event) for event in sent.events] for sent in messages if sent.events]


if __name__ == "__main__":
    main()
