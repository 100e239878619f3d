"""The arrangement of a slate: candidates and a policy become the list that is shown, with a trace.

The parts apply in this order (docs/adr/0043):

1. **Boosts** multiply scores, and **fatigue** puts worn-out items last. That gives the ranking: by
   tier, then by score, then as in the pool.
2. **Pins** take the best of their items, each at its position.
3. The other places are filled from the first on. Each gets a candidate for which **groups** and
   **caps** have room, pins included: the best by relevance, **diversity** and **calibration**, or
   by chance one for **exploration**.
4. Of a slate that **samples**, places are filled until no candidate may stand anywhere, without
   exploration. Its list is drawn from that long one (`sampling`); pins keep their positions.

Without any of them the slate is the ranking.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.contracts.placements import BoostRule, PlacementPolicy, RuleTrace
from slipstream.filters.conditions import Condition, Constant
from slipstream.models.kernels import slates
from slipstream.slates.arranging.attribute_values import NO_ENTRIES, entries, values
from slipstream.slates.arranging.limits_and_pins import Limits, Pinned, limits_of, pinned
from slipstream.slates.arranging.policies import AFTER_RETRIEVAL, CompiledPolicy
from slipstream.slates.arranging.pool import Match, Pool, Ranked, Visitor, matched
from slipstream.slates.arranging.sampling import Frame, sampled
from slipstream.slates.arranging.shares import directions, draws, past_of, terms_of
from slipstream.slates.arranging.traces import Outcome, touched_by, traces_of

_ANY: Final = Constant(holds=True)
# Greatest product of several factors of boosts, and its inverse the least: products stay finite.
_MOST_BOOST: Final = 1e12
# More than a fallback chain has tiers.
_AFTER_ALL: Final = 1_000


class Need(NamedTuple):
    """A pin that no candidate meets, and the condition by which retrieval may find one."""

    rule: str
    condition: Condition


class _Filled(NamedTuple):
    """A slate by ranked rows, and for each row the limit that left no room for it, -1 for none."""

    rows: NDArray[np.int64]
    propensities: NDArray[np.float64]
    explored: NDArray[np.uint8]
    closed_by: NDArray[np.int64]


class Arrangement(NamedTuple):
    """A slate.

    Attributes:
        order: The slate's items, as places in the pool.
        propensities: The probability of each item at its place, given those before it.
        touched: The names of the rules that moved each item or put it in.
        needs: Pins without a candidate.
        frame: The candidates of a sampled order; None where it is not.
        ranking: The candidates by boosted scores and fatigue; empty unless rules give an account.
        closed: The cap that kept each candidate out, by its place in the pool, "" for its group;
            likewise.
    """

    order: list[int]
    propensities: list[float]
    explored: list[bool]
    touched: list[list[str]]
    traces: list[RuleTrace]
    needs: list[Need]
    frame: Frame | None
    ranking: list[int]
    closed: dict[int, str]


def arrange(
    pool: Pool,
    n: int,
    policy: CompiledPolicy,
    visitor: Visitor,
    now_ms: int,
    context: Mapping[str, Any],
    seed: str,
    *,
    traced: bool = True,
    samples: bool = False,
) -> Arrangement:
    """Arrange a slate.

    Args:
        pool: The candidates. They meet the policy's `condition` already.
        n: The length wanted; the slate is shorter where the candidates or the limits end it.
        now_ms: The time, by which rules count.
        context: Fields of the request, by which rules count.
        seed: The recommendation's id: the same one draws the same items.
        traced: Whether rules give an account.
        samples: Whether the order is drawn.
    """
    wanted = policy.policy
    in_force = policy.in_force(now_ms, context)
    matches = matched(
        [each for each in in_force if isinstance(each.rule, AFTER_RETRIEVAL)], pool, visitor
    )
    tiers = _tiers_by_fatigue(pool, visitor, wanted.fatigue)
    ranking = np.lexsort((-_boosted(pool.scores, matches), tiers))
    ranked = Ranked(ranking, tiers[ranking], pool.items.rows[: len(ranking)][ranking])
    limits = limits_of(pool.items.columns, ranked, wanted.group_by, matches)
    placed = pinned(matches, ranked, n, limits.groups)
    frame = None
    if samples:
        wanted = wanted.model_copy(update={"exploration": 0.0})
        further = np.full(max(0, len(ranking) - n), -1, np.int64)
        long = placed._replace(places=np.concatenate((placed.places, further)))
        filled = _filled(pool, ranked, limits, long, wanted, visitor, seed)
        rows, tiers_of = filled.rows.tolist(), ranked.tiers[filled.rows].tolist()
        frame = Frame.of(rows, tiers_of, placed.places.tolist())
        drawn, propensities = sampled(frame, seed)
        filled = filled._replace(
            rows=np.array(drawn, np.int64),
            propensities=np.array(propensities),
            explored=np.zeros(len(drawn), np.uint8),
        )
        frame = Frame(
            [ranking[row].item() if row >= 0 else -1 for row in frame.slots],
            ranking[frame.ranked].tolist() if frame.ranked else [],
            frame.tiers,
        )
    else:
        filled = _filled(pool, ranked, limits, placed, wanted, visitor, seed)

    closed = _closed(filled, placed, ranking) if traced else {}
    caps = {limit: matches[number].compiled.rule.name for number, limit in limits.of_caps.items()}
    outcome = Outcome(
        ranking[filled.rows].tolist(),
        np.lexsort((-pool.scores, tiers))[:n].tolist() if traced and _buries(matches) else [],
        {
            number: (ranking[row].item() if row >= 0 else -1, reason)
            for number, (row, reason) in placed.chosen.items()
        },
        {
            number: [place for place, by in closed.items() if by == limit]
            for number, limit in limits.of_caps.items()
        },
    )
    touched = touched_by(matches, outcome)
    traces = traces_of(in_force, matches, pool.item_id, outcome) if traced else []
    return Arrangement(
        list(outcome.listed),
        filled.propensities.tolist(),
        filled.explored.astype(np.bool_).tolist(),
        touched,
        traces,
        [
            Need(compiled.rule.name, compiled.condition or _ANY)
            for compiled, _ in (matches[number] for number in placed.missing)
        ],
        frame,
        ranking.tolist() if traced else [],
        {place: caps.get(by, "") for place, by in closed.items()},
    )


def _buries(matches: Sequence[Match]) -> bool:
    """Whether a rule lowers scores."""
    return any(
        isinstance(each.compiled.rule, BoostRule) and each.compiled.rule.factor < 1
        for each in matches
    )


def _boosted(scores: NDArray[np.float64], matches: Sequence[Match]) -> NDArray[np.float64]:
    """The scores times the factors of all boosts that match.

    A score below 0 is divided, so that a factor above 1 raises every score but 0.
    """
    factors = np.ones(len(scores))
    with np.errstate(over="ignore", under="ignore"):
        for (rule, *_), about in matches:
            if isinstance(rule, BoostRule):
                factors *= np.where(about, rule.factor, 1.0)
    factors = np.minimum(np.maximum(factors, 1 / _MOST_BOOST), _MOST_BOOST)
    return np.where(scores < 0, scores / factors, scores * factors)


def _tiers_by_fatigue(pool: Pool, visitor: Visitor, limit: int) -> NDArray[np.int64]:
    """The candidates' tiers, with tiers of their own at the end for items that are worn out.

    They fill a list that would be short without them, since an empty place is useless. Until then
    they are left out. A limit of 0 wears out nothing.
    """
    tiers, size = pool.tiers.astype(np.int64), len(pool.scores)
    if not limit or not visitor.impressions or not size:
        return tiers
    shown = (
        pool.items.number(item_id) for item_id, times in visitor.impressions.items()
        if times >= limit
    )  # fmt: skip
    worn = [number for number in shown if number is not None and number < size]
    tiers[worn] += _AFTER_ALL
    return tiers


def _filled(
    pool: Pool,
    ranked: Ranked,
    limits: Limits,
    placed: Pinned,
    wanted: PlacementPolicy,
    visitor: Visitor,
    seed: str,
) -> _Filled:
    """Fill the places around the pins."""
    columns, n, size = pool.items.columns, len(placed.places), len(ranked.places)
    terms, shares, vectors, past = NO_ENTRIES, NO_ENTRIES, None, np.empty(0)
    if wanted.diversity:
        terms = terms_of(columns, ranked.rows)
        vectors = None if pool.vectors is None else pool.vectors[ranked.places]
    if wanted.calibration and visitor.history:
        rows, past = past_of(pool, visitor)
        rows = np.concatenate((ranked.rows, rows))
        shares = entries([values(columns, wanted.calibrated_by, rows)])
    cold = np.zeros(size, np.uint8)
    if wanted.exploration and pool.cold is not None:
        cold[pool.cold[ranked.places]] = 1
    chosen, closed_by = np.empty(n, np.int64), np.empty(size, np.int64)
    propensities, explored = np.empty(n), np.empty(n, np.uint8)
    length = slates.fill(
        ranked.tiers,
        cold,
        placed.places,
        *limits.entries,
        limits.most,
        *terms,
        directions(vectors),
        *shares,
        past,
        np.array([wanted.diversity, wanted.calibration, wanted.exploration]),
        draws(seed, n) if wanted.exploration else np.ones((n, 2)),
        chosen,
        propensities,
        explored,
        closed_by,
    )
    return _Filled(chosen[:length], propensities[:length], explored[:length], closed_by)


def _closed(filled: _Filled, placed: Pinned, ranking: NDArray[np.int64]) -> dict[int, int]:
    """The limit that keeps each candidate out that ranks before the slate's last, best first.

    Of a slate that is too short, that of all that are kept out. Candidates are places in the pool.
    """
    full = len(filled.rows) == len(placed.places)
    chosen = set(filled.rows.tolist())
    end = max(chosen.difference(placed.places.tolist()), default=0) if full else len(ranking)
    rows = np.flatnonzero(filled.closed_by[:end] >= 0).tolist()
    return {ranking[row].item(): filled.closed_by[row].item() for row in rows if row not in chosen}
