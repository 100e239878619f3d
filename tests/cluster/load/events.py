"""The program of a pod that sends events to ingestion, as SDKs do, until it is told to stop.

It stands in a ConfigMap beside the fault tests' client, and runs in an image of the services.
"""

import os
from pathlib import Path

import orjson

from tests.cluster.load.signals import RESULT, STOP, hand_over
from tests.faults.client import Client

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
                "acknowledged": [sent.events for sent in client.acknowledged if sent.events],
                "unacknowledged": [sent.events for sent in client.unacknowledged if sent.events],
                "rejected": client.rejected,
                "figures": client.figures,
            }
        ),
    )


if __name__ == "__main__":
    main()
