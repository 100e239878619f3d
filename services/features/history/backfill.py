"""Backfill: history from the lake, folded again by the functions that fold the stream.

It rebuilds the online store, and writes training rows.

A rebuild's last step is the catch-up with states that the consumer wrote to meanwhile. A state was
left unchanged when it holds records that the lake lacked at the rebuild's version. Consumers are
asked to pause for some seconds, in which the lake comes to where they are. The rows since are
folded on top, and the states replaced. Every replacement is judged as before, so a consumer that
does not pause costs another round, never a record.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from services.features.history.archive import FOLDED_COLUMNS, stream_interactions
from services.features.history.lake_snapshot import CatalogHistory, LakeSnapshot
from services.features.history.local_engine import LocalEngine
from services.features.history.people import erase_waiting
from services.features.history.sinks import HeaviestItems, Sinks, chunks
from services.features.history.training_files import TrainingFiles, row_schema
from services.features.settings import FeaturesSettings
from slipstream.contracts.positions import StreamInteraction
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.features import history, visitor
from slipstream.features.history import StreamCovisit
from slipstream.features.identity import emptied, taken_in
from slipstream.features.training_rows import rows_between
from slipstream.features.visitor import VisitorState
from slipstream.stores.lake import Lake
from slipstream.stores.layout import TrendingState
from slipstream.stores.online import TRENDING_KEPT, OnlineStore
from slipstream.stores.rebuild import LastOffset, Rebuild, RebuiltItem, RebuiltVisitor

# Seconds for which consumers are asked to pause, in each round.
HOLD_S = 30.0
ROUNDS = 4
_POLL_S: Final = 0.1


@dataclass
class OutdatedStates:
    """States of a snapshot that could not be written, since the online store was ahead of it."""

    visitors: list[RebuiltVisitor] = field(default_factory=list)
    items: list[RebuiltItem] = field(default_factory=list)
    trending: HeaviestItems | None = None

    def __bool__(self) -> bool:
        return bool(self.visitors or self.items or self.trending)


def catch_up(
    before: LakeSnapshot, outdated: OutdatedStates, rebuild_for: Callable[[LastOffset], Rebuild]
) -> OutdatedStates:
    """Bring outdated states up to date and write them, in a few rounds.

    Args:
        before: The snapshot that the states are of.
        outdated: States that could not be written.
        rebuild_for: Makes a writer for a snapshot's coverage.

    Returns:
        The states that still could not be written.
    """
    for _ in range(ROUNDS):
        if not outdated:
            break
        waiting = rebuild_for(before.covered)
        try:
            waiting.hold(HOLD_S)
            after = _later_snapshot(before, waiting, HOLD_S / 2)
            advanced, missing = advance(before, after, outdated, waiting)
            writing = rebuild_for(after.covered)
            writing.add_pairs(missing)
            outdated = _write(advanced, writing)
            writing.close()
            before = after
        finally:
            waiting.release()
            waiting.close()
    return outdated


def advance(
    before: LakeSnapshot, after: LakeSnapshot, outdated: OutdatedStates, online: Rebuild
) -> tuple[OutdatedStates, dict[str, list[StreamCovisit]]]:
    """The same states as of a later snapshot, and pairs that other items' states lack.

    Args:
        before: The snapshot that the states are of.
        after: The later snapshot.
        outdated: The states; their trending list is changed in place.
        online: Reads the present states of visitors.

    Returns:
        The states, and by item the pairs that the consumer could not make, as it had an outdated
        state of the visitor. The items among the states have theirs.
    """
    fresh = _fresh_records(before, after)
    by_user: dict[str, list[StreamInteraction]] = {}
    by_item: dict[str | None, list[StreamInteraction]] = {}
    for user_id, record in fresh:
        by_user.setdefault(user_id, []).append(record)
        by_item.setdefault(record.interaction.item_id, []).append(record)
    arrived = {
        user_id: history.in_order_of_arrival(records) for user_id, records in by_user.items()
    }
    visitors = _linked_and_erased(before, after, outdated.visitors)
    pairs, lacking = _pairs(arrived, visitors, online)
    outdated_items = {item.item_id for item in outdated.items}
    missing = {name: each for name, each in lacking.items() if name not in outdated_items}
    if outdated.trending is not None:
        for item_id, records in by_item.items():
            outdated.trending.add(records, item_id)
    states = OutdatedStates(
        [
            _advance_visitor(after.catalog, rebuilt, arrived.get(user_id, []))
            for user_id, rebuilt in visitors.items()
        ],
        [
            _advance_item(item, by_item.get(item.item_id, []), pairs.get(item.item_id, []))
            for item in outdated.items
        ],
        outdated.trending,
    )
    return states, missing


def _later_snapshot(before: LakeSnapshot, rebuild: Rebuild, timeout_s: float) -> LakeSnapshot:
    """A snapshot that has every record applied online, or the newest one after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        after = before.later()
        ahead = {
            source: offset
            for source, offset in rebuild.trending_applied().items()
            if offset > after.covered(source)
        }
        if not ahead or time.monotonic() >= deadline:
            return after
        time.sleep(_POLL_S)


def _fresh_records(
    before: LakeSnapshot, after: LakeSnapshot
) -> list[tuple[str, StreamInteraction]]:
    """The records that the earlier snapshot did not have, each with the user that it belongs to."""
    covered, fresh = before.covered, list[tuple[str, StreamInteraction]]()
    for batch in after.records(since=before):
        columns = batch.select([*FOLDED_COLUMNS, "visitor"]).to_pydict()
        for user_id, record in zip(columns["visitor"], stream_interactions(columns), strict=True):
            if record.offset > covered(record.source):
                fresh.append((user_id, record))
    return fresh


def _linked_and_erased(
    before: LakeSnapshot, after: LakeSnapshot, rebuilt: Iterable[RebuiltVisitor]
) -> dict[str, RebuiltVisitor]:
    """The states by user as the later snapshot knows users.

    States of visitors who were linked in between are joined, those erased in between emptied.
    """
    resolve = after.catalog.identities.resolve
    by_user: dict[str, RebuiltVisitor] = {}
    # Users come before the visitors who are linked to them.
    for entry in sorted(rebuilt, key=lambda entry: resolve(entry.user_id) != entry.user_id):
        user_id, state = resolve(entry.user_id), entry.state
        if set(after.catalog.erased(user_id)) - set(before.catalog.erased(user_id)):
            state = emptied(state)
        if user_id == entry.user_id:
            by_user[user_id] = entry._replace(state=state)
        elif user_id in by_user:
            user = by_user[user_id]
            by_user[user_id] = user._replace(
                state=taken_in(user.state, entry.user_id, state),
                last_received=max(user.last_received, entry.last_received),
            )
        # Else the user's state was written before the link came: the consumer joins the two, as it
        # does with all others.
    return by_user


def _pairs(
    arrived: Mapping[str, Sequence[StreamInteraction]],
    visitors: Mapping[str, RebuiltVisitor],
    online: Rebuild,
) -> tuple[dict[str, list[StreamCovisit]], dict[str, list[StreamCovisit]]]:
    """The pairs that fresh records make, by item, and those of them that the consumer did not make.

    Args:
        arrived: Fresh records by user, in order of arrival.
        visitors: Outdated states by user, from before these records.
        online: Reads the present states of users.
    """
    present = dict(zip(arrived, online.states(list(arrived)), strict=True))
    by_item: dict[str, list[StreamCovisit]] = {}
    lacking: dict[str, list[StreamCovisit]] = {}
    for user_id, records in arrived.items():
        made = _stream_pairs(_without(present[user_id], records), records)
        outdated = visitors.get(user_id)
        due = made if outdated is None else _stream_pairs(outdated.state, records)
        # Without a history, a later record may have made the same pair.
        left = Counter((one.pair.item_id, one.pair.neighbour) for one in made)
        for one in due:
            by_item.setdefault(one.pair.item_id, []).append(one)
            both = one.pair.item_id, one.pair.neighbour
            left[both] -= 1
            if left[both] < 0:
                lacking.setdefault(one.pair.item_id, []).append(one)
    return by_item, lacking


def _stream_pairs(
    before: VisitorState | None, records: Sequence[StreamInteraction]
) -> list[StreamCovisit]:
    """The pairs that these records make after a state of their visitor."""
    made = visitor.pairs(before, [record.interaction for record in records])
    return [
        StreamCovisit(record.source, record.offset, pair)
        for record, pairs in zip(records, made, strict=True)
        for pair in pairs
    ]


def _without(
    present: VisitorState | None, records: Sequence[StreamInteraction]
) -> VisitorState | None:
    """A visitor's state with the sequence as before these records, as far as it still shows."""
    if present is None:
        return None
    theirs = {
        (record.interaction.item_id, record.interaction.event_type, record.interaction.timestamp)
        for record in records
    }
    return replace(
        present, sequence=[event for event in present.sequence if event[:3] not in theirs]
    )


def _advance_visitor(
    catalog: CatalogHistory, rebuilt: RebuiltVisitor, records: Sequence[StreamInteraction]
) -> RebuiltVisitor:
    """A user's state after fresh records, with the offsets of the erasures that it holds."""
    user_id = rebuilt.user_id
    state = visitor.fold_all(rebuilt.state, (record.interaction for record in records))
    of_records = history.visitor_state(user_id, records)
    applied = {**state.applied, **of_records.applied, **dict(catalog.erased(user_id))}
    merged = {name: dict(offsets) for name, offsets in state.merged.items()}
    for name, offsets in of_records.merged.items():
        merged[name] = {**merged.get(name, {}), **offsets}
    return RebuiltVisitor(
        user_id,
        replace(state, applied=applied, merged=merged),
        catalog.members(user_id),
        _last_received(rebuilt.last_received, records),
        catalog.unproven(user_id),
    )


def _advance_item(
    rebuilt: RebuiltItem, records: Sequence[StreamInteraction], pairs: Sequence[StreamCovisit]
) -> RebuiltItem:
    """An item's state after fresh records and pairs."""
    return RebuiltItem(
        rebuilt.item_id,
        history.item_state(records, pairs, rebuilt.state),
        _last_received(rebuilt.last_received, records),
    )


def _last_received(before: int, records: Iterable[StreamInteraction]) -> int:
    return max([before, *(record.interaction.received_at for record in records)])


def _write(outdated: OutdatedStates, rebuild: Rebuild) -> OutdatedStates:
    """Write these states; returns those that could not be written."""
    trending = outdated.trending
    if trending is not None and rebuild.trending(trending.by_item(), trending.state):
        trending = None
    return OutdatedStates(
        rebuild.visitors(outdated.visitors), rebuild.items(outdated.items), trending
    )


_CATALOG_AT_ONCE = 500


@dataclass(frozen=True)
class BackfillRequest:
    """A request for a backfill.

    Attributes:
        engine: Engine that folds history: this machine or Spark.
        online: Whether the online store is rebuilt.
        output: Folder for training rows; None for none.
        since_ms: Rows are of events at or after this moment, in ms; features count those before.
        until_ms: Rows are of events before this moment, in ms.
        work_dir: Folder for buckets on disk; the system's folder for temporary files when None.
        settle_s: Seconds in which the lake takes up what was applied online before; twice the
            service's flush interval when None.
        spark_master: Spark's master, for the Spark engine.
    """

    engine: Literal["local", "spark"] = "local"
    online: bool = True
    output: Path | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    work_dir: Path | None = None
    settle_s: float | None = None
    spark_master: str = "local[*]"


@dataclass
class BackfillReport:
    """The outcome of a backfill: versions read, numbers of states and rows, duration.

    The last three say which states a busy consumer kept ahead of the lake; they are unchanged.
    """

    engine: str
    lake_version: int | None = None
    catalog_version: int | None = None
    interactions: int = 0
    visitors: int = 0
    items: int = 0
    rows: int = 0
    seconds: float = 0.0
    visitors_left: int = 0
    items_left: int = 0
    trending_left: bool = False

    @property
    def complete(self) -> bool:
        """Whether every state was replaced."""
        return not (self.visitors_left or self.items_left or self.trending_left)


def backfill(
    settings: FeaturesSettings, request: BackfillRequest, progress: Progress
) -> BackfillReport:
    """Run a backfill at the newest version of the lake, also while services run.

    It can be broken off and run again. Raises `LakeUnavailableError`, `StoreUnavailableError`, and
    `OutputError` when the output folder holds other files.
    """
    begun = time.monotonic()
    attributes = settings.attributes()
    files = TrainingFiles(request.output) if request.output is not None else None
    if request.online:
        progress(ProgressStep("waiting for the lake", 0.0))
        time.sleep(
            2 * settings.features.lake_flush_s if request.settle_s is None else request.settle_s
        )
    progress(ProgressStep("reading the catalogue", 0.0))
    lake = Lake(settings.lake, settings.namespace)
    erase_waiting(lake)
    snapshot = LakeSnapshot(lake, attributes)
    report = BackfillReport(
        request.engine, snapshot.version, snapshot.catalog_version, snapshot.count()
    )
    asked = rows_between(request.since_ms, request.until_ms)
    online = _Online(settings, snapshot, report) if request.online else None
    sinks = online.sinks if online else Sinks()
    if online:
        online.put_catalog()
    if request.engine == "spark":
        from services.features.history.spark_engine import SparkEngine

        engine = SparkEngine(
            snapshot, settings.retention().trending_half_life_ms, request.spark_master, progress
        )
        engine.run(sinks, files, request.since_ms, request.until_ms)
    else:
        with tempfile.TemporaryDirectory(
            prefix="slipstream-backfill-", dir=request.work_dir
        ) as folder:
            LocalEngine(snapshot, Path(folder), progress).run(sinks, files, asked)
    if online:
        progress(ProgressStep("catching up", 0.0))
        online.finish()
    if files is not None:
        report.rows = files.rows
        files.complete(_manifest(report, request, attributes))
    report.seconds = time.monotonic() - begun
    return report


def _manifest(
    report: BackfillReport, request: BackfillRequest, attributes: Sequence[str]
) -> dict[str, object]:
    """The description of training rows: source, window, and columns by type."""
    return {
        "engine": report.engine,
        "lake_version": report.lake_version,
        "catalog_version": report.catalog_version,
        "interactions": report.interactions,
        "rows": report.rows,
        "since_ms": request.since_ms,
        "until_ms": request.until_ms,
        "columns": {field.name: str(field.type) for field in row_schema(attributes)},
    }


class _Online:
    """The online half of a backfill: writes states as they come, and notes those left outdated."""

    def __init__(
        self, settings: FeaturesSettings, snapshot: LakeSnapshot, report: BackfillReport
    ) -> None:
        self._settings, self._snapshot, self._report = settings, snapshot, report
        self._rebuild = self._rebuild_for(snapshot.covered)
        self._outdated = OutdatedStates()
        # A few more than are kept, so that an item that gains in the last step is among them.
        kept = TRENDING_KEPT + TRENDING_KEPT // 20
        self._trending = HeaviestItems(
            kept, TrendingState(half_life_ms=settings.retention().trending_half_life_ms)
        )
        self.sinks = Sinks(self._visitors, self._items, self._trending)

    def put_catalog(self) -> None:
        """Write the catalogue's entries where the store has no newer ones."""
        store = OnlineStore(
            self._settings.redis, self._settings.namespace, self._settings.retention()
        )
        for entries in chunks(self._snapshot.entries.values(), _CATALOG_AT_ONCE):
            store.put_catalog(entries)
        store.close()

    def finish(self) -> None:
        """Write the trending list, then the states that the consumer was ahead with."""
        if not self._rebuild.trending(self._trending.by_item(), self._trending.state):
            self._outdated.trending = self._trending
        left = catch_up(self._snapshot, self._outdated, self._rebuild_for)
        self._rebuild.close()
        self._report.visitors_left, self._report.items_left = len(left.visitors), len(left.items)
        self._report.trending_left = left.trending is not None

    def _visitors(self, rebuilt: list[RebuiltVisitor]) -> None:
        self._report.visitors += len(rebuilt)
        self._outdated.visitors += self._rebuild.visitors(rebuilt)

    def _items(self, rebuilt: list[RebuiltItem]) -> None:
        self._report.items += len(rebuilt)
        self._outdated.items += self._rebuild.items(rebuilt)

    def _rebuild_for(self, covered: LastOffset) -> Rebuild:
        return Rebuild(
            self._settings.redis, self._settings.namespace, self._settings.retention(), covered
        )
