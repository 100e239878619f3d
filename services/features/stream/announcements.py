"""Records that the materializer sends: feature updates and dead letters."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from services.features.metrics import FeaturesMetrics
from slipstream.broker.producer import OutgoingRecord, Producer
from slipstream.contracts.events import DeadLetter, FeatureUpdate
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import DEAD_LETTERS, FEATURE_UPDATES
from slipstream.features.views import RECOMMENDER, VISITOR
from slipstream.features.visitor import VisitorState, visitor_features

# Features of a visitor that an update carries.
_ANNOUNCED: Final = RECOMMENDER.of(VISITOR)
# Letters of one service share a partition, and so keep their order.
_LETTER_KEY: Final = "features"


class FeatureAnnouncer:
    """Sends feature updates, up to a rate, and dead letters, all of them."""

    def __init__(
        self,
        producer: Producer,
        updates_per_s: int,
        measured: FeaturesMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._producer, self._measured, self._clock = producer, measured, clock
        self._updates_per_s = float(updates_per_s)
        # Updates that may be sent now; each second adds `updates_per_s`, up to as many.
        self._updates_left, self._counted_at = self._updates_per_s, clock()

    def send_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Publish dead letters, and wait until the broker has them.

        Raises `BrokerUnavailableError`.
        """
        if letters:
            asyncio.run(
                self._producer.publish(
                    [
                        OutgoingRecord(DEAD_LETTERS, _LETTER_KEY, letter, letter.request_id)
                        for letter in letters
                    ]
                )
            )
        for letter in letters:
            self._measured.rejected.labels(letter.code).inc()

    def send_updates(
        self, visitors: Mapping[str, VisitorState], request_ids: Mapping[str, str], watermark: int
    ) -> None:
        """Send the features of changed visitors as of each one's last event.

        Above the rate a random sample is sent. Nobody waits for the broker.

        Args:
            visitors: The changed states by user id.
            request_ids: The request id of each visitor's newest message; "" where there is none.
            watermark: Newest event time applied, in ms.
        """
        now = self._clock()
        gained = (now - self._counted_at) * self._updates_per_s
        self._updates_left = min(self._updates_per_s, self._updates_left + gained)
        self._counted_at = now
        announced = list(visitors.items())
        if len(announced) > self._updates_left:
            announced = random.sample(announced, int(self._updates_left))
        self._updates_left -= len(announced)
        self._producer.send_all(
            [
                OutgoingRecord(
                    FEATURE_UPDATES,
                    user_id,
                    FeatureUpdate(
                        view="visitor",
                        entity_id=user_id,
                        features=visitor_features(state, state.last_seen, _ANNOUNCED),
                        watermark=watermark,
                        updated_at=now_ms(),
                    ),
                    request_ids.get(user_id, ""),
                )
                for user_id, state in announced
            ]
        )
