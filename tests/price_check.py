"""`make price-check`: prices in simulated shops of known truth, and compared with sb-obp.

    python -m tests.price_check --logs 400 --visitors 1500

A shop has contexts, each with scores of its items and the true probability of a click on each.
Lists are arranged, sampled and weighed by the code that serves and prices them. Where visitors look
at each place by itself, estimates by position must be right; where a click ends the look at the
list, those by cascade.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

from slipstream.contracts.placements import PlacementPolicy
from slipstream.evaluation.off_policy import RewardModel, doubly_robust, ips, self_normalised
from slipstream.slates.arranging.arrangement import arrange
from slipstream.slates.arranging.policies import CompiledPolicy
from slipstream.slates.arranging.pool import Pool, Visitor
from slipstream.slates.arranging.sampling import Frame, ItemFrame, by_draw, sampled
from slipstream.slates.catalogue.columns import Columns
from slipstream.slates.catalogue.masks import Items
from slipstream.slates.pricing import (
    ASSUMPTIONS,
    ESTIMATORS,
    PricedReward,
    fold_of,
    priced,
    weighed,
)

CONTEXTS, ITEMS = 150, 40
# How likely a visitor looks at each place, where each is looked at by itself. Lists where a
# click ends the look have two places: weights of whole lists need far more of them.
LOOKS: Final = np.array([0.9, 0.7, 0.5, 0.4, 0.3, 0.25])
LOG_POLICY: Final[dict[str, Any]] = {
    "sampling": 1.0,
    "rules": [{"name": "two of a brand", "action": "cap", "attribute": "brand", "most": 2}],
}
# The log's policy excludes these, which a draft without support brings.
HIDDEN: Final = 3
DRAFTS: Final[dict[str, dict[str, Any]]] = {
    "rule": LOG_POLICY
    | {
        "rules": [
            *LOG_POLICY["rules"],
            {"name": "no clearance", "action": "exclude", "filter": "clearance"},
        ]
    },
    "weight": LOG_POLICY
    | {
        "rules": [
            *LOG_POLICY["rules"],
            {"name": "margin", "action": "boost", "factor": 1.5, "filter": "margin > 0.3"},
        ]
    },
    "model": LOG_POLICY,
}
_SHORT: Final = 2
# What must be reached.
_EQUAL: Final = 1e-9
_LEAST_COVERED: Final = 0.93
_UNSUPPORTED: Final = 100
# Candidates that a list is sampled from.
_RANKS: Final = 200
# Weight of the log's model in the scores of another one; noise has the rest.
LIKE: Final = 0.7


class Case(NamedTuple):
    """A draft in a shop: for each context the frames of log and draft, and true click rates."""

    frames: list[tuple[ItemFrame, ItemFrame]]
    rates: NDArray[np.float64]


def shop(draft: str, cascade: bool = False, seed: int = 7) -> Case:
    """A shop, with log and draft arranged by these policies."""
    places = _SHORT if cascade else len(LOOKS)
    random = np.random.default_rng(seed)
    catalogue = [
        {
            "brand": f"brand {number % 12}",
            "margin": float(random.random()),
            "clearance": bool(number % 7 == 3),
        }
        for number in range(ITEMS + HIDDEN)
    ]
    columns = Columns()
    for row, attributes in enumerate(catalogue):
        columns.put(row, {}, attributes)
    frames, rates = [], np.empty((CONTEXTS, ITEMS + HIDDEN))
    for context in range(CONTEXTS):
        taste = random.normal(size=ITEMS + HIDDEN)
        # The model knows a part of the taste.
        scores = np.exp(0.6 * taste + 0.8 * random.normal(size=ITEMS + HIDDEN))
        rates[context] = 0.35 / (1 + np.exp(1.2 - taste))
        other = scores
        if draft == "model":
            noise = np.exp(0.6 * taste + 0.8 * random.normal(size=ITEMS + HIDDEN))
            other = np.exp(LIKE * np.log(scores) + (1 - LIKE) * np.log(noise))
        policy = DRAFTS.get(draft, LOG_POLICY)
        count = ITEMS + HIDDEN if draft == "unsupported" else ITEMS
        if draft == "unsupported":
            other = scores.copy()
            other[ITEMS:] *= 5
        before = _frame(columns, scores[:ITEMS], LOG_POLICY, catalogue, places)
        frames.append((before, _frame(columns, other[:count], policy, catalogue, places)))
    return Case(frames, rates)


def _frame(
    columns: Columns,
    scores: NDArray[np.float64],
    policy: dict[str, Any],
    catalogue: Sequence[dict[str, Any]],
    places: int,
) -> ItemFrame:
    excluded = [
        rule for rule in policy["rules"] if rule["action"] == "exclude"
    ]  # what retrieval does in serving
    rows = np.array(
        [n for n in range(len(scores)) if not (excluded and catalogue[n]["clearance"])], np.int32
    )
    kept = [rule for rule in policy["rules"] if rule["action"] != "exclude"]
    compiled = CompiledPolicy.of(PlacementPolicy.model_validate(policy | {"rules": kept}))
    pool = Pool(
        lambda place: str(rows[place]),
        scores[rows],
        np.zeros(len(rows), np.int64),
        Items(columns, rows, {str(row): at for at, row in enumerate(rows.tolist())}.get),
    )
    made = arrange(pool, places, compiled, Visitor(), 0, {}, "any", traced=False, samples=True)
    assert made.frame is not None
    return made.frame.of_ids(lambda place: str(rows[place]))


def drawn(frame: ItemFrame, seed: str) -> list[str]:
    """A list of a frame, as serving draws it."""
    numbers = {item_id: at for at, item_id in enumerate(frame.ranked)}
    slots = [numbers.get(item_id, -1) for item_id in frame.slots]
    rows, _ = sampled(Frame(slots, list(numbers.values()), frame.tiers), seed)
    return [frame.ranked[row] for row in rows]


def clicks(
    shown: Sequence[str],
    rates: NDArray[np.float64],
    keenness: float,
    cascade: bool,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """The clicks on a list."""
    chances = np.minimum(1, keenness * rates[[int(item_id) for item_id in shown]])
    looks = np.ones(len(shown)) if cascade else LOOKS
    clicked = (random.random(len(shown)) < chances * looks).astype(float)
    if cascade and clicked.any():
        clicked[int(np.argmax(clicked)) + 1 :] = 0.0
    return clicked


def truth(case: Case, cascade: bool) -> float:
    """The change in clicks of a list, by draws of many lists where their order matters."""
    if not cascade:
        width = ITEMS + HIDDEN
        return float(
            np.mean(
                [
                    sum(
                        sign * (LOOKS @ (frame.marginal(int, width) @ rates))
                        for sign, frame in ((1, after), (-1, before))
                    )
                    for (before, after), rates in zip(case.frames, case.rates, strict=True)
                ]
            )
        )
    total = 0.0
    for context, (frames, rates) in enumerate(zip(case.frames, case.rates, strict=True)):
        for draw in range(_DRAWS):
            for sign, frame in zip((-1, 1), frames, strict=True):
                shown = drawn(frame, f"truth {context} {draw}")
                # A click at any place ends the look: at least one is clicked, or none.
                total += sign * _cascade_rate(shown, rates)
    return total / (CONTEXTS * _DRAWS)


_DRAWS: Final = 400
# Keenness of visitors: lists of one visitor are alike. Its mean is 1.
_KEEN: Final = np.array([0.25, 0.75, 2.0])
_KEEN_SHARES: Final = np.array([0.35, 0.35, 0.3])
_MEAN_KEEN: Final = float(_KEEN @ _KEEN_SHARES)


def _cascade_rate(shown: Sequence[str], rates: NDArray[np.float64]) -> float:
    each = rates[[int(item_id) for item_id in shown]]
    keen = _KEEN / _MEAN_KEEN
    return float(_KEEN_SHARES @ (1 - np.prod(1 - np.minimum(1, keen[:, None] * each), axis=1)))


def log_of(case: Case, visitors: int, cascade: bool, seed: int) -> list[PricedReward]:
    """The estimates by one log."""
    random = np.random.default_rng([seed, visitors, cascade])
    lists, gained, ids, contexts = [], [], [], []
    for visitor in range(visitors):
        keenness = random.choice(_KEEN, p=_KEEN_SHARES) / _MEAN_KEEN
        for _ in range(min(8, random.geometric(0.5))):
            context = int(random.integers(CONTEXTS))
            shown = drawn(case.frames[context][0], f"{seed} {len(lists)} {cascade}")
            lists.append(shown)
            gained.append(clicks(shown, case.rates[context], keenness, cascade, random))
            ids.append(f"{seed} {visitor}")
            contexts.append(context)
    rewards, folds = np.array(gained), np.array([fold_of(each) for each in ids])
    models = [
        RewardModel.fit(rewards[folds != fold], [lists[n] for n in np.flatnonzero(folds != fold)])
        for fold in (0, 1)
    ]
    found = [
        weighed(*case.frames[context], shown, [models[fold]])
        for context, shown, fold in zip(contexts, lists, folds.tolist(), strict=True)
    ]
    return priced(found, rewards, [each.rates for each in models], 0, ids)


def coverage(
    case: Case, logs: int, visitors: int, cascade: bool, right: float
) -> Iterator[tuple[str, str, int, int, float]]:
    """For each estimate: how many of the told intervals have the truth, and how many were told."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        made = list(pool.map(partial(log_of, case, visitors, cascade), range(logs), chunksize=4))
    for nth, first in enumerate(made[0]):
        told = [each[nth] for each in made if each[nth].judgement.verdict != "cant_tell"]
        covered = sum(each.difference.low <= right <= each.difference.high for each in told)
        width = float(np.mean([each.difference.error for each in told])) if told else 0.0
        yield first.assumption, first.estimator, covered, len(told), width


def oracle(python: Path) -> list[tuple[str, float, float]]:
    """The estimates of sb-obp on its Open Bandit sample, each with ours."""
    script = Path(__file__).with_name("price_oracle.py")
    folder = python.parent.parent
    path = folder / "estimates.npz"
    quiet = {**os.environ, "TQDM_DISABLE": "1"}
    subprocess.run([str(python), str(script), str(path)], check=True, env=quiet)
    given = np.load(path)
    rows = np.arange(len(given["reward"]))
    at = rows, given["action"], given["position"]
    weights = (given["draft"][at] / given["pscore"])[:, None]
    rewards, expected = given["reward"][:, None].astype(float), given["model"][at][:, None]
    by_place = (given["draft"] * given["model"]).sum(axis=1)
    drafted = by_place[rows, given["position"]][:, None]
    ours = {
        "ipw": ips(rewards, weights),
        "snipw": self_normalised(rewards, weights),
        "dr": doubly_robust(rewards, weights, expected, drafted),
    }
    lists = {name: given[name] for name in given.files if name.startswith("slate_")}
    clicked = lists["slate_reward"]
    at_place = lists["slate_draft_item"] / lists["slate_log_item"]
    up_to = lists["slate_draft_cascade"] / lists["slate_log_cascade"]
    before = np.hstack((np.ones((len(up_to), 1)), up_to[:, :-1]))
    ours |= {
        "iips": ips(clicked, at_place),
        "rips": ips(clicked, up_to),
        "cascade_dr": doubly_robust(
            clicked, up_to, lists["slate_expected"], lists["slate_drafted"], before
        ),
    }
    return [
        (name, float(values.mean()), float(given[f"of_{name}"])) for name, values in ours.items()
    ]


def cost(evaluation: Path) -> str:
    """The loss of hits and NDCG of a sampled list of ten, by the ranks of an evaluation."""
    metrics = json.loads(evaluation.read_text("utf-8"))["metrics"]
    hits = [metrics[f"hit_rate@{k}"]["value"] for k in range(1, _RANKS + 1)]
    by_place = by_draw(_RANKS, 10) @ np.diff([0.0, *hits])
    gain = float((by_place / np.log2(np.arange(10) + 2)).sum())
    ndcg, hit = metrics["ndcg@10"]["value"], hits[9]
    return (
        f"sampled lists of ten: NDCG@10 {gain:.4f} instead of {ndcg:.4f} ({gain / ndcg - 1:+.1%}), "
        f"HR@10 {by_place.sum():.4f} instead of {hit:.4f} ({by_place.sum() / hit - 1:+.1%})"
    )


@click.command()
@click.option("--logs", default=200, show_default=True, help="Simulated logs for each draft.")
@click.option("--visitors", default=2_000, show_default=True, help="Visitors of a log.")
@click.option(
    "--draft",
    "drafts",
    type=click.Choice(list(DRAFTS)),
    multiple=True,
    help="Draft to price; repeatable. Default: each.",
)
@click.option(
    "--cascade",
    is_flag=True,
    help="A click ends the look at a list of two, so that estimates by cascade must be right.",
)
@click.option(
    "--oracle",
    "python",
    type=click.Path(path_type=Path),
    help="Python of an environment with sb-obp. Default: no comparison with it.",
)
@click.option(
    "--cost",
    "evaluation",
    type=click.Path(exists=True, path_type=Path),
    help="JSON of slipstream evaluate at k from 1 to 200: show what a sampled list costs, only.",
)
@click.option("--json", "path", type=click.Path(path_type=Path), help="File for the figures.")
def main(
    logs: int,
    visitors: int,
    drafts: Sequence[str],
    cascade: bool,
    python: Path | None,
    evaluation: Path | None,
    path: Path | None,
) -> None:
    """Compare prices with the truth, and with sb-obp."""
    if evaluation is not None:
        click.echo(cost(evaluation))
        return
    began, failed, figures = time.perf_counter(), list[str](), dict[str, Any]()
    if python is not None:
        for name, mine, theirs in oracle(python):
            click.echo(f"sb-obp {name}: {theirs!r}, ours differs by {abs(mine - theirs):.1e}")
            figures[f"sb-obp {name}"] = [mine, theirs]
            if not abs(mine - theirs) < _EQUAL:
                failed.append(f"sb-obp {name}")
    case, untold = shop("unsupported", cascade), 0
    for seed in range(_UNSUPPORTED):
        found = log_of(case, 300, cascade, seed)
        untold += all(each.judgement.verdict == "cant_tell" for each in found)
    click.echo(f"without support: can't tell in {untold} of {_UNSUPPORTED}")
    figures["without support"] = untold
    if untold < _UNSUPPORTED:
        failed.append("without support")
    for draft in drafts or DRAFTS:
        case = shop(draft, cascade)
        right = truth(case, cascade)
        click.echo(f"{draft}: the true change is {1000 * right:+.1f} clicks in 1,000 lists")
        for assumption, estimator, covered, told, error in coverage(
            case, logs, visitors, cascade, right
        ):
            share = covered / told if told else 0.0
            click.echo(
                f"  {assumption:9} {estimator:6} {told:4} of {logs} tell, {share:6.1%} of these "
                f"cover the truth, standard error {1000 * error:.1f}"
            )
            name = f"{draft} {assumption} {estimator}"
            figures[name] = {"told": told, "covered": covered, "error": error}
            decides = assumption == ASSUMPTIONS[cascade] and estimator == ESTIMATORS[0]
            if decides and (share < _LEAST_COVERED or told < logs / 2):
                failed.append(name)
    click.echo(f"took {time.perf_counter() - began:.0f} s")
    if path:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if failed:
        click.echo(f"missed: {'; '.join(failed)}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
