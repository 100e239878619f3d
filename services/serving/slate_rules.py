"""The rules of one slate: what a placement's policy makes of one request at one moment."""

from collections.abc import Sequence
from itertools import repeat
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from services.serving.answers import RecommendationRequest
from services.serving.arranging.arrangement import Arrangement, arrange
from services.serving.arranging.candidates import Pool, Visitor
from services.serving.arranging.policies import CompiledPolicy
from services.serving.columns import Columns
from services.serving.filling import Filled
from services.serving.filters.filter_masks import Filter
from services.serving.filters.masks import Items
from services.serving.model_holder import Model
from services.serving.steps import Candidate
from services.serving.visitor_reading import VisitorReading
from slipstream.contracts.vocabulary import PURCHASE, signal_weight
from slipstream.filters.conditions import All, Own
from slipstream.models.base import Indices
from slipstream.recommender.bundle import Bundle

# Candidates that a slate is arranged from, as many as the ranker orders.
POOL: Final = 200


class AttributeSource(Protocol):
    """The attributes of items: the catalogue, or what one request says of some."""

    @property
    def columns(self) -> Columns: ...

    def listed(self, item_ids: Sequence[str]) -> Items: ...


class SlateRules:
    """The policy of a request, and the visitor whom it is about.

    Args:
        policy: The placement's policy, with the request's wishes.
        request: The request.
        visitor: The visitor's history.
        model: The model in service.
        catalog: Attributes of items.
        now_ms: The time, by which rules count.

    Attributes:
        repeats: Whether items of the history may come again; None leaves it to the model.
        wanted: What every item must meet; None lets all.
        is_plain: Whether the candidates' own order is the slate.
        own: The items that the visitor has to do with.
        explores: Whether places may go to items of which little is known.
    """

    def __init__(
        self,
        policy: CompiledPolicy,
        request: RecommendationRequest,
        visitor: VisitorReading,
        model: Model | None,
        catalog: AttributeSource,
        now_ms: int,
    ) -> None:
        self._policy, self._request, self._visitor = policy, request, visitor
        self._model, self._catalog, self._now_ms = model, catalog, now_ms
        context, known = request.context, catalog.columns
        repeats = request.repeats or (model is not None and model.bundle.repeats)
        condition = policy.condition(now_ms, context, known, model_repeats=repeats)
        both = [each for each in (request.condition, condition) if each is not None]
        self.explores = policy.policy.exploration > 0
        self.repeats = request.repeats if request.repeats is not None else policy.repeats()
        self.is_plain = policy.is_plain(now_ms, context, known) and not request.explain
        self.own = _own(visitor) if both or not self.is_plain else {}
        self.wanted = (
            Filter(both[0] if len(both) == 1 else All(tuple(both)), self.own) if both else None
        )

    @property
    def depth(self) -> int:
        """The number of candidates that the slate is made from."""
        return self._request.n if self.is_plain else max(POOL, self._request.n)

    def arrange(self, filled: Filled, seed: str) -> Arrangement:
        """Arrange the candidates. `seed` is the recommendation's id."""
        ids = [item.item_id for item in filled.items]
        history = [event.item_id for event in reversed(self._visitor.history)]
        policy = self._policy.policy
        pool = Pool(
            ids,
            np.array([item.score for item in filled.items], np.float64),
            np.array(filled.tiers, np.int64),
            self._catalog.listed(list(dict.fromkeys([*ids, *history]))),
            self._cold(filled.items) if self.explores else None,
            self._vectors(ids) if policy.diversity else None,
        )
        visitor = Visitor(
            history,
            self._weights() if policy.calibration else [1.0] * len(history),
            self.own,
            self._visitor.fruitless(self._now_ms) if policy.fatigue else {},
        )
        return arrange(
            pool,
            self._request.n,
            self._policy,
            visitor,
            self._now_ms,
            self._request.context,
            seed,
            traced=self._request.explain,
        )

    def _weights(self) -> list[float]:
        """The weight of each event, latest first."""
        return [signal_weight(event.event_type) for event in reversed(self._visitor.history)]

    def _cold(self, items: Sequence[Candidate]) -> NDArray[np.bool_]:
        known = self._model.bundle.index if self._model is not None else {}
        return np.array([item.item_id not in known for item in items], np.bool_)

    def _vectors(self, ids: Sequence[str]) -> NDArray[np.float32] | None:
        """The network's vectors of the items, zeros for those that it does not know.

        None where categories make items alike: these are what people see, and cost half.
        """
        columns = self._catalog.columns
        if self._model is None or columns.categories or columns.lists:
            return None
        return vectors_of(self._model.bundle, ids)


def vectors_of(bundle: Bundle, ids: Sequence[str]) -> NDArray[np.float32] | None:
    """The network's vector of each item, (items, width); None where the bundle has no network."""
    network = bundle.network
    if network is None:
        return None
    numbers: Indices = np.fromiter(map(bundle.index.get, ids, repeat(-1)), np.int32, len(ids))
    vectors = network.items.vectors(np.maximum(numbers, 0))
    vectors[numbers < 0] = 0
    return vectors


def _own(visitor: VisitorReading) -> dict[Own, set[str]]:
    return {
        Own.SEEN: {event.item_id for event in visitor.history},
        Own.BOUGHT: {event.item_id for event in visitor.history if event.event_type == PURCHASE},
    }
