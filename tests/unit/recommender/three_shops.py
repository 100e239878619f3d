"""Three simulated shops in which items are bought again, or not: groceries, films, furniture.

    python -m tests.unit.recommender.three_shops

fits a model of each, and prints how many buyers' lists have a bought item before and after
repurchases are learned, with NDCG@10 of what visitors did next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa

from slipstream.contracts.times import DAY_MS
from slipstream.evaluation.metrics import Ranks, ndcg
from slipstream.evaluation.significance import bootstrap_difference
from slipstream.features.request import GAP_MS
from slipstream.models.base import EventWeights
from slipstream.recommender import encoding
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.encoding import Query
from slipstream.recommender.fit import fit_log
from slipstream.recommender.new_items import NewItems
from slipstream.recommender.predict import Question, predict, question_of
from slipstream.recommender.protocols import task_of

_DAYS: Final = 180
_BEGIN: Final = 1_736_121_600_000
_ITEMS: Final = 15


@dataclass(frozen=True)
class Shop:
    """Rates of a shop's visitors. Shares are from 0 to 1.

    `again` has for each category the share of purchases that become a habit, and the days between
    two. `needs`, `looks` and `buys` are of a visit, a need and a need's end. `twice` is the share
    of looks at the same item again at once, `back` at the one before, `after` the share of visits
    that look at something bought earlier.
    """

    again: Mapping[str, tuple[float, float]]
    visits: float
    needs: float
    looks: float
    buys: float
    twice: float
    back: float
    after: float


SHOPS: Final = {
    "groceries": Shop(
        {f"food {n}": (0.7, (7, 14, 28)[n % 3]) for n in range(15)}
        | {f"kitchen {n}": (0.02, 60) for n in range(5)},
        visits=14, needs=1.5, looks=0.7, buys=0.5, twice=0.03, back=0.05, after=0.02,
    ),
    "films": Shop(
        {f"genre {n}": (0.02, 90) for n in range(15)},
        visits=10, needs=1.5, looks=1.5, buys=0.5, twice=0.005, back=0.05, after=0.02,
    ),
    "furniture": Shop(
        {f"room {n}": (0.03, 60) for n in range(20)},
        visits=7, needs=1, looks=4, buys=0.2, twice=0.08, back=0.15, after=0.1,
    ),
}  # fmt: skip


def simulated(shop: Shop, visitors: int = 300, seed: int = 0) -> tuple[pa.Table, pa.Table]:
    """The events and the items of a shop."""
    rng, categories = np.random.default_rng(seed), list(shop.again)
    popular = 1 / np.arange(1, _ITEMS + 1) ** 0.7
    rows: list[tuple[str, str, str, int]] = []
    for visitor in range(visitors):
        taste = rng.dirichlet(np.full(len(categories), 0.3))
        style = popular * rng.choice((0.2, 2.0), _ITEMS)
        due, owned, who = dict[str, float](), list[str](), f"visitor-{visitor:03d}"
        for begins in np.sort(rng.random(max(1, rng.poisson(shop.visits)))) * _DAYS * DAY_MS:
            clock = begins

            def event(
                item: str, kind: str, who: str = who, due: dict[str, float] = due,
                owned: list[str] = owned,
            ) -> None:  # fmt: skip
                nonlocal clock
                clock += 1_000 * rng.integers(5, 90)
                rows.append((who, item, kind, int(_BEGIN + clock)))
                if kind == "purchase":
                    share, days = shop.again[item.rsplit(" ", 1)[0]]
                    if item in due or rng.random() < share:
                        due[item] = clock + days * DAY_MS * rng.lognormal(0, 0.3)
                    owned.append(item)

            if owned and rng.random() < shop.after:
                event(owned[rng.integers(len(owned))], "view")
            for item in [item for item, at in due.items() if at <= begins]:
                event(item, "purchase")
            for _ in range(1 + rng.poisson(shop.needs)):
                category = categories[rng.choice(len(categories), p=taste)]
                mine = [f"{category} {number}" for number in range(_ITEMS)]
                # Visitors look for what they do not have yet.
                drawn = rng.random(_ITEMS) ** (1 / (style * np.where(np.isin(mine, owned), 0.1, 1)))
                new, seen = iter(np.argsort(-drawn)), list[str]()
                for chance in rng.random(min(_ITEMS, 1 + rng.poisson(shop.looks))):
                    if seen and chance < shop.twice:
                        item = seen[-1]
                    elif len(seen) > 1 and chance < shop.twice + shop.back:
                        item = seen[-2]
                    else:
                        item = mine[next(new)]
                    seen.append(item)
                    event(item, "view")
                if seen[-1] not in owned and rng.random() < shop.buys:
                    event(seen[-1], "purchase")
    columns = dict(zip(("user_id", "item_id", "event_type"), zip(*rows, strict=True), strict=False))
    events = pa.table({**columns, "timestamp": pa.array([row[3] for row in rows], pa.int64())})
    ids = [f"{category} {number}" for category in categories for number in range(_ITEMS)]
    kinds = [item.rsplit(" ", 1)[0] for item in ids]
    return events, pa.table({"item_id": ids, "categories": [[kind] for kind in kinds]})


def without_last_look(bundle: Bundle, new: NewItems | None, query: Query) -> Question:
    """The question without the item just looked at, as serving asks where looks rest."""
    question, (item, _, time) = question_of(bundle, new, query), query.history
    if not len(item) or query.timestamp - time[-1] >= GAP_MS:
        return question
    return question._replace(exclude=np.union1d(question.exclude, item[-1:]).astype(np.int32))


def measured(shop: Shop, seed: int = 0) -> dict[str, Any]:
    """The figures of a shop: a model of the first four fifths predicts the rest, arranged twice."""
    events, items = simulated(shop, seed=seed)
    item_ids = encoding.met_items(events, EventWeights())
    log = encoding.encode(events, item_ids, EventWeights())
    task = task_of("time-split", log, (), "fast", None)
    after = fit_log(task.log, item_ids, encoding.attributes(items, item_ids))
    learned, before = after.repurchases, replace(after, repurchases=None)
    assert learned is not None and task.asked is not None
    ask = partial(predict, queries=task.queries, depth=10)
    shown = [
        ask(before, question=question_of),
        ask(after, question=question_of),
        ask(after, question=without_last_look),
    ]
    latest = [query.history.item[-1:] for query in task.queries]
    # A purchase of the item just looked at comes from its page, and from no list.
    off_page = np.array(
        [query.label not in item for query, item in zip(task.queries, latest, strict=True)]
    )
    if log.looked is not None:
        off_page |= log.looked[task.asked]
    had = [query.history.item[query.bought] for query in task.queries]
    last = np.flatnonzero(np.diff(log.user[task.asked], append=-1)).tolist()
    buyers = [row for row in last if len(had[row])]
    lasting = [one for one, pause in enumerate(learned.pause) if pause > _DAYS * DAY_MS]

    def share(lists: np.ndarray[Any, Any], items: Sequence[np.ndarray[Any, Any]]) -> float:
        found = [bool(np.isin(lists[row], items[row]).any()) for row in buyers]
        return round(float(np.mean(found)), 3)

    return {
        "events": len(log), "queries": len(task.queries), "buyers": len(buyers),
        "repeats": after.repeats, "looks_rest": learned.looks_rest,
        "share_again": learned.learned["share_again"],
        "bought among ten": [share(each.shown, had) for each in shown],
        "bought in first place": [share(each.shown[:, :1], had) for each in shown],
        "bought, never again": [
            share(each.shown, [items[np.isin(items, lasting)] for items in had]) for each in shown
        ],
        "last look among ten": [share(each.shown, latest) for each in shown],
        "ndcg@10": [round(float(ndcg(each.ranks, 10).mean()), 4) for each in shown],
        "change": [changed(each.ranks, shown[0].ranks) for each in shown[1:]],
        "ndcg@10 off the page": [
            round(float(ndcg(each.ranks[off_page], 10).mean()), 4) for each in shown
        ],
        "change off the page": [
            changed(each.ranks[off_page], shown[0].ranks[off_page]) for each in shown[1:]
        ],
    }  # fmt: skip


def changed(after: Ranks, before: Ranks) -> list[float]:
    """The change of NDCG@10, with its 95 % interval."""
    return [round(x, 4) for x in bootstrap_difference(ndcg(after, 10), ndcg(before, 10), 0)]


if __name__ == "__main__":
    for name, shop in SHOPS.items():
        print(name)
        for figure, value in measured(shop).items():
            print(f"  {figure}: {value}")
