"""Prices of drafts: logged slates are made again by a draft, and weighed by what followed.

A price runs in the thread of replays, in portions between which other replays have their turn. It
works half of the time, so that requests have the rest.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlencode

import numpy as np
import orjson

from services.serving.replay.bodies import Price, PriceLine, PriceRequest, RewardPrice
from services.serving.replay.past import CatalogJourney, PastModels
from services.serving.replay.replays import Replays, circumstances_of
from services.serving.replay.scenes import Scene, altered
from services.serving.request.driving import GatheredLists
from services.serving.state.filter_masks import FilterMasks
from slipstream.chassis.client import Peer
from slipstream.chassis.errors import ConflictError, ServiceError, UnavailableError
from slipstream.chassis.logging import get_logger, request_id
from slipstream.chassis.request_names import refuse_unknown
from slipstream.contracts.circumstances import Circumstances
from slipstream.contracts.placements import PlacementPolicy
from slipstream.contracts.rest import LoggedSlate, LoggedSlates, Problem
from slipstream.evaluation.off_policy import RewardModel
from slipstream.slates.catalogue.model import Model
from slipstream.slates.pricing import FOLDS, WeighedList, fold_of, priced, weighed
from slipstream.slates.slate_plan import MadeSlate

log = get_logger(__name__)

# Time of a portion, in which other replays wait.
PORTION_S: Final = 1.0
# Share of the thread's time in which it rests.
_REST: Final = 0.5
_SAME: Final = 1e-9
Kind = Literal["clicks", "revenue"]
CLICKS: Final = "clicks"
REVENUE: Final = "revenue"


@dataclass(slots=True)
class _Log:
    """The logged slates of a price, and what is known of them.

    Attributes:
        numbers: How many slates there were.
        slates: The sampled ones, in order: moment, slate, and circumstances as JSON, since
            objects take ten times the memory.
        left_out: Number of slates that can't be used, by the reason.
        revisions: Name and revision of the placements that they were made by.
        kinds: The rewards that are priced.
        models: For each fold of visitors the models of rewards by the other folds.
    """

    numbers: LoggedSlates
    slates: list[tuple[tuple[int, int], LoggedSlate, bytes]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    revisions: set[tuple[str, int]] = field(default_factory=set)
    kinds: Sequence[Kind] = ()
    models: Sequence[Sequence[RewardModel]] = ()


@dataclass(slots=True)
class _Weighing:
    """A price while it is made: the slates that were weighed, and how far it is."""

    job: _Log
    journey: CatalogJourney
    masks: FilterMasks
    draft: PlacementPolicy | None
    model: Model | None
    place: int = 0
    lists: list[WeighedList] = field(default_factory=list)
    weighed: list[LoggedSlate] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)


class Prices:
    """The prices of a process, one at a time. Used in one event loop.

    Args:
        replays: The replays, of which thread and models are used.
        features: The service that has the log.
        training: The service that has models.
    """

    def __init__(
        self,
        replays: Replays,
        features: Peer,
        training: Peer,
        in_service: Callable[[], Iterable[Model | None]],
        folder: Path,
    ) -> None:
        self._replays, self._features, self._folder = replays, features, folder
        # Apart from the models of logged slates: both are needed in turns.
        self._drafts = PastModels(training, in_service, folder / "draft")
        self._busy = False

    async def opened(self, wanted: PriceRequest) -> AsyncGenerator[bytes]:
        """The lines of a price, of which the last one has it.

        Raises:
            ConflictError: There is no log, it has several currencies, or the draft's model or
                revision is gone.
            UnavailableError: Another price is being made, or a service does not answer.
            RequestValidationError: The draft names a rule that there isn't.
        """
        if self._busy:
            raise UnavailableError(
                "another price is being made", code="replays_busy", retry_after_s=60
            )
        lines = self._lines(wanted)
        await anext(lines)
        return lines

    async def _lines(self, wanted: PriceRequest) -> AsyncGenerator[bytes]:
        """Nothing as soon as the log has been read, then the lines of the price."""
        self._busy, began = True, time.perf_counter()
        try:
            weighing = await self._replays.in_turn(partial(self._begun, wanted))
            yield b""
            of = len(weighing.job.slates)
            try:
                while weighing.place < of:
                    yield _line(PriceLine(done=weighing.place, of=of))
                    await self._replays.in_turn(partial(self._portion, wanted, weighing))
                price = await asyncio.to_thread(_priced, wanted, weighing)
                price.took_s = round(time.perf_counter() - began, 1)
                yield _line(PriceLine(done=of, of=of, price=price))
            except ServiceError as error:
                yield _line(PriceLine(done=weighing.place, of=of, problem=_problem(error)))
            except Exception as error:
                log.exception("a price failed")
                failed = _problem(ServiceError(f"{type(error).__name__}; the log has more"))
                yield _line(PriceLine(done=weighing.place, of=of, problem=failed))
        finally:
            # Nothing is awaited: where a client goes away, that would be cancelled, too.
            self._busy = False
            self._replays.afterwards(self._drafts.release)

    def _begun(self, wanted: PriceRequest) -> _Weighing:
        job = self._log(wanted)
        draft = wanted.draft
        policy = draft.policy
        if draft.placement_revision is not None:
            placement = self._replays.placement(wanted.placement, draft.placement_revision)
            policy = placement.policy if placement is not None else PlacementPolicy()
        self._refuse_unknown_rules(wanted, job, policy)
        model = self._drafts.of(draft.model_version) if draft.model_version is not None else None
        first, last = (
            (slate.recommendation_id, Circumstances.model_validate_json(recorded))
            for _, slate, recorded in (job.slates[0], job.slates[-1])
        )
        journey = CatalogJourney(self._features, self._folder, first, last)
        # Its clock passes a mask's age at each look: of the past, no mask may be older.
        masks = FilterMasks(journey.at(first[1]), count(0.0, 10.0).__next__)
        return _Weighing(job, journey, masks, policy, model)

    def _log(self, wanted: PriceRequest) -> _Log:
        path = self._folder / "log.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        asked = {
            "placement": wanted.placement,
            "since": wanted.since,
            "until": wanted.until,
            "variant": wanted.variant,
            "limit": wanted.slates,
        }
        try:
            self._features.download(f"/v1/slates?{urlencode(asked)}", path)
            with path.open("rb") as file:
                numbers = LoggedSlates.model_validate_json(next(file))
                job = _Log(numbers)
                for line in file:
                    slate = LoggedSlate.model_validate_json(line)
                    try:
                        circumstances = circumstances_of(slate)
                    except (ConflictError, ValueError):
                        job.left_out["no circumstances are recorded"] += 1
                        continue
                    job.revisions.update(circumstances.placements.items())
                    recorded, slate.circumstances = orjson.dumps(slate.circumstances), None
                    job.slates.append((_moment(circumstances), slate, recorded))
        finally:
            path.unlink(missing_ok=True)
        if not job.slates:
            raise ConflictError(
                f"none of the {numbers.slates:,} slates of the period has an order that was "
                f"sampled{' and can be recomputed' if numbers.sampled else ''}: give the placement "
                "a share of sampled orders (`sampling`), and wait until they are in the lake",
                code="no_logs",
            )
        job.slates.sort(key=lambda each: (each[0], each[1].recommendation_id))
        _add_models(job, wanted)
        return job

    def _refuse_unknown_rules(
        self, wanted: PriceRequest, job: _Log, policy: PlacementPolicy | None
    ) -> None:
        if not wanted.draft.without_rules:
            return
        known = {rule.name for rule in policy.rules} if policy is not None else set[str]()
        if policy is None:
            for name, revision in job.revisions:
                placement = self._replays.placement(name, revision)
                if placement is not None:
                    known.update(rule.name for rule in placement.policy.rules)
        place = ("body", "draft", "without_rules")
        names = [(place, name) for name in wanted.draft.without_rules]
        refuse_unknown("there is no rule {name}", names, known)

    def _portion(self, wanted: PriceRequest, weighing: _Weighing) -> None:
        asyncio.run(self._weigh(wanted, weighing))

    async def _weigh(self, wanted: PriceRequest, weighing: _Weighing) -> None:
        """Weigh further slates for a while."""
        until, lists = time.perf_counter() + PORTION_S, GatheredLists()
        try:
            while weighing.place < len(weighing.job.slates) and time.perf_counter() < until:
                began = time.perf_counter()
                _, slate, recorded = weighing.job.slates[weighing.place]
                circumstances = Circumstances.model_validate_json(recorded)
                weighing.place += 1
                await self._weigh_one(wanted, weighing, slate, circumstances, lists)
                await asyncio.sleep((time.perf_counter() - began) * _REST / (1 - _REST))
        finally:
            lists.close()

    async def _weigh_one(
        self,
        wanted: PriceRequest,
        weighing: _Weighing,
        slate: LoggedSlate,
        circumstances: Circumstances,
        lists: GatheredLists,
    ) -> None:
        try:
            scene = self._replays.scene(slate, circumstances, weighing.journey.at(circumstances))
        except ConflictError as error:
            weighing.job.left_out[error.detail] += 1
            return
        before, _ = await self._replays.made(scene, lists, weighing.masks)
        if before.frame is None or not _alike(slate, before):
            weighing.job.left_out["the list comes out otherwise"] += 1
            return
        other = drafted(scene, wanted, weighing.draft, weighing.model)
        after, unknown_steps = await self._replays.made(other, lists, weighing.masks)
        if after.frame is None:
            weighing.job.left_out["the draft makes no list"] += 1
            return
        for step in unknown_steps:
            weighing.notes[f"the list of {step} items, which the draft needs, is not recorded"] += 1
        shown = [item.item_id for item in slate.items]
        models = weighing.job.models[fold_of(slate.user_id)]
        weighing.lists.append(weighed(before.frame, after.frame, shown, models))
        weighing.weighed.append(slate)


def _moment(circumstances: Circumstances) -> tuple[int, int]:
    """A slate's time, and how much of the catalogue it had: many fall into one millisecond."""
    return circumstances.now, sum(map(sum, circumstances.catalog.values()))


def drafted(
    scene: Scene, wanted: PriceRequest, policy: PlacementPolicy | None, model: Model | None
) -> Scene:
    """The scene by a draft, with an order that is sampled as the log's is.

    Args:
        policy: The draft's policy; None leaves the one of the slate.
        model: The draft's model; None leaves the one of the slate.
    """
    base = policy
    if base is None:
        base = scene.placement.policy if scene.placement is not None else PlacementPolicy()
    named = {rule.name for rule in base.rules}
    change = wanted.draft.model_copy(
        update={
            "policy": base.model_copy(update={"sampling": 1.0}),
            "placement_revision": None,
            # An older revision may not have the rule yet.
            "without_rules": [name for name in wanted.draft.without_rules if name in named],
        }
    )
    return altered(scene, change, scene.placement, model)


def _alike(slate: LoggedSlate, made: MadeSlate) -> bool:
    """Whether a slate comes out as it was recorded, with its probabilities."""
    return [item.item_id for item in slate.items] == [item.item_id for item in made.items] and (
        np.allclose(slate.propensities, made.propensities, rtol=0, atol=_SAME)
        if len(slate.propensities) == len(made.propensities)
        else False
    )


def _add_models(job: _Log, wanted: PriceRequest) -> None:
    """Add the models of rewards. Raises `ConflictError` for several currencies."""
    slates = [slate for _, slate, _ in job.slates]
    currencies = Counter(currency for slate in slates for _, _, currency in slate.revenue)
    if wanted.currency is None and len(currencies) > 1:
        named = ", ".join(f"{name or 'none'} ({often})" for name, often in currencies.most_common())
        raise ConflictError(
            f"purchases are in several currencies: {named}; name one as `currency`",
            code="mixed_currencies",
        )
    has_revenue = wanted.currency is not None or bool(currencies)
    job.kinds = (CLICKS, REVENUE) if has_revenue else (CLICKS,)
    folds = [fold_of(slate.user_id) for slate in slates]
    job.models = [
        [
            RewardModel.fit(
                rewards_of(others, kind, wanted.currency),
                [[item.item_id for item in slate.items] for slate in others],
            )
            for kind in job.kinds
        ]
        for fold in range(FOLDS)
        for others in [[slate for slate, of in zip(slates, folds, strict=True) if of != fold]]
    ]


def rewards_of(
    slates: Sequence[LoggedSlate], kind: Kind, currency: str | None
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The reward of each place of slates, (slates, places).

    Args:
        kind: `clicks`, or `revenue`.
        currency: The currency of purchases that count; None for all.
    """
    rewards = np.zeros((len(slates), max((len(slate.items) for slate in slates), default=0)))
    for row, slate in enumerate(slates):
        if kind == CLICKS:
            rewards[row, slate.clicked] = 1.0
            continue
        for place, amount, of in slate.revenue:
            if currency is None or of == currency:
                rewards[row, place] += amount
    return rewards


def _priced(wanted: PriceRequest, weighing: _Weighing) -> Price:
    job, slates = weighing.job, weighing.weighed
    if not slates:
        reasons = "; ".join(f"{reason}: {n}" for reason, n in job.left_out.most_common())
        raise ConflictError(f"no sampled slate can be recomputed: {reasons}", code="no_logs")
    visitors, rewards = [slate.user_id for slate in slates], list[RewardPrice]()
    for nth, kind in enumerate(job.kinds):
        gained = rewards_of(slates, kind, wanted.currency)
        rates = [models[nth].rates for models in job.models]
        found = priced(weighing.lists, gained, rates, nth, visitors)
        currency = wanted.currency
        if kind == REVENUE and currency is None:
            currency = next((of for slate in slates for _, _, of in slate.revenue), None)
        mean = float(gained.sum() / len(slates))
        rewards.append(RewardPrice.of(kind, currency if kind == REVENUE else None, mean, found))
    return Price(
        placement=wanted.placement,
        since=wanted.since,
        until=wanted.until,
        variant=wanted.variant,
        draft=wanted.draft,
        slates=job.numbers.slates,
        sampled=job.numbers.sampled,
        weighed=len(slates),
        visitors=len(set(visitors)),
        left_out=dict(job.left_out),
        notes=[f"{note} ({often} slates)" for note, often in weighing.notes.most_common()],
        rewards=rewards,
    )


def _problem(error: ServiceError) -> Problem:
    return Problem(
        title=error.title,
        status=error.status,
        detail=error.detail,
        code=error.code,
        request_id=request_id.get(),
    )


def _line(line: PriceLine) -> bytes:
    return (
        orjson.dumps({k: each for k, each in line.model_dump().items() if each is not None}) + b"\n"
    )
