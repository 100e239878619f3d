"""One node of three crashes between two dependent writes, and loses what it had not settled.

Each story is a row of the table in docs/adr/0064. It has to end as it does on one server where
nothing crashes. Without settling it does not.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import StreamCatalogRecord, StreamInteraction
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.stores.layout import Keys
from slipstream.stores.online import (
    CheckpointMove,
    OnlineStore,
    Retention,
    StoreUnavailableError,
)
from slipstream.stores.rebuild import Rebuild, RebuiltVisitor
from tests.integration.cluster_losses import Losses, again
from tests.integration.merge_stories import NOW, contents, view

pytestmark = pytest.mark.servers("real")

SOURCE = "t:0"


@dataclass
class Scene:
    """A visitor, items and a user on three nodes, and the writers of two consumers.

    `crashes` is False on one server, where nothing is lost.
    """

    losses: Losses
    settings: RedisSettings
    keys: Keys
    visitor: str
    user: str
    items: list[str]
    first: OnlineStore
    other: OnlineStore
    crashes: bool

    def crash_before(self, script: str, written: str, lost: str, *, nth: int = 1) -> None:
        """Crash the node of one key when the first writer is about to write another. What it has
        now stays.
        """
        if self.crashes:
            assert self.losses.owner(written) != self.losses.owner(lost)
            self.losses.keep()
            self.losses.crash_before(self.first, script, written, self.losses.owner(lost), nth=nth)

    def view(self, number: int, user: str = "") -> StreamInteraction:
        """A view by one who is no user yet, as far as it tells."""
        source, offset, event = view(self.visitor, number, SOURCE, self.items[number % 2])
        name = user or self.visitor
        anonymous = event.model_copy(update={"user_id": name, "anonymous_id": name})
        return StreamInteraction(source, offset, anonymous)

    def link(self, *, by_browser: bool = False) -> StreamCatalogRecord:
        return self._record("identity", by_browser=by_browser, attributes={MERGED_INTO: self.user})

    def named_by_server(self) -> StreamCatalogRecord:
        return self._record("user", attributes={"plan": "gold"})

    def erasure(self) -> StreamCatalogRecord:
        record = CatalogRecord(
            entity="user",
            entity_id=self.user,
            deleted=True,
            timestamp=NOW,
            cut={"interactions.v1": {SOURCE: 2}, "people.v1": {"c:0": 2}},
        )
        return StreamCatalogRecord("c:0", 2, record)

    def outcome(self) -> object:
        """What is left of the visitor, the user and the items."""
        found = list[object]()

        def look() -> None:
            found[:] = [
                self.other.erasures.members(self.visitor),
                [contents(self.other.visitor(name)) for name in (self.visitor, self.user)],
                self.other.items(self.items),
            ]

        again(look)
        return found

    def _record(self, entity: str, **fields: object) -> StreamCatalogRecord:
        record = CatalogRecord(entity=entity, entity_id=self.visitor, timestamp=NOW, **fields)
        return StreamCatalogRecord("c:0", 1, record)


def a_pair(scene: Scene) -> object:
    """Items count a pair, then the visitor's state has the record."""
    again(lambda: scene.first.apply([scene.view(0)]))
    scene.crash_before(
        "replace", scene.keys.visitor(scene.visitor), scene.keys.item(scene.items[0])
    )
    for _ in range(2):
        again(lambda: scene.first.apply([scene.view(1)]))
    return scene.outcome()


def a_marker(scene: Scene) -> object:
    """The visitor becomes a marker, then the user takes its state in."""
    again(lambda: scene.other.apply([scene.view(0)]))
    scene.crash_before("replace", scene.keys.visitor(scene.user), scene.keys.visitor(scene.visitor))
    with suppress(StoreUnavailableError):
        scene.first.link([scene.link()])
    again(lambda: scene.other.apply([scene.view(1)]))
    again(lambda: scene.first.link([scene.link()]))
    return scene.outcome()


def a_history(scene: Scene) -> object:
    """The user takes a state in, then the marker drops it."""
    again(lambda: scene.other.apply([scene.view(0)]))
    scene.crash_before(
        "replace", scene.keys.visitor(scene.visitor), scene.keys.visitor(scene.user), nth=2
    )
    for _ in range(2):
        again(lambda: scene.first.link([scene.link()]))
    return scene.outcome()


def an_erasure(scene: Scene) -> object:
    """An erasure drops the members, then the holder that names them."""
    again(lambda: scene.first.apply([scene.view(0)]))
    again(lambda: scene.first.link([scene.link()]))
    scene.crash_before("replace", scene.keys.visitor(scene.user), scene.keys.visitor(scene.visitor))
    for _ in range(2):
        again(lambda: scene.first.erase(scene.erasure()))
    again(lambda: scene.other.apply([scene.view(5)]))
    return scene.outcome()


def a_page(scene: Scene) -> object:
    """A page's link merges, then a server names the visitor."""
    again(lambda: scene.other.apply([scene.view(0)]))
    settle = scene.other._scripts.settle

    def stopped() -> None:
        raise RedisConnectionError("the process is no more")

    scene.crash_before(
        "put_newer",
        scene.keys.catalog("user", scene.visitor),
        scene.keys.visitor(scene.visitor),
    )
    scene.other._scripts.settle = stopped  # type: ignore[method-assign]
    with suppress(StoreUnavailableError):
        scene.other.link([scene.link(by_browser=True)])
    scene.other._scripts.settle = settle  # type: ignore[method-assign]
    again(lambda: scene.first.put_catalog([scene.named_by_server()]))
    again(lambda: scene.other.link([scene.link(by_browser=True)]))
    return scene.outcome()


def a_checkpoint(scene: Scene) -> object:
    """A batch has its effects, then its checkpoint moves."""
    written = scene.keys.checkpoint(SOURCE)
    lost = next(
        key
        for key in (scene.keys.visitor(scene.visitor), scene.keys.visitor(scene.user))
        if scene.losses.owner(key) != scene.losses.owner(written)
    )
    scene.crash_before("advance", written, lost)
    records = [scene.view(0), scene.view(1, scene.user)]

    def consume() -> None:
        if scene.first.checkpoints([SOURCE]).get(SOURCE, 0) < len(records):
            scene.first.apply(records)
            assert scene.first.advance({SOURCE: CheckpointMove(-1, len(records))})

    for _ in range(2):
        again(consume)
    return scene.outcome()


def a_lineage(scene: Scene) -> object:
    """A lineage notes records, then states have them. Then others have their offsets."""
    lost = scene.keys.lineage(SOURCE)
    written = next(
        key
        for key in (scene.keys.visitor(scene.visitor), scene.keys.item(scene.items[0]))
        if scene.losses.owner(key) != scene.losses.owner(lost)
    )
    scene.crash_before("replace", written, lost)
    again(lambda: scene.first.follow({SOURCE: [(1, 0, 0)]}))
    with suppress(StoreUnavailableError):
        scene.first.apply([scene.view(0)])
    found = list[object]()
    again(lambda: found.append(scene.first.follow({SOURCE: [(2, 0, 0)]})))
    return found[0]


def a_rebuild(scene: Scene) -> object:
    """A rebuild writes a user, then markers of its members."""
    again(lambda: scene.other.apply([scene.view(0)]))
    state = scene.other.visitor(scene.visitor)
    assert state is not None
    rebuild = Rebuild(scene.settings, scene.keys.namespace, Retention(), lambda source: 1_000)
    rebuild._scripts = scene.first._scripts
    scene.crash_before("replace", scene.keys.visitor(scene.visitor), scene.keys.visitor(scene.user))
    user = RebuiltVisitor(scene.user, state, (scene.visitor,), 2 * NOW)
    again(lambda: rebuild.visitors([user]))
    return scene.outcome()


STORIES = [a_pair, a_marker, a_history, an_erasure, a_page, a_checkpoint, a_lineage, a_rebuild]


def scene_of(
    losses: Losses, settings: RedisSettings, namespace: str, make: Callable[[], OnlineStore]
) -> Scene:
    keys = Keys(namespace)

    def name(prefix: str, *wanted: tuple[Callable[[str], str], int]) -> str:
        return next(
            f"{prefix}{number}"
            for number in count()
            if all(
                losses.owner(key_of(f"{prefix}{number}")) == f"redis {node}"
                for key_of, node in wanted
            )
        )

    visitor = name("v", (keys.visitor, 1), (lambda each: keys.catalog("user", each), 2))
    items = [name("i", (keys.item, 2)), name("j", (keys.item, 2))]
    user, crashes = name("u", (keys.visitor, 3)), settings == losses.settings
    return Scene(losses, settings, keys, visitor, user, items, make(), make(), crashes)


@pytest.mark.parametrize("story", STORIES)
def test_what_a_node_loses_alone_breaks_nothing_that_was_settled(
    story: Callable[[Scene], object], losses: Losses, redis_settings: RedisSettings, namespace: str
) -> None:
    def one_server() -> OnlineStore:
        return OnlineStore(redis_settings, namespace)

    def settling() -> OnlineStore:
        return losses.store(namespace)

    def unsettled() -> OnlineStore:
        return losses.store(namespace, settling=False)

    expected = story(scene_of(losses, redis_settings, namespace, one_server))
    assert story(scene_of(losses, losses.settings, namespace, settling)) == expected
    losses.clear()
    assert story(scene_of(losses, losses.settings, namespace, unsettled)) != expected
