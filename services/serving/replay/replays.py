"""Replays of answers: made one at a time, in a thread with an event loop of its own.

Replays call the functions that answer requests. They fetch the catalogue, model and rules of that
time over REST, and keep them for a while, since answers of one time share them.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from services.serving.metrics import ServingMetrics
from services.serving.replay.bodies import AnswerReplay, WhatIf, WhatIfAnswer
from services.serving.replay.comparison import diff, first_difference
from services.serving.replay.past import PastCatalogs, PastModels, compare_all, past_placement
from services.serving.replay.scenes import (
    RecordedDemand,
    Scene,
    altered,
    notes_of,
    reasons_of,
    recorded_request,
    recorded_visitor,
)
from services.serving.request.driving import Driver, GatheredLists, KeptLists
from services.serving.request.store_reads import Budget
from services.serving.state.filter_masks import FilterMasks
from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.errors import ConflictError, NotFoundError, UnavailableError
from slipstream.contracts.circumstances import Circumstances
from slipstream.contracts.placements import Placement
from slipstream.contracts.rest import RecommendedItem, SlateRecord
from slipstream.recommender.bundle import BundleError
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.model import Model
from slipstream.slates.participation import PlacementPolicies
from slipstream.slates.slate_plan import MadeSlate, SlatePlan
from slipstream.stores.artifacts import ForeignFileError

# Replays that may wait for their turn, and the longest time that one waits.
MOST_WAITING: Final = 8
LONGEST_WAIT_S: Final = 30.0
# Time after the last replay at which its catalogue and model are forgotten.
KEPT_S: Final = 600.0

T = TypeVar("T")


class Replays:
    """The replays of a process. Used in one event loop.

    Args:
        features: The service that has the lake.
        training: The service that has models.
        monitoring: The service that has placements.
    """

    def __init__(
        self,
        features: Peer,
        training: Peer,
        monitoring: Peer,
        in_service: Callable[[], Iterable[Model | None]],
        folder: Path,
    ) -> None:
        self._features, self._monitoring = features, monitoring
        self._placements: dict[tuple[str, int], Placement | None] = {}
        self._catalogs = PastCatalogs(features, folder)
        self._models = PastModels(training, in_service, folder / "model")
        self._measured = ServingMetrics(CollectorRegistry())
        self._turn, self._waiting = asyncio.Lock(), 0
        self._thread = ThreadPoolExecutor(1, "replay")
        self._forgetting: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Take no further replay. One that runs ends when its peers are closed."""
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def answer(self, recommendation_id: str) -> AnswerReplay:
        """The answer as it was recorded, and as it is made again.

        Raises `NotFoundError`, `ConflictError` where it can't be made again, and
        `UnavailableError`.
        """
        return await self.in_turn(partial(self._answer, recommendation_id))

    async def what_if(self, recommendation_id: str, change: WhatIf) -> WhatIfAnswer:
        """The answer in other circumstances. Raises as `answer` does."""
        return await self.in_turn(partial(self._what_if, recommendation_id, change))

    async def in_turn(self, replay: Callable[[], T]) -> T:
        """The result of a function that the thread of replays runs, after those that wait.

        Raises `UnavailableError` where too many wait, or another one takes long.
        """
        if self._waiting > MOST_WAITING:
            raise UnavailableError("too many replays wait", code="replays_busy", retry_after_s=5)
        self._waiting += 1
        try:
            async with asyncio.timeout(LONGEST_WAIT_S):
                await self._turn.acquire()
        except TimeoutError as error:
            raise UnavailableError(
                "another replay takes long", code="replays_busy", retry_after_s=5
            ) from error
        finally:
            self._waiting -= 1
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, replay)
        except PeerError as error:
            if error.status == 404:
                raise NotFoundError(error.detail, code="no_slate") from error
            raise UnavailableError(f"what the replay needs is away: {error}") from error
        except (BundleError, ForeignFileError, ValidationError) as error:
            raise ConflictError(
                f"what the slate was made from can't be read: {error}", code="unreadable"
            ) from error
        finally:
            self._turn.release()
            if self._forgetting is not None:
                self._forgetting.cancel()
            self._forgetting = loop.call_later(KEPT_S, self._thread.submit, self._forget)

    def afterwards(self, work: Callable[[], None]) -> None:
        """Have the thread of replays run a function after what waits there."""
        self._thread.submit(work)

    def _forget(self) -> None:
        self._placements.clear()
        self._catalogs.release()
        self._models.release()

    def _answer(self, recommendation_id: str) -> AnswerReplay:
        began = time.perf_counter()
        slate, circumstances, scene = self._scene(recommendation_id)
        rebuilt, _ = asyncio.run(self._alone(scene))
        difference = first_difference(slate.items, rebuilt.items)
        return AnswerReplay(
            recommendation_id=recommendation_id,
            user_id=slate.user_id,
            timestamp=slate.timestamp,
            placement=slate.placement,
            placements=circumstances.placements,
            experiment=slate.experiment,
            variant=slate.variant,
            answered_by=slate.answered_by,
            model=circumstances.model,
            model_version=slate.model_version,
            history_length=len(circumstances.history.items),
            recorded=slate.items,
            rebuilt=_items(rebuilt),
            identical=difference is None,
            difference=difference,
            reasons=reasons_of(circumstances, slate) if difference is not None else [],
            took_ms=_ms_since(began),
        )

    def _what_if(self, recommendation_id: str, change: WhatIf) -> WhatIfAnswer:
        began = time.perf_counter()
        slate, circumstances, scene = self._scene(recommendation_id)
        before, _ = asyncio.run(self._alone(scene))
        placement, model = scene.placement, None
        if change.placement_revision is not None:
            if not scene.placement_name:
                raise ConflictError("the slate was made for no placement", code="no_placement")
            placement = self.placement(scene.placement_name, change.placement_revision)
        if change.model_version is not None:
            model = self._models.of(change.model_version)
        other = altered(scene, change, placement, model)
        after, unknown_steps = asyncio.run(self._alone(other))
        return WhatIfAnswer(
            recommendation_id=recommendation_id,
            changed=change,
            identical=first_difference(slate.items, before.items) is None,
            before=_items(before),
            after=_items(after),
            diff=diff(before.items, after.items),
            notes=[
                *notes_of(circumstances, scene, other, unknown_steps),
                *(
                    f"{', '.join(each.items)}: hidden, since {each.note}"
                    for each in after.plan.hidden(other.visitor)
                ),
            ],
            took_ms=_ms_since(began),
        )

    def _scene(self, recommendation_id: str) -> tuple[SlateRecord, Circumstances, Scene]:
        """The record of a slate, and all that the slate was made from."""
        slate = SlateRecord.model_validate(self._features.get(f"/v1/slates/{recommendation_id}"))
        circumstances = circumstances_of(slate)
        catalog = self._catalogs.of(recommendation_id, circumstances)
        return slate, circumstances, self.scene(slate, circumstances, catalog)

    def scene(self, slate: SlateRecord, circumstances: Circumstances, catalog: Catalog) -> Scene:
        """All that a slate was made from. In the thread of replays; raises `PeerError`."""
        placements = {
            name: self.placement(name, revision)
            for name, revision in circumstances.placements.items()
        }
        return Scene(
            slate.recommendation_id,
            recorded_request(slate, circumstances),
            recorded_visitor(circumstances),
            self._models.of(circumstances.model) if circumstances.model else None,
            catalog,
            {name: each for name, each in placements.items() if each is not None},
            next(iter(placements), ""),
            circumstances,
        )

    def placement(self, name: str, revision: int) -> Placement | None:
        """A revision of a placement, which never changes; raises as `past_placement` does."""
        if (name, revision) not in self._placements:
            self._placements[name, revision] = past_placement(self._monitoring, name, revision)
        return self._placements[name, revision]

    async def _alone(self, scene: Scene) -> tuple[MadeSlate, set[str]]:
        lists = GatheredLists()
        try:
            return await self.made(scene, lists, FilterMasks(scene.catalog))
        finally:
            lists.close()

    async def made(
        self, scene: Scene, lists: GatheredLists, masks: FilterMasks
    ) -> tuple[MadeSlate, set[str]]:
        """The slate of a scene, and the steps of which the record has no list.

        Args:
            lists: Calls of the model's kernels.
            masks: Masks over the scene's catalogue.
        """
        if scene.model is not None:
            compare_all(scene.catalog, scene.model)
        request, circumstances = scene.request, scene.circumstances
        demand = RecordedDemand(circumstances.given, self._measured)
        driver = Driver(scene.catalog, self._measured, lists, demand, KeptLists(0))
        driver.masks = masks
        policies = PlacementPolicies(scene.placements.get)
        plan = SlatePlan.of(
            request,
            scene.model,
            policies.of(request, circumstances.maker),
            scene.catalog.columns,
            circumstances.now,
            scene.recommendation_id,
        )
        slate = await driver.slate(plan, scene.visitor, Budget(1.0))
        return slate, {step.value for step in demand.unknown_steps}


def circumstances_of(slate: SlateRecord) -> Circumstances:
    """The circumstances of a slate. Raises `ConflictError` where it has none."""
    if not slate.circumstances:
        raise ConflictError(
            "the slate has no circumstances: it is an order of given items (rank), or serving "
            "records none, or the lake has kept them for as long as it does",
            code="no_circumstances",
        )
    circumstances = Circumstances.read(slate.circumstances)
    if circumstances.size:
        raise ConflictError(
            f"the slate's circumstances had {circumstances.size:,} bytes, more than are recorded "
            "(SLIPSTREAM_SERVING__CIRCUMSTANCES_BYTES)",
            code="circumstances_too_large",
        )
    return circumstances


def _items(slate: MadeSlate) -> list[RecommendedItem]:
    touched = [*slate.touched, *([()] * len(slate.items))]
    return [
        RecommendedItem(
            item_id=item.item_id, score=item.score, source=item.source, rules=[*touched[place]]
        )
        for place, item in enumerate(slate.items)
    ]


def _ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 1)
