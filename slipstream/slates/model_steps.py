"""The steps that fill a slate: the model, then similar items, then trending ones, and lists.

Each gives the items that it has, and a reason where it has none. Candidates, ranking and filtering
are `slipstream.recommender.stages`, the code that offline evaluation runs.
"""

from collections.abc import Generator, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Final, NamedTuple

import numpy as np

from slipstream.models.base import Mask
from slipstream.recommender import stages
from slipstream.recommender.new_items import LENDERS
from slipstream.slates.catalogue.borrowing import borrowing, in_known_items, merged
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.masks import Filter, mask
from slipstream.slates.catalogue.model import Model
from slipstream.slates.list_steps import OF_STORE, Entries, Wanted, recent, selected
from slipstream.slates.slate_plan import (
    Asked,
    Candidate,
    DemandAsked,
    ListAsked,
    MadeSlate,
    MaskAsked,
)
from slipstream.slates.slate_request import Item, Step, VisitorReading, why_not_model

# The number of latest items of a history that the similar step looks up neighbours of.
_SEEDS: Final = 5
# Neighbours that are ordered for a visitor.
_REORDERED: Final = 50
# Why a step that failed has no items.
FAILED: Final = {
    Step.MODEL: "the model failed",
    Step.SIMILAR: "the look-up of similar items failed",
    Step.TRENDING: "the trending list failed",
}


class Found(NamedTuple):
    """The items of a step, why it has none or lacks some, and the model version that gave them.

    `failed` tells that the model raised.
    """

    items: Sequence[Candidate]
    reason: str = ""
    version: str | None = None
    failed: bool = False


Finding = Generator[Asked, Any, Found]


class Steps:
    """The steps of one slate. A step never fails: it notes the failure, and leaves the slate to the
    next.

    Args:
        slate: The slate, which takes times and failures.
        catalog: Availability and attributes of items.
        kept: The model's list that was made before; None has it made.
    """

    def __init__(
        self,
        slate: MadeSlate,
        visitor: VisitorReading,
        catalog: Catalog,
        kept: Sequence[Candidate] | None = None,
    ) -> None:
        self._slate, self._plan, self._model = slate, slate.plan, slate.plan.model
        self._visitor, self._catalog, self._kept = visitor, catalog, kept

    def found(self, step: Step, wanted: Wanted) -> Finding:
        """The items of one step, and the reason where it has none."""
        try:
            match step:
                case Step.MODEL:
                    result = yield from self._from_model(wanted)
                case Step.SIMILAR:
                    result = yield from self._from_similar(wanted)
                case Step.TRENDING:
                    result = yield from self._from_trending(wanted)
                case Step.POPULAR:
                    result = yield from self._from_popular(wanted)
                case Step.NEW:
                    newest = self._catalog.newest()
                    result = self._chosen(wanted, newest, step, "the catalogue is empty")
                case Step.RECENT:
                    entries = recent(self._visitor)
                    result = self._chosen(wanted, entries, step, self._visitor.problem)
                case Step.BOUGHT_TOGETHER:
                    result = self._from_baskets(wanted)
                case Step.NONE:
                    result = Found([])
        except Exception as error:  # whatever the fault, visitors still get a slate
            self._slate.failures.append((step, error))
            reason = FAILED.get(step, f"the list of {step} items failed")
            result = Found([], reason, failed=step is Step.MODEL)
        if self._plan.given is not None and step in OF_STORE:
            self._plan.given.append((step, result.items))
        return result

    def may_have(self, wanted: Wanted) -> Generator[Asked, Any, bool]:
        """Whether an item that catalogue and model know meets the filter and is not excluded."""
        model, exclude = self._model, wanted.exclude
        try:
            if model is None or wanted.filter is None:
                return True
            allowed = yield from self._allowed(model, wanted)
            if not 0 < (count := np.count_nonzero(allowed)) <= len(exclude):
                return bool(count)
            number = self._catalog.space(model).number
            return not set(map(number, exclude)).issuperset(np.flatnonzero(allowed).tolist())
        except Exception as error:  # the steps would fail likewise
            self._slate.failures.append(("catalog", error))
            return False

    def matched(self, filter_: Filter) -> Generator[Asked, Any, int | None]:
        """The number of items that may be shown and meet a filter; None where it can't be told."""
        if self._model is None:
            return None
        try:
            return int(np.count_nonzero((yield MaskAsked(self._model, filter_))))
        except Exception as error:  # a slate without the number is a slate
            self._slate.failures.append(("catalog", error))
            return None

    def _from_model(self, wanted: Wanted) -> Finding:
        model, visitor, catalog = self._model, self._visitor, self._catalog
        history = in_known_items(visitor.history, model, catalog)
        reason = why_not_model(model, history, visitor.problem)
        if reason or model is None:
            return Found([], reason)
        began = perf_counter()
        try:
            if wanted.filter is None and self._kept is not None:
                return by_model(model, self._kept)
            space = catalog.space(model)
            allowed = yield from self._allowed(model, wanted)
            asked = partial(
                stages.list_question,
                model.bundle,
                history,
                n=max(wanted.n, LENDERS) if space.new_items else wanted.n,
                exclude=wanted.exclude,
                allowed=allowed,
                # Items of the history are excluded already, and what stands in for one is none.
                repeats=self._plan.repeats if history is visitor.history else True,
            )
            try:
                listed = yield ListAsked(model.bundle, asked())
                lenders = listed
                if space.new_items and wanted.filter and len(listed) < wanted.n:
                    # New items pass that are like known ones that do not.
                    anything = asked(allowed=catalog.mask(model))
                    lenders = yield ListAsked(model.bundle, anything)
            except Exception:  # perhaps another's question is at fault: now each is asked alone
                listed = lenders = stages.answers(model.bundle, [asked()])[0]
            new = borrowing(lenders, history, space, allowed, wanted.exclude, wanted.n)
            listed = merged(listed, new, wanted.n)
            if wanted.filter is None:
                # A mask of a filter may be a second old, and a list that is kept would be so for
                # longer.
                self._slate.listed = listed
            return by_model(model, listed)
        finally:
            self.took(Step.MODEL, began)

    def _from_similar(self, wanted: Wanted) -> Finding:
        """Neighbours of the named items, else of the latest items of the history.

        The model's neighbours come first, then items with attributes in common.
        """
        history = self._visitor.history
        latest = list(dict.fromkeys(event.item_id for event in reversed(history)))[:_SEEDS]
        seeds = self._plan.request.similar_to or latest
        began = perf_counter()
        try:
            items, reason, version, failed = yield from self._similar_by_model(wanted, seeds)
            taken = wanted.exclude | {item.item_id for item in items}
            passing = wanted.filter and partial(
                mask, wanted.filter.condition, own=wanted.filter.own
            )
            try:
                alike = self._catalog.look_alikes(seeds, wanted.n - len(items), taken, passing)
            except Exception as error:
                self._slate.failures.append(("catalog", error))
                alike, reason = [], "; ".join(filter(None, (reason, "the catalogue failed")))
            filler = [
                Item(item_id, 0.0 if items else score, "attributes") for item_id, score in alike
            ]
        finally:
            self.took(Step.SIMILAR, began)
        if not items and not filler and seeds:
            reason = "; ".join(filter(None, (reason, "nothing similar is known")))
        return Found([*items, *filler], reason, version, failed)

    def _similar_by_model(self, wanted: Wanted, seeds: Sequence[str]) -> Finding:
        model, history = self._model, self._visitor.history
        if model is None or not seeds:
            return Found([])
        # For a visitor who is known, more neighbours of named items are looked up, and ordered.
        is_personal = bool(self._plan.request.similar_to) and not why_not_model(
            model, history, self._visitor.problem
        )
        n = max(wanted.n, _REORDERED) if is_personal else wanted.n
        depth = n + len(wanted.exclude)
        allowed = yield from self._allowed(model, wanted)

        best: dict[str, stages.Recommendation] = {}
        try:
            for seed in seeds:
                for near in stages.similar_items(model.bundle, seed, depth, allowed=allowed):
                    known = best.get(near.item_id)
                    if near.item_id not in wanted.exclude and (
                        known is None or known.score < near.score
                    ):
                        best[near.item_id] = near
            neighbours = sorted(best.values(), key=lambda item: -item.score)[:n]
            if is_personal:
                ids = [one.item_id for one in neighbours]
                neighbours = stages.rank_items(model.bundle, history, ids)
            return by_model(model, neighbours[: wanted.n])
        except Exception as error:
            self._slate.failures.append((Step.MODEL, error))
            return Found([], FAILED[Step.MODEL], failed=True)

    def _from_trending(self, wanted: Wanted) -> Finding:
        began = perf_counter()
        try:
            top, _ = yield DemandAsked(Step.TRENDING, self._model, "")
            items = selected(self._catalog, wanted, top, Step.TRENDING)
        finally:
            self.took(Step.TRENDING, began)
        empty = "nothing that trends passes" if wanted.filter else "nothing is trending yet"
        return Found(items, "" if items else empty)

    def _from_popular(self, wanted: Wanted) -> Finding:
        """The items with the most demand in the request's window."""
        top, why_none = yield DemandAsked(Step.POPULAR, self._model, self._plan.request.window)
        return self._chosen(wanted, top, Step.POPULAR, why_none)

    def _from_baskets(self, wanted: Wanted) -> Found:
        """The items that go into one basket with the named ones, by the model's training data."""
        model = self._model
        if model is None:
            return Found([], "no model is loaded yet")
        entries = stages.bought_together(model.bundle, self._plan.request.similar_to)
        why_none = "no basket with a named item and another one is known"
        found = self._chosen(wanted, entries, Step.BOUGHT_TOGETHER, why_none)
        return found._replace(version=model.version if found.items else None)

    def _chosen(self, wanted: Wanted, entries: Entries, step: Step, why_none: str) -> Found:
        began = perf_counter()
        items = selected(self._catalog, wanted, entries, step)
        self.took(step, began)
        if items:
            return Found(items)
        return Found([], "none of these items may be shown here" if entries else why_none)

    def _allowed(self, model: Model, wanted: Wanted) -> Generator[Asked, Any, Mask]:
        """Whether each item of the model's space may be in the slate."""
        if wanted.filter is None:
            return self._catalog.mask(model)
        allowed: Mask = yield MaskAsked(model, wanted.filter)
        return allowed

    def took(self, stage: str, began: float) -> None:
        """Note the time of a stage that began then."""
        self._slate.took.append((stage, began, perf_counter() - began))


def by_model(model: Model, recommended: Sequence[Candidate]) -> Found:
    """The model's items, with its version where there are any."""
    return Found(recommended, version=model.version if recommended else None)
