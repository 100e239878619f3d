"""A small shop with visitors who like either tea or coffee. Their tastes are known, and so are the
right recommendations.
"""

import random
import time
from datetime import UTC, datetime
from typing import Any

KINDS = ("tea", "coffee")
ITEMS_OF_A_KIND = 40
VISITORS_OF_A_KIND = 100
EVENTS_OF_A_VISITOR = 15
DAY_S = 86_400

ITEMS = [
    {"item_id": f"{kind}-{number}", "title": f"{kind.capitalize()} no. {number}", "category": kind}
    for kind in KINDS
    for number in range(ITEMS_OF_A_KIND)
]


def history(seed: int = 1) -> list[dict[str, Any]]:
    """Views and purchases of the last ten days as Segment track calls, oldest first.

    A visitor goes from an item to one of the next few of its kind, nine times of ten, and the first
    visitor of a kind always; so there is something to learn in the order, too.
    """
    chance = random.Random(seed)
    events = []
    now = time.time()
    for kind in KINDS:
        for visitor in range(VISITORS_OF_A_KIND):
            at = now - chance.uniform(5, 10) * DAY_S
            number = chance.randrange(ITEMS_OF_A_KIND)
            for _ in range(EVENTS_OF_A_VISITOR):
                at += chance.uniform(60, 4 * 3600)
                loyal = visitor == 0 or chance.random() < 0.9
                number = (number + chance.choice((1, 1, 1, 2, 3))) % ITEMS_OF_A_KIND
                item = f"{kind}-{number}" if loyal else str(chance.choice(ITEMS)["item_id"])
                events.append(
                    (
                        at,
                        track(
                            f"{kind}-lover-{visitor}",
                            "purchase" if chance.random() < 0.1 else "view",
                            item,
                            at,
                        ),
                    )
                )
    return [event for at, event in sorted(events, key=lambda pair: pair[0]) if at < now]


def track(
    user_id: str | None,
    event: str,
    item_id: str,
    at_s: float,
    *,
    anonymous_id: str | None = None,
    **properties: Any,
) -> dict[str, Any]:
    """One track call, of a user or of a visitor who has not said a name yet."""
    return {
        "type": "track",
        "messageId": f"{user_id or anonymous_id}-{event}-{item_id}-{at_s}",
        **({"userId": user_id} if user_id else {"anonymousId": anonymous_id}),
        "event": event,
        "timestamp": datetime.fromtimestamp(at_s, UTC).isoformat(),
        "properties": {"item_id": item_id, **properties},
    }
